"""Ends that nobody asked for: a fault of ours, an interruption."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from boundseg.cli.sigterm import sigterm_as_ctrl_c

from .cases import TRAIN, Boundseg, config, ok, refused


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
    assert result.err == "interrupted\n"
    assert not list(logs.iterdir())


@pytest.mark.parametrize(
    "verb",
    [
        ("convert", "nnunet", "{dataset}", "{file}/Dataset001_A", "--labels", "full"),
        ("convert", "nnunet", "{dataset}", "Dataset001_" + "x" * 300, "--labels", "full"),
        ("weaken", "{dataset}"),
        ("priors", "{dataset}", "volume"),
        ("check", "{file}"),
        ("info", "{file}/hearts"),
    ],
)
def test_what_may_not_be_read_or_written_ends_with_2(
    boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path, logs: Path, verb: tuple[str, ...]
) -> None:
    file = tmp_path / "file"
    file.touch()
    # as root one may write everywhere: a file where a folder should be, and the other way round
    (tiny_dataset / "labelsTr_erosion").touch()
    (tiny_dataset / "priors.csv").unlink()
    (tiny_dataset / "priors.csv").mkdir()
    refused(boundseg(*(part.format(file=file, dataset=tiny_dataset) for part in verb)))
    assert not list(logs.iterdir())
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    slow = (
        "import signal, time; from boundseg.cli import main; from boundseg.data.convert import CONVERTERS\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell's background jobs ignore
        "from boundseg.data.convert.staging import whole_folder\n"
        "def convert(source, destination, *_):\n"
        "    with whole_folder(destination): print('begun', flush=True); time.sleep(60)\n"
        "CONVERTERS['acdc'] = convert; main()"
    )
    command = [sys.executable, "-c", slow, "convert", "acdc", str(tmp_path), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "begun\n":
            assert process.poll() is None
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise there")
def test_an_interrupted_training_goes_on_from_its_last_epoch(
    boundseg: Boundseg, tiny_dataset: Path, tmp_path: Path
) -> None:
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
    # an interpreter of its own for the signal only: to start one takes longer than an epoch
    again = ("train", path, "--out", tmp_path / "run", "--resume", "--set", f"training.epochs={done + 1}", *TRAIN)
    assert f"epoch   {done}/{done + 1}" in ok(boundseg(*again)).out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forked processes here")
def test_forked_workers_of_a_command_end_by_sigterm_as_anywhere() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_as_ctrl_c():
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        worker.terminate()
        worker.join(30)
    assert worker.exitcode == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
