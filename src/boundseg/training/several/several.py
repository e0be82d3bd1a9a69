"""Several trainings at once, each in a process of its own: one that fails leaves the others alone."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from boundseg.data.dataset import Dataset
from boundseg.errors import InputError, Problem, RunError
from boundseg.networks import build
from boundseg.training.config import Config
from boundseg.training.guard import Interruption
from boundseg.training.run import Run
from boundseg.training.several.child import Child, State
from boundseg.training.several.display import display
from boundseg.training.state.ending import finished, last_state
from boundseg.training.state.resume import require_same
from boundseg.training.supervision import demands_of_entries, entries_of

LOOK_S = 0.25  # between looks at what the trainings have written


@dataclass(frozen=True)
class Outcome:
    """How one of several trainings ended.

    Attributes:
        name: Of the run folder.
        folder: The run folder; there is none where the training was refused before it began.
        state: ``done``, ``refused`` (the input's fault), ``failed``, ``interrupted``, or ``waiting`` where it never
            began.
        message: Why it was refused or failed.
        epochs: Epochs that were finished.
        asked: Epochs that were asked for.
        best_epoch: Counted from 0.
        judged_by: What the selection compared: ``dice``, ``weak`` or ``last``.
        score: The best epoch's mean DSC (``dice``) or objective (``weak``) on the held-out cases.
        minutes: That its epochs took.
    """

    name: str
    folder: Path
    state: State
    message: str
    epochs: int
    asked: int
    best_epoch: int | None
    judged_by: str
    score: float | None
    minutes: float

    def row(self) -> dict[str, str]:
        """A line of a table."""
        score = "" if self.score is None else f"{self.score:.4g}"
        return {
            "run": self.name,
            "state": self.state,
            "epochs": f"{self.epochs}/{self.asked}",
            "best epoch": "" if self.best_epoch is None else str(self.best_epoch),
            "score": f"{'DSC' if self.judged_by == 'dice' else 'objective'} {score}" if score else "",
            "minutes": f"{self.minutes:.1f}",
        }


class Interrupted(KeyboardInterrupt):
    """Several trainings were interrupted, and have ended.

    Attributes:
        outcomes: What each had come to.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        unfinished = sum(outcome.state != "done" for outcome in outcomes)
        super().__init__(f"with {unfinished} of {len(outcomes)} trainings unfinished; go on with --resume")
        self.outcomes = list(outcomes)


def train_several(
    configs: Mapping[str, Path] | Sequence[Path],
    out: Path | str = "runs",
    *,
    jobs: int | None = None,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> list[Outcome]:
    """Trains as several configs say, side by side, each in a process of its own.

    Whatever can be refused without reading volumes is refused before the first training begins. Trainings on the same
    grid of the same dataset share what is prepared: while one prepares, the others wait. A training that fails or is
    killed leaves the others alone, and its process's words are in ``console.txt`` of its run folder (beside it, as
    ``NAME.console.txt``, while it runs and where there is no folder). On Linux no training outlives this process.

    Args:
        configs: YAML files, read once more when their training begins; each run is named after its file, or by the keys
            of a mapping.
        out: Gets one run folder for each config.
        jobs: How many run at once, at most. Left out: all, as far as each has a core; on a GPU, one.
        threads: CPU threads of each. Left out: its share of the cores.
        overrides: As for :meth:`boundseg.training.config.Config.load`, for all of them.
        resume: Skip what is finished, go on with what was begun, begin the others.
        device: As for :func:`boundseg.train`; all share it.
        quiet: Show no progress.

    Returns:
        How each of them ended, in the order of the configs.

    Raises:
        InputError: Everything that is wrong with configs, folders or names.
        Interrupted: By a signal; a first one lets the trainings save where they are, a second one kills them.
    """
    children = _children(configs, Path(out), overrides, resume)
    left = sum(child.state == "waiting" for child in children)
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    jobs = max(1, min(jobs or (_cores() if on_cpu else 1), left))
    # of those that one training alone would take
    threads = threads or max(1, torch.get_num_threads() // jobs)
    options = ["--device", device, *(text for override in overrides for text in ("--set", override))]

    interrupted = False
    with display(children, quiet) as shown, Interruption() as interruption:
        try:
            while True:
                if interruption.asked and not interrupted:
                    interrupted = True
                    for child in children:
                        child.interrupt()
                while not interrupted and (begins := _next(children, jobs)):
                    begins.start(options, threads)
                shown.update()
                if not any(child.runs for child in children):
                    break
                time.sleep(LOOK_S)
                for child in children:
                    child.look()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            for child in children:
                child.kill()
    outcomes = [_outcome(child) for child in children]
    if interrupted:
        raise Interrupted(outcomes)
    return outcomes


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _next(children: Sequence[Child], jobs: int) -> Child | None:
    """The first that may begin: there is room for it, and nobody is preparing what it reads."""
    running = [child for child in children if child.runs]
    preparing = [_prepared(child.config) for child in running if child.state == "preparing"]
    waiting = [c for c in children if c.state == "waiting" and _prepared(c.config) not in preparing]
    return waiting[0] if waiting and len(running) < jobs else None


def _prepared(config: Config) -> tuple[Any, ...]:
    return config.data.folder.resolve(), config.data.grid


def _children(
    configs: Mapping[str, Path] | Sequence[Path], out: Path, overrides: Sequence[str], resume: bool
) -> list[Child]:
    """Every training with what it finds in its folder; raises InputError with all problems of all of them."""
    named = list(configs.items()) if isinstance(configs, Mapping) else [(path.stem, path) for path in configs]
    if out.is_file() or (out / "environment.json").is_file():
        what = "a file" if out.is_file() else "a run folder"
        raise RunError(f"{out} is {what}.", remedy="Several trainings need a folder for their run folders: --out.")
    found: dict[Problem, list[Path]] = {}
    children = []
    for index, (name, path) in enumerate(named):
        try:
            if twin := next((other for earlier, other in named[:index] if earlier == name), None):
                raise RunError(f"{twin} and {path} would both train into {out / name}.", remedy="Rename one of them.")
            children.append(_child(name, path, Config.load(path, overrides), out / name, resume))
        except InputError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(path)
    if found:
        raise InputError.of(_located(problem, paths) for problem, paths in found.items())
    return children


def _located(problem: Problem, paths: Sequence[Path]) -> Problem:
    """The same, with the configs in which it was found."""
    named = [str(path) for path in paths if str(path) not in f"{problem.what} {problem.where}"]
    return replace(problem, where=", ".join([*named, *([problem.where] if problem.where else [])]))


def _child(name: str, path: Path, config: Config, folder: Path, resume: bool) -> Child:
    child = Child(name, path, config, folder)
    if not resume or not folder.is_dir() or not any(folder.iterdir()):
        Run.require_free(folder)
        _require_trainable(config)
        return child
    run = Run.open(folder)
    require_same(config, run)
    _require_trainable(config)
    state = last_state(folder)
    child.begun, child.leftover = bool(state), not state
    if state:
        child.read_rows()
    if finished(state, config):
        child.state = "done"
    return child


def _require_trainable(config: Config) -> None:
    """What a training itself would refuse, as far as no volume is read for it."""
    dataset = Dataset.open(config.data.folder)
    outputs = len(dataset.labels) + config.network.spare_outputs
    with torch.random.fork_rng(devices=[]):
        build(config.network.name, len(dataset.channels), outputs, config.data.grid.axes, **config.network.options)
    entries_of(config, dataset)
    dataset.cases_of(config.selection.cases)
    demands_of, _ = demands_of_entries(config, dataset)
    config.method.require([demand.constraint for of_entry in demands_of for demand in of_entry])


def _outcome(child: Child) -> Outcome:
    progress = last_state(child.folder).get("progress", {}) if child.rows else {}
    judged_by, best = child.config.selection.by, progress.get("best", math.inf)
    known = math.isfinite(best) and judged_by != "last"
    return Outcome(
        child.name,
        child.folder,
        child.state,
        child.message,
        len(child.rows),
        child.epochs,
        progress.get("best_epoch"),
        judged_by,
        (-best if child.config.selection.by_masks else best) if known else None,
        sum(row["seconds"] for row in child.rows) / 60,
    )
