"""Several trainings at once: what they leave, and that one of them leaves the others alone."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from boundseg.errors import InputError
from boundseg.training.config import Config
from boundseg.training.loop import train
from boundseg.training.run import Run
from boundseg.training.several import Interrupted, Outcome, train_several
from boundseg.training.several import child as children
from boundseg.training.several import display as several_display
from boundseg.training.several.child import Child
from tests.cli.cases import rewrite, voxels

from .cases import INDIVIDUAL, TAGS, entry, tiny

WriteConfig = Callable[..., Path]
Fake = Callable[[str], None]
posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise there")


@pytest.fixture
def write_config(tmp_path: Path, tiny_dataset: Path) -> WriteConfig:
    """Writes ``NAME.yaml``, a training of two epochs on the tiny dataset, with other sections if given."""

    def write(name: str, *entries: dict[str, Any], folder: Path = tiny_dataset, **sections: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tiny(folder, *entries, **sections).dump(), encoding="utf-8")
        return path

    return write


def several(configs: list[Path], out: Path, **options: Any) -> list[Outcome]:
    return train_several(configs, out, threads=1, device="cpu", quiet=True, **options)


def same_weights(one: Run, other: Run) -> bool:
    ours, theirs = one.checkpoint("last").weights, other.checkpoint("last").weights
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_trainings_end_as_they_would_alone_whatever_becomes_of_the_others(
    write_config: WriteConfig, tiny_dataset: Path, tmp_path: Path, fake: Fake
) -> None:
    image = Path("imagesTr/patient1_frame01_0000.nii.gz")
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_dataset, damaged)
    rewrite(damaged / image, np.full(voxels(damaged / image).shape, np.nan, np.float32))
    settings = {"batch_size": 15}
    configs = [
        write_config("corrupt", folder=damaged),
        write_config("individual", entry(constraints=[INDIVIDUAL]), training=settings),
        write_config("tags", entry(constraints=[TAGS]), training=settings, seed=1),
    ]
    out = tmp_path / "runs"
    corrupt, individual, tags = several(configs, out, jobs=2)
    for path, outcome in zip(configs[1:], (individual, tags), strict=True):
        assert (outcome.state, outcome.message, outcome.epochs, outcome.asked) == ("done", "", 2, 2)
        alone = train(Config.load(path), tmp_path / "alone" / path.stem, device="cpu", quiet=True)
        assert same_weights(Run.open(outcome.folder), alone)
        rows = alone.metrics()
        assert outcome.score == pytest.approx(min(row["validation objective"] for row in rows), rel=1e-5)
        assert outcome.best_epoch == alone.checkpoint("best").state["epoch"]
        assert "epoch   1/2" in (outcome.folder / "console.txt").read_text()
    assert corrupt.state == "refused"
    assert corrupt.message.startswith("error: ")
    assert "patient1_frame01_0000.nii.gz holds" in corrupt.message
    assert (corrupt.score, corrupt.best_epoch, corrupt.minutes) == (None, None, 0)
    # what was refused before it had a folder says so beside where that would be
    assert sorted(path.name for path in out.iterdir()) == ["corrupt.console.txt", "individual", "tags"]

    # what is finished is left alone, what was not begun begins
    fake("folder.mkdir(); print('begun')")
    before = (out / "tags" / "console.txt").read_text()
    again = several([configs[2], write_config("new")], out, resume=True)
    assert [outcome.state for outcome in again] == ["done", "done"]
    assert again[0] == tags
    assert (out / "tags" / "console.txt").read_text() == before
    assert (out / "new" / "console.txt").read_text() == "begun\n"


# ---- refused before anything begins


def refused(configs: Any, out: Path, **options: Any) -> list[str]:
    """The problems, each in a line."""
    with pytest.raises(InputError) as error:
        several(configs, out, **options)
    return [str(problem).replace("\n ", "") for problem in error.value.problems]


def test_problems_of_all_configs_are_told_at_once_and_nothing_begins(
    write_config: WriteConfig, tiny_dataset: Path, tmp_path: Path
) -> None:
    good = write_config("good")
    taken = write_config("taken")
    out = tmp_path / "runs"
    (out / "taken").mkdir(parents=True)
    (out / "taken" / "notes.txt").write_text("mine")
    misspelt = tmp_path / "misspelt.yaml"
    misspelt.write_text(yaml.safe_dump({**yaml.safe_load(good.read_text()), "trainin": 1, "metod": 2}))
    nowhere = [write_config(name, folder=tmp_path / "nowhere") for name in ("lost", "gone")]
    named = [
        write_config("network", network={"name": "enett"}),
        write_config("list", entry(cases="tain")),
        write_config("set", entry(constraints=[{"size": {"class": "LW", "set": "individual"}}])),
    ]
    problems = refused([good, taken, misspelt, *nowhere, *named, tmp_path / "no.yaml"], out)
    expected = [
        (taken, "taken exists. ", "--resume"),
        (misspelt, "unknown key 'metod'", "did you mean 'method'?"),
        (misspelt, "unknown key 'trainin'", "did you mean 'training'?"),
        # one problem of two configs
        (nowhere[0], str(nowhere[1]), "dataset.json is not there."),
        (named[0], "'enett'", "did you mean 'enet'?"),
        (named[1], "'tain' is no list", "did you mean 'train'?"),
        (named[2], "'LW'", "did you mean 'LV'?"),
        (tmp_path, "no.yaml is not there.", "Check the path"),
    ]
    assert len(problems) == len(expected)
    for problem, facts in zip(problems, expected, strict=True):
        for fact in facts:
            assert str(fact) in problem, (fact, problem)
    assert [path.name for path in out.iterdir()] == ["taken"]
    assert not (tiny_dataset / "prepared").exists()


def test_3d_networks_are_trained_side_by_side(write_config: WriteConfig, tmp_path: Path, fake: Fake) -> None:
    """Their options have a number for each of three axes."""
    network = {"name": "unet", "channels": [4, 8], "strides": [[2, 2, 1]]}
    asked = {"data": {"size": [16, 16, 4], "batch": "patches"}, "network": network}
    outcomes = several([write_config("one", **asked), write_config("two", **asked)], tmp_path / "runs")
    assert [outcome.state for outcome in outcomes] == ["done", "done"]


def test_names_and_folders_that_would_collide_are_refused(write_config: WriteConfig, tmp_path: Path) -> None:
    one, other, out = write_config("a"), write_config("deeper/a"), tmp_path / "runs"
    (problem,) = refused([one, other], out)
    assert problem == f"{one} and {other} would both train into {out / 'a'}. Rename one of them."
    assert not out.exists()
    (problem,) = refused([one], one)
    assert problem.startswith(f"{one} is a file.")
    out.mkdir()
    (out / "environment.json").write_text("{}")
    (problem,) = refused([one], out)
    assert problem.startswith(f"{out} is a run folder.")


def test_another_config_than_a_run_began_with_is_refused(write_config: WriteConfig, tmp_path: Path, fake: Fake) -> None:
    path, out = write_config("a"), tmp_path / "runs"
    train(Config.load(path, ["training.epochs=1"]), out / "a", device="cpu", quiet=True)
    (problem,) = refused([path], out, resume=True, overrides=["seed=4", "training.optimizer.lr=3"])
    assert f"the config differs from the one that {out / 'a'} began with, in: training.optimizer.lr, seed." in problem
    # more epochs are no other config, and a run that has them all is finished
    fake("pass")
    assert several([path], out, resume=True, overrides=["training.epochs=1"])[0].state == "done"
    before = (out / "a" / "metrics.csv").read_text()
    assert several([path], out, resume=True)[0].epochs == 1
    assert (out / "a" / "metrics.csv").read_text() == before
    assert (out / "a" / "console.txt").read_text() == "--resume\n"


# ---- who runs when, with programs that only pretend to train


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Lets a few lines stand for a training; ``folder`` and ``threads`` are what it was told."""

    def replace(code: str) -> None:
        begin = (
            "import json, os, pathlib, signal, sys, time\n"
            "folder = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
            "threads = sys.argv[sys.argv.index('--threads') + 1]\n"
            "if '--resume' in sys.argv: print('--resume', flush=True)\n"
        )
        monkeypatch.setattr(children, "_COMMAND", ["-c", begin + code])

    return replace


TELLS_WHEN = """
began = time.time()
time.sleep(0.6)
folder.mkdir(parents=True)
(folder / 'environment.json').write_text('{}')
prepared = time.time()
time.sleep(1.2)
(folder / 'when.json').write_text(json.dumps([began, prepared, time.time(), threads, os.environ['OMP_NUM_THREADS']]))
"""


def test_one_prepares_what_several_read_while_the_others_wait(
    write_config: WriteConfig, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(TELLS_WHEN)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    configs = [write_config("a"), write_config("b"), write_config("other", data={"size": [32, 32]}), write_config("c")]
    outcomes = train_several(configs, tmp_path / "runs", jobs=3, device="cpu", quiet=True)
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
    told = {outcome.name: json.loads((outcome.folder / "when.json").read_text()) for outcome in outcomes}
    (a, b, other, c) = (told[name][:3] for name in ("a", "b", "other", "c"))
    assert b[0] > a[1], "b waits until a has prepared"
    assert b[0] < a[2], "and not until it has trained"
    assert other[0] < a[1], "what reads another grid does not wait"
    assert c[0] > min(a[2], other[2]), "three at once"
    # a share of what one training alone would take
    assert {(threads, in_environment) for *_, threads, in_environment in told.values()} == {("2", "2")}


@pytest.mark.parametrize(
    ("code", "state", "message"),
    [
        (
            "print('boundseg failed: ValueError: x\\n  a log'); sys.exit(1)",
            "failed",
            "boundseg failed: ValueError: x\n  a log",
        ),
        ("print('epoch 0'); print('error: this\\n  remedy'); sys.exit(2)", "refused", "error: this\n  remedy"),
        pytest.param(
            "print('so far', flush=True); os.kill(os.getpid(), 9)",
            "failed",
            "ended by SIGKILL, which the system sends where memory runs out.\nso far",
            marks=posix,
        ),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", "interrupted", "", marks=posix),
    ],
)
def test_a_process_that_ends_badly_leaves_the_others_alone(
    write_config: WriteConfig, tmp_path: Path, fake: Fake, code: str, state: str, message: str
) -> None:
    fake(f"if folder.name == 'good':\n time.sleep(0.5); sys.exit()\n{code}")
    good, bad = several([write_config("good"), write_config("bad")], tmp_path / "runs", jobs=1)
    assert good.state == "done"
    assert (bad.state, bad.message) == (state, message)


def test_what_was_interrupted_before_its_first_checkpoint_begins_anew(
    write_config: WriteConfig, tmp_path: Path, fake: Fake
) -> None:
    path, out = write_config("a"), tmp_path / "runs"
    train(Config.load(path), out / "a", device="cpu", quiet=True)
    shutil.rmtree(out / "a" / "checkpoints" / "last")
    shutil.rmtree(out / "a" / "checkpoints" / "previous", ignore_errors=True)
    fake("print(sorted(path.name for path in folder.iterdir()))")
    assert several([path], out, resume=True)[0].state == "done"
    assert (out / "a" / "console.txt").read_text() == "[]\n", "the folder is empty, and it is no resumption"


@posix
def test_a_second_interruption_kills(write_config: WriteConfig, tmp_path: Path, fake: Fake) -> None:
    # the training ignores what it is asked, and interrupts its parent twice
    fake(
        "signal.signal(signal.SIGINT, lambda *_: print('asked', flush=True))\n"
        "for _ in range(2):\n time.sleep(0.7); os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(60)"
    )
    started = time.monotonic()
    with pytest.raises(Interrupted, match="2 of 2 trainings unfinished; go on with --resume") as interrupted:
        several([write_config("a"), write_config("b")], tmp_path / "runs", jobs=1)
    assert time.monotonic() - started < 20
    assert [outcome.state for outcome in interrupted.value.outcomes] == ["interrupted", "waiting"]
    assert (tmp_path / "runs" / "a.console.txt").read_text() == "asked\n"


# ---- whole processes


def begin(configs: list[Path], out: Path) -> subprocess.Popen[str]:
    """Trainings that do not end by themselves; returns when each has done an epoch."""
    command = [sys.executable, "-m", "boundseg", "train", *map(str, configs), "--out", str(out), "--jobs", "2"]
    command += ["--device", "cpu", "--threads", "1", "--set", "training.epochs=5000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    while not all(any(f"{path.stem} " in line and "  epoch " in line for line in lines) for path in configs):
        lines.append(process.stdout.readline())
        assert lines[-1], (lines, process.stderr and process.stderr.read())
    return process


@posix
def test_interrupted_trainings_all_end_and_go_on(write_config: WriteConfig, tmp_path: Path) -> None:
    configs, out = [write_config("one"), write_config("two", seed=1)], tmp_path / "runs"
    with begin(configs, out) as process:
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted with 2 of 2 trainings unfinished; go on with --resume" in errors
    assert "Traceback" not in shown + errors
    assert shown.count("interrupted") >= 2
    for path in configs:
        run, said = Run.open(out / path.stem), (out / path.stem / "console.txt").read_text()
        assert "Traceback" not in said
        done = len(run.metrics())
        assert train(
            Config.load(path, [f"training.epochs={done + 1}"]), run.folder, resume=True, device="cpu", quiet=True
        )
        assert len(run.metrics()) == done + 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends children with their parent")
def test_no_training_outlives_a_parent_that_is_killed(write_config: WriteConfig, tmp_path: Path) -> None:
    sleeps = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(120)\n"
    (tmp_path / "pretends.py").write_text(sleeps)
    code = f"""
from pathlib import Path
from boundseg.training.several import child, several
child._COMMAND[1] = child._COMMAND[1].replace("boundseg", "pretends")
several.train_several([Path({str(write_config("a"))!r})], {str(tmp_path)!r}, device="cpu", quiet=True)
"""
    said = tmp_path / "a.console.txt"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        _wait_until(lambda: said.is_file() and said.read_text().endswith("\n"))
        pid = int(said.read_text())
        assert _runs(pid)
        process.kill()
    _wait_until(lambda: not _runs(pid))


def _wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return "pretends" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


# ---- what is shown

ROW = {"epoch": 0.0, "seconds": 45.0, "cross_entropy": 0.5, "validation dice: LV": 0.8}


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None)
    monkeypatch.setattr(several_display, "Console", lambda: console)
    return text


def two_children(tmp_path: Path) -> tuple[Child, Child]:
    config = tiny(tmp_path, training={"epochs": 10})
    return (
        Child("a", Path("a.yaml"), config, tmp_path / "a", state="training", rows=[ROW]),
        Child("longer [b]", Path("b.yaml"), config, tmp_path / "b"),
    )


def test_without_a_terminal_there_is_a_line_for_every_state_and_epoch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text, (a, b) = shown(monkeypatch, terminal=False), two_children(tmp_path)
    with several_display.display([a, b]) as display:
        display.update()
        display.update()
        a.rows.append(ROW | {"epoch": 1.0})
        b.state = "preparing"
        display.update()
        a.state = "failed"
        display.update()
    assert text.getvalue().splitlines() == [
        "a           training",  # its first epoch was done before
        "a           epoch   1/10  CE 0.5000  DSC 0.8000  0:06:00 left",
        "longer [b]  preparing",
        "a           failed",
    ]


def test_on_a_terminal_there_is_one_line_for_each_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text, (a, b) = shown(monkeypatch, terminal=True), two_children(tmp_path)
    a._written = time.time()
    with several_display.display([a, b]) as display:
        display.update()
    lines = [line.split() for line in text.getvalue().splitlines()]
    header, first, second = lines[:3]
    assert header[-2:] == ["last", "epoch"]
    assert first == ["a", "training", "1/10", "0:06:45", "CE", "0.5000", "DSC", "0.8000"]
    assert second[:4] == ["longer", "[b]", "waiting", "0/10"]


def test_an_outcome_is_a_line_of_a_table(tmp_path: Path) -> None:
    outcome = Outcome("a", tmp_path, "done", "", 20, 20, 17, "dice", 0.87654, 3.14)
    assert outcome.row() == {
        "run": "a",
        "state": "done",
        "epochs": "20/20",
        "best epoch": "17",
        "score": "DSC 0.8765",
        "minutes": "3.1",
    }
    assert Outcome("a", tmp_path, "waiting", "", 0, 20, None, "last", None, 0).row()["score"] == ""
