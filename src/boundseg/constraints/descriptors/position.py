"""Where a region is: its centroid, and the distance between two of them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.descriptors.descriptor import Traits
from boundseg.constraints.descriptors.fractional import NOTHING, fraction, root
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.descriptors.moments import moments
from boundseg.constraints.frame import Frame, LengthUnit, require_length


@dataclass(frozen=True)
class Centroid:
    r"""The mean position of a region, :math:`c = \sum w x S / \sum w S`.

    Kervadec et al. 2019, eq. 8 with coordinates as the potential. Undefined where there is next to nothing of the
    region.

    Args:
        unit: ``px``, in voxels of the case, or ``mm``; counted from the centre of the case's first voxel, along the
            case's axes.
        axis: Which axis of the case; None gives all of them, in a further dimension.

    Raises:
        ValueError: The frame has no such axis: a slice seen by itself has two.
    """

    unit: LengthUnit = "px"
    axis: int | None = None

    def __post_init__(self) -> None:
        require_length(self.unit, "centroid")

    @property
    def traits(self) -> Traits:
        return Traits(partial=True, shared=("first moments", self.unit))

    def __call__(
        self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None
    ) -> Float[Tensor, "B R *components"]:
        """Centroids of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        return moments(probs, frame, 1, self.unit)

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R *components"]:
        return along(fraction(sums[..., :-1], sums[..., -1:]), self.axis, "centroid")

    def defined(self, sums: Float[Tensor, "G R S"]) -> Bool[Tensor, "G R *#components"]:
        there = sums[..., -1] > NOTHING
        return there if self.axis is not None else there.unsqueeze(-1)


@dataclass(frozen=True)
class Distance:
    """The distance between the centroids of two regions; its gradient is 0, not infinite, where they coincide.

    Takes regions in pairs: the first from the second, the third from the fourth. Undefined where one of them is not
    there.

    Args:
        unit: ``px`` (voxels of the case) or ``mm``.
    """

    unit: LengthUnit = "px"

    def __post_init__(self) -> None:
        require_length(self.unit, "distance")

    @property
    def traits(self) -> Traits:
        return Traits(domain="amount", partial=True, arity=2, shared=("first moments", self.unit))

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B pairs"]:
        """Distances within every image on its own, ``[B, R / 2]``."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        return moments(probs, frame, 1, self.unit)

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G pairs"]:
        centroid = fraction(sums[..., :-1], sums[..., -1:])
        return root((centroid[:, 0::2] - centroid[:, 1::2]).square().sum(-1)).where(self.defined(sums), 0)

    def defined(self, sums: Float[Tensor, "G R S"]) -> Bool[Tensor, "G pairs"]:
        there = sums[..., -1] > NOTHING
        return there[:, 0::2] & there[:, 1::2]


def along(values: Float[Tensor, "G R D"], axis: int | None, what: str) -> Float[Tensor, "G R *components"]:
    """The component along one axis of the case, or all of them."""
    if axis is None:
        return values
    if not 0 <= axis < values.shape[-1]:
        raise ValueError(
            f"a {what} along axis {axis} needs a frame with that axis, and this one has {values.shape[-1]}: "
            f"a slice seen by itself lies in two axes, its volume in three"
        )
    return values[..., axis]
