from __future__ import annotations

import torch
from torch import Tensor, nn

from boundseg.networks import ResidualUNet
from boundseg.networks.residual_unet import ResidualBlock


def test_parameter_count_of_the_docstring() -> None:
    with torch.device("meta"):
        network = ResidualUNet(1, 2)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == 19_637_410
    assert f"{parameters:,} parameters" in (ResidualUNet.__doc__ or "")


def test_skips_are_averages() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(1, 2, width=2).eval()
    encoded: list[Tensor] = []
    enlarged: list[Tensor] = []
    entering: list[Tensor] = []
    for block in network.down:
        block.register_forward_hook(lambda _m, _i, output: encoded.append(output))
    for layer in network.enlarge:
        layer.register_forward_hook(lambda _m, _i, output: enlarged.append(output))
    for block in network.up:
        block.register_forward_hook(lambda _m, inputs, _o: entering.append(inputs[0]))
    network(torch.randn(1, 1, 32, 48))
    assert len(entering) == 4
    for x, skip, up in zip(entering, reversed(encoded), enlarged, strict=True):
        torch.testing.assert_close(x, torch.stack((skip, up)).mean(dim=0))


def test_levels_double_their_channels_and_halve_their_grid() -> None:
    network = ResidualUNet(1, 2, width=3).eval()
    shapes: list[torch.Size] = []
    for block in (*network.down, network.bridge, *network.up):
        block.register_forward_hook(lambda _m, _i, output: shapes.append(output.shape))
    network(torch.randn(1, 1, 32, 64))
    down = [(1, 3, 32, 64), (1, 6, 16, 32), (1, 12, 8, 16), (1, 24, 4, 8)]
    assert shapes == [*down, (1, 48, 2, 4), *reversed(down)]


def test_the_residual_is_added_to_the_first_convolution() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(2, 4, nn.ReLU)
    norms = [module for module in block.residual if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 3
    assert not isinstance(block.residual[-1], nn.ReLU)
    nn.init.zeros_(norms[-1].weight)
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(block(x), block.last(block.first(x)))


def test_leaky_on_the_way_down_and_plain_on_the_way_up() -> None:
    network = ResidualUNet(1, 2, width=2)
    for part in (network.down, network.bridge):
        slopes = {m.negative_slope for m in part.modules() if isinstance(m, nn.LeakyReLU)}
        assert slopes == {0.2}
        assert not any(isinstance(module, nn.ReLU) for module in part.modules())
    for part in (network.up, network.enlarge):
        assert any(isinstance(module, nn.ReLU) for module in part.modules())
        assert not any(isinstance(module, nn.LeakyReLU) for module in part.modules())


@torch.no_grad()
def test_convolutions_start_with_he_variance_over_the_fan_out() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(1, 2, width=16)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            wanted = (2 / (9 * module.out_channels)) ** 0.5
            assert abs(float(module.weight.std()) / wanted - 1) < 0.05
    assert not network.head.bias.any()
