"""A disk that is full, at the beginning or in the middle of a training: one message, and nothing is lost or torn."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from boundseg.cli import entry as command
from boundseg.errors import RunError
from boundseg.training.config import Config
from boundseg.training.loop import train
from boundseg.training.run import Run
from boundseg.training.state import writing
from boundseg.training.state.checkpoint import load
from boundseg.training.state.session import Session
from tests.conftest import CommandLine, fill

from .cases import INDIVIDUAL, entry, tiny
from .test_loop import comparable, same_weights

TRAIN = ("--device", "cpu", "--threads", 1)
MB = 2**20


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The training that nothing happened to; its dataset and its config lie beside it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("unbroken")
    fill(folder / "hearts")
    config = tiny(folder / "hearts", entry("seeds", constraints=[INDIVIDUAL]), training={"batch_size": 15})
    (folder / "tiny.yaml").write_text(config.dump())
    return train(config, folder / "run", device="cpu", quiet=True)


@pytest.fixture
def config(unbroken: Run) -> Path:
    return unbroken.folder.parent / "tiny.yaml"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many bytes, in memory."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            pytest.skip("a small disk is mounted by root on Linux only; the tests with a limit of files' sizes run")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        # lazily: weights that were loaded from it may still be mapped into memory
        subprocess.run(["umount", "-l", str(folder)], check=True)


def after_epochs(count: int, happens: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Lets something happen when so many epochs are saved."""
    save, saved = Session.save_epoch, iter(range(1, 100))

    def counted(session: Session, run: Run, best: bool) -> None:
        save(session, run, best)
        if next(saved) == count:
            happens()

    patch.setattr(Session, "save_epoch", counted)


def leave(disk: Path, left: int) -> None:
    """Another file takes all but some of the room."""
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - left)
    assert shutil.disk_usage(disk).free == left


def require_whole(folder: Path, epochs: int) -> None:
    """The run holds the checkpoint of its last epochs, and nothing that is torn or half-written."""
    checkpoints = folder / "checkpoints"
    names = sorted(path.name for path in checkpoints.iterdir())
    assert {"last"} <= {*names} <= {"last", "best", "previous"}
    for name in names:
        load(checkpoints / name)
    assert load(checkpoints / "last").state["epoch"] == epochs - 1
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert {len(row) for row in rows} == {len(rows[0])}
    # a row is written before its checkpoint, and replaced when the epoch is trained again
    assert len(rows) - 1 in (epochs, epochs + 1)
    assert (folder / "log.txt").read_text().endswith("\n")


def refused(shown: tuple[int, str, str], *facts: str) -> None:
    code, out, err = shown
    assert code == 2, (out, err)
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    assert "Traceback" not in out + err
    for fact in facts:
        assert fact in err


@pytest.mark.parametrize(
    ("left", "what"),
    [
        (0, "metrics.csv"),
        (16 * 2**12, "the checkpoint of epoch 1"),  # metrics.csv fits, weights do not
        (5 * MB // 2, "the checkpoint of epoch 1"),  # nor does the optimiser's state
    ],
)
def test_a_disk_that_fills_up_ends_a_training_and_room_lets_it_go_on(
    left: int,
    what: str,
    unbroken: Run,
    config: Path,
    small_disk: Callable[[int], Path],
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = small_disk(48 * MB)
    folder = disk / "run"
    with monkeypatch.context() as patch:
        after_epochs(1, lambda: leave(disk, left), patch)
        shown = command_line("train", config, "--out", folder, *TRAIN)
    refused(shown, f"{what} cannot be written: No space left on device.", str(folder), "go on with --resume")
    require_whole(folder, 1)
    if not left:
        assert len(Run.open(folder).metrics()) == 1

    # what the message says; until there is room, it is said again
    resume = ("train", config, "--out", folder, "--resume", *TRAIN)
    refused(command_line(*resume), "Make room")
    require_whole(folder, 1)
    (disk / "filler").unlink()
    assert command_line(*resume)[0] == 0
    require_whole(folder, 2)
    assert same_weights(Run.open(folder), unbroken)
    assert comparable(Run.open(folder)) == comparable(unbroken)


def limit_files(size: int) -> Callable[[], None]:
    """Files may be no longer than so many bytes: what writes more is told that it is too large (EFBIG)."""
    resource = pytest.importorskip("resource", reason="there are no limits of files' sizes here")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("epochs", [0, 1])
def test_checkpoints_that_cannot_be_written_end_a_training(
    epochs: int,
    unbroken: Run,
    config: Path,
    tmp_path: Path,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without root: the same errors, by a limit of what a process may write."""
    folder, lift = tmp_path / "run", []
    try:
        with monkeypatch.context() as patch:
            if epochs:
                after_epochs(epochs, lambda: lift.append(limit_files(MB)), patch)
            else:
                lift.append(limit_files(MB))
            shown = command_line("train", config, "--out", folder, *TRAIN)
    finally:
        for lifted in lift:
            lifted()
    refused(shown, f"the checkpoint of epoch {epochs} cannot be written: File too large.")
    if not epochs:
        assert "There is no checkpoint yet. Make room, remove the run folder, and train again." in shown[2]
        assert not list((folder / "checkpoints").iterdir())
        shutil.rmtree(folder)
        assert command_line("train", config, "--out", folder, *TRAIN)[0] == 0
    else:
        require_whole(folder, 1)
        assert command_line("train", config, "--out", folder, "--resume", *TRAIN)[0] == 0
    assert same_weights(Run.open(folder), unbroken)


def test_too_little_room_is_told_at_once_and_leaves_no_folder(
    config: Path, small_disk: Callable[[int], Path], command_line: CommandLine
) -> None:
    disk = small_disk(24 * MB)
    shown = command_line("train", config, "--out", disk / "runs" / "run", *TRAIN)
    refused(shown, "MB are needed for checkpoints, and 25 MB are free.", "name another place with --out")
    assert list(disk.iterdir()) == []


def test_room_for_one_more_checkpoint_is_enough_to_go_on(
    unbroken: Run, small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    disk = small_disk(48 * MB)
    shutil.copytree(unbroken.folder, disk / "run")
    leave(disk, 23 * MB)
    longer = Config.load(unbroken.folder.parent / "tiny.yaml", ["training.epochs=3"])
    assert len(train(longer, disk / "run", resume=True, device="cpu", quiet=True).metrics()) == 3
    with pytest.raises(RunError, match="MB are needed for checkpoints"):
        train(longer, disk / "another", device="cpu", quiet=True)


def test_a_run_folder_that_cannot_be_begun_is_not_left_behind(
    config: Path, small_disk: Callable[[int], Path], command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk(48 * MB)
    monkeypatch.setattr("boundseg.training.loop.require_room", lambda *_: leave(disk, 0))
    shown = command_line("train", config, "--out", disk / "run", *TRAIN)
    refused(shown, "the run folder cannot be written: No space left on device.", "name another place with --out")
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_data_that_cannot_be_prepared_for_want_of_room_are_told(
    unbroken: Run, small_disk: Callable[[int], Path], command_line: CommandLine, tmp_path: Path
) -> None:
    disk = small_disk(4 * MB)
    shutil.copytree(unbroken.config.data.folder, disk / "hearts", ignore=shutil.ignore_patterns("prepared"))
    leave(disk, 0)
    asked = tiny(disk / "hearts", entry("seeds", constraints=[INDIVIDUAL]))
    (tmp_path / "tiny.yaml").write_text(asked.dump())
    shown = command_line("train", tmp_path / "tiny.yaml", "--out", tmp_path / "run", *TRAIN)
    refused(shown, "cannot be written: ", "Make room, and give the command again.")
    assert not (tmp_path / "run").exists()


def test_a_line_of_a_log_is_whole_or_not_there(small_disk: Callable[[int], Path], tmp_path: Path) -> None:
    disk = small_disk(MB)
    run = Run(disk)
    run.log("the first line")
    before = (disk / "log.txt").read_bytes()
    leave(disk, 0)
    with pytest.raises(RunError, match=r"log\.txt cannot be written: No space left on device\.\n.*Make room"):
        run.log("a page and more " * 4096)
    assert (disk / "log.txt").read_bytes() == before
    (disk / "filler").unlink()
    run.log("the second line")
    assert [line.split("  ")[1] for line in (disk / "log.txt").read_text().splitlines()] == [
        "the first line",
        "the second line",
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "a.npy"), "a.npy cannot be written: No space left on device."),
        (OSError(27, "File too large"), "a file cannot be written: File too large."),
        (OSError("500000 requested and 62484 written"), "a file cannot be written: the disk is full."),
        (OSError(13, "Permission denied", "a.npy"), "a.npy cannot be read or written: Permission denied."),
        (OSError(30, "Read-only file system", "a.npy"), "a.npy cannot be read or written: Read-only file system."),
        (OSError(13, "Permission denied"), None),
        (OSError(2, "No such file or directory", "a.npy"), None),
        (ValueError("500000 requested and 62484 written"), None),
    ],
)
def test_what_the_disk_refuses_is_told_from_a_fault_of_ours(error: Exception, said: str | None) -> None:
    told = command._refused_file(error)
    assert (told and told.partition("\n")[0]) == said


@pytest.mark.parametrize(
    "told",
    [
        "I/O error: No space left on device (os error 28)",
        'IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })',
    ],
)
def test_an_error_of_the_disk_is_found_in_that_of_safetensors(told: str) -> None:
    found: Any = writing.os_error(writing.SafetensorError(f"Error while serializing: {told}"))
    assert (found.errno, found.strerror) == (28, "No space left on device")


def test_another_error_of_safetensors_is_none_of_the_disks() -> None:
    assert writing.os_error(writing.SafetensorError("Error while deserializing header")) is None
