from __future__ import annotations

import pytest
import torch
from torch import nn

from boundseg.networks import build, final_bias

CASES: dict[str, tuple[str, int, dict[str, object]]] = {
    "enet": ("enet", 2, {}),
    "enet, original": ("enet", 2, {"decoder": "original"}),
    "residual_unet": ("residual_unet", 2, {"width": 2}),
    "unet": ("unet", 2, {"channels": [4, 8], "strides": [2]}),
    "unet, residual, 3D": ("unet", 3, {"channels": [4, 8], "strides": [2], "num_res_units": 2}),
    "basicunet": ("basicunet", 2, {"features": (4, 4, 4, 4, 4, 4)}),
    "dynunet": ("dynunet", 3, {"filters": (4, 4, 4, 4, 4)}),
    "dynunet, supervised": ("dynunet", 2, {"filters": (4, 4, 4, 4, 4), "deep_supervision": True}),
    "segresnet": ("segresnet", 2, {}),
    "attentionunet": ("attentionunet", 2, {"channels": [4, 8], "strides": [2]}),
    "vnet": ("vnet", 2, {}),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_what_is_added_to_it_is_added_to_every_logit(case: str) -> None:
    torch.manual_seed(0)
    name, spatial_dims, options = CASES[case]
    network = build(name, 1, 3, spatial_dims, **options).eval()
    image = torch.randn(1, 1, *(32,) * spatial_dims)
    before = network(image)
    bias = final_bias(network)
    assert isinstance(bias, nn.Parameter)
    shift = torch.tensor([1.0, -2.0, 0.5])
    bias += shift
    wanted = before + shift.view(1, 3, *(1,) * spatial_dims)
    torch.testing.assert_close(network(image), wanted, rtol=1e-4, atol=1e-4)


def test_none_where_there_is_none() -> None:
    assert final_bias(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1, bias=False))) is None
    assert final_bias(nn.ReLU()) is None
