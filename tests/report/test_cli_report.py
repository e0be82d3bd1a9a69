"""``boundseg evaluate`` of several runs and ``boundseg report``: what is printed, what is refused with exit code 2."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.cli import main
from boundseg.data.dataset import Dataset
from boundseg.training.run import Run

Call = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs ``boundseg ARGUMENTS`` in this process: exit code, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["boundseg", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        shown = capsys.readouterr()
        return code or 0, shown.out, shown.err

    return run


def hearts(runs: list[Path]) -> Path:
    return Run.open(runs[0]).config.data.folder


def refused(result: tuple[int, str, str], *facts: str) -> None:
    code, out, err = result
    assert code == 2, (code, out, err)
    assert "Traceback" not in out + err
    for fact in facts:
        assert fact in err


def test_several_runs_are_judged_and_compared(call: Call, runs: list[Path]) -> None:
    code, out, err = call("evaluate", *runs, "--cases", "validation", "--by", "size", "--device", "cpu")
    assert (code, err) == (0, "")
    for words in (
        "individual, validation: means",
        "partial, validation: means",
        "HD95 [mm]",
        "slices by the true size",
    ):
        assert words in out
    assert "true size [mm2]" in out  # square brackets are no markup
    assert "individual - partial" in out
    assert "DSC of volumes, Wilcoxon on patients" in out


def test_the_papers_convention_is_a_switch(call: Call, runs: list[Path]) -> None:
    shown = {}
    for empty in ("nan", "one"):
        code, out, _ = call("evaluate", runs[0], "--cases", "validation", "--empty", empty, "--device", "cpu")
        assert code == 0
        shown[empty] = out
        assert json.loads((runs[0] / "evaluation" / "about.json").read_text())["empty"] == empty
    # a reference used as a prediction: every empty slice is right
    folder = hearts(runs) / "labelsTr"
    arguments = ("evaluate", folder, "--dataset", hearts(runs), "--cases", "validation")
    assert (
        "1.000 (n = 20)" in call(*arguments, "--empty", "one")[1] or "n = 10" in call(*arguments, "--empty", "one")[1]
    )
    assert "undefined" in call(*arguments)[1]
    assert "DSC (slices)" in shown["one"]


def test_a_report_of_one_run_lies_in_it(call: Call, runs: list[Path]) -> None:
    code, out, _ = call("report", runs[0])
    assert (code, out) == (0, f"report: {runs[0] / 'report.html'}\n")
    assert (runs[0] / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_runs_without_checkpoints_are_refused(call: Call, runs: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(runs[0] / "checkpoints")
    refused(call("evaluate", runs[0], "--cases", "validation"), "there is no checkpoint in best", "Train first")
    refused(call("report", *runs, "--out", tmp_path / "page.html"), "individual has no checkpoint.")
    assert not (tmp_path / "page.html").exists()


def test_runs_of_different_datasets_are_refused(
    call: Call, runs: list[Path], write_dataset: Any, tmp_path: Path
) -> None:
    other = write_dataset("elsewhere", seed=7, slices=6)
    assert call("evaluate", runs[1], "--dataset", other, "--cases", "validation", "--device", "cpu")[0] == 0
    page = tmp_path / "page.html"
    refused(call("report", *runs, "--out", page), "individual and partial cannot be compared", "boundseg evaluate RUN")
    refused(call("evaluate", *runs, "--dataset", other, "--cases", "nobody"), "'nobody' is no list, patient or case")
    assert not page.exists()


def test_cases_without_references_are_refused(call: Call, runs: list[Path], tiny_dataset: Path) -> None:
    (tiny_dataset / "labelsTr" / "patient4_frame01.nii.gz").unlink()
    facts = ("patient4_frame01 has no full mask.", "Evaluate other cases.")
    refused(call("evaluate", runs[0], "--dataset", tiny_dataset, "--cases", "validation"), *facts)


def test_predictions_with_other_names_or_grids_are_refused_all_at_once(
    call: Call, runs: list[Path], tmp_path: Path
) -> None:
    data, folder = hearts(runs), tmp_path / "predictions"
    folder.mkdir()
    judge = ("evaluate", folder, "--dataset", data, "--cases", "validation")
    refused(call(*judge), "2 of 2 label maps are not there: patient4_frame01.nii.gz, patient4_frame07.nii.gz")
    source = data / "labelsTr" / "patient1_frame01.nii.gz"
    shutil.copy(source, folder / "heart_1.nii.gz")
    refused(call(*judge), "2 of 2 label maps are not there", "The folder holds heart_1.nii.gz.")
    for case in Dataset.open(data).cases_of("validation"):
        image = nib.load(data / "labelsTr" / f"{case}.nii.gz")
        array = np.asarray(image.dataobj)[:, :-1]
        nib.save(nib.Nifti1Image(array, image.affine), folder / f"{case}.nii.gz")
    refused(
        call(*judge),
        "patient4_frame01.nii.gz has the shape",
        "patient4_frame07.nii.gz has the shape",
        "Resample it onto the image's grid.",
    )
    refused(call("evaluate", folder), "is no run folder", "add --dataset")
