"""Volumes from a table of reports: numbers as spreadsheets write them, and every way in which they do not fit."""

from __future__ import annotations

import math
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from boundseg.data.dataset import Dataset
from boundseg.data.priors import Prior
from boundseg.data.reported import Reported, merged, reported, understand
from boundseg.data.spreadsheet import read_sheet
from boundseg.errors import InputError

INF = math.inf
CASES = ("patient1_frame01", "patient1_frame07", "patient2_frame01", "patient2_frame07")


@pytest.fixture
def dataset(write_dataset: Callable[..., Path]) -> Dataset:
    return Dataset.open(write_dataset(weak=False, priors=False))


def tell(dataset: Dataset, path: Path, columns: list[str], *, regions: list[str] | None = None, **options) -> Reported:
    sheet = read_sheet(path)
    unit, case_column = options.pop("unit", None), options.pop("case_column", "case")
    understood = understand(sheet, columns, regions or [], unit, dataset)
    return reported(dataset, sheet, understood, case_column=case_column, **options)


def bounds(found: Reported) -> list[tuple[str, float, float]]:
    return [(row.case, pytest.approx(row.lower), pytest.approx(row.upper)) for row in found.rows]


TABLES = {
    "commas": "case,LV (mL)\n{0},2\n{1},1.5\n{2},<3\n{3},\n",
    "commas, quoted decimal commas": 'case,LV (mL)\n{0},2\n{1},"1,5"\n{2},< 3\n{3},-\n',
    "semicolons, decimal commas": "case;LV (mL)\n{0};2,0\n{1};1,5\n{2};<3\n{3};\n",
    "semicolons, decimal points": "case;LV (mL)\n{0};2.0\n{1};1.5\n{2};<3\n{3};n/a\n",
    "semicolons, three decimals": "case;LV (mL)\n{0};2,000\n{1};1,500\n{2};<3,000\n{3};\n",
    "commas, three decimals": "case,LV (mL)\n{0},2.000\n{1},1.500\n{2},<3.000\n{3},\n",
    "tabs": "case\tLV (mL)\n{0}\t2\n{1}\t1.5\n{2}\t<3\n{3}\t\n",
    "a separator that Excel names": "sep=;\ncase;LV (mL)\n{0};2\n{1};1,5\n{2};<3\n{3};\n",
    "a comma in a column's name": 'case,LV (mL),"seen, by"\n{0},2,x\n{1},1.5,"y, z"\n{2},<3,\n{3},,\n',
    "blanks, empty lines, line ends": "case , LV (mL)\r\n\r\n {0} , 2\r\n{1}, 1.5 \r\n{2},<3\r\n{3},\r\n,\r\n",
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
def test_all_spellings_of_a_table_tell_the_same(dataset: Dataset, tmp_path: Path, table: str, mark: str) -> None:
    path = tmp_path / "volumes.csv"
    path.write_bytes((mark + TABLES[table].format(*CASES)).encode())
    found = tell(dataset, path, ["LV (mL)"], margin=0.2)
    assert bounds(found) == [(CASES[0], 1.6, 2.4), (CASES[1], 1.2, 1.8), (CASES[2], -INF, 3)]
    assert {(r.slice, r.region, r.quantity, r.unit, r.set) for r in found.rows} == {
        (None, "LV", "size", "mL", "report")
    }
    assert found.empty == [CASES[3]]
    assert found.missing == [case for case in dataset.training_cases if case not in CASES]
    assert found.cases == list(CASES)


def test_a_row_says_where_its_number_came_from(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(f"name;LV [mm3];Myo in cc\n{CASES[0]};2000,0;>1\n{CASES[1]};0;1\n")
    found = tell(dataset, path, ["LV [mm3]", "Myo in cc"], case_column="name", set="MRI")
    assert [astuple(row) for row in found.rows] == [
        astuple(row)
        for row in (
            Prior(CASES[0], None, "LV", "size", 1.8, 2.2, "mL", "MRI", "volumes.csv, LV [mm3]: 2000,0, margin 0.1"),
            Prior(CASES[0], None, "Myo", "size", 1, INF, "mL", "MRI", "volumes.csv, Myo in cc: >1"),
            Prior(CASES[1], None, "LV", "size", 0, 0, "mL", "MRI", "volumes.csv, LV [mm3]: 0, margin 0.1"),
            Prior(CASES[1], None, "Myo", "size", 0.9, 1.1, "mL", "MRI", "volumes.csv, Myo in cc: 1, margin 0.1"),
        )
    ]


@pytest.mark.parametrize(
    ("column", "region", "unit", "factor"),
    [
        ("LV (mL)", "LV", "mL", 1),
        ("LV[ml]", "LV", "mL", 1),
        ("LV_ml", "LV", "mL", 1),
        ("LV, cc", "LV", "mL", 1),
        ("LV (cm³)", "LV", "mL", 1),
        ("LV in mm3", "LV", "mL", 1e-3),
        ("LV (µL)", "LV", "mL", 1e-3),
        ("LV+Myo (L)", "LV+Myo", "mL", 1e3),
        ("LV voxels", "LV", "px", 1),
        ("LV (mm²)", "LV", "mm2", 1),
        ("LV (um2)", "LV", "mm2", 1e-6),
        ("LV in µm²", "LV", "mm2", 1e-6),
        ("LV_cm2", "LV", "mm2", 100),
        ("LV [%]", "LV", "fraction", 0.01),
        ("LV %", "LV", "fraction", 0.01),
        ("LV (pixels)", "LV", "px", 1),
        ("LV (yes/no)", "LV", "tag", 1),
        ("LV [Ja/Nein]", "LV", "tag", 1),
        ("LV tag", "LV", "tag", 1),
    ],
)
def test_a_column_says_its_class_and_its_unit(
    dataset: Dataset, tmp_path: Path, column: str, region: str, unit: str, factor: float
) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(f'case;"{column}"\n')
    (found,) = understand(read_sheet(path), [column], [], None, dataset)
    assert (found.region, found.unit, found.factor) == (region, unit, factor)


def test_class_and_unit_may_be_given(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(f"case,EDV,wall (mL)\n{CASES[0]},2,1\n")
    found = tell(dataset, path, ["EDV", "wall (mL)"], regions=["LV", "LV+Myo"], unit="ml", margin=0)
    assert [(row.region, row.lower, row.upper, row.unit) for row in found.rows] == [
        ("LV", 2, 2, "mL"),
        ("LV+Myo", 1, 1, "mL"),
    ]


def test_areas_shares_and_pixels_are_told_of_a_picture(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset.open(write_dataset("pictures", slices=1, weak=False, priors=False))
    path = tmp_path / "areas.csv"
    path.write_text(f"case,LV (um2),Myo (%),LV+Myo (px)\n{CASES[0]},50000000,10,<60\n{CASES[1]},,,\n")
    columns = ["LV (um2)", "Myo (%)", "LV+Myo (px)"]
    found = tell(dataset, path, columns)
    assert [(row.slice, row.region, row.lower, row.upper, row.unit) for row in found.rows] == [
        (0, "LV", pytest.approx(45), pytest.approx(55), "mm2"),
        (0, "Myo", pytest.approx(0.09), pytest.approx(0.11), "fraction"),
        (0, "LV+Myo", -INF, 60, "px"),
    ]
    sheet = read_sheet(path)
    typed = Prior(CASES[1], 0, "LV", "size", 1, 2, "mm2", "report", "typed")
    before = [replace(found.rows[0], upper=99), typed, replace(found.rows[1], case=CASES[1])]
    rows, replaced, kept = merged(before, found, sheet, understand(sheet, columns, [], None, dataset), "report")
    assert [(row.case, row.region) for row in rows] == [(row.case, row.region) for row in [*found.rows, typed]]
    assert (rows[0].upper, rows[-1], replaced, kept) == (55, typed, 2, [CASES[1]])


@pytest.mark.parametrize(("slices", "index"), [(5, None), (1, 0)], ids=["volumes", "pictures"])
def test_tags_say_whether_a_class_is_there(
    write_dataset: Callable[..., Path], tmp_path: Path, slices: int, index: int | None
) -> None:
    dataset = Dataset.open(write_dataset("tagged", slices=slices, weak=False, priors=False))
    path = tmp_path / "tags.csv"
    path.write_text(f"case,LV,Myo (1/0)\n{CASES[0]},Yes,0\n{CASES[1]},nein,1\n{CASES[2]},,ja\n{CASES[3]},absent,\n")
    found = tell(dataset, path, ["LV", "Myo (1/0)"])
    assert [(row.case, row.slice, row.region, row.lower, row.upper, row.unit) for row in found.rows] == [
        (CASES[0], index, "LV", 1, INF, "px"),
        (CASES[0], index, "Myo", 0, 0, "px"),
        (CASES[1], index, "LV", 0, 0, "px"),
        (CASES[1], index, "Myo", 1, INF, "px"),
        (CASES[2], index, "Myo", 1, INF, "px"),
        (CASES[3], index, "LV", 0, 0, "px"),
    ]
    assert found.rows[0].source == "tags.csv, LV: Yes"


def test_what_is_no_tag_is_refused_and_numbers_are_none_unless_the_unit_says_so(
    dataset: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "tags.csv"
    path.write_text(f"case,LV,Myo\n{CASES[0]},1,yes\n{CASES[1]},0,2\n")
    with pytest.raises(InputError, match="column 'LV' does not say its unit"):
        tell(dataset, path, ["LV"])
    assert bounds(tell(dataset, path, ["LV"], unit="tag")) == [(CASES[0], 1, INF), (CASES[1], 0, 0)]
    with pytest.raises(InputError, match=r"'Myo': '2' is neither yes nor no\.\n.*Write yes or no") as caught:
        tell(dataset, path, ["Myo"], unit="tag")
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("cell", ["10-13", "10–13", "10 – 13", "10 bis 13", "10 to 13 mL", "10,0-13,0 cc", "10-13ml"])
def test_a_range_gives_both_bounds_without_a_margin(dataset: Dataset, tmp_path: Path, cell: str) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(f"case;LV (mL)\n{CASES[0]};{cell}\n", encoding="utf-8")
    (row,) = tell(dataset, path, ["LV (mL)"]).rows
    assert (row.lower, row.upper, row.source) == (10, 13, f"volumes.csv, LV (mL): {cell}")


def test_a_cell_may_repeat_its_columns_unit(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(f"case;LV (mL);Myo (mm³)\n{CASES[0]};7,6 mL;3000 mm3\n{CASES[1]};<7,600 cm3;\n", encoding="utf-8")
    found = tell(dataset, path, ["LV (mL)", "Myo (mm³)"], margin=0)
    assert [(row.region, row.lower, row.upper) for row in found.rows] == [
        ("LV", 7.6, 7.6),
        ("Myo", 3, 3),
        ("LV", -INF, 7.6),
    ]


def test_cells_that_contradict_their_column_or_themselves_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(f"case;LV (mL)\n{CASES[0]};7,6 L\n{CASES[1]};13-10\n{CASES[2]};ca. 10 mL\n{CASES[3]};1,000-2 mL\n")
    with pytest.raises(InputError) as caught:
        tell(dataset, path, ["LV (mL)"])
    assert [problem.what.split(": ", 1)[1] for problem in caught.value.problems] == [
        "'7,6 L' is in another unit than its column.",
        "'13-10' goes from more to less.",
        "'ca. 10' is no number.",
    ]
    assert all("40-60" in problem.remedy for problem in caught.value.problems)


def test_an_area_of_a_volume_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "areas.csv"
    path.write_text(f"case,LV (cm2),Myo (%)\n{CASES[0]},2,3\n")
    with pytest.raises(InputError) as caught:
        tell(dataset, path, ["LV (cm2)", "Myo (%)"])
    told = "an area, or a share, is told of a picture, and this case has 5 slices."
    assert [problem.what for problem in caught.value.problems] == [
        f"{CASES[0]}, LV: {told}",
        f"{CASES[0]}, Myo: {told}",
    ]


def test_only_the_named_cases_are_taken(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(f"case,LV (mL)\n{CASES[0]},2\n{CASES[1]},3\n")
    found = tell(dataset, path, ["LV (mL)"], cases=[CASES[1], CASES[2]])
    assert [row.case for row in found.rows] == [CASES[1]]
    assert (found.passed_over, found.missing) == ([CASES[0]], [CASES[2]])


def test_a_patient_with_one_case_names_it(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset.open(write_dataset("single", frames=("frame01",), weak=False, priors=False))
    path = tmp_path / "volumes.csv"
    path.write_text("case,LV (mL)\npatient2,2\n")
    assert [row.case for row in tell(dataset, path, ["LV (mL)"]).rows] == ["patient2_frame01"]


def test_a_name_whose_accents_are_stored_otherwise_is_told(dataset: Dataset, tmp_path: Path) -> None:
    folder = dataset.folder / "imagesTr"
    shutil.copy(folder / f"{CASES[0]}_0000.nii.gz", folder / "e\u03014_0000.nii.gz")
    path = tmp_path / "volumes.csv"
    path.write_text("case,LV (mL)\n\u00e94,2\n", encoding="utf-8")
    told = r"'\u00e94' is no case of this dataset; did you mean 'e\\u03014'\? Its accents are stored otherwise"
    with pytest.raises(InputError, match=told):
        tell(Dataset.open(dataset.folder), path, ["LV (mL)"])


def test_everything_that_does_not_fit_is_listed_at_once(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    rows = [
        f"{CASES[0]},2000,1",
        "patient1_frame1,2,1",
        "patient2,2,1",
        f"{CASES[1]},two,-1",
        f"{CASES[0]},2,1",
        f'{CASES[2]},0.001,"1,234"',
        f"{CASES[3]},1.2.3,> ",
        ",2,1",
    ]
    path.write_text("\n".join(["case,LV (mL),Myo (mL)", *rows]) + "\n")
    with pytest.raises(InputError) as caught:
        tell(dataset, path, ["LV (mL)", "Myo (mL)"])
    found = [(problem.what, problem.where) for problem in caught.value.problems]
    expected = [
        (2, f"{CASES[0]}, LV: 2000 mL is more than the whole image (37.67 mL)."),
        (3, "'patient1_frame1' is no case of this dataset; did you mean 'patient1_frame01'?"),
        (4, f"the patient patient2 has 2 cases: {CASES[2]}, {CASES[3]}. Which one is meant?"),
        (5, f"{CASES[1]}, 'LV (mL)': 'two' is no number."),
        (5, f"{CASES[1]}, 'Myo (mL)': '-1' is below 0."),
        (6, f"{CASES[0]} has two rows, in line 2 and here."),
        (7, f"{CASES[2]}, 'Myo (mL)': '1,234' may be 1.234 or 1234."),
        (7, f"{CASES[2]}, LV: 0.001 mL is less than one voxel (0.016 mL)."),
        (8, f"{CASES[3]}, 'LV (mL)': '1.2.3' is no number with one decimal mark."),
        (8, f"{CASES[3]}, 'Myo (mL)': '>' is no number."),
        (9, "'' is no case of this dataset."),
    ]
    assert found == [(what, f"{path}, line {line}") for line, what in expected]
    assert all(problem.remedy for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("header", "columns", "regions", "unit", "messages"),
    [
        (
            "case,LV (ml),RV (mL),Myo,LV (cm)",
            ["LV (mL)", "RV (mL)", "Myo", "LV (cm)"],
            [],
            None,
            [
                "there is no column 'LV (mL)'; did you mean 'LV (ml)'?",
                "column 'RV (mL)': 'RV' is no class; did you mean 'LV'?",
                "column 'Myo' does not say its unit.",
                "column 'LV (cm)': 'cm' is no unit of a size.",
            ],
        ),
        ("case,LV (mL)", ["LV (mL)"], [], "mm3", ["column 'LV (mL)' is in mL, --unit says mm3."]),
        ("case,LV (mL)", ["LV (mL)"], [], "mm", ["'mm' is no unit of a size."]),
        ("case,LV (mL)", ["LV (mL)"], ["LV", "Myo"], None, ["1 --column and 2 --class were given."]),
        (
            "case,LV (mL),LV2 (mL)",
            ["LV (mL)", "LV2 (mL)", "LV (mL)"],
            ["LV+Myo", "Myo+LV", "LV"],
            None,
            ["columns 'LV (mL)' and 'LV2 (mL)' are both of Myo+LV."],
        ),
        ("case,LV (mL)", ["LV (mL)", "LV (mL)"], [], None, ["columns 'LV (mL)' and 'LV (mL)' are both of LV."]),
        ("case,EDV", ["EDV"], ["LV+LV"], "mL", ["column 'EDV': 'LV+LV' names 'LV' twice."]),
        ("case,EDV", ["EDV"], ["lv"], "mL", ["column 'EDV': 'lv' is no class; did you mean 'LV'?"]),
    ],
)
def test_columns_that_are_not_understood_are_listed(
    dataset: Dataset,
    tmp_path: Path,
    header: str,
    columns: list[str],
    regions: list[str],
    unit: str | None,
    messages: list[str],
) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(header + "\n")
    with pytest.raises(InputError) as caught:
        understand(read_sheet(path), columns, regions, unit, dataset)
    assert [problem.what for problem in caught.value.problems] == messages
    assert all(problem.remedy for problem in caught.value.problems)


def test_three_digits_behind_a_mark_are_refused_where_nothing_says_which_it_is(
    dataset: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "volumes.csv"
    for separator, cell in ((";", "1.234"), (",", '"1,234"'), ("\t", "1.234"), ("\t", "1,234")):
        path.write_text(f"case{separator}LV (mL)\n{CASES[0]}{separator}{cell}\n")
        with pytest.raises(InputError, match=r"may be 1\.234 or 1234\.\n.*Write 100, 100\.5 or 100,5"):
            tell(dataset, path, ["LV (mL)"])
        # another cell of the column tells
        path.write_text(
            f"case{separator}LV (mL)\n{CASES[0]}{separator}{cell}\n"
            f'{CASES[1]}{separator}"{"1.5" if "." in cell else "1,5"}"\n'
        )
        assert tell(dataset, path, ["LV (mL)"], margin=0).rows[0].lower == 1.234


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("volumes.csv", None, r"volumes.csv is not there\.\n.*Check the name"),
        ("volumes.ods", b"x", r"volumes.ods is no table that boundseg reads\.\n.*Save it as .csv"),
        ("volumes.csv", b"\n\n", r"volumes.csv is empty\.\n.*first line names the columns"),
        (
            "volumes.csv",
            "case,LV\ngrößer,1".encode("latin-1"),
            r"volumes.csv is not UTF-8 \(line 2\)\.\n.*Save it as Excel's 'CSV UTF-8",
        ),
        ("volumes.csv", b"case,LV,LV\np,1,2", r"the column 'LV' is there twice\.\n.*Rename one"),
        ("volumes.csv", b"case,LV\np,1,5", r"line 2 has 3 cells, the header 2\.\n.*decimal comma needs ; or tabs"),
        (
            "volumes.csv",
            b'case,LV\np,"1\nq,2\n',
            r"volumes.csv cannot be read from line 2 on: .*\n.*quote .* not closed",
        ),
        ("volumes.csv", b'sep=,\ncase,LV\np,1\nq,"2" "\n', r"volumes.csv cannot be read from line 4 on"),
        ("volumes.csv", b"case,LV\np," + b"1" * 200_000, r"volumes.csv cannot be read from line 2 on"),
        ("volumes.csv", b"case,LV (mL)\n", r"the table has no rows\.\n.*Add a row"),
        ("volumes.csv", b"name,LV (mL)\np,1", r"there is no column 'case'.*\n.*--case-column names one of 'name', 'LV"),
    ],
)
def test_what_is_no_table_is_refused(
    dataset: Dataset, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        tell(dataset, tmp_path / name, ["LV (mL)"])


def test_an_excel_sheet_tells_the_same(dataset: Dataset, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (("case", "LV (mL)"), (CASES[0], 2), (CASES[1], 1.234), (), (CASES[2], "<3"), (CASES[3], None)):
        book.active.append(row)
    book.save(tmp_path / "volumes.xlsx")
    found = tell(dataset, tmp_path / "volumes.xlsx", ["LV (mL)"], margin=0)
    assert bounds(found) == [(CASES[0], 2, 2), (CASES[1], 1.234, 1.234), (CASES[2], -INF, 3)]
    (tmp_path / "broken.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"broken.xlsx cannot be read as .xlsx: .*\n.*Save it again"):
        read_sheet(tmp_path / "broken.xlsx")


def xlsx(path: Path, rows: Iterable[Sequence[object]], *replaced: tuple[str, str]) -> None:
    """Writes a sheet, and replaces texts of its XML."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    name = "xl/worksheets/sheet1.xml"
    for old, new in replaced:
        assert old.encode() in parts[name]
        parts[name] = parts[name].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as packed:
        for part, content in parts.items():
            packed.writestr(part, content)


def test_a_number_that_is_shown_with_zeros_names_its_case(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_dataset(weak=False, priors=False)
    splits = folder / "splits.json"
    splits.write_text(splits.read_text().replace('"patient1"', '"0012345"').replace("patient1_frame01", "0000007"))
    for path in folder.glob("*/patient1_frame01*"):
        path.rename(path.with_name(path.name.replace("patient1_frame01", "0000007")))
    xlsx(tmp_path / "volumes.xlsx", [("case", "LV (mL)"), (7, 2)])
    found = tell(Dataset.open(folder), tmp_path / "volumes.xlsx", ["LV (mL)"], margin=0)
    assert bounds(found) == [("0000007", 2, 2)]
    assert found.as_numbers == ["7 as 0000007"]
    xlsx(tmp_path / "volumes.xlsx", [("case", "LV (mL)"), (8, 2)])
    with pytest.raises(InputError, match="'8' is no case of this dataset"):
        tell(Dataset.open(folder), tmp_path / "volumes.xlsx", ["LV (mL)"])


def test_a_title_above_the_header_is_told(dataset: Dataset, tmp_path: Path) -> None:
    message = r"the first line, 'Volumes 2024', names one column, and line 3 has 2 cells\.\n.*Is it a title\? Remove"
    xlsx(tmp_path / "volumes.xlsx", [("Volumes 2024",), (), ("case", "LV (mL)"), (CASES[0], 2)])
    with pytest.raises(InputError, match=message):
        read_sheet(tmp_path / "volumes.xlsx")
    for separator in ",;\t":
        lines = "Volumes 2024", "", f"case{separator}LV (mL)", f"{CASES[0]}{separator}2"
        (tmp_path / "volumes.csv").write_text("\n".join(lines))
        with pytest.raises(InputError, match=message):
            read_sheet(tmp_path / "volumes.csv")


def test_a_sheet_that_says_it_is_smaller_is_read_whole(dataset: Dataset, tmp_path: Path) -> None:
    for size in ("A1", "A1:B2"):
        rows = [("case", "LV (mL)"), *((case, 2.5) for case in CASES)]
        xlsx(tmp_path / "volumes.xlsx", rows, ('<dimension ref="A1:B5"', f'<dimension ref="{size}"'))
        assert tell(dataset, tmp_path / "volumes.xlsx", ["LV (mL)"]).cases == list(CASES)


def test_a_number_of_a_sheet_is_one_whatever_marks_others_have(dataset: Dataset, tmp_path: Path) -> None:
    xlsx(tmp_path / "volumes.xlsx", [("case", "LV (mL)"), (CASES[0], 12.345), (CASES[1], "13,5"), (CASES[2], 0.0)])
    found = tell(dataset, tmp_path / "volumes.xlsx", ["LV (mL)"], margin=0)
    assert bounds(found) == [(CASES[0], 12.345, 12.345), (CASES[1], 13.5, 13.5), (CASES[2], 0, 0)]
    assert [row.source for row in found.rows][::2] == [f"volumes.xlsx, LV (mL): {n}, margin 0" for n in ("12.345", "0")]


def test_a_formula_that_nobody_computed_is_not_an_empty_cell(dataset: Dataset, tmp_path: Path) -> None:
    rows = [("case", "LV (mL)"), (CASES[0], "=1+2"), (CASES[1], '=""'), (CASES[2], 5)]
    nothing = ('<c r="B3">', '<c r="B3" t="str">')  # as spreadsheets save what comes to an empty text
    xlsx(tmp_path / "volumes.xlsx", rows, nothing)
    with pytest.raises(InputError) as caught:
        tell(dataset, tmp_path / "volumes.xlsx", ["LV (mL)"])
    (problem,) = caught.value.problems
    assert problem.what == f"{CASES[0]}, 'LV (mL)': the formula '=1+2' was saved without what it comes to."
    assert "Open the table in a spreadsheet program" in problem.remedy


def test_without_openpyxl_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "volumes.xlsx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"needs openpyxl, which is not installed\.\n.*Or save the sheet as CSV"):
        read_sheet(tmp_path / "volumes.xlsx")
