"""The names of what can be measured, as configs and tables of bounds write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from boundseg.constraints.descriptors import (
    SIZE_UNITS,
    BoundaryLength,
    Centroid,
    Compactness,
    Descriptor,
    Distance,
    Elongation,
    Intensity,
    Moment,
    Ratio,
    Size,
    Spread,
)

LENGTHS = ("mm", "px")
NUMBER = ("1",)  # of what has no unit; it is still measured in mm, which make up for voxels that are no cubes


@dataclass(frozen=True)
class Quantity:
    """One name, and the descriptor behind it.

    Attributes:
        build: Makes the descriptor from a unit and, where there is one, the suffix.
        units: Those it may be given in, the default first.
        suffix: What follows the name after an underscore: an ``axis`` (``centroid_x``), ``axes`` (``moment_xxy``), the
            number of a ``channel`` (``intensity_1``; without one it is channel 0), or nothing.
        pair: Whether it is of two classes, ``LV:Myo``.
        of_volumes: Whether it can be asked of a whole volume that is predicted slice by slice.
        signed: Whether it can be negative.
        reads_image: Whether it needs the image's intensities.
    """

    build: Callable[..., Descriptor]
    units: tuple[str, ...]
    suffix: Literal["", "axis", "axes", "channel"] = ""
    pair: bool = False
    of_volumes: bool = True
    signed: bool = False
    reads_image: bool = False


def _without_unit(descriptor: Callable[..., Descriptor], **options: Any) -> Callable[..., Descriptor]:
    return lambda unit, **suffix: descriptor(**options, **suffix)


QUANTITIES: dict[str, Quantity] = {
    "size": Quantity(Size, SIZE_UNITS),
    "ratio": Quantity(_without_unit(Ratio), NUMBER, pair=True),
    "centroid": Quantity(Centroid, LENGTHS, "axis", signed=True),
    "distance": Quantity(Distance, LENGTHS, pair=True),
    "spread": Quantity(Spread, LENGTHS, "axis"),
    "elongation": Quantity(_without_unit(Elongation, unit="mm"), NUMBER),
    "moment": Quantity(_without_unit(Moment, unit="mm"), NUMBER, "axes", signed=True),
    "intensity": Quantity(
        _without_unit(Intensity, of="mean"), ("intensity",), "channel", signed=True, reads_image=True
    ),
    "intensity_variance": Quantity(
        _without_unit(Intensity, of="variance"), ("intensity2",), "channel", reads_image=True
    ),
    "boundary": Quantity(BoundaryLength, LENGTHS, of_volumes=False),
    "compactness": Quantity(_without_unit(Compactness, unit="mm"), NUMBER, of_volumes=False),
}


def split(name: str) -> tuple[Quantity, str] | None:
    """The quantity of a name such as ``centroid_x``, and its suffix; None where there is no such name."""
    if name in QUANTITIES:
        found, suffix = QUANTITIES[name], ""
    else:
        family, _, suffix = name.rpartition("_")
        if family not in QUANTITIES:
            return None
        found = QUANTITIES[family]
    right = {
        "": suffix == "",
        "axis": suffix in ("x", "y", "z"),
        # in one order, so that a moment has one name
        "axes": 2 <= len(suffix) <= 4 and set(suffix) <= set("xyz") and suffix == "".join(sorted(suffix)),
        "channel": suffix == "" or suffix.isdigit(),
    }
    return (found, suffix) if right[found.suffix] else None


def names() -> list[str]:
    """All names, one example for each suffix that can be of any length."""
    of_suffix = {"": [""], "axis": ["_x", "_y", "_z"], "axes": ["_xx", "_xy", "_xxy"], "channel": [""]}
    return [name + suffix for name, quantity in QUANTITIES.items() for suffix in of_suffix[quantity.suffix]]


def descriptor(name: str, unit: str, axes: str = "xyz") -> Descriptor:
    """The descriptor of a name, in a unit.

    Args:
        name: One of :func:`names`, or like them.
        unit: One of its units.
        axes: The letters of the axes that the frame has, in its order: ``xy`` for a slice of a volume that is cut
            along z, ``xyz`` for that volume.

    Raises:
        ValueError: No such name or unit, or an axis that the frame does not have.
    """
    found = split(name)
    if found is None:
        raise ValueError(f"{name!r} is no quantity; there are {', '.join(names())}")
    quantity, suffix = found
    if unit not in quantity.units:
        raise ValueError(f"{name} has no unit {unit!r}: use {' or '.join(quantity.units)}")
    if quantity.suffix in ("axis", "axes"):
        missing = sorted(set(suffix) - set(axes))
        if missing:
            raise ValueError(f"{name} speaks of the axis {missing[0]}, and a slice here has {' and '.join(axes)}")
    options: dict[str, Any] = {}
    if quantity.suffix == "axis":
        options["axis"] = axes.index(suffix)
    elif quantity.suffix == "axes":
        options["powers"] = tuple(suffix.count(letter) for letter in axes)
    elif quantity.suffix == "channel":
        options["channel"] = int(suffix or 0)
    return quantity.build(unit, **options)
