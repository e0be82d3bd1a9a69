"""The weights that ENet starts from."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    r"""Give every convolution and batch-norm of a network its first values, in place.

    Convolution weights are Xavier-normal, :math:`N(0, 2 / (n_{in} + n_{out}))` with the fan-in and fan-out
    of Glorot and Bengio 2010; batch-norm scales :math:`N(1, 0.02^2)`; all biases 0. As in the
    constrained-CNN paper's published code, which leaves the convolutions' biases at PyTorch's random
    default. Other layers keep what they have (PReLU: 0.25). Draws from PyTorch's global generator.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, mean=1.0, std=0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
