"""Measures of a predicted label map against its reference: one row per case and class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Bool, Integer

Empty = Literal["nan", "one"]
Row = dict[str, str | int | float]


def dice(prediction: Bool[np.ndarray, "*n"], target: Bool[np.ndarray, "*n"], empty: Empty = "nan") -> float:
    r"""Dice similarity coefficient (DSC).

    .. math:: \frac{2 |P \cap T|}{|P| + |T|}

    Where both are empty it is undefined: NaN, or 1 by the paper's convention (``empty="one"``; its code adds 1e-8
    above and below). Where one is empty it is 0.
    """
    total = int(prediction.sum()) + int(target.sum())
    if total == 0:
        return 1.0 if empty == "one" else math.nan
    return 2 * int((prediction & target).sum()) / total


def volume_rows(
    case: str,
    patient: str,
    prediction: Integer[np.ndarray, "S H W"],
    target: Integer[np.ndarray, "S H W"],
    classes: Mapping[str, int],
    voxel_ml: float,
    ignore: int | None = None,
) -> list[Row]:
    """DSC and sizes of each class in a volume.

    Args:
        case: The case's name.
        patient: The patient's.
        prediction: Label map.
        target: Reference on the same grid.
        classes: Names and values.
        voxel_ml: Volume of a voxel.
        ignore: Value of the reference where nothing is known; those voxels are left out.
    """
    known = target != ignore if ignore is not None else np.ones(target.shape, bool)
    rows: list[Row] = []
    for name, value in classes.items():
        predicted, there = (prediction == value) & known, target == value
        predicted_px, reference_px = int(predicted.sum()), int(there.sum())
        error_px = predicted_px - reference_px
        rows.append(
            {
                "case": case,
                "patient": patient,
                "class": name,
                "dice": dice(predicted, there),
                "reference_px": reference_px,
                "predicted_px": predicted_px,
                "volume_error_px": error_px,
                "reference_ml": reference_px * voxel_ml,
                "predicted_ml": predicted_px * voxel_ml,
                "volume_error_ml": error_px * voxel_ml,
                "relative_volume_error": error_px / reference_px if reference_px else math.nan,
            }
        )
    return rows


def slice_rows(
    case: str,
    patient: str,
    prediction: Integer[np.ndarray, "S H W"],
    target: Integer[np.ndarray, "S H W"],
    classes: Mapping[str, int],
    ignore: int | None = None,
    empty: Empty = "nan",
) -> list[Row]:
    """DSC and sizes of each class in every slice; arguments as in :func:`volume_rows`."""
    rows: list[Row] = []
    for name, value in classes.items():
        for index, (predicted_slice, target_slice) in enumerate(zip(prediction, target, strict=True)):
            known = target_slice != ignore if ignore is not None else np.ones(target_slice.shape, bool)
            predicted, there = (predicted_slice == value) & known, target_slice == value
            rows.append(
                {
                    "case": case,
                    "patient": patient,
                    "slice": index,
                    "class": name,
                    "dice": dice(predicted, there, empty),
                    "reference_px": int(there.sum()),
                    "predicted_px": int(predicted.sum()),
                }
            )
    return rows
