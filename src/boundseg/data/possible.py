"""Rows of ``priors.csv`` that no case can keep: sizes that do not fit the image, rows that exclude each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from boundseg.data.dataset import Dataset
from boundseg.data.priors import Prior
from boundseg.data.volume_io import Volume
from boundseg.errors import Problem

UNIT = "Look at the row's unit, or at the image's spacing."


def too_large(rows: Mapping[int, Prior], dataset: Dataset, grids: Mapping[str, Volume], path: Path) -> list[Problem]:
    """Sizes of which at least so much is asked that the whole image, or the whole slice, is less.

    Args:
        rows: By their line in the file.
        dataset: Says along which axis slices lie.
        grids: Of the cases whose images could be read.
        path: Of the file.
    """
    found = []
    for line, row in rows.items():
        if row.quantity != "size" or row.case not in grids:
            continue
        whole = whole_size(row, dataset, grids[row.case])
        # one that exceeds its own upper bound is told by whoever reads it
        if row.upper >= row.lower > whole * (1 + 1e-9):
            of_volume = row.slice is None
            named = ", ".join([row.case, *([] if of_volume else [f"slice {row.slice}"]), row.region])
            fact = f"{named}: at least {row.lower:.4g} {row.unit} is more than the whole "
            fact += f"{'image' if of_volume else 'slice'} ({whole:.4g} {row.unit})."
            found.append(Problem(fact, f"{path}, line {line}", UNIT))
    return found


def excluding(rows: Mapping[int, Prior], path: Path) -> list[Problem]:
    """Rows of one set about the same thing that a training would refuse, since all of them hold."""
    found = []
    bounds: dict[tuple[object, ...], tuple[float, float, int]] = {}
    for line, row in rows.items():
        key = row.set, row.quantity, row.region, row.unit, row.case, row.slice
        lower, upper, first = bounds.get(key, (-math.inf, math.inf, line))
        lower, upper = max(lower, row.lower), min(upper, row.upper)
        # a row that excludes itself is told by whoever reads it
        if lower > upper and first != line:
            named = ", ".join([row.case, *([] if row.slice is None else [f"slice {row.slice}"]), row.region])
            fact = f"{named}: two rows of the set {row.set!r} exclude each other ({lower:g} to {upper:g} {row.unit})."
            found.append(Problem(fact, f"{path}, lines {first} and {line}", "Remove one of them."))
        else:
            bounds[key] = lower, upper, first
    return found


def whole_size(row: Prior, dataset: Dataset, grid: Volume) -> float:
    """All voxels of a case, or of one of its slices, in a row's unit; infinite where that is not known."""
    voxels, (rows_mm, columns_mm, step_mm) = grid.array.size, dataset.slice_spacing_mm(grid)
    if row.slice is not None:
        voxels //= grid.array.shape[dataset.slice_axis]
    one = {"px": 1.0, "mm2": rows_mm * columns_mm, "mL": float(np.prod([rows_mm, columns_mm, step_mm])) / 1000}
    return 1.0 if row.unit == "fraction" else one.get(row.unit, math.inf) * voxels
