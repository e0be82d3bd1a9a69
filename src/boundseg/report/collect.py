"""Run folders to what a report shows: everything is read from files, and what does not belong together is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boundseg.errors import InputError, Problem, RunError
from boundseg.evaluation.comparable import require_comparable
from boundseg.evaluation.tables import Evaluation
from boundseg.training.run import Run, named_apart


@dataclass(frozen=True)
class Judged:
    """A run, and how it was judged.

    Attributes:
        name: Its folder's name, with as much of the path as tells it from the others.
        run: The run folder.
        evaluation: What ``boundseg evaluate`` left in it.
        metrics: The rows of ``metrics.csv``.
    """

    name: str
    run: Run
    evaluation: Evaluation
    metrics: list[dict[str, float]]


def collect(folders: Sequence[Path]) -> list[Judged]:
    """Reads runs and their evaluations.

    Raises:
        InputError: Folders that are no run, have no checkpoint or no evaluation, or files that are damaged (all of them
            are listed), runs that were judged on other cases or references or by other conventions, or one that
            learned from patients on whom another is judged.
    """
    judged: list[Judged] = []
    problems: list[Problem] = []
    for name, folder in named_apart(folders).items():
        try:
            judged.append(_open(name, folder))
        except InputError as error:
            problems += error.problems
    if problems:
        raise RunError.of(problems)
    require_comparable({one.name: one.evaluation for one in judged})
    _require_unseen(judged)
    return judged


def _open(name: str, folder: Path) -> Judged:
    run = Run.open(folder)
    run.require_readable()
    if not run.has_checkpoint:
        raise RunError(f"{folder} has no checkpoint.", remedy="Train it, go on with --resume, or leave it out.")
    where = folder / "evaluation"
    try:
        evaluation = Evaluation.read(where)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(
            f"{folder} has not been evaluated: {Path(str(error.filename)).name} is not there.",
            str(where),
            f"Run: boundseg evaluate {folder} --cases test",
        ) from error
    except (ValueError, KeyError, json.JSONDecodeError) as error:
        raise RunError(
            f"the evaluation of {folder} cannot be read: {error}", str(where), f"Run: boundseg evaluate {folder}"
        ) from error
    return Judged(name, run, evaluation, run.metrics())


def _require_unseen(judged: Sequence[Judged]) -> None:
    """Refuses runs with different splits: nobody may be judged on patients that teach another run of the table."""
    patients = set(judged[0].evaluation.volumes["patient"].astype(str))
    problems = []
    for one in judged:
        taught: dict[str, Any] = one.run.environment.get("patients", {})
        seen = sorted(patients & set(taught.get("train", ())))
        if seen and len(judged) > 1:
            problems.append(
                Problem(
                    f"{one.name} learned from {', '.join(seen[:3])}{' …' if len(seen) > 3 else ''}, "
                    f"on whom the runs are judged.",
                    str(one.run.folder / "environment.json"),
                    "Compare runs of one split, on cases that none of them learned from.",
                )
            )
    if problems:
        raise RunError.of(problems)
