from __future__ import annotations

import torch
from torch import nn

from boundseg.networks import PReLU, initialise


@torch.no_grad()
def test_xavier_weights_scales_around_one_and_no_biases() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(32, 64, 3), nn.BatchNorm2d(2000), PReLU(), nn.ConvTranspose2d(64, 32, 2, stride=2)
    )
    convolution, norm, activation, transposed = network
    norm.bias.data.fill_(1)
    initialise(network)
    assert abs(float(convolution.weight.std()) / (2 / (9 * (32 + 64))) ** 0.5 - 1) < 0.03
    assert abs(float(transposed.weight.std()) / (2 / (4 * (32 + 64))) ** 0.5 - 1) < 0.03
    assert abs(float(norm.weight.mean()) - 1) < 0.002
    assert abs(float(norm.weight.std()) / 0.02 - 1) < 0.06
    for module in (convolution, norm, transposed):
        assert not module.bias.any()
    assert activation.weight.tolist() == [0.25]


def test_the_seed_decides() -> None:
    first, second = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3, bias=False)
    for network in (first, second):
        torch.manual_seed(5)
        initialise(network)
    assert torch.equal(first.weight, second.weight)
