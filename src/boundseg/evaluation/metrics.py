"""Measures of a predicted label map against its reference: one row per case and class, and per slice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Bool, Integer

from boundseg.evaluation.surface import surface_distances

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


def sensitivity(prediction: Bool[np.ndarray, "*n"], target: Bool[np.ndarray, "*n"]) -> float:
    r"""The share of the reference that was found, :math:`|P \cap T| / |T|`; NaN where the reference is empty."""
    return _share(prediction & target, target)


def precision(prediction: Bool[np.ndarray, "*n"], target: Bool[np.ndarray, "*n"]) -> float:
    r"""The share of the prediction that is right, :math:`|P \cap T| / |P|`; NaN where the prediction is empty."""
    return _share(prediction & target, prediction)


def volume_rows(
    case: str,
    patient: str,
    prediction: Integer[np.ndarray, "S H W"],
    target: Integer[np.ndarray, "S H W"],
    classes: Mapping[str, int],
    spacing_mm: tuple[float, float, float],
    ignore: int | None = None,
    empty: Empty = "nan",
) -> list[Row]:
    """Every measure of each class in a volume.

    Args:
        case: The case's name.
        patient: The patient's.
        prediction: Label map.
        target: Reference on the same grid.
        classes: Names and values.
        spacing_mm: Of a slice's rows and columns, then between slices.
        ignore: Value of the reference where nothing is known; those voxels are left out.
        empty: The DSC where prediction and reference are empty, see :func:`dice`.
    """
    rows_mm, columns_mm, between_mm = spacing_mm
    voxel_ml = rows_mm * columns_mm * between_mm / 1000
    rows: list[Row] = []
    for name, value in classes.items():
        predicted, there = _masks(prediction, target, value, ignore)
        measures = _measures(predicted, there, (between_mm, rows_mm, columns_mm), empty)
        predicted_px, reference_px = int(predicted.sum()), int(there.sum())
        error_px = predicted_px - reference_px
        rows.append(
            {
                "case": case,
                "patient": patient,
                "class": name,
                **measures,
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
    spacing_mm: tuple[float, float, float],
    ignore: int | None = None,
    empty: Empty = "nan",
) -> list[Row]:
    """Every measure of each class in every slice, distances within the slice; arguments as :func:`volume_rows`."""
    pixel_mm2 = spacing_mm[0] * spacing_mm[1]
    rows: list[Row] = []
    for name, value in classes.items():
        for index, (predicted_slice, target_slice) in enumerate(zip(prediction, target, strict=True)):
            predicted, there = _masks(predicted_slice, target_slice, value, ignore)
            rows.append(
                {
                    "case": case,
                    "patient": patient,
                    "slice": index,
                    "class": name,
                    **_measures(predicted, there, spacing_mm[:2], empty),
                    "reference_px": int(there.sum()),
                    "predicted_px": int(predicted.sum()),
                    "reference_mm2": int(there.sum()) * pixel_mm2,
                    "predicted_mm2": int(predicted.sum()) * pixel_mm2,
                }
            )
    return rows


def _masks(prediction: np.ndarray, target: np.ndarray, value: int, ignore: int | None) -> tuple[np.ndarray, np.ndarray]:
    predicted, there = prediction == value, target == value
    return (predicted if ignore is None else predicted & (target != ignore)), there


def _measures(
    predicted: np.ndarray, there: np.ndarray, spacing_mm: tuple[float, ...], empty: Empty
) -> dict[str, float]:
    distances = surface_distances(predicted, there, spacing_mm)
    return {
        "dice": dice(predicted, there, empty),
        "sensitivity": sensitivity(predicted, there),
        "precision": precision(predicted, there),
        "hd95_mm": distances.hd95_mm,
        "assd_mm": distances.assd_mm,
    }


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    total = int(whole.sum())
    return int(part.sum()) / total if total else math.nan
