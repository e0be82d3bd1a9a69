"""Every verb on real files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from .cases import TRAIN, Boundseg, config, ok


def test_from_masks_to_a_trained_network_to_label_maps_and_a_table(
    boundseg: Boundseg, write_dataset: Any, tmp_path: Path
) -> None:
    data = write_dataset(weak=False, priors=False)
    assert "10 cases, no problem found" in ok(boundseg("check", data)).out

    shown = ok(boundseg("weaken", data, "--method", "erosion")).out
    assert "labelsTr_erosion" in shown
    assert "cases without any label: none" in shown
    assert len(list((data / "labelsTr_erosion").iterdir())) == 8  # those that train and those that are held out

    for kind in ("tags", "individual", "volume"):
        shown = ok(boundseg("priors", data, kind)).out
        assert f"rows of the set '{kind}'" in shown
        assert ("oracle" in shown) == (kind != "tags")
    shown = ok(boundseg("priors", data, "common", "--patient", "patient1", "--class", "LV")).out
    assert "rows of the set 'common'" in shown
    assert "no problem found" in ok(boundseg("check", data)).out

    run = tmp_path / "run"
    path = config(tmp_path, data, "erosion", training={"epochs": 2, "batch_size": 15, "first_bias": "zero"})
    shown = ok(boundseg("train", path, "--out", run, "--set", "training.optimizer.lr=2e-3", "--seed", 3, *TRAIN)).out
    assert "epoch   0/2  CE " in shown
    assert "epoch   1/2  CE " in shown
    assert f"run folder: {run}" in shown
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert (resolved["training"]["optimizer"]["lr"], resolved["seed"]) == (2e-3, 3)

    out = tmp_path / "predictions"
    shown = ok(boundseg("predict", run, data / "imagesTs", "--out", out, "--probabilities", "--device", "cpu")).out
    assert f"{out}: 2 label maps" in shown
    assert sorted(path.name for path in out.iterdir())[:3] == [
        "patient5_frame01.nii.gz",
        "patient5_frame01_probability_LV.nii.gz",
        "patient5_frame01_probability_Myo.nii.gz",
    ]

    by_run = ok(boundseg("evaluate", run, "--device", "cpu")).out
    assert "run, test: means (95 % intervals over patients)" in by_run
    assert "0 of 10" in by_run  # nobody knows bounds of the test patient
    by_files = ok(boundseg("evaluate", out, "--dataset", data)).out
    shared = [re.findall(r"(?:DSC|HD95|ASSD).*?│ +(\S.*?) │", text) for text in (by_run, by_files)]
    assert shared[0] == shared[1] != []
    kept = ok(boundseg("evaluate", run, "--cases", "validation", "--device", "cpu")).out
    assert "bounds kept, to one pixel" in kept
    assert "10 of 10" in kept


def test_quiet_says_only_what_was_asked_for(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    shown = ok(boundseg("-q", "train", config(tmp_path, tiny_dataset), "--out", tmp_path / "run", *TRAIN)).out
    assert "epoch   0" not in shown
    assert "run folder:" in shown


@pytest.mark.parametrize("kind", ["tags", "individual", "volume", "common"])
def test_deriving_priors_twice_changes_nothing(boundseg: Boundseg, tiny_dataset: Path, kind: str) -> None:
    path = tiny_dataset / "priors.csv"
    with path.open("a") as file:
        file.write("patient1_frame01,2,LV,size,30,,px,report,measured by hand\n")
    arguments = ["priors", tiny_dataset, kind, "--labels", "seeds", "--empty", "absent"]
    arguments += ["--patient", "patient2"] if kind == "common" else []
    ok(boundseg(*arguments))
    once = path.read_bytes()
    assert b"measured by hand" in once
    ok(boundseg(*arguments))
    assert path.read_bytes() == once


def test_a_run_goes_on_with_resume(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    path, run = config(tmp_path, tiny_dataset), tmp_path / "run"
    ok(boundseg("train", path, "--out", run, *TRAIN))
    shown = ok(boundseg("train", path, "--out", run, "--resume", "--set", "training.epochs=2", *TRAIN)).out
    assert "epoch   0" not in shown
    assert "epoch   1/2" in shown
    assert len((run / "metrics.csv").read_text().splitlines()) == 3
