"""``boundseg evaluate`` of several runs and ``boundseg report``: what is printed, what is refused with exit code 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data.dataset import Dataset
from boundseg.training.run import Run
from tests.conftest import CommandLine


def hearts(runs: list[Path]) -> Path:
    return Run.open(runs[0]).config.data.folder


def refused(result: tuple[int, str, str], *facts: str) -> None:
    code, out, err = result
    assert code == 2, (code, out, err)
    assert "Traceback" not in out + err
    for fact in facts:
        assert fact in err


def test_several_runs_are_judged_and_compared(command_line: CommandLine, runs: list[Path]) -> None:
    code, out, err = command_line("evaluate", *runs, "--cases", "validation", "--by", "size", "--device", "cpu")
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


def test_the_papers_convention_is_a_switch(command_line: CommandLine, runs: list[Path]) -> None:
    shown = {}
    for empty in ("nan", "one"):
        code, out, _ = command_line("evaluate", runs[0], "--cases", "validation", "--empty", empty, "--device", "cpu")
        assert code == 0
        shown[empty] = out
        assert json.loads((runs[0] / "evaluation" / "about.json").read_text())["empty"] == empty
    # a reference used as a prediction: every empty slice is right
    folder = hearts(runs) / "labelsTr"
    arguments = ("evaluate", folder, "--dataset", hearts(runs), "--cases", "validation")
    assert "1.000 (n = 10)" in command_line(*arguments, "--empty", "one")[1]
    assert "undefined" in command_line(*arguments)[1]
    assert "DSC (slices)" in shown["one"]


def test_a_report_of_one_run_lies_in_it(command_line: CommandLine, runs: list[Path]) -> None:
    code, out, _ = command_line("report", runs[0])
    assert (code, out) == (0, f"report: {runs[0] / 'report.html'}\n")
    assert (runs[0] / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_place_where_no_page_can_be_is_refused_before_anything_is_drawn(
    command_line: CommandLine, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boundseg.report.page.collect", lambda folders: pytest.fail("it was read"))
    (tmp_path / "file").write_text("")
    refused(command_line("report", runs[0], "--out", tmp_path), f"--out {tmp_path} is a folder", "report.html")
    refused(command_line("report", runs[0], "--out", tmp_path / "file" / "page.html"), "file is a file.", "--out")
    refused(command_line("report", runs[0], "--out", tmp_path / ("x" * 300) / "page.html"), "cannot be written")


def test_runs_without_checkpoints_are_refused(command_line: CommandLine, runs: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(runs[0] / "checkpoints")
    refused(command_line("evaluate", runs[0], "--cases", "validation"), "there is no checkpoint in best", "Train first")
    refused(command_line("report", *runs, "--out", tmp_path / "page.html"), "individual has no checkpoint.")
    assert not (tmp_path / "page.html").exists()


def test_runs_of_different_datasets_are_refused(
    command_line: CommandLine, runs: list[Path], write_dataset: Any, tmp_path: Path
) -> None:
    other = write_dataset("elsewhere", seed=7, slices=6)
    assert command_line("evaluate", runs[1], "--dataset", other, "--cases", "validation", "--device", "cpu")[0] == 0
    page = tmp_path / "page.html"
    refused(
        command_line("report", *runs, "--out", page),
        "individual and partial cannot be compared",
        "boundseg evaluate RUN",
    )
    refused(
        command_line("evaluate", *runs, "--dataset", other, "--cases", "nobody"), "'nobody' is no list, patient or case"
    )
    assert not page.exists()


def test_cases_without_references_are_refused(command_line: CommandLine, runs: list[Path], tiny_dataset: Path) -> None:
    (tiny_dataset / "labelsTr" / "patient4_frame01.nii.gz").unlink()
    facts = ("patient4_frame01 has no full mask.", "Evaluate other cases.")
    refused(command_line("evaluate", runs[0], "--dataset", tiny_dataset, "--cases", "validation"), *facts)


def test_predictions_with_other_names_or_grids_are_refused_all_at_once(
    command_line: CommandLine, runs: list[Path], tmp_path: Path
) -> None:
    data, folder = hearts(runs), tmp_path / "predictions"
    folder.mkdir()
    judge = ("evaluate", folder, "--dataset", data, "--cases", "validation")
    refused(command_line(*judge), "2 of 2 label maps are not there: patient4_frame01.nii.gz, patient4_frame07.nii.gz")
    source = data / "labelsTr" / "patient1_frame01.nii.gz"
    shutil.copy(source, folder / "heart_1.nii.gz")
    refused(command_line(*judge), "2 of 2 label maps are not there", "The folder holds heart_1.nii.gz.")
    for case in Dataset.open(data).cases_of("validation"):
        image = nib.load(data / "labelsTr" / f"{case}.nii.gz")
        array = np.asarray(image.dataobj)[:, :-1]
        nib.save(nib.Nifti1Image(array, image.affine), folder / f"{case}.nii.gz")
    refused(
        command_line(*judge),
        "patient4_frame01.nii.gz has the shape",
        "patient4_frame07.nii.gz has the shape",
        "Resample it onto the image's grid.",
    )
    refused(command_line("evaluate", folder), "is no run folder", "add --dataset")


def test_folders_judged_on_other_references_are_not_compared(command_line: CommandLine, runs: list[Path]) -> None:
    path = hearts(runs) / "labelsTr" / "patient4_frame01.nii.gz"
    config = runs[1] / "config.yaml"
    elsewhere = Path(shutil.copytree(hearts(runs), runs[1] / "hearts"))
    image = nib.load(path)
    changed = np.asarray(image.dataobj).copy()
    changed[:2] = 1
    nib.save(nib.Nifti1Image(changed, image.affine), elsewhere / "labelsTr" / path.name)
    config.write_text(config.read_text().replace(str(hearts(runs)), str(elsewhere)))
    refused(
        command_line("evaluate", *runs, "--cases", "validation", "--device", "cpu"),
        "individual and partial cannot be compared: the references of 1 cases have other sizes (patient4_frame01)",
    )
