"""What a run folder holds and how far it is; what a checkpoint holds."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from boundseg.data.dataset import Dataset
from boundseg.errors import CheckpointError, InputError, RunError
from boundseg.training import course
from boundseg.training.config import in_words as settings
from boundseg.training.progress import summary
from boundseg.training.run import Run
from boundseg.training.state.checkpoint import FORMAT
from boundseg.training.supervision import entries_of

# what batch normalisation counts beside the parameters, by torch's names
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class ModelDescription:
    """What a file of weights says without being loaded.

    Attributes:
        path: The file.
        size_mb: Of the file, in millions of bytes.
        tensors: How many it holds.
        parameters: Numbers in them, without running statistics.
        statistics: Numbers that are running statistics of normalisations, by their names.
        types: The tensors' types, as safetensors calls them.
        state: ``state.json`` beside it, without the state of random numbers; empty where there is none.
        run: The run that it lies in, if any.
    """

    path: Path
    size_mb: float
    tensors: int
    parameters: int
    statistics: int
    types: tuple[str, ...]
    state: dict[str, Any]
    run: Run | None

    def facts(self) -> dict[str, str]:
        """The file in a few lines."""
        found = {
            "model": f"{self.path} ({self.size_mb:.1f} MB)",
            "weights": f"{self.parameters:,} parameters and {self.statistics:,} running statistics in "
            f"{self.tensors} tensors of {', '.join(self.types)}",
        }
        if self.state:
            other = "" if self.state.get("format") == FORMAT else f" (this version reads {FORMAT})"
            found["format"] = f"{self.state.get('format', 'not said')}{other}"
            found["epoch"] = str(self.state.get("epoch", "not said"))
        if self.run is None:
            return found | {"run": "none that it lies in: network, classes and grid are not known"}
        config, rows = self.run.config, self.run.metrics()
        figures = [summary(row) for row in rows if row["epoch"] == self.state.get("epoch")]
        return found | {
            **({"figures": figures[-1]} if figures else {}),
            "run": f"{self.run.folder}  (boundseg info {self.run.folder})",
            "network": settings.network(config),
            "classes": _classes(self.run),
            "labels": ", ".join(dict.fromkeys(entry.labels for entry in config.supervision)),
            "grid": settings.grid(config),
        }


@dataclass(frozen=True)
class RunDescription:
    """What a run folder holds, and how far it is.

    Attributes:
        run: The folder.
        data: Whether the dataset is still that of the training.
        parameters: Of the network; None where it cannot be built here.
        taught: For each entry of ``supervision``, who is taught by what.
        rows: Of ``metrics.csv``.
        checkpoints: ``best`` and ``last``, as far as they are there: what they hold, or why they cannot be read.
        evaluations: Files below ``evaluation/``.
        report: ``report.html``, where there is one.
        written: When the last row of ``metrics.csv`` was written.
    """

    run: Run
    data: Literal["unchanged", "changed", "missing", "unreadable"]
    parameters: int | None
    taught: tuple[str, ...]
    rows: tuple[Mapping[str, float], ...]
    checkpoints: dict[str, ModelDescription | str]
    evaluations: tuple[str, ...]
    report: Path | None
    written: str | None

    @property
    def epochs_done(self) -> int:
        """Epochs that were finished."""
        return int(self.rows[-1]["epoch"]) + 1 if self.rows else 0

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best weights, counted from 0; None where there are none."""
        return self._state("best").get("epoch")

    @property
    def ended_early(self) -> bool:
        """Whether ``stop_after`` has ended the training."""
        best = self._state("last").get("progress", {}).get("best_epoch")
        return best is not None and self.run.config.training.ends_early(self.epochs_done, best)

    @property
    def unfinished(self) -> bool:
        """Whether epochs are left to train."""
        return self.epochs_done < self.run.config.training.epochs and not self.ended_early

    def facts(self) -> dict[str, str]:
        """The run in a screen."""
        config, said = self.run.config, self.run.environment
        packages = ", ".join(f"{name} {version}" for name, version in said.get("packages", {}).items())
        own, of_torch = said.get("machine", "unknown machine"), said.get("accelerator", "none")
        state = {
            "unchanged": "as it was in training",
            "changed": "not as it was in training: files were added, removed or rewritten",
            "missing": "not there any more",
            "unreadable": "not to be read any more (boundseg check)",
        }[self.data]
        count = "cannot be built here" if self.parameters is None else f"{self.parameters:,} parameters"
        taught = {f"taught {index}": text for index, text in enumerate(self.taught)}
        found = {
            "run": f"{self.run.folder}, seed {config.seed}, started {said.get('started', 'at an unknown time')}",
            "command": " ".join(map(str, said.get("command", []))) or "unknown",
            "on": f"{own}, accelerator: {of_torch}; commit {said.get('commit', 'unknown')}",
            "with": f"Python {said.get('python', 'unknown')}, {packages}",
            "dataset": f"{config.data.folder}, {state}",
            "classes": _classes(self.run),
            "grid": settings.grid(config),
            "network": f"{settings.network(config)}: {count}",
            **taught,
            "method": settings.method(config),
            "training": settings.training(config),
            "selection": settings.selection(config),
            "state": self._stands(),
            "epochs": self._epochs(),
            **self._best(),
            **({"speed": f"{course.speed(self.rows[-1])} (epoch {self.rows[-1]['epoch']:.0f})"} if self.rows else {}),
        }
        named = {self.best_epoch: "best", self.epochs_done - 1: "last"}
        if self.best_epoch == self.epochs_done - 1:
            named = {self.best_epoch: "last and best"}
        found |= {
            f"epoch {epoch:.0f}": f"{summary(row)}  ({named[int(epoch)]})"
            for row in self.rows
            if (epoch := row["epoch"]) in named
        }
        kept = [f"{name} {_of_epoch(held)}" for name, held in self.checkpoints.items()]
        found["checkpoints"] = "; ".join(kept) or "none"
        found["evaluation"] = ", ".join(self.evaluations) or "none"
        if self.report:
            found["report"] = str(self.report)
        return found | self._next()

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """How it goes: parts of the objective, figures over the epochs, seconds of the phases; as far as known."""
        if not self.rows:
            return {}
        found = {
            f"parts of the objective, epoch {self.rows[-1]['epoch']:.0f}": course.parts(self.rows[-1]),
            "over the epochs": course.compared(self.rows, self.best_epoch),
            "time": course.times(self.rows),
        }
        return {title: table for title, table in found.items() if table}

    def _stands(self) -> str:
        if self.ended_early:
            return "ended early"
        if not self.unfinished:
            return "finished"
        step = self._state("last").get("step", 0)
        if step:
            return f"interrupted in epoch {int(self._state('last')['epoch']) + 1} after {step} steps"
        # nobody can tell from here whether another process is at it
        return "running or stopped" + (f": the last epoch ended {self.written}" if self.written else "")

    def _best(self) -> dict[str, str]:
        if self.best_epoch is None:
            return {}
        asked = self.run.config.selection
        row = next((row for row in self.rows if row["epoch"] == self.best_epoch), {})
        by_masks = asked.by_masks
        dice = [value for name, value in row.items() if by_masks and name.startswith(by_masks) and value == value]
        text = f"epoch {self.best_epoch}, selected by {asked.by}"
        if asked.by == "weak" and "validation objective" in row:
            text += f": objective {row['validation objective']:.4g} on {asked.cases}, the lowest"
        elif dice:
            of = "slices" if asked.by == "slice_dice" else "volumes"
            text += f": mean DSC of {of} {sum(dice) / len(dice):.4f} on {asked.cases}, the highest"
        elif asked.by != "last":
            text += ": nothing was held out, so the last epoch is kept"
        return {"best": text}

    def _epochs(self) -> str:
        total = self.run.config.training.epochs
        if not self.rows:
            return f"0 of {total}: none is finished yet"
        minutes = sum(row["seconds"] for row in self.rows) / 60
        text = f"{self.epochs_done} of {total} in {minutes:.1f} min"
        if self.ended_early:
            return f"{text}; ended early, without improvement for {self.run.config.training.stop_after} epochs"
        left = minutes / len(self.rows) * (total - self.epochs_done)
        return text + (f"; the others take about {left:.0f} min" if self.unfinished else "")

    def _next(self) -> dict[str, str]:
        folder, found = self.run.folder, {}
        readable = [name for name, held in self.checkpoints.items() if isinstance(held, ModelDescription)]
        if readable:
            found["next"] = f"boundseg evaluate {folder}" + ("" if "best" in readable else " --weights last")
        # nobody can tell from here whether another process is at it
        if self.unfinished and "last" in readable:
            found["if stopped"] = f"boundseg train {folder / 'config.yaml'} --out {folder} --resume"
        elif self.unfinished:
            found["if stopped"] = "there is nothing to go on from: remove the folder and train again"
        return found

    def _state(self, name: str) -> dict[str, Any]:
        held = self.checkpoints.get(name)
        return held.state if isinstance(held, ModelDescription) else {}


def describe_run(run: Run) -> RunDescription:
    """Looks at a run folder, finished or not; no weights are loaded.

    The dataset may have changed or gone, checkpoints may be missing or damaged: all of that is said, not raised.

    Args:
        run: The folder.

    Raises:
        InputError: ``config.yaml``, ``environment.json`` or ``metrics.csv`` cannot be read.
    """
    run.require_readable()
    state, counts = _data(run)
    folder = run.folder / "evaluation"
    report = run.folder / "report.html"
    return RunDescription(
        run,
        state,
        _parameters(run),
        tuple(
            f"{', '.join(entry.names)}{counts.get(index, '')}: labels {entry.labels}"
            + "".join(f"; {settings.constraint(constraint.asked)}" for constraint in entry.constraints)
            for index, entry in enumerate(run.config.supervision)
        ),
        tuple(run.metrics()),
        {name: _held(path) for name in ("best", "last") if (path := run.folder / "checkpoints" / name).is_dir()},
        tuple(path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.csv"))),
        report if report.is_file() else None,
        _time(run.folder / "metrics.csv"),
    )


def describe_model(path: Path) -> ModelDescription:
    """Looks at a checkpoint's folder or a file of weights; reads the head of the file only.

    Args:
        path: A folder with ``weights.safetensors`` (and ``state.json``), or any ``.safetensors`` file.

    Raises:
        CheckpointError: The weights are missing, cut off or no safetensors, or ``state.json`` is damaged.
    """
    file = path / "weights.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file.name} is not there.", str(file.parent), "Name a checkpoint with weights.")
    shapes: dict[str, list[int]] = {}
    types: dict[str, None] = {}
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping, whatever it looks like
                head = tensors.get_slice(name)
                shapes[name] = head.get_shape()
                types[head.get_dtype()] = None
        state = _read_state(file.parent / "state.json")
        size_mb = file.stat().st_size / 1e6
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint cannot be read: {error}",
            str(file.parent),
            "Use the run's other checkpoint (best or last), or train again.",
        ) from error
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    statistics = sum(size for name, size in sizes.items() if name.rpartition(".")[2] in RUNNING)
    parameters = sum(sizes.values()) - statistics
    return ModelDescription(file, size_mb, len(sizes), parameters, statistics, tuple(types), state, _run_around(file))


def _read_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    state = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(state, dict):
        raise ValueError("state.json is not a JSON object.")
    state.pop("rng", None)  # five thousand digits
    return state


def _run_around(file: Path) -> Run | None:
    """The run in whose ``checkpoints/NAME/`` a file lies."""
    checkpoints = file.resolve().parent.parent
    if checkpoints.name != "checkpoints":
        return None
    try:
        run = Run.open(checkpoints.parent)
    except RunError:
        return None
    run.require_readable()
    return run


def _time(path: Path) -> str | None:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime)) if path.is_file() else None


def _held(folder: Path) -> ModelDescription | str:
    try:
        return describe_model(folder)
    except CheckpointError as error:
        return error.problems[0].what


def _of_epoch(held: ModelDescription | str) -> str:
    return held if isinstance(held, str) else f"of epoch {held.state.get('epoch', 'unknown')}"


def _data(run: Run) -> tuple[Literal["unchanged", "changed", "missing", "unreadable"], dict[int, str]]:
    """Whether the dataset is that of the training, and how many cases each entry of the supervision teaches."""
    folder = run.config.data.folder
    if not folder.is_dir():
        return "missing", {}
    try:
        dataset = Dataset.open(folder)
        entries = [index for _, index in entries_of(run.config, dataset)]
    except InputError:
        return "unreadable", {}
    counts = {index: f" ({entries.count(index)} cases)" for index in range(len(run.config.supervision))}
    return ("unchanged" if dataset.fingerprint() == run.environment.get("data") else "changed"), counts


def _parameters(run: Run) -> int | None:
    try:
        return sum(parameter.numel() for parameter in run.network().parameters())
    except InputError:
        return None


def _classes(run: Run) -> str:
    channels = run.environment["channels"]
    return f"{', '.join(run.labels)}; {len(channels)} channel(s): {', '.join(channels)}"
