"""For every bad input one message and exit code 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .cases import TRAIN, Boundseg, config, ok, refused, rewrite, voxels

IMAGE, MASK = Path("imagesTr/patient1_frame01_0000.nii.gz"), Path("labelsTr/patient1_frame01.nii.gz")
SEEDS = Path("labelsTr_seeds/patient1_frame01.nii.gz")


def unreadable(data: Path) -> None:
    (data / IMAGE).write_bytes((data / IMAGE).read_bytes()[:300])


def another_shape(data: Path) -> None:
    rewrite(data / SEEDS, voxels(data / SEEDS)[:, :-1])


def another_affine(data: Path) -> None:
    rewrite(data / SEEDS, affine=np.diag([1.0, 1, 1, 1]))


def unnamed_values(data: Path) -> None:
    rewrite(data / SEEDS, np.full_like(voxels(data / SEEDS), 7))


def all_nan(data: Path) -> None:
    rewrite(data / IMAGE, np.full(voxels(data / IMAGE).shape, np.nan, np.float32))


def nothing_labelled(data: Path) -> None:
    for path in (data / "labelsTr_seeds").iterdir():
        rewrite(path, np.full_like(voxels(path), 3))


def prior(row: str) -> Callable[[Path], None]:
    def append(data: Path) -> None:
        with (data / "priors.csv").open("a") as file:
            file.write(row + "\n")

    return append


def two_sides(data: Path) -> None:
    path = data / "splits.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"validation": ["patient1"]}))


def no_description(data: Path) -> None:
    (data / "dataset.json").unlink()


# what is wrong, whether a training on it is refused as well, and what is said
DAMAGES: dict[str, tuple[Callable[[Path], None], bool, list[str]]] = {
    "missing dataset.json": (no_description, True, ["dataset.json is not there."]),
    "unreadable image": (unreadable, True, ["patient1_frame01_0000.nii.gz cannot be read as NIfTI"]),
    "label of another shape": (another_shape, True, ["patient1_frame01.nii.gz has the shape"]),
    "label of another affine": (another_affine, True, ["patient1_frame01.nii.gz has another affine than its image"]),
    "values outside dataset.json": (unnamed_values, True, ["holds the values [7], which dataset.json does not name"]),
    "image full of NaN": (all_nan, True, ["patient1_frame01_0000.nii.gz holds", "that are NaN or infinite."]),
    "no labelled voxel": (nothing_labelled, True, ["label"]),
    "lower above upper": (
        prior("patient1_frame01,1,LV,size,812,640,px,individual,typed"),
        True,
        ["patient1_frame01, slice 1, LV: the lower bound 812 px exceeds the upper bound 640 px.", "priors.csv, line"],
    ),
    "priors for an unknown case": (
        prior("patient1_frame1,1,LV,size,8,64,px,individual,typed"),
        True,
        ["'patient1_frame1' is no case of this dataset; did you mean 'patient1_frame01'?"],
    ),
    "a patient on two sides": (two_sides, True, ["patient1"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_data_is_refused_in_one_message(
    boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path, damage: str
) -> None:
    harm, also_in_training, facts = DAMAGES[damage]
    harm(tiny_dataset)
    refused(boundseg("check", tiny_dataset), *facts)
    trained = boundseg("train", config(tmp_path, tiny_dataset), "--out", tmp_path / "run", *TRAIN)
    if also_in_training:
        refused(trained, *facts)
        assert not (tmp_path / "run").exists()
    else:
        ok(trained)


def test_check_lists_every_problem_at_once(boundseg: Boundseg, tiny_dataset: Path) -> None:
    unnamed_values(tiny_dataset)
    two_sides(tiny_dataset)
    prior("nobody,1,LV,size,8,64,px,individual,typed")(tiny_dataset)
    rewrite(tiny_dataset / "imagesTr/patient2_frame07_0000.nii.gz", np.full((4, 4, 4), np.nan, np.float32))
    (tiny_dataset / "imagesTr/patient3_frame01_0000.nii.gz").unlink()
    result = boundseg("check", tiny_dataset)
    refused(
        result,
        "holds the values [7]",
        "patient1 is on two sides of the split: train and validation.",
        "'nobody' is no case of this dataset",
        "patient2_frame07_0000.nii.gz holds 64 voxels",
        "patient3_frame01",
    )
    assert result.err.count("error: ") >= 5


def test_missing_files_are_refused(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    refused(boundseg("check", tmp_path / "nowhere"), "dataset.json is not there.")
    refused(boundseg("train", tmp_path / "no.yaml", *TRAIN), "no.yaml is not there.")
    refused(boundseg("evaluate", tmp_path / "nowhere"), "nowhere is no run folder.", "add --dataset")
    refused(boundseg("predict", tmp_path, tiny_dataset, "--out", tmp_path / "out"), "is no run folder: config.yaml")
    refused(boundseg("weaken", tiny_dataset, "--cases", "tain"), "'tain' is no list, patient or case; did you mean")
    refused(boundseg("weaken", tiny_dataset, "--class", "LW"), "'LW'", "did you mean 'LV'?")
    refused(boundseg("priors", tiny_dataset, "tags", "--labels", "scribble"), "there is no label set 'scribble'.")
    refused(boundseg("convert", "acdc", tmp_path, tmp_path / "new"), "holds no patientNNN")


def test_options_that_do_not_go_together_are_refused(boundseg: Boundseg, tiny_dataset: Path) -> None:
    refused(boundseg("weaken", tiny_dataset, "--grid", "prepared"), "--grid prepared needs the grid's --size.")
    refused(boundseg("priors", tiny_dataset, "common", "--labels", "seeds"), "common bounds need one annotated")
    refused(boundseg("priors", tiny_dataset, "individual", "--margin", 1.5), "--margin 1.5 is no share.")
    refused(boundseg("priors", tiny_dataset, "individual", "--unit", "grid_px"), "--size")


def test_a_misspelt_key_of_a_config_is_refused(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    path = config(tmp_path, tiny_dataset, trainin={"epochs": 1})
    refused(
        boundseg("train", path, "--set", "training.epocs=3", *TRAIN),
        "unknown key 'trainin'; did you mean 'training'?",
        "unknown key 'training.epocs'; did you mean 'epochs'?",
    )


def test_an_existing_run_folder_is_refused(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    path = config(tmp_path, tiny_dataset)
    refused(boundseg("train", path, "--out", tmp_path / "run", *TRAIN), "run exists.", "--resume")
    refused(boundseg("train", path, "--out", path, *TRAIN), "tiny.yaml exists.")


def test_a_device_that_is_not_there_is_refused(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    path = config(tmp_path, tiny_dataset)
    refused(boundseg("train", path, "--out", tmp_path / "run", "--device", "gpu0"), "there is no device 'gpu0' here.")
    refused(boundseg("demo", "--out", tmp_path / "demo", "--device", "cudo"), "there is no device 'cudo' here.")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "demo").exists()


def test_a_checkpoint_of_another_version_is_refused(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    path = config(tmp_path, tiny_dataset)
    ok(boundseg("train", path, "--out", run, *TRAIN))
    for which in ("best", "last"):
        state = run / "checkpoints" / which / "state.json"
        state.write_text(state.read_text().replace('"format": 1', '"format": 2'))
    facts = ["the checkpoint has format 2; this version reads 1.", "environment.json"]
    refused(boundseg("predict", run, tiny_dataset / "imagesTs", "--out", out, "--device", "cpu"), *facts)
    refused(boundseg("evaluate", run, "--weights", "last", "--device", "cpu"), *facts)
    refused(boundseg("train", path, "--out", run, "--resume", "--set", "training.epochs=2", *TRAIN), *facts)
    (run / "checkpoints" / "best" / "weights.safetensors").write_bytes(b"")
    shutil.copy(run / "checkpoints" / "best" / "state.json", tmp_path)
    (run / "checkpoints" / "best" / "state.json").write_text('{"format": 1}')
    refused(boundseg("evaluate", run, "--device", "cpu"), "the checkpoint cannot be read")


def test_bad_scans_are_named_and_the_good_ones_predicted(
    boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path
) -> None:
    run, scans, out = tmp_path / "run", tiny_dataset / "imagesTs", tmp_path / "out"
    ok(boundseg("train", config(tmp_path, tiny_dataset), "--out", run, *TRAIN))
    bad = scans / "patient5_frame07_0000.nii.gz"
    rewrite(bad, np.full(voxels(bad).shape, np.nan, np.float32))
    command = ["predict", run, scans, "--out", out, "--device", "cpu"]
    (scans / "photo.jpg").touch()
    result = boundseg(*command)
    refused(result, "patient5_frame07_0000.nii.gz holds")
    # what was written is told as well
    assert result.out.splitlines() == [
        "note: 1 file passed over, no volume that boundseg reads: photo.jpg",
        f"{out}: 1 label maps, their volumes in volumes.csv",
    ]
    assert sorted(path.name for path in out.iterdir()) == ["patient5_frame01.nii.gz", "volumes.csv"]
    refused(boundseg(*command), "patient5_frame01.nii.gz exists.", "--overwrite")


def test_a_loss_that_explodes_is_the_inputs_fault(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    path = config(tmp_path, tiny_dataset)
    result = boundseg("train", path, "--out", tmp_path / "run", "--set", "training.optimizer.lr=1e30", *TRAIN)
    refused(result, "the loss of epoch 0 is not finite", "lower learning rate")


def test_what_lies_in_the_current_folder_is_said_so(
    boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = boundseg("priors", tiny_dataset, "report", "--table", "volumes.ods", "--column", "LV (mL)")
    refused(shown, "volumes.ods is not there.\n  in the current folder. Check the name")
