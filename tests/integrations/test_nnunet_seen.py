"""What is looked at before the first step, so that a training does not end in the middle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from boundseg.asked.demands import Demand
from boundseg.constraints import Constraint, Size
from boundseg.errors import DatasetError, InputError
from boundseg.integrations.nnunet.case_grid import CaseGrid
from boundseg.integrations.nnunet.seen import one_slice_axis, require_seen

AREA = Constraint("area", Size("px"), ((1,),))
GRID = CaseGrid(np.eye(3, 4)[::-1], (6, 14, 16), 6, (1.5, 1.5, 6.0), 0)


def demand(known: Mapping[str, list[int]]) -> Demand:
    return Demand(AREA, {case: dict.fromkeys(slices, (0.0, 9.0)) for case, slices in known.items()})


def test_all_rows_of_slices_that_are_not_there_are_told_at_once() -> None:
    asked = demand({"a": [0, 5], "b": [2, 40], "c": [6], "nowhere": [99]})
    with pytest.raises(InputError) as told:
        require_seen(dict.fromkeys("abc", GRID), [asked, asked], 3, "ACDC_LV")
    assert [problem.what for problem in told.value.problems] == [
        "b has slices 0 to 5, and a row speaks of slice 40.",
        "c has slices 0 to 5, and a row speaks of slice 6.",
    ]
    assert {problem.where for problem in told.value.problems} == {"ACDC_LV"}
    require_seen({"a": GRID}, [asked], 3, "ACDC_LV")


def test_volumes_whose_slices_lie_along_different_axes_share_no_batch() -> None:
    grids = {"axial": GRID, "too": GRID, "sagittal": replace(GRID, slice_axis=2)}
    asked = [demand({})]
    with pytest.raises(
        DatasetError, match=r"slices of axial lie along axis 0 .*, and those of sagittal along axis 2[\s\S]*orientation"
    ):
        require_seen(grids, asked, 3, "ACDC_LV")
    require_seen(grids, asked, 2, "ACDC_LV")
    assert one_slice_axis({"axial": GRID, "too": GRID}) == 0
