"""Sizes against one another, and how much of a size is faint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.descriptors.descriptor import Traits
from boundseg.constraints.descriptors.fractional import NOTHING, fraction
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.descriptors.size import Size
from boundseg.constraints.frame import Frame


@dataclass(frozen=True)
class Ratio:
    r"""The size of one region over that of another, :math:`V_1 / V_2`.

    Takes regions in pairs: the first over the second, the third over the fourth. A ratio is often known better than
    either size (wall to cavity, tumour to organ), and needs no spacing. Undefined where there is less than a voxel of
    the second, next to which every first one would be enormous.
    """

    @property
    def traits(self) -> Traits:
        return Traits(domain="amount", partial=True, arity=2, shared=("size", "px"))

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B pairs"]:
        """Ratios within every image on its own, ``[B, R / 2]``."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R 1"]:
        return Size("px").sums(probs, frame)

    def value(self, sums: Float[Tensor, "G R 1"]) -> Float[Tensor, "G pairs"]:
        return fraction(sums[:, 0::2, 0], sums[:, 1::2, 0].where(self.defined(sums), 0))

    def defined(self, sums: Float[Tensor, "G R 1"]) -> Bool[Tensor, "G pairs"]:
        return sums[:, 1::2, 0] >= 1


@dataclass(frozen=True)
class Leak:
    r"""The share of a region's soft size that lies in voxels below ½, :math:`\sum_{S < 1/2} w S / \sum w S`.

    What a soft size counts and the argmax (of two classes) will not show. Where it is large, a bound on the soft size
    makes the hard region too small: measure the sharpened size instead (``Constraint(sharpness=2)``). For logs;
    constraining it is possible and was not tried. Undefined where there is next to nothing of the region.
    """

    @property
    def traits(self) -> Traits:
        return Traits(domain="amount", partial=True)

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B R"]:
        """Of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R 2"]:
        mass = frame.mass(probs)
        faint = torch.where(frame.owned(probs) < 0.5, mass, 0)
        return torch.stack([mass.flatten(2).sum(2), faint.flatten(2).sum(2)], dim=2)

    def value(self, sums: Float[Tensor, "G R 2"]) -> Float[Tensor, "G R"]:
        return fraction(sums[..., 1], sums[..., 0])

    def defined(self, sums: Float[Tensor, "G R 2"]) -> Bool[Tensor, "G R"]:
        return sums[..., 0] > NOTHING
