"""The command line: every verb on real files, and for every bad input one message and its exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from boundseg import __version__
from boundseg.cli import app
from tests.conftest import CommandLine

VERBS = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]


@dataclass
class Result:
    """What a command left on the screen."""

    code: int
    out: str
    err: str


Boundseg = Callable[..., Result]


@pytest.fixture
def boundseg(command_line: CommandLine) -> Boundseg:
    """Runs ``boundseg ARGUMENTS`` in this process."""
    return lambda *arguments: Result(*command_line(*arguments))


def config(folder: Path, dataset: Path, labels: str = "seeds", **sections: Any) -> Path:
    """Writes a config that trains for a second."""
    content: dict[str, Any] = {
        "data": {"folder": str(dataset), "size": [24, 24]},
        "supervision": [
            {"cases": "train", "labels": labels, "constraints": [{"size": {"class": "LV", "set": "individual"}}]}
        ],
        "training": {"epochs": 1, "batch_size": 15},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content | sections), encoding="utf-8")
    return path


TRAIN = ("--device", "cpu", "--threads", 1)


def ok(result: Result) -> Result:
    assert result.code == 0, result.err
    assert result.err == ""
    return result


def refused(result: Result, *facts: str) -> None:
    """Exit code 2, the facts, what to do about it, and no traceback."""
    assert result.code == 2, (result.code, result.out, result.err)
    for fact in facts:
        assert fact in result.err
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err + result.out
    # every message ends with where it was found, or what to do about it
    for message in result.err.split("error: ")[1:]:
        assert len(message.strip().splitlines()) >= 2, message


def test_the_version(boundseg: Boundseg) -> None:
    assert ok(boundseg("--version")).out == f"boundseg {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_opens_with_an_example_that_names_it(boundseg: Boundseg, verb: str) -> None:
    shown = re.sub(r"\s+", " ", ok(boundseg(verb, "--help")).out)
    assert f"Example: boundseg {verb} " in shown
    # before any argument or option is explained
    assert shown.index("Example") < shown.index("Options")


def test_help_lists_every_verb_with_what_it_does(boundseg: Boundseg) -> None:
    shown = ok(boundseg("--help")).out
    assert set(VERBS) >= {"demo", "convert", "check", "weaken", "priors", "train", "predict", "evaluate"}
    for verb in VERBS:
        assert re.search(rf"^\W*{verb}\s+\w+", shown, re.M), verb


@pytest.mark.parametrize(
    "arguments", [("trian",), ("train",), ("check", "a", "b"), ("priors", "d", "sizes"), ("train", "c", "--epochs", 3)]
)
def test_a_mistyped_command_ends_with_2(boundseg: Boundseg, arguments: tuple[object, ...]) -> None:
    result = boundseg(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "Usage: boundseg" in result.err


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


# ---- several trainings at once; what they do is tested beside the call that the verb makes


def outcome(name: str, state: str, message: str = "") -> Any:
    from boundseg.training.several import Outcome

    epochs = 20 if state == "done" else 0
    return Outcome(name, Path("runs") / name, state, message, epochs, 20, None, "weak", None, 0.5)  # type: ignore[arg-type]


ENDS = [
    (["done", "done"], 0),
    (["done", "refused"], 2),
    (["failed", "refused"], 1),
    (["done", "interrupted"], 130),
]


@pytest.mark.parametrize(
    ("states", "code"), ENDS, ids=lambda value: " and ".join(map(str, value)) if isinstance(value, list) else ""
)
def test_several_trainings_end_in_a_table_the_errors_and_the_worst_exit_code(
    boundseg: Boundseg, monkeypatch: pytest.MonkeyPatch, states: list[str], code: int
) -> None:
    asked: list[Any] = []

    def pretend(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        messages = {"refused": "error: [this]\n  remedy", "failed": "boundseg failed: that"}
        return [outcome(name, state, messages.get(state, "")) for name, state in zip("ab", states, strict=True)]

    monkeypatch.setattr("boundseg.training.several.train_several", pretend)
    options = ["--out", "all", "--jobs", 3, "--set", "training.epochs=5", "--seed", 4, "--resume"]
    result = boundseg("-q", "train", "x/a.yaml", "b.yaml", *options, *TRAIN)
    assert result.code == code
    ((configs, folder), told) = asked[0]
    assert (configs, folder) == ([Path("x/a.yaml"), Path("b.yaml")], Path("all"))
    assert told == {
        "jobs": 3,
        "threads": 1,
        "overrides": ["training.epochs=5", "seed=4"],
        "resume": True,
        "device": "cpu",
        "quiet": True,
    }
    for name, state in zip("ab", states, strict=True):
        assert re.search(rf"│ {name} +│ +{state} │", result.out)
        assert (f"{name}: error: [this]\n  remedy" in result.err) == (state == "refused")
        assert (f"{name}: boundseg failed: that" in result.err) == (state == "failed")
    done = " ".join(f"runs/{name}" for name, state in zip("ab", states, strict=True) if state == "done")
    assert (f"compare: boundseg evaluate {done}, then boundseg report {done}" in result.out) == bool(done)


def test_several_configs_are_refused_at_once(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    bad = config(tmp_path, tiny_dataset, trainin={"epochs": 1}).rename(tmp_path / "bad.yaml")
    path = config(tmp_path, tiny_dataset)
    result = boundseg("train", path, bad, tmp_path / "no.yaml", "--out", tmp_path / "runs", *TRAIN)
    refused(result, "unknown key 'trainin'; did you mean 'training'?", "bad.yaml", "no.yaml is not there.")
    assert result.err.count("error: ") == 2
    assert not (tmp_path / "runs").exists()


# ---- bad input


def rewrite(path: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> None:
    old: Any = nib.load(path)
    new = np.asarray(old.dataobj) if array is None else array
    nib.save(nib.Nifti1Image(new, old.affine if affine is None else affine), path)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


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
    refused(boundseg(*command), "patient5_frame07_0000.nii.gz holds")
    assert [path.name for path in out.iterdir()] == ["patient5_frame01.nii.gz"]
    refused(boundseg(*command), "patient5_frame01.nii.gz exists.", "--overwrite")


def test_a_loss_that_explodes_is_the_inputs_fault(boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path) -> None:
    path = config(tmp_path, tiny_dataset)
    result = boundseg("train", path, "--out", tmp_path / "run", "--set", "training.optimizer.lr=1e30", *TRAIN)
    refused(result, "the loss of epoch 0 is not finite", "lower learning rate")


# ---- ends that nobody asked for


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where logs of faults go."""
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_fault_of_ours_ends_with_1_and_its_traceback_lies_in_a_log(
    boundseg: Boundseg, tiny_dataset: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("[bold] nothing to divide by")

    monkeypatch.setattr("boundseg.data.check.check", broken)
    result = boundseg("check", tiny_dataset)
    assert result.code == 1
    (log,) = logs.iterdir()
    assert result.err == (
        "boundseg failed: ZeroDivisionError: [bold] nothing to divide by\n"
        f"  This is a fault of boundseg's; the traceback is in {log}.\n"
    )
    assert "Traceback (most recent call last)" in log.read_text()
    assert "in broken" in log.read_text()


def test_an_interruption_ends_with_130(
    boundseg: Boundseg, tiny_dataset: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("boundseg.data.check.check", interrupted)
    result = boundseg("check", tiny_dataset)
    assert result.code == 130
    assert "Traceback" not in result.err
    assert not list(logs.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise there")
def test_an_interrupted_training_goes_on_from_its_last_epoch(tiny_dataset: Path, tmp_path: Path) -> None:
    path = config(tmp_path, tiny_dataset, training={"epochs": 5000, "batch_size": 30})
    command = [sys.executable, "-m", "boundseg", "train", str(path), "--out", str(tmp_path / "run"), *map(str, TRAIN)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("epoch   0/5000")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    done = len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) - 1
    command += ["--resume", "--set", f"training.epochs={done + 1}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"epoch   {done}/{done + 1}" in finished.stdout
