"""What is shown while a training runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from boundseg.training import progress
from boundseg.training.loop import train

from .cases import INDIVIDUAL, entry, tiny

ROW = {
    "epoch": 2.0,
    "seconds": 45.0,
    "cross_entropy": 0.5,
    "penalty: a": 1.25,
    "penalty: b": 0.5,
    "satisfied: a": 0.5,
    "satisfied: b": 1.0,
    "validation dice: LV": 0.8,
    "validation dice: Myo": float("nan"),
}


def test_a_summary_holds_terms_kept_bounds_and_dice() -> None:
    assert progress.summary(ROW) == "CE 0.5000  penalty 1.7500  bounds kept 75%  DSC 0.8000"
    assert progress.summary({"cross_entropy": 0.5, "satisfied: a": float("nan")}) == "CE 0.5000"
    nowhere = {"penalty: a": float("nan"), "satisfied: a": float("nan")}
    assert progress.summary(ROW | nowhere) == "CE 0.5000  penalty 0.5000  bounds kept 100%  DSC 0.8000"
    assert progress.summary({"cross_entropy": 0.5} | nowhere) == "CE 0.5000  no bound known"


def console(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=text, force_terminal=terminal, width=100))
    return text


def test_without_a_terminal_there_is_one_plain_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    text = console(monkeypatch, terminal=False)
    with progress.display(epochs=120, steps=2, first_epoch=0) as shown:
        shown.step()
        shown.step()
        shown.epoch(ROW, best=True)
        shown.epoch(ROW | {"epoch": 119}, best=False)
    first, last = text.getvalue().splitlines()
    assert first == "epoch   2/120  CE 0.5000  penalty 1.7500  bounds kept 75%  DSC 0.8000  1:27:45 left  best"
    assert last.endswith("DSC 0.8000  0:00 left")


def test_on_a_terminal_a_bar_moves_under_the_same_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = console(monkeypatch, terminal=True)
    with progress.display(epochs=4, steps=2, first_epoch=1) as shown:
        shown.step()
        shown.epoch(ROW, best=False)
    assert "epoch   2/4  CE 0.5000" in text.getvalue()
    assert "3/8" in text.getvalue()  # an epoch of two steps was done before


def test_a_quiet_training_says_nothing(tiny_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = tiny(tiny_dataset, entry(constraints=[INDIVIDUAL]), training={"epochs": 1, "batch_size": 30})
    train(config, tmp_path / "quiet", device="cpu", quiet=True)
    assert capfd.readouterr() == ("", "")
    told: list[str] = []
    train(config, tmp_path / "loud", device="cpu", report=told.append, prepared=lambda: told.append("prepared"))
    shown, errors = capfd.readouterr()
    assert shown.startswith("epoch   0/1  CE ")
    assert errors == ""
    assert told[-1] == "prepared"
    assert len(told) == 9  # six cases that teach, two that are held out
