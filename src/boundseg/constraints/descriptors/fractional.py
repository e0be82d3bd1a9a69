"""Weighted means over a region: the paper's fractional form, for any potential."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.descriptors.descriptor import Traits
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.frame import Frame

NOTHING = 1e-6  # voxels (or mm2, mm3): a region of which less than this is there has no mean
Potential = Callable[[Frame, torch.Size], Tensor]


@dataclass(frozen=True)
class Fractional:
    r"""The mean of a potential over a region (Kervadec et al. 2019, eq. 8).

    .. math:: F = \frac{\sum_p w_p f_p S_p}{\sum_p w_p S_p}

    With coordinates for f it is the centroid, with the image the mean intensity; with a distance map, a probability
    atlas or a depth, whatever these say. Undefined where the region holds less than 1e-6 voxels.

    Args:
        potential: ``(frame, space) -> f``, of a shape that broadcasts to ``[B, *space]``. ``frame.coordinates``
            tells where the voxels lie, so that f can be a function of the case and survives every augmentation.
    """

    potential: Potential

    @property
    def traits(self) -> Traits:
        return Traits(partial=True)

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B R"]:
        """The mean of the potential over every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R 2"]:
        mass = frame.mass(probs)
        potential = self.potential(frame, probs.shape[2:]).to(mass.dtype).unsqueeze(1)
        return torch.stack([mass.flatten(2).sum(2), (mass * frame.owned(potential)).flatten(2).sum(2)], dim=2)

    def value(self, sums: Float[Tensor, "G R 2"]) -> Float[Tensor, "G R"]:
        return fraction(sums[..., 1], sums[..., 0])

    def defined(self, sums: Float[Tensor, "G R 2"]) -> Bool[Tensor, "G R"]:
        return sums[..., 0] > NOTHING


def fraction(numerator: Float[Tensor, "*#n"], denominator: Float[Tensor, "*#n"]) -> Float[Tensor, "*n"]:
    """Their ratio; 0 with zero gradient where there is nothing to divide by."""
    something = denominator > NOTHING
    return torch.where(something, numerator / torch.where(something, denominator, 1), 0)


def root(square: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Square root with the gradient 0 at 0, where that of a length is undefined and torch's is infinite."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)
