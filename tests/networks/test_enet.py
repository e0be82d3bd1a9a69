from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundseg.errors import ConfigError
from boundseg.networks import ENet, PReLU
from boundseg.networks.enet import ConcatenatingDecoder


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("decoder", "parameters"), [("concatenate", 454_151), ("original", 362_297)])
def test_parameter_counts_of_the_docstring(decoder: str, parameters: int) -> None:
    assert count(ENet(1, 2, decoder=decoder)) == parameters
    assert f"{parameters:,} parameters" in (ENet.__doc__ or "")


def test_concatenates_unpooled_features_with_the_encoders() -> None:
    torch.manual_seed(0)
    network = ENet(1, 2).eval()
    decoder = network.decoder
    assert isinstance(decoder, ConcatenatingDecoder)
    seen: dict[str, Tensor] = {}
    for name, module in (("initial", network.initial), ("stage1", network.stage1)):
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.__setitem__(name, output))
    for name, module in (("initial", decoder.correct2), ("stage1", decoder.correct1)):
        module.register_forward_hook(lambda _m, i, _o, name=name: seen.__setitem__(f"{name} joined", i[0]))
    network(torch.randn(1, 1, 32, 48))
    for name in ("initial", "stage1"):
        encoded = seen[name]
        unpooled, joined = seen[f"{name} joined"].chunk(2, dim=1)
        assert torch.equal(joined, encoded)
        is_maximum = encoded == F.interpolate(F.max_pool2d(encoded, 2), scale_factor=2.0, mode="nearest")
        assert unpooled.any()
        assert not unpooled[~is_maximum].any()


@pytest.mark.parametrize("decoder", ["concatenate", "original"])
def test_stages_two_and_three_dilate_in_the_articles_order(decoder: str) -> None:
    network = ENet(1, 2, decoder=decoder)
    convolutions = [module for module in network.stages23.modules() if isinstance(module, nn.Conv2d)]
    assert [c.dilation[0] for c in convolutions if c.dilation[0] > 1] == [2, 4, 8, 16] * 2
    assert [c.kernel_size for c in convolutions if 5 in c.kernel_size] == [(5, 1), (1, 5)] * 4


def test_the_articles_dropout_and_activations() -> None:
    network = ENet(1, 2, decoder="original", dropout="channel")
    rates: dict[str, set[float]] = {}
    for name, module in network.named_modules():
        assert not isinstance(module, nn.Dropout)
        if isinstance(module, nn.Dropout2d):
            rates.setdefault(name.partition(".")[0], set()).add(module.p)
    assert rates == {
        "halve1": {0.01},
        "stage1": {0.01},
        "halve2": {0.1},
        "stages23": {0.1},
        "decoder": {0.1},
    }
    assert not any(isinstance(module, PReLU) for module in network.decoder.modules())
    slopes = {module.num_parameters for module in network.modules() if isinstance(module, PReLU)}
    assert slopes == {16, 32, 64, 128}


def test_the_published_dropout_and_activations() -> None:
    network = ENet(1, 2)
    assert not any(isinstance(module, nn.Dropout2d) for module in network.modules())
    rates = [module.p for module in network.stages23.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.1, 0.01] * 8
    assert {module.num_parameters for module in network.modules() if isinstance(module, PReLU)} == {1}


def test_no_bias_stands_before_a_batch_norm() -> None:
    for decoder in ("concatenate", "original"):
        biased = [
            name
            for name, module in ENet(1, 2, decoder=decoder).named_modules()
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None
        ]
        unnormed = ["initial.conv", "stages23.15.main"] if decoder == "concatenate" else []
        assert biased == [*unnormed, "decoder.head"]


@torch.no_grad()
def test_starts_from_scales_around_one_and_no_biases() -> None:
    network = ENet(1, 2)
    scales = torch.cat([m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    assert abs(float(scales.std()) / 0.02 - 1) < 0.1
    for name, parameter in network.named_parameters():
        assert not (name.endswith("bias") and parameter.any()), name


def test_several_image_channels() -> None:
    assert ENet(3, 4).eval()(torch.randn(1, 3, 16, 16)).shape == (1, 4, 16, 16)
    with pytest.raises(ConfigError, match="ENet takes 1 to 15 image channels, not 16"):
        ENet(16, 2)


def test_messages_about_wrong_values() -> None:
    with pytest.raises(ConfigError, match=r"no decoder 'unet'.\n  Choose 'concatenate' or 'original'"):
        ENet(1, 2, decoder="unet")
    with pytest.raises(ConfigError, match=r"no dropout 'spatial'.\n  Choose 'element' or 'channel'"):
        ENet(1, 2, dropout="spatial")
