"""Several runs that predict as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from boundseg.errors import Problem, RunError
from boundseg.inference import Ensemble, Predictor, VolumePredictor
from boundseg.training.run import Run, Which


def require_alike(runs: Sequence[Run]) -> None:
    """Refuses runs whose probabilities cannot be averaged.

    Raises:
        RunError: There is none, or their classes, channels or slice axes differ; all of it is listed.
    """
    if not runs:
        raise RunError("there is no run to predict with.", remedy="Name one.")
    first, *others = runs
    named = {"labels": "classes", "channels": "channels", "slice_axis": "slice axis"}
    problems = [
        Problem(
            f"{run.folder} has the {what} {in_words(run.environment[key])}, {first.folder} has "
            f"{in_words(first.environment[key])}.",
            "",
            "Runs are averaged where these agree.",
        )
        for run in others
        for key, what in named.items()
        if run.environment[key] != first.environment[key]
    ]
    if problems:
        raise RunError.of(problems)


def together(
    runs: Sequence[Run], which: Which = "best", device: torch.device | str = "cpu", mirror: bool = False
) -> Predictor | VolumePredictor | Ensemble:
    """The predictor of one run, or of several one that averages their probabilities.

    Raises:
        RunError: They differ, see :func:`require_alike`.
    """
    require_alike(runs)
    members = tuple(run.predictor(which, device, mirror) for run in runs)
    return members[0] if len(members) == 1 else Ensemble(members, len(runs[0].labels))


def in_words(value: object) -> str:
    """Classes with their values, or channels by their names, in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
