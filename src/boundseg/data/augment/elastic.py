"""Smooth random bending that keeps the border where it is and folds nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.data.augment.draw import chosen

FOLDS_AT = 0.48  # of the distance of control points: beyond 1 / 2.046 a cubic B-spline may fold (Choi and Lee 2000)


@dataclass(frozen=True)
class Elastic:
    r"""A displacement :math:`u(o) = \sum_{ij} c_{ij} B(x - i) B(y - j)` of cubic B-splines, drawn anew for each sample.

    Control points lie ``spacing`` apart or a little more, so that they divide the grid evenly; their displacements are
    drawn evenly between plus and minus ``displacement`` along both axes. Those beyond the border are those within,
    mirrored and negated: so u is 0 on the border, and :math:`o + u(o)` maps the grid onto itself. No voxel moves
    further than ``displacement`` along an axis, and about a quarter of it is common. Up to 0.48 of ``spacing`` nothing
    folds (Choi and Lee, Injectivity conditions of 2D and 3D uniform cubic B-spline functions, 2000): the map has an
    inverse.

    Attributes:
        displacement: In voxels of the grid.
        spacing: The least distance of control points, in voxels of the grid.
        probability: The share of the samples that are bent.

    Raises:
        ValueError: It may fold.
    """

    displacement: float
    spacing: float = 32.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if self.displacement > FOLDS_AT * self.spacing:
            raise ValueError(
                f"a displacement of {self.displacement:g} px on control points {self.spacing:g} px apart may fold the "
                f"image: use {FOLDS_AT * self.spacing:g} px at most, or a wider spacing"
            )

    def cells(self, length: int) -> int:
        """Into how many parts the control points divide an axis.

        Raises:
            ValueError: Into fewer than two: no control point would lie inside.
        """
        cells = int(length / self.spacing)
        if cells < 2:
            raise ValueError(
                f"control points {self.spacing:g} px apart leave none inside of {length} px: use {length / 2:g} at most"
            )
        return cells

    def draw(self, samples: int, space: torch.Size, device: torch.device) -> Float[Tensor, "samples 2 h w"]:
        """Displacements of the control points inside of the grid."""
        rows, columns = (self.cells(length) - 1 for length in space)
        drawn = self.displacement * (2 * torch.rand(samples, 2, rows, columns, device=device) - 1)
        return torch.where(chosen(samples, self.probability, device).reshape(-1, 1, 1, 1), drawn, 0)

    def bend(
        self, control: Float[Tensor, "B 2 n m"], space: torch.Size
    ) -> tuple[Float[Tensor, "B 2 h w"], Float[Tensor, "B h w"]]:
        """Displacements at every voxel, and how much larger each voxel becomes, ``det(1 + ∇u)``, in closed form."""
        (rows, rows_slope), (columns, columns_slope) = (_splines(n, self.cells(n), control.device) for n in space)

        def along(of_rows: Tensor, of_columns: Tensor) -> Tensor:
            return torch.einsum("hi,bcij,wj->bchw", of_rows, control, of_columns)

        down, right = along(rows_slope, columns), along(rows, columns_slope)
        larger = (1 + down[:, 0]) * (1 + right[:, 1]) - down[:, 1] * right[:, 0]
        return along(rows, columns), larger.clamp(min=0)


def _splines(
    length: int, cells: int, device: torch.device
) -> tuple[Float[Tensor, "length inside"], Float[Tensor, "length inside"]]:
    """What each control point inside of the grid adds at each voxel along an axis, and the slope of that."""
    # the borders of the first and the last voxel are control points
    place = (torch.arange(length, device=device) + 0.5) * (cells / length)
    point = torch.arange(1, cells, device=device, dtype=place.dtype)
    away = place.unsqueeze(1) - point
    first = (point == 1) * _spline(place.unsqueeze(1) + 1)
    last = (point == cells - 1) * _spline(place.unsqueeze(1) - cells - 1)
    value, slope = _spline(away) - first - last
    return value, slope * (cells / length)


def _spline(away: Tensor) -> Float[Tensor, "2 length points"]:
    """A cubic B-spline and its slope."""
    near, far = away.abs(), (2 - away.abs()).clamp(min=0)
    value = torch.where(near < 1, 2 / 3 - near**2 + near**3 / 2, far**3 / 6)
    slope = torch.where(near < 1, away * (1.5 * near - 2), -away.sign() * far**2 / 2)
    return torch.stack([value, slope])
