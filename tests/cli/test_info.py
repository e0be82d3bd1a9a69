"""``boundseg info`` on datasets, runs, models and everything else: one screen, or one message and exit code 2."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from boundseg.training.config import Config
from boundseg.training.loop import train
from tests.conftest import CommandLine

Info = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def info(command_line: CommandLine) -> Info:
    """Runs ``boundseg info ARGUMENTS`` in this process: exit code, output, errors."""
    return lambda *arguments, before=(): command_line(*before, "info", *arguments)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What was trained already in this file."""
    return {"": tmp_path_factory.mktemp("runs")}


@pytest.fixture
def run(tiny_dataset: Path, tmp_path: Path, runs: dict[str, Path]) -> Path:
    """A run of one epoch, whose dataset is gone."""
    if "run" not in runs:
        torch.set_num_threads(1)
        content = {
            "data": {"folder": str(tiny_dataset), "size": [24, 24]},
            "supervision": [{"labels": "seeds", "constraints": [{"size": {"class": "LV", "set": "individual"}}]}],
            "training": {"epochs": 1, "batch_size": 30},
        }
        runs["run"] = train(Config.parse(content), runs[""] / "run", device="cpu", quiet=True).folder
    shutil.copytree(runs["run"], tmp_path / "run")
    return tmp_path / "run"


def refused(shown: tuple[int, str, str], *facts: str) -> None:
    code, out, err = shown
    assert code == 2, (out, err)
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) >= 2
    assert "Traceback" not in out + err
    for fact in facts:
        assert fact in err


def fits_a_screen(shown: tuple[int, str, str], lines: int = 55) -> str:
    code, out, err = shown
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= lines, out
    return out


def test_a_dataset(info: Info, tiny_dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_dataset.rglob("*")}
    out = fits_a_screen(info(tiny_dataset))  # two classes in three sets of bounds
    assert f"{tiny_dataset}: 10 cases of 5 patients" in out
    assert re.search(r"^LV +slice, px +40 of 50 ", out, re.M)
    assert re.search(r"^Myo +volume, mL +10 of 10 ", out, re.M)
    assert re.search(r"^LV, px of 40 slices +Myo, px of 40 slices$", out, re.M)
    assert "█" in out
    assert re.search(r"^seeds +8 ", out, re.M)
    assert re.search(r"^individual \(oracle\) +size LV +slice +40 +8 +8 ", out, re.M)
    assert "train 6, validation 2" in out
    # nothing was written
    assert before == {path: path.stat().st_mtime_ns for path in tiny_dataset.rglob("*")}


def test_a_dataset_in_another_unit_and_one_class(info: Info, tiny_dataset: Path) -> None:
    out = fits_a_screen(info(tiny_dataset, "--class", "LV+Myo", "--unit", "mL"))
    assert "LV+Myo, mL of 10 volumes" in out
    assert re.search(r"^LV\+Myo +slice, mm2 +40 of 50 ", out, re.M)
    assert "Myo, px" not in out
    refused(info(tiny_dataset, "--class", "LW"), "'LW' is no class", "did you mean 'LV'?")


def test_verbose_names_every_case(info: Info, tiny_dataset: Path) -> None:
    case = "patient1_frame01"
    assert case not in info(tiny_dataset)[1]
    assert case in info(tiny_dataset, before=("-v",))[1]


def test_a_dataset_of_many_classes_keeps_to_a_line_each(info: Info, tiny_dataset: Path) -> None:
    path = tiny_dataset / "dataset.json"
    spare = {f"vertebra {number}": number for number in range(3, 9)}
    labels = {"background": 0, "LV": 1, "Myo": 2, **spare, "ignore": 9}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": labels}))
    shutil.rmtree(tiny_dataset / "labelsTr_seeds")  # its 3 meant ignore
    out = fits_a_screen(info(tiny_dataset))
    assert re.search(r"^vertebra 8 +slice, px +0 of 50 *$", out, re.M)
    assert "█" not in out
    assert "histograms: --class NAME" in out
    assert "LV, px of 40 slices" in info(tiny_dataset, before=("-v",))[1]
    assert "LV, px of 40 slices" in info(tiny_dataset, "--class", "LV")[1]


def test_many_sets_of_bounds_are_cut_unless_asked_for(info: Info, tiny_dataset: Path) -> None:
    with (tiny_dataset / "priors.csv").open("a") as file:
        file.writelines(f"patient1_frame01,1,LV,size,1,9,px,set{number},typed\n" for number in range(10))
    out = fits_a_screen(info(tiny_dataset), 60)
    assert "set5" in out
    assert "set6  " not in out
    assert "… and 4 more (boundseg -v info)" in out
    assert "set9" in info(tiny_dataset, before=("-v",))[1]


def test_a_dataset_that_knows_nothing(info: Info, write_dataset: Any) -> None:
    folder = write_dataset(weak=False, priors=False)
    for name in ("labelsTr", "labelsTs"):
        shutil.rmtree(folder / name)
    out = fits_a_screen(info(folder))
    assert "sizes: unknown, since there are no full masks" in out
    assert "labels: none" in out
    assert "bounds: none (boundseg priors derives them)" in out
    assert re.search(r"^ *10  train 6, validation 2, test 2 +none +none *$", out, re.M)


def test_a_run_and_its_model(info: Info, run: Path) -> None:
    out = fits_a_screen(info(run))
    assert re.search(r"^epochs +1 of 1 in ", out, re.M)
    assert "not there any more" in out or "as it was in training" in out
    assert re.search(r"^taught 0 +train.*: labels seeds; size LV by the set individual of priors.csv", out, re.M)
    assert f"boundseg evaluate {run}" in out
    name = "size LV individual per slice in px"
    assert re.search(r"^parts of the objective, epoch 0\npart +loss +pull +satisfied +soft value *$", out, re.M)
    assert re.search(rf"^{name} +[\d.]+ +[\d.e-]+ +[\d.]+% +[\d.]+ *$", out, re.M)
    assert re.search(r"^figure +first and best and last \(0\) *$", out, re.M)
    assert re.search(rf"^validation satisfied: {name} +[\d.]+% *$", out, re.M)
    for path in (run / "checkpoints" / "best", run / "checkpoints" / "best" / "weights.safetensors"):
        out = fits_a_screen(info(path))
        assert re.search(r"^weights +[\d,]+ parameters and ", out, re.M)
        assert f"(boundseg info {run})" in out


def test_a_run_without_an_epoch_and_without_its_dataset(info: Info, run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.csv").unlink()
    config = run / "config.yaml"
    config.write_text(re.sub(r"folder: .*", f"folder: {run / 'gone'}", config.read_text()))
    out = fits_a_screen(info(run))
    assert "0 of 1: none is finished yet" in out
    assert f"{run / 'gone'}, not there any more" in out


def test_bad_input_ends_with_2_and_a_message(info: Info, run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    refused(info(tmp_path / "nowhere"), "nowhere is not there.", "dataset.json")
    refused(info(tmp_path), f"{tmp_path} is no dataset, run or model.", "weights.safetensors")
    refused(info(tiny_dataset / "priors.csv"), "is no dataset, run or model.")
    refused(info(tmp_path / "no.safetensors"), "no.safetensors is not there.")
    best = run / "checkpoints" / "best"
    (best / "weights.safetensors").write_bytes(b"")
    refused(info(best), "the checkpoint cannot be read")
    assert "best the checkpoint cannot be read" in info(run)[1]
    (run / "environment.json").write_text("{")
    refused(info(run), "environment.json of the run cannot be read")
    (run / "environment.json").unlink()
    refused(info(run), "is no run folder: environment.json is not there.")
    (tiny_dataset / "dataset.json").write_text("{")
    refused(info(tiny_dataset), "dataset.json is not valid JSON")
