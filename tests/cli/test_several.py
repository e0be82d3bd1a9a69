"""Several trainings at once; what they do is tested beside the call that the verb makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from .cases import TRAIN, Boundseg, config, refused


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
