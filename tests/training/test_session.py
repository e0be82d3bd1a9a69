"""Trainings that are interrupted, killed, damaged or out of room: nothing is lost, and they go on as if nothing was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from boundseg.accumulate import Streaming
from boundseg.data.batches import Batch
from boundseg.errors import CheckpointError, RunError
from boundseg.training.config import Config
from boundseg.training.guard import Interruption
from boundseg.training.loop import train
from boundseg.training.run import Run
from boundseg.training.state import checkpoint as checkpoints
from boundseg.training.state import session

from .cases import INDIVIDUAL, VOLUME, entry, tiny
from .test_loop import comparable, same_weights


def config(folder: Path, **training: Any) -> Config:
    settings = {"epochs": 2, "batch_size": 10, "augment": ["mirror"], **training}
    return tiny(folder, entry("seeds", constraints=[INDIVIDUAL]), training=settings)


def run(asked: Config, folder: Path, **options: Any) -> Run:
    return train(asked, folder, device="cpu", quiet=True, **options)


def signal_at(step: int, patch: pytest.MonkeyPatch, number: int = signal.SIGINT) -> None:
    """Sends a signal while a step is computed, counted over the whole training."""
    to, taken = Batch.to, iter(range(10_000))

    def told(batch: Batch, device: Any) -> Batch:
        if next(taken) == step:
            os.kill(os.getpid(), number)
        return to(batch, device)

    patch.setattr(Batch, "to", told)


@pytest.mark.parametrize(("number", "average"), [(signal.SIGINT, None), (signal.SIGTERM, 0.9)])
def test_an_interrupted_run_goes_on_from_its_step(
    average: float | None, number: int, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(tiny_dataset, weight_average=average)
    unbroken = run(asked, tmp_path / "unbroken")
    # of three steps and two batches of validation an epoch: the first epoch's last, and the second of the second
    for at, step in ((2, 3), (6, 2)):
        with monkeypatch.context() as patch:
            signal_at(at, patch, number)
            folder = tmp_path / f"broken {at}"
            with pytest.raises(KeyboardInterrupt, match="saved; go on with --resume"):
                run(asked, folder)
        assert Run.open(folder).checkpoint("last").state["step"] == step
        torch.manual_seed(4711)
        resumed = run(asked, folder, resume=True)
        assert comparable(resumed) == comparable(unbroken)
        assert same_weights(resumed, unbroken)
        assert resumed.checkpoint("last").average.keys() == unbroken.checkpoint("last").average.keys()


def test_a_second_signal_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_refused_step_leaves_weights_and_optimizer_alone_and_names_the_slices(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, taken = Batch.to, iter(range(10_000))
    named: list[tuple[str, int]] = []

    def poisoned(batch: Batch, device: Any) -> Batch:
        if next(taken) == 1:
            batch.images[0, 0, 0, 0] = torch.nan
            named.append(batch.slices[0])
        return to(batch, device)

    monkeypatch.setattr(Batch, "to", poisoned)
    states: list[dict[str, Any]] = []
    step = torch.optim.Adam.step

    def watched(self: Any, closure: Any = None) -> Any:
        done = step(self, closure)
        copies = [p.detach().clone() for group in self.param_groups for p in group["params"]]
        states.append({"weights": copies, "refused": float(self.found_inf)})
        return done

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    with pytest.raises(RunError, match="first at its step 1") as told:
        run(config(tiny_dataset, augment=[]), tmp_path / "run")
    case, index = named[0]
    assert f"{case} slice {index}" in str(told.value)
    assert [state["refused"] for state in states[:3]] == [0, 1, 0]
    assert all(torch.equal(a, b) for a, b in zip(states[0]["weights"], states[1]["weights"], strict=True))


def test_a_damaged_checkpoint_is_refused_and_the_newest_good_one_named(tiny_dataset: Path, tmp_path: Path) -> None:
    asked = config(tiny_dataset)
    begun = run(asked, tmp_path / "run")
    checkpoints = begun.folder / "checkpoints"
    weights = checkpoints / "last" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    longer = config(tiny_dataset, epochs=3)
    with pytest.raises(CheckpointError, match="the newest good one is that of epoch 0") as told:
        run(longer, begun.folder, resume=True)
    assert "previous" in str(told.value)
    # what the message says
    shutil.rmtree(checkpoints / "last")
    (checkpoints / "previous").rename(checkpoints / "last")
    unbroken = run(longer, tmp_path / "unbroken")
    assert same_weights(run(longer, begun.folder, resume=True), unbroken)


def test_a_full_disk_is_told_before_anything_is_prepared(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(session, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    prepared: list[str] = []
    with pytest.raises(RunError, match="MB are needed for checkpoints, and 0 MB are free"):
        run(config(tiny_dataset), tmp_path / "run", report=prepared.append)
    assert not prepared and not (tmp_path / "run").exists()


def test_the_average_of_the_weights_is_what_is_kept(tiny_dataset: Path, tmp_path: Path) -> None:
    trained = run(config(tiny_dataset, weight_average=0.5, epochs=1), tmp_path / "run")
    last, best = trained.checkpoint("last"), trained.checkpoint("best")
    assert last.average.keys() == last.weights.keys() == best.weights.keys()
    assert all(torch.equal(last.average[name], best.weights[name]) for name in best.weights)
    assert not all(torch.equal(last.average[name], last.weights[name]) for name in last.weights)
    volume = np.random.default_rng(0).normal(size=(20, 20, 3)).astype(np.float32)
    assert np.array_equal(trained.predict(volume, (1, 1), "last"), trained.predict(volume, (1, 1), "best"))


def test_rows_tell_how_hard_each_part_pulls(tiny_dataset: Path, tmp_path: Path) -> None:
    (row,) = run(config(tiny_dataset, epochs=1), tmp_path / "run").metrics()
    name = "size LV individual per slice in px"
    assert row["pull: cross_entropy"] > 0 and row[f"pull: {name}"] > 0
    assert row["gradient"] > 0 and row["images_per_second"] > 0 and row[f"value: {name}"] > 0


def _command(asked: Config, folder: Path, *options: str) -> list[str]:
    path = folder.with_suffix(".yaml")
    path.write_text(asked.dump())
    return [sys.executable, "-m", "boundseg", "train", str(path), "--out", str(folder), "--threads", "1", *options]


def _content(path: Path) -> bytes:
    """What a file holds; nothing while another takes its place."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments_changes_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    asked = config(tiny_dataset, epochs=60)
    subprocess.run(_command(asked, tmp_path / "unbroken"), check=True, capture_output=True)
    unbroken, rng, kills = Run.open(tmp_path / "unbroken"), np.random.default_rng(0), 0
    folder = tmp_path / "killed"
    state = folder / "checkpoints" / "last" / "state.json"
    while kills < 20:
        process = subprocess.Popen(_command(asked, folder, *(["--resume"] if folder.exists() else [])))
        before = _content(state)
        while process.poll() is None and _content(state) in (before, b""):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))  # epochs take about as long
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.kill()
        process.wait()
        kills += 1
    subprocess.run(_command(asked, folder, "--resume"), check=True, capture_output=True)
    assert kills >= 10
    assert comparable(Run.open(folder)) == comparable(unbroken)
    assert same_weights(Run.open(folder), unbroken)


def test_what_is_remembered_of_other_slices_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    asked = tiny(tiny_dataset, entry("seeds", constraints=[VOLUME]), data={"remember": True}, training={"epochs": 1})
    trained = train(asked, tmp_path / "run", device="cpu", quiet=True)
    found = trained.checkpoint("last")
    with pytest.raises(CheckpointError, match=r"what is remembered of slices does not fit .* 30 rows, and here are 29"):
        checkpoints.restore_memory(Streaming(29, 6), found, trained.folder, torch.device("cpu"))
