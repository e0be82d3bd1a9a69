"""Deriving bounds from labels: tags, common, individual and volume bounds (Kervadec et al. 2019, eq. 5 to 7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from boundseg.constraints import SIZE_UNITS
from boundseg.constraints.quantities import split
from boundseg.data.dataset import Dataset
from boundseg.data.measured import boxes, measured
from boundseg.data.misjudged import EXACT, Misjudged
from boundseg.data.prepare import Grid, Placement
from boundseg.data.priors import Prior
from boundseg.errors import DatasetError, PriorsError

Empty = Literal["unknown", "absent"]


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a region in the slices of a case, and what turns them into other units."""

    px: Int[np.ndarray, " S"]
    pixels: int
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int]

    def in_unit(self, unit: str, grid: Grid | None) -> Float[np.ndarray, " S"]:
        rows_mm, columns_mm, between_mm = self.spacing_mm
        if unit == "grid_px":
            if grid is None:
                raise PriorsError("grid_px needs the grid that is meant.", remedy="Give --size and --fit.")
            return self.px / Placement.of(self.shape, (rows_mm, columns_mm), grid).voxels_per_voxel
        factor = {
            "px": 1.0,
            "mm2": rows_mm * columns_mm,
            "mL": rows_mm * columns_mm * between_mm / 1000,
            "fraction": 1 / self.pixels,
        }[unit]
        return self.px * factor


def tags(
    dataset: Dataset, cases: Iterable[str], regions: Sequence[str], label_set: str, empty: Empty = "unknown"
) -> list[Prior]:
    """Image tags from a weak label set (eq. 5): ``1 <= size <= |Ω|`` where the class has a labelled pixel.

    Args:
        dataset: The dataset.
        cases: Whose slices get tags.
        regions: Class names.
        label_set: The weak labels that say whether a class is present.
        empty: What a slice without a labelled pixel of the class means: nothing (no row), or absence
            (``size = 0``).
    """
    rows = []
    for case, region in _pairs(cases, regions):
        sizes = _sizes(dataset, case, label_set, region)
        for index, size in enumerate(sizes.px):
            source = f"labelsTr_{label_set}: a labelled pixel" if size else f"labelsTr_{label_set}: none labelled"
            if size:
                rows.append(_row(case, index, region, 1, sizes.pixels, "px", "tags", source))
            elif empty == "absent":
                rows.append(_row(case, index, region, 0, 0, "px", "tags", source))
    return rows


def labelled(dataset: Dataset, cases: Iterable[str], label_set: str) -> tuple[list[str], list[str]]:
    """The cases that have a file of a label set, and those that have none."""
    named = list(cases)
    there = [case for case in named if dataset.label_path(case, label_set).is_file()]
    return there, [case for case in named if case not in there]


def common(
    dataset: Dataset,
    cases: Iterable[str],
    regions: Sequence[str],
    label_set: str,
    patient: str,
    *,
    margin: float = 0.1,
    empty: Empty = "unknown",
    unit: str = "mm2",
    grid: Grid | None = None,
) -> list[Prior]:
    """One pair of bounds for all slices that hold the class, from one annotated patient (eq. 6).

    The bounds are ``(1 - margin)`` times his smallest non-empty slice and ``(1 + margin)`` times his largest,
    over all his phases; mm2 by default, since pixels differ between patients. Where presence is unknown the
    upper bound holds by itself.

    Args:
        dataset: The dataset.
        cases: Whose slices get bounds.
        regions: Class names.
        label_set: The weak labels that say in which slices a class is present.
        patient: The patient with full masks.
        margin: Share by which the bounds are widened.
        empty: As in :func:`tags`.
        unit: Unit of the bounds.
        grid: The prepared grid, for ``grid_px``.

    Raises:
        DatasetError: The patient is unknown.
        PriorsError: The patient has no slice with the class.
    """
    cases = list(cases)
    rows = []
    for region in regions:
        annotated = [_sizes(dataset, case, "full", region) for case in dataset.cases_of(patient)]
        sizes = np.concatenate([s.in_unit(unit, grid)[s.px > 0] for s in annotated])
        if not len(sizes):
            raise PriorsError(f"{patient} has no slice with {region}.", remedy="Name another patient.")
        lower, upper = (1 - margin) * float(sizes.min()), (1 + margin) * float(sizes.max())
        source = f"full masks of {patient}, smallest and largest slice, margin {margin:g}"
        for case in cases:
            for index, size in enumerate(_sizes(dataset, case, label_set, region).px):
                if size:
                    rows.append(_row(case, index, region, lower, upper, unit, "common", source))
                elif empty == "absent":
                    tag = f"labelsTr_{label_set}: none labelled"
                    rows.append(_row(case, index, region, 0, 0, unit, "common", tag))
                else:
                    rows.append(_row(case, index, region, -np.inf, upper, unit, "common", source))
    return rows


def individual(
    dataset: Dataset,
    cases: Iterable[str],
    regions: Sequence[str],
    *,
    quantity: str = "size",
    margin: float = 0.1,
    absolute: float = 0.0,
    unit: str = "px",
    grid: Grid | None = None,
    misjudged: Misjudged = EXACT,
) -> list[Prior]:
    """Bounds around what the full mask measures in each slice (eq. 7): an oracle.

    Where a class is absent its size is ``[0, 0]``, and what is undefined (its centroid) has no row.

    Args:
        dataset: The dataset.
        cases: Whose slices get bounds.
        regions: Class names, unions, or pairs such as ``LV:Myo``.
        quantity: What is measured, see :mod:`boundseg.constraints.quantities`.
        margin: Share of the value by which the bounds are widened.
        absolute: What they are widened by beside that, in their unit.
        unit: Unit of the bounds.
        grid: The prepared grid, for ``grid_px``.
        misjudged: By how much the measured values are wrong.
    """
    rows = []
    source = f"oracle: {quantity} in the full mask{misjudged}, {_margin(margin, absolute)}"
    for case, region in _pairs(cases, regions):
        values = misjudged.of(_values(dataset, case, quantity, region, unit, grid), case, region)
        for index, value in enumerate(values.tolist()):
            if not np.isnan(value):
                lower, upper = _around(value, margin, absolute, quantity)
                rows.append(_row(case, index, region, lower, upper, unit, "individual", source, quantity))
    return rows


def volume(
    dataset: Dataset,
    cases: Iterable[str],
    regions: Sequence[str],
    *,
    quantity: str = "size",
    margin: float = 0.1,
    absolute: float = 0.0,
    unit: str = "mL",
    grid: Grid | None = None,
    misjudged: Misjudged = EXACT,
) -> list[Prior]:
    """One pair of bounds around what the full mask measures in each whole volume (section 4.4): an oracle.

    In ``fraction``, the size is that of the whole volume over all its voxels. Arguments as in :func:`individual`.
    """
    rows = []
    what = "volume" if quantity == "size" else quantity
    source = f"oracle: {what} in the full mask{misjudged}, {_margin(margin, absolute)}"
    for case, region in _pairs(cases, regions):
        if quantity == "size" and unit in SIZE_UNITS:
            sizes = _sizes(dataset, case, "full", region).in_unit(unit, grid)
            value = float(sizes.mean() if unit == "fraction" else sizes.sum())
        else:
            value = float(measured(dataset, case, quantity, region, unit, of_volume=True)[0])
        value = float(misjudged.of(np.array([value]), case, region)[0])
        if not np.isnan(value):
            lower, upper = _around(value, margin, absolute, quantity)
            rows.append(_row(case, None, region, lower, upper, unit, "volume", source, quantity))
    return rows


def box(dataset: Dataset, cases: Iterable[str], regions: Sequence[str]) -> list[Prior]:
    """Bounding boxes of the full masks, first and last line in each slice that shows a class: an oracle."""
    rows = []
    source = "oracle: bounding box of the full mask"
    for case, region in _pairs(cases, regions):
        for index, lines in boxes(dataset, case, region).items():
            for letter, (first, last) in zip(dataset.axes, lines.tolist(), strict=False):
                rows.append(_row(case, index, region, first, last, "px", "box", source, f"box_{letter}"))
    return rows


def _values(
    dataset: Dataset, case: str, quantity: str, region: str, unit: str, grid: Grid | None
) -> Float[np.ndarray, " S"]:
    # grid_px need the grid, which the file's own geometry does not know
    if quantity == "size" and unit in SIZE_UNITS:
        return _sizes(dataset, case, "full", region).in_unit(unit, grid)
    return measured(dataset, case, quantity, region, unit, of_volume=False)


def _around(value: float, margin: float, absolute: float, quantity: str) -> tuple[float, float]:
    """Bounds around a value; none of a class is none of it, whatever the margin."""
    wide = margin * abs(value) + absolute
    found = split(quantity)
    if found is None or found[0].signed:
        return value - wide, value + wide
    return (max(0.0, value - wide), value + wide) if value else (0.0, 0.0)


def _margin(margin: float, absolute: float) -> str:
    return f"margin {margin:g}" + (f" and {absolute:g}" if absolute else "")


def _pairs(cases: Iterable[str], regions: Sequence[str]) -> list[tuple[str, str]]:
    return [(case, region) for case in cases for region in regions]


def _row(
    case: str,
    index: int | None,
    region: str,
    lower: float,
    upper: float,
    unit: str,
    set: str,
    source: str,
    quantity: str = "size",
) -> Prior:
    return Prior(case, index, region, quantity, float(lower), float(upper), unit, set, source)


def _sizes(dataset: Dataset, case: str, label_set: str, region: str) -> _Sizes:
    _, image = dataset.read_image(case)
    slices = dataset.to_slices(dataset.read_labels(case, label_set, image))
    try:
        values = dataset.region(region)
    except KeyError as error:
        raise DatasetError(str(error.args[0]), str(dataset.folder / "dataset.json")) from None
    px = np.isin(slices, values).sum((1, 2))
    return _Sizes(px, int(np.prod(slices.shape[1:])), dataset.slice_spacing_mm(image), slices.shape[1:])
