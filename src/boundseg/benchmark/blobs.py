"""A batch to be timed on: bright discs, a few labelled pixels in each, and bounds on their sizes that press."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from boundseg.constraints import Bounds

IGNORE = 255
SHARE = 0.05  # of the image that a class fills, about what a left ventricle does
MARGIN = 0.1


@dataclass(frozen=True)
class Blobs:
    """Images with their labels.

    Attributes:
        images: A soft bright disc for each class, and noise.
        seeds: The middle of each disc, a 25th of its area, ``IGNORE`` elsewhere.
        masks: Every pixel labelled, the background is 0.
    """

    images: Float[Tensor, "B 1 H W"]
    seeds: UInt8[Tensor, "B H W"]
    masks: UInt8[Tensor, "B H W"]

    def to(self, device: torch.device) -> Blobs:
        """The same elsewhere."""
        return Blobs(self.images.to(device), self.seeds.to(device), self.masks.to(device))


def blobs(batch: int, classes: int, size: tuple[int, int], seed: int = 0) -> Blobs:
    """Draws a batch.

    Args:
        batch: How many images.
        classes: How many discs in each, and foreground classes.
        size: Rows and columns.
        seed: Of the places and the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, columns = size
    radius = math.sqrt(min(SHARE, 0.5 / (classes + 1)) * rows * columns / math.pi)
    centres = torch.rand(batch, classes, 2, generator=generator) * torch.tensor([rows - 1, columns - 1])
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    # rounded to a pixel, so that the middle of the smallest disc holds one
    away = torch.hypot(y - centres[..., 0, None, None].round(), x - centres[..., 1, None, None].round())
    nearest, owner = away.min(1)
    classes_of = (owner + 1).to(torch.uint8)
    bright = (-0.5 * (nearest / radius).square()).exp() * (1 + owner / classes)
    noise = 0.1 * torch.randn(batch, rows, columns, generator=generator)
    return Blobs(
        (bright + noise).unsqueeze(1),
        classes_of.where(nearest <= radius / 5, IGNORE),
        classes_of.where(nearest <= radius, 0),
    )


def pressing_bounds(probs: Float[Tensor, "B K *space"], sides: int) -> Bounds:
    """Bounds that the soft sizes of a fresh network violate, so that penalties push and solvers have work to do.

    They lie 10 % around 5 % of the image, or around half of what the network gives the class where that is less; a
    fresh network spreads its probability over all outputs.

    Args:
        probs: Of the fresh network.
        sides: 1 for the upper bounds alone, 2 for both.

    Returns:
        [B, K - 1], in px.
    """
    sizes = probs[:, 1:].flatten(2).sum(-1)
    target = (0.5 * sizes).clamp(max=SHARE * probs[0, 0].numel())
    both = Bounds.around(target, relative=MARGIN)
    return both if sides == 2 else Bounds.at_most(both.upper)
