"""Trainings that several processes share: the same as one process, and what happens when one of them is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from boundseg.training.config import Config
from boundseg.training.run import Run

from .cases import TAGS, VOLUME, entry, tiny
from .test_loop import comparable, run, same_weights

GROUPS = {"name": "basicunet", "features": [4, 4, 4, 4, 4, 4], "norm": ["group", {"num_groups": 2}]}


def command(asked: Config, folder: Path, *options: str) -> list[str]:
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(asked.model_dump(mode="json", by_alias=True)), encoding="utf-8")
    return [sys.executable, "-m", "boundseg", "train", str(path), "--out", str(folder), "--device", "cpu", *options]


def alone() -> dict[str, str]:
    """The environment without what a launcher of these tests may have left in it."""
    ours = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"}
    return {name: value for name, value in os.environ.items() if name not in ours} | {"OMP_NUM_THREADS": "1"}


def on_two(asked: Config, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = command(asked, folder, "--devices", "2", *options)
    return subprocess.run(line, env=alone(), capture_output=True, text=True, timeout=240, check=False)


def volumes(folder: Path, **training: Any) -> Config:
    """Volumes of five slices in chunks of two, of which one process has two and the other one; three held-out cases."""
    settings = {"epochs": 4, "batch_size": 2, "optimizer": {"lr": 1e-3}, **training}
    asked = entry("seeds", constraints=[VOLUME, TAGS])
    return tiny(folder, asked, data={"batch": "volumes", "chunk": 2}, network=GROUPS, training=settings)


def test_two_processes_train_as_one(tiny_dataset: Path, tmp_path: Path) -> None:
    asked = volumes(tiny_dataset)
    one = run(asked, tmp_path / "one")
    ended = on_two(asked, tmp_path / "two")
    assert ended.returncode == 0, ended.stderr
    two = Run.open(tmp_path / "two")
    for ours, theirs in zip(comparable(two), comparable(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5, nan_ok=True)
    for name, weights in one.checkpoint("last").weights.items():
        torch.testing.assert_close(two.checkpoint("last").weights[name], weights, rtol=0, atol=1e-4)
    # what one says, the other does not say again
    assert ended.stdout.count("run folder:") == 1
    assert len(re.findall(r"^epoch ", ended.stdout, re.M)) == 4


def test_a_process_that_has_nothing_takes_part_and_what_is_wrong_is_said_once(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    slices = tiny(
        tiny_dataset,
        entry("seeds", cases="few", constraints=[TAGS]),
        network=GROUPS,
        training={"epochs": 1, "batch_size": 1},
    )
    one = run(slices, tmp_path / "one")
    assert on_two(slices, tmp_path / "two").returncode == 0
    for ours, theirs in zip(comparable(Run.open(tmp_path / "two")), comparable(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5, nan_ok=True)
    again = on_two(slices, tmp_path / "two")
    assert again.returncode == 2
    assert again.stderr.count("error:") == 1
    assert "the run folder" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.skipif(os.name != "posix", reason="processes are found by the shell")
def test_a_lost_process_ends_the_training_which_goes_on_to_the_same_result(tiny_dataset: Path, tmp_path: Path) -> None:
    # with the average of the weights, each process judges its cases by statistics that must be those of all
    asked = volumes(tiny_dataset, epochs=8, augment=["mirror", {"noise": 0.1}], weight_average=0.9)
    asked = asked.model_copy(update={"network": asked.network.model_copy(update={"norm": "batch"})})
    folder = tmp_path / "lost"
    line = command(asked, folder, "--devices", "2")
    with subprocess.Popen(line, env=alone(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as training:
        deadline = time.monotonic() + 120
        while not (folder / "checkpoints" / "last").is_dir() and training.poll() is None:
            assert time.monotonic() < deadline, "the training has not begun"
            time.sleep(0.01)
        children = subprocess.run(["pgrep", "-P", str(training.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
        said = training.communicate(timeout=60)[1]
    assert training.returncode == 2, said
    assert "error: another process of the training was lost" in said
    assert "go on with --resume" in said and "Traceback" not in said
    resumed = on_two(asked, folder, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert on_two(asked, tmp_path / "unbroken").returncode == 0
    assert same_weights(Run.open(folder), Run.open(tmp_path / "unbroken"))
    for ours, theirs in zip(comparable(Run.open(folder)), comparable(Run.open(tmp_path / "unbroken")), strict=True):
        assert ours == pytest.approx(theirs, nan_ok=True)
