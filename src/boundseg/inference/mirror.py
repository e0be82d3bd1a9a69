"""A network asked of mirrored images as well."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from boundseg.losses import two_channels

REVERSALS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))  # of rows, of columns, of both


class Mirrored(nn.Module):
    """The mean of a network's probabilities over its images with rows, columns and both reversed.

    These are what the augmentation ``mirror`` reverses, of slices and of volumes. Gives the logarithm of the mean,
    that is, logits whose softmax it is.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "B C *space"]) -> Float[Tensor, "B K *space"]:
        total: Tensor | None = None
        for axes in REVERSALS:
            probs = two_channels(self.network(images.flip(axes))).float().softmax(1).flip(axes)
            total = probs if total is None else total + probs
        assert total is not None
        # the least positive number instead of 0: windows are averaged as logits, and an infinite one would be NaN there
        return (total / len(REVERSALS)).clamp(min=torch.finfo(total.dtype).tiny).log()
