from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from boundseg.errors import ConfigError
from boundseg.networks import NETWORKS, ENet, ResidualUNet, build, require_size


def test_ours_by_name_with_options() -> None:
    assert isinstance(build("enet", 1, 2, decoder="original"), ENet)
    assert isinstance(build("Residual_UNet", 1, 2, width=2), ResidualUNet)
    assert set(NETWORKS) == {"enet", "residual_unet"}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", ["unet", "UNet", "BasicUNet", "dynunet", "segresnet", "attentionunet"])
def test_monais_by_name(name: str, spatial_dims: int) -> None:
    small: dict[str, dict[str, object]] = {
        "BasicUNet": {"features": (4, 4, 4, 4, 4, 4)},
        "dynunet": {"filters": (4, 4, 4, 4, 4)},
        "attentionunet": {"channels": [4, 8], "strides": [2]},
    }
    torch.manual_seed(0)
    network = build(name, 2, 3, spatial_dims, **small.get(name, {})).eval()
    space = (32,) * spatial_dims
    with torch.no_grad():
        assert network(torch.randn(1, 2, *space)).shape == (1, 3, *space)


def test_own_levels_replace_the_default_ones() -> None:
    network = build("unet", 1, 2, channels=[4, 8], strides=[2])
    assert sum(parameter.numel() for parameter in network.parameters()) < 2000


def test_an_unknown_network_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Unknown network 'enett'; did you mean 'enet'\?"):
        build("enett", 1, 2)
    with pytest.raises(ConfigError, match=r"Unknown network 'segresnt'; did you mean 'segresnet'\?") as caught:
        build("segresnt", 1, 2)
    assert "Ours are enet, residual_unet; other names are those of monai.networks.nets." in str(caught.value)


def test_an_unknown_option_names_network_option_and_the_nearest_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build("enet", 1, 2, decodr="original", drop="channel")
    message = str(caught.value)
    assert "The network enet has no option 'decodr'; did you mean 'decoder'?" in message
    assert "The network enet has no option 'drop'; did you mean 'dropout'?" in message
    assert "It takes decoder, dropout." in message
    with pytest.raises(ConfigError, match=r"The network unet has no option 'chanels'; did you mean 'channels'\?"):
        build("unet", 1, 2, chanels=[4, 8])


def test_channels_and_classes_are_no_options() -> None:
    with pytest.raises(ConfigError, match="The network unet has no option 'out_channels'"):
        build("unet", 1, 2, out_channels=3)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(ConfigError, match="The network unet needs the option 'strides'"):
        build("unet", 1, 2, channels=[4, 8])


def test_a_refused_value_is_passed_on() -> None:
    with pytest.raises(ConfigError, match=r"The network unet cannot be built from these options: .*strides"):
        build("unet", 1, 2, channels=[4, 8, 16], strides=[2])


@pytest.mark.parametrize("name", ["enet", "residual_unet"])
def test_ours_are_2d(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"The network {name} is 2D, not 3D.\n  .*segresnet"):
        build(name, 1, 2, spatial_dims=3)


def test_without_monai_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks", None)
    with pytest.raises(ConfigError, match="For MONAI's, install it: pip install monai"):
        build("unet", 1, 2)


def test_ours_do_not_import_monai() -> None:
    code = "import sys; from boundseg.networks import build; build('enet', 1, 2); print('monai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["unet", "dynunet", "segresnet", "basicunet", "attentionunet"])
def test_3d_networks_take_what_they_can_halve(name: str) -> None:
    options = {"dynunet": {"filters": (2, 2, 2, 2, 2)}, "basicunet": {"features": (2, 2, 2, 2, 2, 2)}}
    small = {"channels": (2, 2, 2, 2, 2), "strides": (2, 2, 2, 2)}
    network = build(name, 2, 3, 3, **options.get(name, {} if name == "segresnet" else small))
    require_size(network, name, 2, (32, 32, 16))
    assert next(network.parameters()).device.type == "cpu"  # it was looked at as it is


def test_a_size_that_cannot_be_halved_is_refused_before_training() -> None:
    network = build("unet", 1, 2, 3, channels=(2, 2, 2), strides=(2, 2))
    with pytest.raises(ConfigError) as raised:
        require_size(network, "unet", 1, (16, 16, 6))
    assert str(raised.value).startswith("The network unet cannot take images of 16x16x6: Sizes of tensors must match")
    assert "divisible by what the network halves it to" in str(raised.value)


def test_logits_of_another_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="The network it makes 4x4x2 of images of 8x8x4"):
        require_size(nn.Conv3d(1, 2, 2, stride=2), "it", 1, (8, 8, 4))


def test_more_than_one_tensor_of_logits_is_refused() -> None:
    network = build("dynunet", 1, 2, 3, filters=(2, 2, 2, 2, 2), deep_supervision=True)
    with pytest.raises(ConfigError, match="gives no single tensor of logits"):
        require_size(nn.Sequential(network.train(), Listed()), "dynunet", 1, (32, 32, 32))


class Listed(nn.Module):
    """Several outputs in a list, as deep supervision gives them."""

    def forward(self, logits: torch.Tensor) -> list[torch.Tensor]:
        return [logits, logits]
