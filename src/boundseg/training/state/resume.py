"""Going on with a run that was begun: only with the config that it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boundseg.errors import RunError
from boundseg.training.config import Config
from boundseg.training.run import Run
from boundseg.training.state.ending import last_state

EPOCHS = "training.epochs"


def begun(folder: Path | str, config: Config) -> Run:
    """Opens the run that is to go on; its config may name other epochs, see :func:`differing`.

    Raises:
        RunError: The folder is no run folder, or the config is another.
    """
    run = Run.open(folder)
    require_same(config, run)
    run.write_config(config)
    return Run.open(folder)


def require_same(config: Config, run: Run) -> None:
    """Raises RunError where a run began with another config; see :func:`differing`."""
    if found := differing(config, run):
        epochs = " Epochs may be others where the learning rate does not end with them, and no fewer than are trained."
        raise RunError(
            f"the config differs from the one that {run.folder} began with, in: {', '.join(found)}.",
            str(run.folder / "config.yaml"),
            f"Resume with the same config, or start a new run with --out.{epochs * (EPOCHS in found)}",
        )


def differing(config: Config, run: Run) -> list[str]:
    """The keys, such as ``training.optimizer.lr``, at which a config is not the one that a run began with.

    Another number of epochs is no difference where the learning rate does not depend on it and no more than so many are
    begun: the epochs that are there are the first ones of either training.
    """
    state = last_state(run.folder)
    in_one = 1 if state.get("step") else 0
    enough = config.training.epochs >= state.get("epoch", -1) + 1 + in_one
    ours, theirs = (c.model_dump(mode="json") for c in (config.absolute, run.config))
    same = enough and not config.training.schedule.to_an_end
    return [key for key in _differing(ours, theirs) if not (same and key == EPOCHS)]


def _differing(ours: Any, theirs: Any, key: str = "") -> list[str]:
    """The keys, such as ``training.optimizer.lr``, at which two configs differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            found
            for name in ours | theirs
            for found in _differing(ours.get(name), theirs.get(name), f"{key}.{name}" if key else name)
        ]
    return [key] if ours != theirs else []
