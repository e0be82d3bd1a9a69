"""By what a violation is measured before it is priced: the third argument of every penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.penalties import ScaleKind, relative_scale
from boundseg.constraints.penalties.arguments import require_positive


@dataclass(frozen=True)
class Relative:
    """By the bound that is violated; see :func:`~boundseg.constraints.relative_scale`.

    Args:
        floor: What takes over where the bound is smaller, in the unit of the bounds.
    """

    floor: float

    def __post_init__(self) -> None:
        require_positive("floor", self.floor)


@dataclass(frozen=True)
class Voxels:
    """By so many predicted voxels, whatever the unit of the bounds."""

    count: float = 10.0

    def __post_init__(self) -> None:
        require_positive("count", self.count)


Scale = Literal["image"] | Relative | Voxels | float


def kind(scale: Scale) -> ScaleKind:
    """The kind of a scale, as penalties declare it."""
    if isinstance(scale, str):
        return scale
    return "relative" if isinstance(scale, Relative) else "voxels" if isinstance(scale, Voxels) else "number"


def resolve(
    scale: Scale, power: int, value: Tensor, bounds: Bounds, pixels: int | Tensor, per_voxel: float | Tensor
) -> float | Tensor:
    """A scale in the value's unit, to the power that the penalty wants.

    Args:
        scale: What was asked for. ``image`` counts a violation in predicted voxels and divides the cost by the voxels
            of one image, as in the published code (there with power 2), so that it is no power itself.
        power: Of the unit.
        value: The values.
        bounds: Theirs.
        pixels: Voxels of a predicted image.
        per_voxel: What one of them adds to the value.
    """
    if isinstance(scale, str):
        return pixels * per_voxel**power
    if isinstance(scale, Relative):
        square = relative_scale(value.detach(), bounds, scale.floor)
        return square if power == 2 else square.sqrt()
    return (scale.count * per_voxel) ** power if isinstance(scale, Voxels) else scale


def explained(kinds: tuple[ScaleKind, ...]) -> str:
    """How each kind is written, for error messages."""
    written = {"image": '"image"', "relative": "Relative(…)", "voxels": "Voxels(…)", "number": "a number"}
    *first, last = (written[k] for k in kinds)
    return f"{', '.join(first)} or {last}" if first else last
