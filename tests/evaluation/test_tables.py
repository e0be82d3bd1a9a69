"""Tables: means over what is defined, with counts of what is not."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from boundseg.evaluation.comparable import require_comparable
from boundseg.evaluation.tables import Evaluation, markdown, paired_tests, transposed

NAN = math.nan


def evaluation(soft: bool = True) -> Evaluation:
    """Three cases of LV, whose dice is undefined in one, and one of Myo, which is nowhere."""
    volumes = pd.DataFrame(
        {
            "case": ["a", "b", "c", "a"],
            "patient": ["p", "q", "q", "p"],
            "class": ["LV", "LV", "LV", "Myo"],
            "dice": [0.8, 0.6, NAN, NAN],
            "sensitivity": [0.75, 0.65, NAN, NAN],
            "precision": [0.9, 0.6, NAN, NAN],
            "hd95_mm": [4.0, 6.0, NAN, NAN],
            "assd_mm": [1.0, 2.0, NAN, NAN],
            "reference_px": [100, 60, 0, 0],
            "predicted_px": [80, 72, 0, 0],
            "reference_ml": [10.0, 6.0, 0.0, 0.0],
            "predicted_ml": [8.0, 7.2, 0.0, 0.0],
            "volume_error_ml": [-2.0, 1.2, 0.0, 0.0],
            "relative_volume_error": [-0.2, 0.2, NAN, NAN],
        }
    )
    if soft:
        volumes["soft_px"] = [110.0, 66.0, 0.0, 1.0]
    slices = pd.DataFrame(
        {
            "case": ["a", "a", "b", "b", "a"],
            "patient": ["p", "p", "q", "q", "p"],
            "slice": [0, 1, 0, 1, 0],
            "class": ["LV"] * 4 + ["Myo"],
            "dice": [0.5, 0.7, NAN, 0.0, NAN],
            "hd95_mm": [4.0, 6.0, NAN, NAN, NAN],
            "reference_px": [50, 50, 0, 60, 0],
            "predicted_px": [100, 40, 5, 0, 0],
            "reference_mm2": [100.0, 120.0, 0.0, 140.0, 0.0],
            "predicted_mm2": [200.0, 80.0, 10.0, 0.0, 0.0],
        }
    )
    constraints = pd.DataFrame(
        {
            "case": ["a", "a", "b", "b", "a", "b"],
            "slice": [0, 1, 0, 1, "", ""],
            "constraint": ["size"] * 4 + ["tags"] * 2,
            "known": [True, True, True, False, False, False],
            "lower": [40.0, 40.0, 0.0, -math.inf, -math.inf, -math.inf],
            "upper": [60.0, 60.0, 0.0, math.inf, math.inf, math.inf],
            "soft": [50.0, 50.0, 4.0, 1.0, NAN, NAN],
            "hard": [50.0, 90.0, 5.0, 0.0, NAN, NAN],
            "soft_kept": [True, True, False, True, True, True],
            "hard_kept": [True, False, False, True, True, True],
        }
    )
    return Evaluation(volumes, slices, constraints)


def write(found: Evaluation, folder: Path) -> None:
    for name, text in found.texts().items():
        (folder / name).write_text(text)


def test_means_are_over_what_is_defined_with_intervals_over_patients_and_the_rest_is_counted() -> None:
    lv, myo = evaluation().summary()
    assert lv["class"] == "LV"
    assert lv["cases (patients)"] == "3 (2)"
    assert lv["DSC (volumes)"] == "0.700 (0.600 to 0.800; n = 2, 1 undefined)"
    assert lv["DSC (slices)"] == "0.400 (0.000 to 0.600; n = 3, 1 undefined)"
    assert lv["HD95 [mm]"] == "5.0 (4.0 to 6.0; n = 2, 1 undefined)"
    assert lv["ASSD [mm]"] == "1.50 (1.00 to 2.00; n = 2, 1 undefined)"
    assert lv["sensitivity"] == "0.700 (0.650 to 0.750; n = 2, 1 undefined)"
    assert lv["precision"] == "0.750 (0.600 to 0.900; n = 2, 1 undefined)"
    assert lv["volume error [mL]"] == "-0.3 (-2.0 to +0.6; n = 3)"
    assert lv["absolute volume error [%]"] == "20.0 (20.0 to 20.0; n = 2, 1 undefined)"
    assert lv["soft / hard / true volume"] == "1.10 / 0.95 / 1"
    assert myo["DSC (volumes)"] == "NaN (n = 0)"
    assert myo["soft / hard / true volume"] == "NaN"


def test_without_probabilities_there_is_no_soft_volume() -> None:
    assert "soft / hard / true volume" not in evaluation(soft=False).summary()[0]


def test_satisfaction_is_the_share_of_known_bounds_by_hand() -> None:
    size, tags = evaluation().satisfaction()
    assert size == {"constraint": "size", "known": "3 of 4", "kept (soft)": "66.7%", "kept (argmax)": "33.3%"}
    assert tags == {"constraint": "tags", "known": "0 of 2", "kept (soft)": "NaN", "kept (argmax)": "NaN"}
    nothing = Evaluation(pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    assert nothing.satisfaction() == []


def test_markdown_has_a_head_and_a_line_a_row() -> None:
    rows = [{"a": "1", "b": "2"}, {"a": "3"}]
    assert markdown(rows) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |\n"
    assert markdown([]) == ""


def test_every_line_of_a_markdown_table_has_as_many_columns_as_its_head() -> None:
    counts = {line.count("|") for line in markdown(evaluation().summary()).splitlines()}
    assert counts == {12}


def test_sizes_are_grouped_by_what_is_true_and_absence_stands_apart() -> None:
    small, large, absent, myo = evaluation().by_size(bins=2)
    assert (small["true size [mm2]"], small["slices"], small["predicted / true"]) == ("100 to 120", "1", "2.00")
    assert (large["true size [mm2]"], large["slices"], large["nothing predicted"]) == ("120 to 140", "2", "50.0%")
    assert {small["class"], large["class"], absent["class"]} == {"LV"}
    assert absent == {
        "class": "LV",
        "true size [mm2]": "absent",
        "slices": "1",
        "DSC": "",
        "predicted / true": "",
        "predicted - true [mm2]": "+10",
        "nothing predicted": "0.0%",
        "HD95 [mm]": "",
    }
    assert (myo["class"], myo["true size [mm2]"], myo["nothing predicted"]) == ("Myo", "absent", "100.0%")


def test_every_slice_is_in_one_group_of_sizes() -> None:
    found = evaluation()
    for bins in (1, 2, 3, 5):
        rows = [row for row in found.by_size(bins) if row["class"] == "LV"]
        assert sum(int(row["slices"]) for row in rows) == 4


def test_under_a_microscope_numbers_keep_two_digits_that_count() -> None:
    found = evaluation()
    for name in ("hd95_mm", "assd_mm", "volume_error_ml"):
        found.volumes[name] *= 1e-4
    for name in ("reference_mm2", "predicted_mm2"):
        found.slices[name] *= 1e-6
    lv, _ = found.summary()
    assert lv["HD95 [mm]"] == "0.00050 (0.00040 to 0.00060; n = 2, 1 undefined)"
    assert lv["volume error [mL]"] == "-0.00003 (-0.00020 to +0.00006; n = 3)"
    small, _, absent, _ = found.by_size(bins=2)
    assert small["true size [mm2]"] == "0.00010 to 0.00012"
    assert absent["predicted - true [mm2]"] == "+0.00001"


def test_groups_without_a_slice_are_left_out() -> None:
    found = evaluation()
    sizes = [10.0, 10.0, 10.0, 10.0, 20.0, 20.0]
    rows = pd.concat([found.slices.iloc[:1]] * 6, ignore_index=True).assign(reference_mm2=sizes)
    groups = Evaluation(found.volumes, rows, found.constraints).by_size(bins=5)
    assert sum(int(row["slices"]) for row in groups) == 6
    assert "0" not in [row["slices"] for row in groups]


def test_a_swollen_group_shows_its_median_ratio() -> None:
    (all_of_them, _) = [row for row in evaluation().by_size(bins=1) if row["class"] == "LV"]
    assert all_of_them["predicted / true"] == "0.67"
    assert all_of_them["nothing predicted"] == "33.3%"


def test_runs_are_compared_class_by_class() -> None:
    better = evaluation()
    better.volumes["dice"] += 0.1
    lv, myo = paired_tests({"a": evaluation(), "b": better})
    assert (lv["class"], lv["pair"], lv["patients"]) == ("LV", "a - b", "2")
    assert lv["difference"] == "-0.100 (-0.100 to -0.100)"
    assert float(lv["p"]) == float(lv["p (Holm)"]) == 0.5
    assert (myo["patients"], myo["difference"], myo["p"]) == ("0", "+nan", "NaN")


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    for original in (
        evaluation(),
        Evaluation(evaluation().volumes, evaluation().slices, pd.DataFrame(), {"cases": "test"}),
    ):
        write(original, tmp_path)
        read = Evaluation.read(tmp_path)
        pd.testing.assert_frame_equal(read.volumes, original.volumes, check_dtype=False)
        pd.testing.assert_frame_equal(read.slices, original.slices, check_dtype=False)
        assert read.summary() == original.summary()
        assert read.satisfaction() == original.satisfaction()
        assert read.about == original.about


def test_names_are_words_whatever_they_look_like(tmp_path: Path) -> None:
    for one, other in (("NA", "null"), ("1", "02"), ("nan", "a, b")):
        names = {"LV": one, "Myo": other}
        original = evaluation()
        for table in (original.volumes, original.slices):
            table["class"] = table["class"].map(names)
            table["case"] = table["patient"] = table["class"]
        write(original, tmp_path)
        read = Evaluation.read(tmp_path)
        for column in ("class", "case", "patient"):
            assert list(read.volumes[column]) == [one] * 3 + [other]
        assert read.summary() == original.summary()
        require_comparable({"read": read, "kept": original})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("volumes.csv", "", "volumes.csv holds no row"),
        ("slices.csv", "", "slices.csv holds no row"),
        ("volumes.csv", "case,patient,class,dice\na,p,LV,0.5\n", "volumes.csv has no column hd95_mm, assd_mm"),
        ("slices.csv", "case,patient,cl", "slices.csv ends within a line"),
        ("constraints.csv", "case,slice,constraint\na,0,si", "constraints.csv ends within a line"),
        ("about.json", "[]", "about.json is no JSON object"),
    ],
)
def test_a_torn_file_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    write(evaluation(), tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        Evaluation.read(tmp_path)


@pytest.mark.parametrize(("name", "column"), [("volumes", "dice"), ("constraints", "known")])
def test_a_cell_that_is_no_value_is_named_with_its_line(tmp_path: Path, name: str, column: str) -> None:
    broken = evaluation()
    table = getattr(broken, name)
    table[column] = table[column].astype(object)
    table.loc[1, column] = "much"
    write(broken, tmp_path)
    with pytest.raises(ValueError, match=f"{name}.csv, line 3: {column} is 'much'"):
        Evaluation.read(tmp_path)


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Evaluation.read(tmp_path)


def test_a_transposed_table_is_headed_by_the_first_column() -> None:
    rows = [{"class": "LV", "DSC": "0.9", "HD95": "3"}, {"class": "Myo", "DSC": "0.8", "HD95": "4"}]
    assert transposed(rows) == [
        {"class": "DSC", "LV": "0.9", "Myo": "0.8"},
        {"class": "HD95", "LV": "3", "Myo": "4"},
    ]
