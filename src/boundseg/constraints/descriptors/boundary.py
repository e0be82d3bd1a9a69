"""How long a region's boundary is (in 3D: how large its surface), and how compact that makes the region."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.descriptors.descriptor import Traits
from boundseg.constraints.descriptors.fractional import NOTHING, fraction, root
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.frame import Frame, LengthUnit, require_length
from boundseg.constraints.precision import at_least_float32

HAZE = 100  # a compactness of which nothing is that has an outline


@dataclass(frozen=True)
class BoundaryLength:
    r"""Length of a region's boundary in 2D, area of its surface in 3D.

    .. math:: L = \int |\nabla S| \, dx \approx \sum_c w_c \, \lVert A^{-T} \delta_c \rVert

    The total variation of S, which is the mean length of its level sets (coarea formula). The sum runs over cells
    between 2 x 2 (2 x 2 x 2) voxels; :math:`\delta_c` holds the differences along each axis, averaged over the cell,
    which a flip or a quarter turn does not change. A cell belongs to its first voxel, so that parts with a halo of 1
    add up. A cell that touches padding does not count, nor does the border of the image.

    Edges along the axes and along diagonals are measured exactly. Where S falls from 1 to 0 over the longest side of a
    voxel or more, as a network's output does, discs come out within 1.4 % and balls within 2.2 %, from a radius of 8
    voxels on. Hard masks come out longer, by 5 to 6 % (by 9 % on voxels twice as long as wide, by 15 % on four times).
    A region whose voxels alternate as on a chessboard shows no length at all.

    Args:
        unit: ``px`` (voxels of the case; for a surface, faces) or ``mm`` (for a surface, mm2).
    """

    unit: LengthUnit = "px"

    def __post_init__(self) -> None:
        require_length(self.unit, "boundary length")

    @property
    def traits(self) -> Traits:
        return Traits(domain="amount", grows=True, neighbours=True, shared=("boundary", self.unit))

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B R"]:
        """Lengths (areas) of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R 1"]:
        probs = at_least_float32(probs)
        dims = probs.ndim - 2
        steps = frame.affine_in(self.unit, dims, probs.dtype)[:, :dims, :dims]
        inverse = torch.linalg.inv_ex(steps).inverse
        # no matrix product: autocast would put it into half precision
        metric = (inverse.unsqueeze(-2) * inverse.unsqueeze(-3)).sum(-1)
        metric = metric.reshape(len(inverse), 1, dims, dims, *([1] * dims))
        delta = [_difference(probs, axis) for axis in range(dims)]
        square = sum(
            metric[:, :, i, j] * delta[i] * delta[j] * (1 if i == j else 2) for i in range(dims) for j in range(i + 1)
        )
        assert isinstance(square, Tensor)
        length = root(square) * _weight_of_cells(frame, dims).to(probs.dtype).unsqueeze(1)
        for axis, width in enumerate(reversed(frame.halo), 1):
            length = length.narrow(-axis, 0, length.shape[-axis] - max(width - 1, 0))
        element = frame.spacing("mm", dims).to(probs.dtype).prod(1) if self.unit == "mm" else 1.0
        return (length.flatten(2).sum(2) * torch.as_tensor(element, device=probs.device).reshape(-1, 1)).unsqueeze(2)

    def value(self, sums: Float[Tensor, "G R 1"]) -> Float[Tensor, "G R"]:
        return sums[..., 0]


@dataclass(frozen=True)
class Compactness:
    r"""How much a region encloses with its boundary: 1 for a disc or a ball, less for every other hard region.

    .. math:: \frac{4 \pi V}{L^2} \text{ in 2D}, \qquad \frac{36 \pi V^2}{L^3} \text{ in 3D}

    The isoperimetric quotient; Dolz, Ben Ayed, Desrosiers 2017 constrain its inverse :math:`L^2 / V`. Probabilities
    that fade raise it: half of a disc's S has twice its compactness. Undefined where a region has no boundary, and
    above 100: that is a haze and no region. The bias of :class:`BoundaryLength` enters squared (cubed in 3D).

    Args:
        dims: Axes of the prediction, 2 or 3.
        unit: ``mm`` where voxels are not cubes.
    """

    dims: int = 2
    unit: LengthUnit = "px"

    def __post_init__(self) -> None:
        require_length(self.unit, "compactness")

    @property
    def traits(self) -> Traits:
        return Traits(domain="amount", partial=True, neighbours=True)

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B R"]:
        """Compactness of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R 2"]:
        if probs.ndim - 2 != self.dims:
            raise ValueError(f"Compactness(dims={self.dims}) was given a prediction of {probs.ndim - 2} axes")
        boundary = BoundaryLength(self.unit).sums(probs, frame)
        mass = frame.mass(probs).flatten(2).sum(2)
        if self.unit == "mm":
            mass = mass * frame.spacing("mm", self.dims).to(boundary.dtype).prod(1, keepdim=True)
        return torch.cat([mass.unsqueeze(2), boundary], dim=2)

    def value(self, sums: Float[Tensor, "G R 2"]) -> Float[Tensor, "G R"]:
        size, boundary = sums.unbind(-1)
        there = self.defined(sums)
        size, boundary = size.where(there, 1), boundary.where(there, 0)
        if self.dims == 2:
            return 4 * pi * fraction(size, boundary.square())
        # the cube root first: the cube of a large surface leaves float32's digits
        return 36 * pi * fraction(size ** (2 / 3), boundary).pow(3)

    def defined(self, sums: Float[Tensor, "G R 2"]) -> Bool[Tensor, "G R"]:
        size, boundary = sums.detach().unbind(-1)
        there = (size > NOTHING) & (boundary.square() > NOTHING)
        size = size.where(there, 1)
        least = (4 * pi / HAZE * size) ** (1 / 2) if self.dims == 2 else (36 * pi / HAZE) ** (1 / 3) * size ** (2 / 3)
        return there & (boundary > least)


def _difference(voxels: Tensor, along: int) -> Tensor:
    """For every cell, the difference along one axis, averaged over the others."""
    dims = voxels.ndim - 2
    for axis in range(dims):
        before, after = _pair(voxels, axis - dims)
        voxels = after - before if axis == along else (after + before) / 2
    return voxels


def _weight_of_cells(frame: Frame, dims: int) -> Tensor:
    """A cell counts where all of its voxels do; a broadcast axis stays one."""
    weight = frame.weight
    for axis in range(-dims, 0):
        if weight.shape[axis] > 1:
            weight = torch.minimum(*_pair(weight, axis))
    return weight


def _pair(voxels: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    length = max(voxels.shape[axis] - 1, 0)
    return voxels.narrow(axis, 0, length), voxels.narrow(axis, voxels.shape[axis] - length, length)
