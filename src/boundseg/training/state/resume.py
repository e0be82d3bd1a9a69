"""Going on with a run that was begun: only with the config that it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boundseg.errors import RunError
from boundseg.training.config import Config
from boundseg.training.run import Run


def begun(folder: Path | str, config: Config) -> Run:
    """Opens the run that is to go on; its config may name more epochs than before.

    Raises:
        RunError: The folder is no run folder, or the config is another.
    """
    run = Run.open(folder)
    require_same(config, run)
    run.write_config(config)
    return Run.open(folder)


def require_same(config: Config, run: Run) -> None:
    """Raises RunError where a run began with another config; the number of epochs aside."""
    ours, theirs = (c.model_dump(mode="json", exclude={"training": {"epochs"}}) for c in (config.absolute, run.config))
    if differing := _differing(ours, theirs):
        raise RunError(
            f"the config differs from the one that {run.folder} began with, in: {', '.join(differing)}.",
            str(run.folder / "config.yaml"),
            "Resume with the same config, or start a new run with --out.",
        )


def _differing(ours: Any, theirs: Any, key: str = "") -> list[str]:
    """The keys, such as ``training.optimizer.lr``, at which two configs differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            found
            for name in ours | theirs
            for found in _differing(ours.get(name), theirs.get(name), f"{key}.{name}" if key else name)
        ]
    return [key] if ours != theirs else []
