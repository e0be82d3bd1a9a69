"""priors.csv: what is written is read, spreadsheets do no harm, deriving twice changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boundseg.constraints import SIZE_UNITS
from boundseg.data import priors
from boundseg.data.dataset import Dataset
from boundseg.data.priors import COLUMNS, Prior
from boundseg.errors import InputError, PriorsError

INF = math.inf
HEADER = ",".join(COLUMNS)
ROW = Prior("p1_ed", 3, "LV", "size", 55.8, 68.2, "px", "individual", "by hand")

words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
numbers = st.floats(0, 1e9) | st.integers(0, 10**9).map(float)


@st.composite
def facts(draw: st.DrawFn, cases: st.SearchStrategy[str] = words, sets: st.SearchStrategy[str] = words) -> Prior:
    """Any row that is possible."""
    lower, upper = sorted([draw(numbers), draw(numbers)])
    return Prior(
        case=draw(cases),
        slice=draw(st.none() | st.integers(0, 500)),
        region=draw(st.sampled_from(["LV", "Myo", "LV+Myo"])),
        quantity="size",
        lower=draw(st.sampled_from([lower, -INF])),
        upper=draw(st.sampled_from([upper, INF])),
        unit=draw(st.sampled_from(SIZE_UNITS)),
        set=draw(sets),
        source=draw(st.sampled_from(["", "oracle", 'a "quoted", long one', "größer als 3 mm²"])),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("priors") / "priors.csv"


@given(st.lists(facts(), max_size=5))
def test_what_is_written_is_read(path: Path, rows: list[Prior]) -> None:
    priors.write(path, rows)
    assert priors.read(path) == rows
    text = path.read_text(encoding="utf-8")
    priors.write(path, priors.read(path))
    assert path.read_text(encoding="utf-8") == text


@given(st.lists(facts(), max_size=5))
def test_a_spreadsheets_byte_order_mark_and_line_ends_change_nothing(path: Path, rows: list[Prior]) -> None:
    priors.write(path, rows)
    text = path.read_text(encoding="utf-8")
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert priors.read(path) == rows


def test_an_unknown_side_and_a_whole_volume_are_empty_cells(path: Path) -> None:
    rows = [replace(ROW, lower=-INF), replace(ROW, upper=INF, slice=None), replace(ROW, lower=0.0, upper=0.0)]
    priors.write(path, rows)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines == [
        HEADER,
        "p1_ed,3,LV,size,,68.2,px,individual,by hand",
        "p1_ed,,LV,size,55.8,,px,individual,by hand",
        "p1_ed,3,LV,size,0,0,px,individual,by hand",  # 0 is a bound, not an empty cell
    ]


def test_columns_may_be_moved_added_and_padded_with_blanks(path: Path) -> None:
    path.write_text(
        "set,source,remark,case,slice,class,quantity,lower,upper,unit\n"
        "individual,by hand,looks odd, p1_ed , 3 ,LV,size, 55.8 ,68.2,px\n"
        "\n"
        "individual,by hand,,p1_ed,3,LV,size,55.8,68.2,px\n"
    )
    assert priors.read(path) == [replace(ROW, others={"remark": text}) for text in ("looks odd", "")]


def test_columns_of_somebodys_own_and_all_digits_stay(path: Path) -> None:
    path.write_text(
        "reader,case,slice,class,quantity,lower,upper,unit,set,source,\n"
        "Anna,p1_ed,3,LV,size,0.123456789012,68.2,px,mine,by hand,\n"
    )
    priors.write(path, priors.merge(priors.read(path), [replace(ROW, lower=0.9 * 617, upper=617.0)]))
    assert path.read_text().splitlines() == [
        f"{HEADER},reader",
        "p1_ed,3,LV,size,0.123456789012,68.2,px,mine,by hand,Anna",
        "p1_ed,3,LV,size,555.3,617,px,individual,by hand,",
    ]


few_names = st.sampled_from(["a", "b"])
few_facts = st.lists(facts(few_names, st.sampled_from(["tags", "mine"])), max_size=8)


@given(few_facts, few_facts)
def test_merging_twice_changes_nothing(old: list[Prior], new: list[Prior]) -> None:
    once = priors.merge(old, new)
    assert priors.merge(once, new) == once


@given(few_facts, few_facts)
def test_merging_keeps_the_order_and_every_row_of_other_sets(old: list[Prior], new: list[Prior]) -> None:
    new = priors.merge([], [replace(row, set="tags") for row in new])  # with ten digits
    merged = priors.merge(old, new)
    assert [row for row in merged if row.set == "mine"] == [row for row in old if row.set == "mine"]
    start = next((i for i in range(len(merged) + 1) if merged[i : i + len(new)] == new), None)
    assert start is not None
    kept = merged[:start] + merged[start + len(new) :]
    assert kept == [row for row in old if row in kept]


def test_derived_rows_take_the_place_of_the_ones_they_replace() -> None:
    first, last = replace(ROW, set="report"), replace(ROW, set="mine")
    old = [first, ROW, replace(ROW, slice=4), replace(ROW, slice=None), replace(ROW, case="p2_ed"), last]
    new = [replace(ROW, upper=70.0, unit="mm2"), replace(ROW, slice=5)]
    # slice 4 was derived by the same rule and is gone; the volume and the other case are not derived anew
    assert priors.merge(old, new) == [first, *new, *old[3:]]
    assert priors.merge([], new) == new
    assert priors.merge([first], new) == [first, *new]


def test_facts_are_grouped_by_unit_and_scope() -> None:
    rows = [
        ROW,
        replace(ROW, slice=4, lower=-INF),
        replace(ROW, case="p2_ed", slice=None),
        replace(ROW, unit="mm2"),
        replace(ROW, set="tags"),
        replace(ROW, region="Myo"),
    ]
    slices, volumes, area = priors.look_up(rows, set="individual", quantity="size", region="LV")
    assert (slices.unit, slices.of_volume) == ("px", False)
    assert slices.bounds == {"p1_ed": {3: (55.8, 68.2), 4: (-INF, 68.2)}}
    assert (volumes.unit, volumes.of_volume) == ("px", True)
    assert volumes.bounds == {"p2_ed": {None: (55.8, 68.2)}}
    assert (area.unit, area.bounds) == ("mm2", {"p1_ed": {3: (55.8, 68.2)}})
    assert priors.look_up(rows, set="individual", quantity="size", region="RV") == []


def test_rows_about_the_same_thing_all_hold() -> None:
    rows = [ROW, replace(ROW, lower=60.0, upper=INF), replace(ROW, lower=-INF, upper=65.0)]
    (found,) = priors.look_up(rows, set="individual", quantity="size", region="LV")
    assert found.bounds == {"p1_ed": {3: (60.0, 65.0)}}
    rows.append(replace(ROW, lower=66.0))
    message = r"p1_ed, slice 3, LV: two rows of the set 'individual' exclude each other \(66 to 65 px\)\.\n.*Remove one"
    with pytest.raises(PriorsError, match=message):
        priors.look_up(rows, set="individual", quantity="size", region="LV")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "p1_ed,4,LV,size,812,640,px,individual,",
            r"p1_ed, slice 4, LV: the lower bound 812 px exceeds the upper bound 640 px\.\n.*line 2\. Swap them",
        ),
        ("p1_ed,,LV,size,nan,640,px,volume,", r"p1_ed, LV: a bound is NaN\.\n.*Leave the cell empty"),
        ("p1_ed,,LV,size,inf,,px,volume,", r"p1_ed, LV: a bound is infinite on the wrong side"),
        ("p1_ed,,LV,size,,-5,px,volume,", r"p1_ed, LV: a size cannot be at most -5\.\n.*Give an upper bound of 0"),
        ("p1_ed,,LV,size,1,5,ml,volume,", r"p1_ed, LV: 'ml' is no unit; did you mean 'mL'\?\n.*Use one of px, "),
        ("p1_ed,4.0,LV,size,1,5,px,tags,", r"p1_ed, LV: slice = '4.0' is no whole number\.\n.*line 2\. Mend it"),
        ('p1_ed,4,LV,size,"1,5",5,px,tags,', r"p1_ed, LV: lower = '1,5' is no number\.\n.*line 2\. Mend it"),
        ("p1_ed,4,LV,size,1,5,px,tags,seen, twice", r"p1_ed, LV: ' twice' is in no column\.\n.*Put quotes around"),
        ("p1_ed,4,LV,size,1", r"p1_ed, slice 4, LV: '' is no unit\."),
    ],
)
def test_an_impossible_row_is_named_with_its_line(path: Path, row: str, message: str) -> None:
    path.write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(PriorsError, match=message):
        priors.read(path)


def test_all_impossible_rows_are_listed_by_the_line_they_have_in_an_editor(path: Path) -> None:
    good, bad = "p1_ed,4,LV,size,1,5,px,tags,", "p1_ed,4,LV,size,5,1,px,tags,"
    path.write_text("\n".join([HEADER, good, "p1_ed,x,LV,size,1,5,px,tags,", "", bad, good, bad]) + "\n")
    with pytest.raises(PriorsError) as raised:
        priors.read(path)
    assert [problem.where.rpartition("line ")[2] for problem in raised.value.problems] == ["3", "5", "7"]
    assert str(raised.value).count("exceeds the upper bound") == 2
    rows, problems = priors.scan(path)
    assert list(rows) == [2, 5, 6, 7]  # impossible ones too: more may be wrong with them
    assert problems == list(raised.value.problems)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_file_saved_where_commas_are_decimal_marks_says_the_same(path: Path, separator: str) -> None:
    rows = [HEADER, "p1,3,LV,size,1.5,20,px,tags,seen", "p2,,LV,size,,0.25,mL,report,"]
    text = "\r\n".join(row.replace(",", separator).replace(".", ",") for row in rows)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    first, second = priors.read(path)
    assert (first.case, first.slice, first.lower, first.upper, first.source) == ("p1", 3, 1.5, 20, "seen")
    assert (second.case, second.slice, second.lower, second.upper, second.unit) == ("p2", None, -math.inf, 0.25, "mL")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"case;slice;class\np1;3;LV\n",
            r"the columns \['quantity', 'lower', .*\] are missing\.\n.*The header is: case,slice",
        ),
        (b"", r"the columns .* are missing"),
        (
            HEADER.encode()
            + b'\np1,3,LV,size,1,2,px,tags,\np1,4,LV,size,1,2,px,tags,"seen\np1,5,LV,size,1,2,px,tags,\n',
            r"priors.csv cannot be read from line 3 on: .*\n.*quote that is not closed",
        ),
        (
            HEADER.encode() + b"\np1,3,LV,size,1,2,px,tags,gr\xf6\xdfer\n",
            r"priors.csv is not UTF-8 \(line 2\)\.\n.*'CSV UTF-8",
        ),
    ],
)
def test_what_is_no_such_table_is_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(PriorsError, match=message):
        priors.read(path)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"priors.csv is not there\.\n.*boundseg priors writes one"):
        priors.read(tmp_path / "priors.csv")


def test_what_does_not_fit_the_dataset_is_named(tiny_dataset: Path) -> None:
    case = "patient1_frame01"
    rows = {
        2: replace(ROW, case="patient1_frame02"),
        3: replace(ROW, case=case, slice=5),
        4: replace(ROW, case=case, slice=-1),
        5: replace(ROW, case=case, region="LV+Myu"),
        6: replace(ROW, case=case, quantity="sise"),
        7: replace(ROW, case="patient2_frame01", slice=99),  # its image could not be read
        8: replace(ROW, case=case, region="LV+Myo"),
        9: replace(ROW, case=case, region="LV+LV"),
        10: replace(ROW, case=case, region="LV:LV", quantity="ratio", unit="1"),
    }
    found = priors.problems_with(rows, Dataset.open(tiny_dataset), {case: 5}, Path("priors.csv"))
    assert [(problem.what, problem.where) for problem in found] == [
        ("'patient1_frame02' is no case of this dataset; did you mean 'patient1_frame07'?", "priors.csv, line 2"),
        ("patient1_frame01 has slices 0 to 4, not 5.", "priors.csv, line 3"),
        ("patient1_frame01 has slices 0 to 4, not -1.", "priors.csv, line 4"),
        ("'Myu' is no class; did you mean 'Myo'?", "priors.csv, line 5"),
        ("'sise' is no quantity; did you mean 'size'?", "priors.csv, line 6"),
        ("patient1_frame01: 'LV+LV' names 'LV' twice.", "priors.csv, line 9"),
        ("patient1_frame01: 'LV:LV' is the same on both sides.", "priors.csv, line 10"),
    ]


def test_a_case_that_was_derived_anew_keeps_no_row_of_before() -> None:
    absent = Prior("case1", 0, "LV", "size", 0, 0, "px", "tags", "none labelled")
    other = Prior("case2", 0, "LV", "size", 0, 0, "px", "tags", "none labelled")
    assert priors.merge([absent, other], [], [("tags", "size", "LV", "case1", False)]) == [other]


def test_a_size_is_no_length(tmp_path: Path) -> None:
    path = tmp_path / "priors.csv"
    path.write_text(f"{','.join(priors.COLUMNS)}\np02,,LV,size,90,110,mm,report,typed by hand\n")
    with pytest.raises(PriorsError, match=r"p02, LV: a size has no unit 'mm'\.") as caught:
        priors.read(path)
    assert "Use one of px, grid_px, mm2, mL, fraction." in str(caught.value)
