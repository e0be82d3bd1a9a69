"""Drawings, reports and downloads through the command line: what is said, and how it ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boundseg.data import priors
from boundseg.data.dataset import Dataset

from .cases import TRAIN, Boundseg, config, ok, refused, rewrite, voxels

REPORTS = "patient;LV (mL)\npatient1_frame01;2,0\npatient2_frame01;<3\npatient3_frame01;\n"


@pytest.fixture
def drawings(tiny_dataset: Path, tmp_path: Path) -> Path:
    """The seeds as a tool would have drawn them: 1 and 2 for the classes, 0 where nothing was drawn."""
    folder = tmp_path / "drawings"
    shutil.copytree(tiny_dataset / "labelsTr_seeds", folder)
    for path in folder.iterdir():
        drawn = voxels(path)
        rewrite(path, np.where(drawn == 3, 0, drawn))
    return folder


def test_drawings_become_the_labels_that_were_drawn(boundseg: Boundseg, drawings: Path, tiny_dataset: Path) -> None:
    arguments = ("convert", "labels", drawings, tiny_dataset, "--name", "drawn", "--map", "1=LV", "--map", "2=Myo")
    shown = ok(boundseg(*arguments)).out
    assert "labelsTr_drawn" in shown
    assert "brought onto" not in shown
    for path in (tiny_dataset / "labelsTr_seeds").iterdir():
        assert np.array_equal(voxels(tiny_dataset / "labelsTr_drawn" / path.name), voxels(path))
    assert ok(boundseg(*arguments, "--map", "5=background")).out.endswith("of --map, held by no drawing: 5\n")
    assert "no problem found" in ok(boundseg("check", tiny_dataset)).out
    # a drawing that was taken away leaves its labels, which go on to teach
    gone = sorted(drawings.iterdir())[0]
    gone.unlink()
    shown = ok(boundseg(*arguments)).out
    case = gone.name.removesuffix(".nii.gz")
    kept = tiny_dataset / "labelsTr_drawn" / gone.name
    assert f"kept from an earlier call (to take one out, remove {kept}): {case}\n" in shown
    assert "without a drawing" not in shown


def test_without_test_masks_a_training_points_to_what_is_left(
    boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tiny_dataset / "labelsTs")
    run, scans = tmp_path / "run", tiny_dataset / "imagesTs"
    shown = ok(boundseg("train", config(tmp_path, tiny_dataset), "--out", run, *TRAIN)).out
    assert f"run folder: {run}  (no test case has a mask: boundseg predict {run} {scans} --out predictions)\n" in shown
    refused(boundseg("evaluate", run, "--device", "cpu"), "has no full mask.", "boundseg predict writes label maps and")


def test_reports_become_bounds_and_twice_changes_nothing(
    boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path
) -> None:
    table = tmp_path / "volumes.csv"
    table.write_text(REPORTS)
    arguments: list[Any] = ["priors", tiny_dataset, "report", "--table", table, "--column", "LV (mL)"]
    arguments += ["--case-column", "patient", "--margin", 0.2]
    before = priors.read(tiny_dataset / "priors.csv")
    shown = ok(boundseg(*arguments)).out
    assert f"priors.csv: 2 rows of the set 'report' from {table}" in shown
    assert "column 'LV (mL)': LV in mL\n" in shown
    assert "empty: patient3_frame01\n" in shown
    assert "training cases not in the table: patient1_frame07, " in shown
    rows = priors.read(tiny_dataset / "priors.csv")
    assert rows[: len(before)] == before
    assert [(row.case, row.lower, row.upper) for row in rows[len(before) :]] == [
        ("patient1_frame01", 1.6, 2.4),
        ("patient2_frame01", -np.inf, 3),
    ]
    ok(boundseg(*arguments))
    assert priors.read(tiny_dataset / "priors.csv") == rows
    # what a later table no longer says is gone; a set of another name stays
    table.write_text(REPORTS.replace("<3", ""))
    ok(boundseg(*arguments))
    assert len(priors.read(tiny_dataset / "priors.csv")) == len(before) + 1
    ok(boundseg(*arguments, "--set", "second"))
    assert len(priors.read(tiny_dataset / "priors.csv")) == len(before) + 2
    assert "no problem found" in ok(boundseg("check", tiny_dataset)).out


def test_rows_that_somebody_typed_stay_where_the_table_says_nothing(
    boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path
) -> None:
    path, table = tiny_dataset / "priors.csv", tmp_path / "volumes.csv"
    typed = [
        priors.Prior(case, None, "LV", "size", -np.inf, 4.0, "mL", "report", "report: not enlarged")
        for case in ("patient1_frame01", "patient3_frame01")
    ]
    priors.write(path, typed)
    table.write_text(REPORTS)
    arguments: list[Any] = ["priors", tiny_dataset, "report", "--table", table, "--column", "LV (mL)"]
    shown = ok(boundseg(*arguments, "--case-column", "patient")).out
    assert "of that set before: 1 rows replaced, 1 kept where the cell is empty: patient3_frame01\n" in shown
    rows = {row.case: row for row in priors.read(path)}
    assert rows["patient3_frame01"] == typed[1]
    assert rows["patient1_frame01"].source == "volumes.csv, LV (mL): 2,0, margin 0.1"


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (("priors", "DATA", "report"), ["report needs the table of sizes or tags."]),
        (("priors", "DATA", "report", "--table", "t.csv"), ["report needs a column of sizes or tags."]),
        (("priors", "DATA", "report", "--table", "t.csv", "--column", "LV"), ["t.csv is not there."]),
        (("priors", "DATA", "report", "--margin", "1"), ["--margin 1 is no share."]),
        (
            ("priors", "DATA", "report", "--quantity", "centroid_x"),
            ["report takes no --absolute, --error or --quantity."],
        ),
        (
            ("priors", "DATA", "volume", "--table", "t.csv"),
            ["volume takes no --table, --column or --case-column."],
        ),
        (("priors", "DATA", "tags", "--labels", "seeds", "--error", "0.2"), ["tags measures nothing."]),
        (("priors", "DATA", "volume", "--error", "1"), ["an error of 1 is no share."]),
        (("convert", "labels", "x", "DATA", "--map", "1=LV"), ["the label set needs a name."]),
        (("convert", "labels", "x", "DATA", "--name", "drawn"), ["what was drawn with which value?"]),
        (("convert", "labels", "x", "DATA", "--name", "drawn", "--map", "1=lv"), ["'lv' is no label"]),
        (("convert", "labels", "x", "DATA", "--name", "drawn", "--map", "1=LV"), ["x holds no drawing."]),
        (("convert", "labels", "x", "DATA", "--target", "LV"), ["labels take no --target and no --seed."]),
        (("convert", "promise12", "x", "new", "--map", "1=LV"), ["promise12 takes no --name, --map or --files."]),
        (("convert", "acdc", "x", "new", "--seed", "1"), ["acdc takes no --seed: nobody is drawn."]),
        (("convert", "promise12", "x", "new"), ["x holds no CaseNN.mhd, the scans of PROMISE12."]),
        (("convert", "zenodo-vertebrae", "x", "new"), ["x holds no Img_NN.nii.gz, the scans of zenodo 22304."]),
    ],
)
def test_what_does_not_go_together_is_refused(
    boundseg: Boundseg, tiny_dataset: Path, arguments: tuple[str, ...], facts: list[str]
) -> None:
    before = (tiny_dataset / "priors.csv").read_bytes()
    refused(boundseg(*(tiny_dataset if argument == "DATA" else argument for argument in arguments)), *facts)
    assert (tiny_dataset / "priors.csv").read_bytes() == before
    assert Dataset.open(tiny_dataset).label_sets == ("seeds",)
    assert not Path("new").exists()


def test_tags_pass_over_cases_without_a_label_and_name_them(boundseg: Boundseg, tiny_dataset: Path) -> None:
    (tiny_dataset / "labelsTr_seeds" / "patient1_frame07.nii.gz").unlink()
    arguments = ["priors", tiny_dataset, "tags", "--labels", "seeds"]
    shown = ok(boundseg(*arguments)).out
    assert "without labels of the set 'seeds', passed over: patient1_frame07\n" in shown
    refused(boundseg(*arguments, "--cases", "patient1"), "patient1_frame07: no labels of the set 'seeds'.")
