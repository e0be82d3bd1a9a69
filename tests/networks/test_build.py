from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from boundseg.errors import ConfigError
from boundseg.networks import NETWORKS, ENet, ResidualUNet, build


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
