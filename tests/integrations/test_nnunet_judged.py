"""Label maps beside their bounds: sizes as counted by hand, and rows that speak of no slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest

from boundseg.asked.demands import Demand
from boundseg.constraints import Constraint, Size
from boundseg.errors import InputError
from boundseg.integrations.nnunet.judged import judge

SPACING = np.diag([2.0, 1.0, 5.0, 1.0])


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    labels = np.zeros((6, 8, 3), np.uint8)
    labels[:3, :4, 0] = 1  # 12 px
    labels[:, :5, 1] = 1  # 30 px
    for case in ("a", "b"):
        nibabel.save(nibabel.Nifti1Image(labels, SPACING), tmp_path / f"{case}.nii.gz")
    return tmp_path


def demand(known: Mapping[str, Mapping[int | None, tuple[float, float]]], unit: str = "px") -> Demand:
    scope = "volume" if unit == "mL" else "slice"
    return Demand(Constraint(unit, Size(unit), ((1,),), scope=scope), known)


def test_sizes_are_those_that_one_counts(predictions: Path) -> None:
    slices = demand({"a": {0: (10, 14), 1: (0, 20), 2: (1, np.inf)}})
    volume = demand({"a": {None: (0.3, 0.4)}}, "mL")
    found = judge(predictions, ["a", "b"], [slices, volume], 2, 2, ".nii.gz")
    assert [(row.case, row.slice, row.constraint, row.kept) for row in found] == [
        ("a", 0, "px", True),
        ("a", 1, "px", False),
        ("a", 2, "px", True),  # to one pixel of the file
        ("a", None, "mL", False),
    ]
    assert [row.value for row in found] == pytest.approx([12, 30, 0, 42 * 10 / 1000])
    assert [row.missed_by for row in found] == pytest.approx([0, 10, 1, 0.02], rel=1e-4)


def test_all_rows_of_slices_that_are_not_there_are_told_at_once(predictions: Path) -> None:
    asked = [demand({"a": {0: (0, 9), 3: (0, 9)}, "b": {7: (0, 9)}})]
    with pytest.raises(InputError) as told:
        judge(predictions, ["a", "b"], asked * 2, 2, 2, ".nii.gz")
    assert [problem.what for problem in told.value.problems] == [
        "a has slices 0 to 2, and a row speaks of slice 3.",
        "b has slices 0 to 2, and a row speaks of slice 7.",
    ]
