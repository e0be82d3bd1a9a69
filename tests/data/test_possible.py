"""Hand-typed rows that no case can keep are named by the lines they have in an editor."""

from __future__ import annotations

from pathlib import Path

import pytest

from boundseg.data.check import check
from boundseg.data.dataset import Dataset

HEADER = "case,slice,class,quantity,lower,upper,unit,set,source"
CASE = "patient1_frame01"


def told(folder: Path, *rows: str) -> list[str]:
    (folder / "priors.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return [str(problem) for problem in check(Dataset.open(folder)).problems]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{CASE},,LV,size,63000,77000,mL,typed,report", "at least 6.3e+04 mL is more than the whole image ("),
        (f"{CASE},,LV,size,63000,,px,typed,report", "is more than the whole image ("),
        (f"{CASE},1,LV,size,9000,,mm2,typed,x", "slice 1, LV: at least 9000 mm2 is more than the whole slice ("),
        (f"{CASE},1,LV,size,1.5,,fraction,typed,x", "is more than the whole slice (1 fraction)."),
    ],
)
def test_a_size_that_its_image_cannot_hold(tiny_dataset: Path, row: str, message: str) -> None:
    (found,) = told(tiny_dataset, row)
    assert message in found
    assert "priors.csv, line 2. Look at the row's unit" in found


def test_rows_that_exclude_each_other(tiny_dataset: Path) -> None:
    rows = [
        f"{CASE},,LV,size,0.9,1.1,mL,typed,a",
        f"{CASE},1,LV,size,0,0,px,tags,a",
        f"{CASE},,LV,size,0.5,0.6,mL,typed,b",
        f"{CASE},1,LV,size,1,,px,tags,b",
    ]
    volume, slice_1 = told(tiny_dataset, *rows)
    assert f"{CASE}, LV: two rows of the set 'typed' exclude each other (0.9 to 0.6 mL)." in volume
    assert "priors.csv, lines 2 and 4. Remove one of them." in volume
    assert f"{CASE}, slice 1, LV: two rows of the set 'tags' exclude each other (1 to 0 px)." in slice_1
    assert "lines 3 and 5" in slice_1


def test_rows_that_may_all_hold_are_no_problem(tiny_dataset: Path) -> None:
    rows = [f"{CASE},,LV,size,0.9,1.1,mL,typed,a", f"{CASE},,LV,size,1,1.2,mL,typed,b", f"{CASE},,LV,size,,0.5,mL,c,d"]
    assert told(tiny_dataset, *rows, f"{CASE},,LV,size,,63000,mL,loose,d") == []


def test_a_row_that_excludes_itself_is_told_once(tiny_dataset: Path) -> None:
    (found,) = told(tiny_dataset, f"{CASE},,LV,size,1.1,0.9,mL,typed,a")
    assert "the lower bound 1.1 mL exceeds the upper bound 0.9 mL" in found
