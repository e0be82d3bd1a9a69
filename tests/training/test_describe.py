"""What is said of runs, finished or not, whole or damaged, and of files of weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from boundseg.errors import CheckpointError, InputError, RunError
from boundseg.training.config import Config
from boundseg.training.describe import ModelDescription, RunDescription, describe_model, describe_run
from boundseg.training.loop import train
from boundseg.training.run import Run

from .cases import INDIVIDUAL, TAGS, entry, tiny


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Path:
    """A copy of a finished run that may be harmed."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return tmp_path / "run"


def told(folder: Path) -> RunDescription:
    return describe_run(Run.open(folder))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def reconfigure(run: Path, section: str, /, **values: Any) -> None:
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content[section] |= values
    path.write_text(yaml.safe_dump(content))


def test_a_finished_run(trained: Run) -> None:
    found = describe_run(trained)
    facts = found.facts()
    assert found.data == "unchanged"
    assert found.parameters == sum(p.numel() for p in trained.network().parameters())
    assert found.epochs_done == 2
    assert not found.unfinished
    assert found.best_epoch == trained.checkpoint("best").state["epoch"]
    # the first entry that names a case wins: patient1 is among the few
    assert found.taught[0] == "few (2 cases): labels full"
    assert found.taught[1] == (
        "train (4 cases): labels seeds; size LV by the set individual of priors.csv, "
        "quadratic (scale image), weight 0.01"
    )
    assert (facts["taught 0"], facts["taught 1"]) == found.taught
    minutes = sum(row["seconds"] for row in trained.metrics()) / 60
    assert facts["epochs"] == f"2 of 2 in {minutes:.1f} min"
    last = trained.metrics()[1]
    assert f"CE {last['cross_entropy']:.4f}" in facts["epoch 1"]
    assert facts["epoch 1"].endswith("(last and best)" if found.best_epoch == 1 else "(last)")
    assert facts["checkpoints"] == f"best of epoch {found.best_epoch}; last of epoch 1"
    assert facts["classes"] == "background, LV, Myo; 1 channel(s): MR0"
    assert facts["network"] == f"enet: {found.parameters:,} parameters"
    assert facts["next"] == f"boundseg evaluate {trained.folder}"
    assert "if stopped" not in facts
    assert facts["state"] == "finished"
    objective = trained.metrics()[found.best_epoch]["validation objective"]
    assert facts["best"] == (
        f"epoch {found.best_epoch}, selected by weak: objective {objective:.4g} on validation, the lowest"
    )
    assert f"{last['waiting']:.1%} of the time waiting for data (epoch 1)" in facts["speed"]
    assert list(found.tables()) == ["parts of the objective, epoch 1", "over the epochs", "time"]
    for key, value in (("run", trained.environment["started"]), ("with", torch.__version__), ("on", "accelerator")):
        assert value in facts[key]


def test_best_and_last_epochs_are_both_shown_where_they_differ(copy: Path) -> None:
    for which, epoch in (("best", 0), ("last", 1)):
        change(copy / "checkpoints" / which / "state.json", epoch=epoch)
    facts = told(copy).facts()
    assert facts["epoch 0"].endswith("(best)")
    assert facts["epoch 1"].endswith("(last)")


def test_how_far_a_run_is(copy: Path) -> None:
    reconfigure(copy, "training", epochs=5)
    found = told(copy)
    assert found.facts()["state"] == f"running or stopped: the last epoch ended {found.written}"
    change(copy / "checkpoints" / "last" / "state.json", epoch=1, step=2)
    assert told(copy).facts()["state"] == "interrupted in epoch 2 after 2 steps"


@pytest.mark.parametrize(
    ("selection", "column", "said"),
    [
        ("dice", "validation dice: LV", "selected by dice: mean DSC of volumes 0.2500 on validation, the highest"),
        (
            "slice_dice",
            "validation slice dice: LV",
            "selected by slice_dice: mean DSC of slices 0.2500 on validation, the highest",
        ),
        ("dice", "validation objective", "selected by dice: nothing was held out, so the last epoch is kept"),
        ("weak", "gradient", "selected by weak: nothing was held out, so the last epoch is kept"),
        ("last", "validation objective", "selected by last"),
    ],
)
def test_by_what_the_best_epoch_was_selected(copy: Path, selection: str, column: str, said: str) -> None:
    best = told(copy).best_epoch
    rows = [f"{epoch},1,0.5,2,0.25" for epoch in range(2)]
    (copy / "metrics.csv").write_text("\n".join([f"epoch,cross_entropy,lr,seconds,{column}", *rows]) + "\n")
    reconfigure(copy, "selection", by=selection)
    assert told(copy).facts()["best"] == f"epoch {best}, {said}"


def test_a_run_that_is_not_through_says_how_it_goes_on(tiny_dataset: Path, tmp_path: Path) -> None:
    run = train(tiny(tiny_dataset, training={"epochs": 1}), tmp_path / "run", device="cpu", quiet=True)
    config = run.config
    run.write_config(config.model_copy(update={"training": config.training.model_copy(update={"epochs": 2})}))
    found = told(run.folder)
    assert found.unfinished
    assert found.facts()["epochs"].startswith("1 of 2 in ")
    assert "the others take about 0 min" in found.facts()["epochs"]
    assert found.facts()["if stopped"] == f"boundseg train {run.folder / 'config.yaml'} --out {run.folder} --resume"
    # and so it does
    train(Config.load(run.folder / "config.yaml"), run.folder, resume=True, device="cpu", quiet=True)
    assert not told(run.folder).unfinished


def test_a_run_that_stopped_early_is_through(copy: Path) -> None:
    reconfigure(copy, "training", epochs=50)
    assert told(copy).unfinished
    reconfigure(copy, "training", stop_after=1)
    state = copy / "checkpoints" / "last" / "state.json"
    progress = json.loads(state.read_text())["progress"]
    change(state, progress=progress | {"best_epoch": 1})
    assert told(copy).unfinished
    change(state, progress=progress | {"best_epoch": 0})
    found = told(copy)
    assert not found.unfinished
    assert found.facts()["epochs"].endswith("ended early, without improvement for 1 epochs")
    assert "if stopped" not in found.facts()


def test_a_run_without_an_epoch(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoints")
    (copy / "metrics.csv").unlink()
    found = told(copy)
    facts = found.facts()
    assert (found.epochs_done, found.best_epoch, found.checkpoints) == (0, None, {})
    assert facts["epochs"] == "0 of 2: none is finished yet"
    assert facts["checkpoints"] == facts["evaluation"] == "none"
    assert facts["state"] == "running or stopped"
    assert found.tables() == {}
    assert not facts.keys() & {"best", "speed"}
    assert facts["if stopped"] == "there is nothing to go on from: remove the folder and train again"
    assert not [key for key in facts if key in ("next", "report") or key.startswith("epoch ")]


@pytest.mark.parametrize(
    ("harm", "state", "said"),
    [
        (shutil.rmtree, "missing", "not there any more"),
        (lambda folder: (folder / "dataset.json").unlink(), "unreadable", "boundseg check"),
        (lambda folder: (folder / "priors.csv").write_text(""), "changed", "not as it was in training"),
    ],
)
def test_what_became_of_the_dataset(
    copy: Path, tiny_dataset: Path, harm: Callable[[Path], None], state: str, said: str
) -> None:
    reconfigure(copy, "data", folder=str(tiny_dataset))
    assert told(copy).data == "unchanged"
    harm(tiny_dataset)
    found = told(copy)
    assert found.data == state
    assert said in found.facts()["dataset"]
    assert found.taught[0] == ("few (2 cases): labels full" if state == "changed" else "few: labels full")


def test_evaluations_and_the_report_are_named(copy: Path) -> None:
    for name in ("volumes.csv", "slices.csv", "notes.txt"):
        (copy / "evaluation").mkdir(exist_ok=True)
        (copy / "evaluation" / name).write_text("")
    (copy / "report.html").write_text("")
    facts = told(copy).facts()
    assert facts["evaluation"] == "slices.csv, volumes.csv"
    assert facts["report"] == str(copy / "report.html")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (INDIVIDUAL["size"], "size LV by the set individual of priors.csv, quadratic (scale image), weight 0.01"),
        (
            {"class": "LV", "between": [60, None], "per": "volume", "unit": "mL", "weight": 1},
            "size LV between [60, unknown] mL in every volume, quadratic (scale image), weight 1",
        ),
        (
            {"class": "LV", "present": [60, 2000], "absent": [0, 0], "unit": "grid_px", "penalty": "log_hinge"},
            "size LV present [60, 2000], absent [0, 0] grid_px, by the set tags of priors.csv, "
            "log_hinge (softening 10), weight 0.01",
        ),
        (
            TAGS["size"] | {"scale": "relative", "floor": 50, "sharpness": 2},
            "size LV by the set tags of priors.csv, quadratic (scale relative, floor 50, sharpness 2), weight 0.01",
        ),
    ],
)
def test_a_constraint_is_told_in_a_line(copy: Path, size: dict[str, Any], said: str) -> None:
    reconfigured = tiny(Run.open(copy).config.data.folder, entry("none", ["patient1", "few"], [{"size": size}]))
    (copy / "config.yaml").write_text(reconfigured.dump())
    assert told(copy).taught == (f"patient1, few (2 cases): labels none; {said}",)


def test_settings_are_told(copy: Path) -> None:
    reconfigure(copy, "data", fit="crop", spacing_mm=[1.5, 2.0], complete={"LV": 0.05}, batch="volumes")
    reconfigure(copy, "network", decoder="original", spare_outputs=2)
    reconfigure(copy, "training", augment=["mirror", "transpose"], warm_up=3, stop_after=9, batch_size=2)
    facts = told(copy).facts()
    assert facts["grid"] == "24 x 24 px of 1.5 x 2 mm, fit: crop, declared to hold LV but for 5%; intensity: zscore"
    assert facts["network"].startswith("enet (spare_outputs 2, decoder original): ")
    assert facts["training"] == (
        "batches of 2 volumes; adam, lr 0.002; constant schedule; stop after 9; warm-up 3; "
        "augmented by mirror and transpose; 32-true"
    )


def test_a_network_that_cannot_be_built_here_is_said(copy: Path) -> None:
    reconfigure(copy, "network", name="enett")
    found = told(copy)
    assert found.parameters is None
    assert found.facts()["network"] == "enett: cannot be built here"


def test_a_damaged_checkpoint_is_said_and_the_other_one_offered(copy: Path) -> None:
    weights = copy / "checkpoints" / "best" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    facts = told(copy).facts()
    assert facts["checkpoints"].startswith("best the checkpoint cannot be read: ")
    assert facts["checkpoints"].endswith("; last of epoch 1")
    assert facts["next"] == f"boundseg evaluate {copy} --weights last"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("environment.json", '{"labels": ', "environment.json of the run cannot be read: JSONDecodeError"),
        ("environment.json", "[]", "environment.json of the run cannot be read: Type"),
        ("environment.json", '{"labels": {"LV": 1}}', "environment.json of the run cannot be read: KeyError"),
        ("metrics.csv", "epoch,seconds\n0,much\n", "metrics.csv of the run cannot be read: ValueError"),
        ("metrics.csv", "epoch,seconds\n0,1\n", "metrics.csv of the run cannot be read: KeyError"),
        ("config.yaml", "data: {folder: x}\ntrainin: {}\n", "unknown key 'trainin'"),
    ],
)
def test_a_damaged_file_of_the_run_is_named(copy: Path, name: str, content: str, said: str) -> None:
    (copy / name).write_text(content)
    with pytest.raises(InputError, match=said):
        told(copy)
    if name != "config.yaml":
        with pytest.raises(RunError, match=said):
            describe_model(copy / "checkpoints" / "best")


# ---- models


def counted(path: Path) -> tuple[int, int, int]:
    """Tensors, parameters and running statistics, from the loaded tensors."""
    tensors = load_file(path)
    running = sum(t.numel() for n, t in tensors.items() if "running_" in n or n.endswith("num_batches_tracked"))
    return len(tensors), sum(t.numel() for t in tensors.values()) - running, running


@pytest.mark.parametrize("name", ["", "weights.safetensors"])
def test_a_checkpoint_of_a_run(trained: Run, name: str) -> None:
    path = trained.folder / "checkpoints" / "last" / name
    found = describe_model(path)
    weights = trained.folder / "checkpoints" / "last" / "weights.safetensors"
    assert (found.tensors, found.parameters, found.statistics) == counted(weights)
    assert found.parameters == sum(p.numel() for p in trained.network().parameters())
    assert found.types == ("F32", "I64")
    assert (found.state["epoch"], found.state["format"]) == (1, 1)
    assert "rng" not in found.state
    assert found.run is not None
    assert found.run.folder.samefile(trained.folder)
    facts = found.facts()
    assert facts["epoch"] == "1"
    assert facts["figures"].startswith(f"CE {trained.metrics()[1]['cross_entropy']:.4f}")
    assert facts["labels"] == "full, seeds"
    assert facts["classes"].startswith("background, LV, Myo;")
    assert facts["model"].startswith(str(weights))


def test_a_file_of_weights_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    tensors = {
        "conv.weight": torch.zeros(4, 1, 3, 3, dtype=torch.float16),
        "norm.running_mean": torch.zeros(4),
        "norm.num_batches_tracked": torch.tensor(3),
    }
    save_file(tensors, path)
    found = describe_model(path)
    assert found == ModelDescription(path, path.stat().st_size / 1e6, 3, 36, 5, found.types, state={}, run=None)
    assert set(found.types) == {"F16", "F32", "I64"}
    assert found.facts()["run"] == "none that it lies in: network, classes and grid are not known"
    assert "epoch" not in found.facts()


def test_a_checkpoint_of_another_version_is_described(copy: Path) -> None:
    change(copy / "checkpoints" / "best" / "state.json", format=2)
    assert describe_model(copy / "checkpoints" / "best").facts()["format"] == "2 (this version reads 1)"


def test_a_checkpoint_that_was_moved_out_of_its_run_stands_alone(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "checkpoints" / "best", tmp_path / "checkpoints" / "best")
    assert describe_model(tmp_path / "checkpoints" / "best").run is None
    shutil.copytree(copy / "checkpoints" / "best", tmp_path / "elsewhere")
    assert describe_model(tmp_path / "elsewhere").run is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("weights.safetensors", b"", "the checkpoint cannot be read"),
        ("weights.safetensors", b"PK" * 100, "the checkpoint cannot be read"),
        ("weights.safetensors", None, r"weights.safetensors is not there\."),
        ("state.json", b"{", "the checkpoint cannot be read"),
        ("state.json", b"[]", r"state.json is not a JSON object\."),
    ],
)
def test_a_damaged_checkpoint_is_refused(copy: Path, name: str, content: bytes | None, said: str) -> None:
    path = copy / "checkpoints" / "best" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        describe_model(path.parent)
    assert len(str(caught.value).splitlines()) >= 2
