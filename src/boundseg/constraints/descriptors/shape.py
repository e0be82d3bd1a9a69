"""How a region is spread about its centroid: second moments, higher ones, elongation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.descriptors.descriptor import Traits
from boundseg.constraints.descriptors.fractional import NOTHING, fraction, root
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.descriptors.moments import ORDERS, central, moments
from boundseg.constraints.descriptors.position import Centroid, along
from boundseg.constraints.frame import Frame, LengthUnit, require_length


@dataclass(frozen=True)
class Spread:
    r"""The standard deviation of a region along each axis, the root of its central second moment.

    .. math:: \sigma_i = \sqrt{\sum w (x_i - c_i)^2 S / \sum w S}

    Kervadec et al. 2019, section 6 (moments of shapes). Voxels are boxes: a block of n voxels has n / √12, as a
    continuous one, and a single voxel 1 / √12, so that the root is never taken of 0. A disc of radius r has r / 2
    along both axes, a ball r / √5.

    Args:
        unit: ``px`` (voxels of the case) or ``mm``.
        axis: Which axis of the case; None gives all of them, in a further dimension.
    """

    unit: LengthUnit = "px"
    axis: int | None = None

    def __post_init__(self) -> None:
        require_length(self.unit, "spread")

    @property
    def traits(self) -> Traits:
        return _second(self.unit)

    def __call__(
        self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None
    ) -> Float[Tensor, "B R *components"]:
        """Spreads of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        return moments(probs, frame, 2, self.unit)

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R *components"]:
        return along(root(covariance(sums).diagonal(dim1=-2, dim2=-1)), self.axis, "spread")

    def defined(self, sums: Float[Tensor, "G R S"]) -> Bool[Tensor, "G R *#components"]:
        there = sums[..., -1] > NOTHING
        return there if self.axis is not None else there.unsqueeze(-1)


@dataclass(frozen=True)
class Elongation:
    r"""How far a region is from being equally spread in all directions; 0 for a disc, towards 1 for a line.

    .. math:: e = 1 - \frac{\det \Sigma}{(\operatorname{tr} \Sigma / D)^D}

    with Σ the covariance of positions in D axes. In 2D it is
    :math:`((\lambda_1 - \lambda_2) / (\lambda_1 + \lambda_2))^2`. Trace and determinant have gradients everywhere;
    the eigenvalues themselves have none where they meet, which is at every disc. It does not change under rotation,
    translation and scaling.

    Args:
        unit: ``mm`` where voxels are not cubes.
    """

    unit: LengthUnit = "px"

    def __post_init__(self) -> None:
        require_length(self.unit, "elongation")

    @property
    def traits(self) -> Traits:
        second = _second(self.unit)
        return Traits(domain="amount", partial=True, about=second.about, shared=second.shared)

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B R"]:
        """Elongations of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        return moments(probs, frame, 2, self.unit)

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R"]:
        sigma = covariance(sums)
        axes = sigma.shape[-1]
        trace = sigma.diagonal(dim1=-2, dim2=-1).sum(-1) / axes
        there = self.defined(sums)
        # scaled before the determinant, whose digits a product of three small spreads would lose
        scaled = sigma / torch.where(there, trace, 1)[..., None, None]
        return torch.where(there, 1 - determinant(scaled), 0)

    def defined(self, sums: Float[Tensor, "G R S"]) -> Bool[Tensor, "G R"]:
        return sums[..., -1] > NOTHING


@dataclass(frozen=True)
class Moment:
    r"""A central moment that does not change with a region's position and scale.

    .. math:: \eta_{pq} = \frac{\int (x_1 - c_1)^p (x_2 - c_2)^q S \, dx}{V^{1 + (p + q) / D}}

    with V the region's size and D the number of axes (Hu 1962, eq. 9, in 2D). :math:`\eta_{30}` tells which side of a
    region is heavier, :math:`\eta_{11}` that it lies along a diagonal.

    Args:
        powers: The power of each axis of the case, 2 to 4 together: ``(1, 1)``, or ``(0, 3, 0)`` in 3D.
        unit: ``mm`` where voxels are not cubes.

    Raises:
        ValueError: Powers beyond that.
    """

    powers: tuple[int, ...]
    unit: LengthUnit = "px"

    def __post_init__(self) -> None:
        require_length(self.unit, "moment")
        if min(self.powers) < 0 or not 2 <= sum(self.powers) <= ORDERS:
            raise ValueError(
                f"powers = {self.powers}: a central moment takes powers of 0 or more, 2 to {ORDERS} together; "
                f"of order 0 it is the size, of order 1 the centroid"
            )

    @property
    def traits(self) -> Traits:
        order = sum(self.powers)
        return Traits(partial=True, about=Centroid(self.unit), shared=(f"moments of order {order}", self.unit))

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B R"]:
        """The moment of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        return moments(probs, frame, sum(self.powers), self.unit)

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R"]:
        order = sum(self.powers)
        tensor = central(sums, order)
        axes = tensor.shape[-1] - 1
        if len(self.powers) != axes:
            raise ValueError(f"powers = {self.powers}: give one for each of the {axes} axes")
        entry = [axis for axis, power in enumerate(self.powers) for _ in range(power)]
        there = self.defined(sums)
        size = torch.where(there, sums[..., -1], 1)
        for axis in entry:
            tensor = tensor.select(2, axis)
        return torch.where(there, tensor / size ** (1 + order / axes), 0)

    def defined(self, sums: Float[Tensor, "G R S"]) -> Bool[Tensor, "G R"]:
        return sums[..., -1] > NOTHING


def covariance(sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R D D"]:
    """The covariance of positions in a region, from its moments of order 2; of nothing, 0."""
    tensor = central(sums, 2)
    return fraction(tensor[..., :-1, :-1], tensor[..., -1:, -1:])


def determinant(matrix: Float[Tensor, "*n D D"]) -> Float[Tensor, "*n"]:
    """Of a 2 x 2 or 3 x 3 matrix, by its formula: torch's has no gradient where the matrix is singular."""
    if matrix.shape[-1] == 2:
        return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]
    first, second, third = matrix.unbind(-2)
    triple: Tensor = (first * torch.linalg.cross(second, third)).sum(-1)
    return triple


def _second(unit: LengthUnit) -> Traits:
    return Traits(domain="amount", partial=True, about=Centroid(unit), shared=("moments of order 2", unit))
