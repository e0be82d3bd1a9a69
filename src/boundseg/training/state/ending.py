"""How far a run is by its last checkpoint, and whether it has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boundseg.training.config import Config


def last_state(folder: Path) -> dict[str, Any]:
    """``state.json`` of the checkpoint from which a run goes on; empty where there is none."""
    # killed between the renames of a save, a run has the checkpoint before only
    for which in ("last", "previous"):
        path = folder / "checkpoints" / which / "state.json"
        if path.is_file():
            try:
                state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                return {"damaged": True}  # the training itself says what can be done
            return state
    return {}


def finished(state: Mapping[str, Any], config: Config) -> bool:
    """Whether nothing is left to train after a checkpoint: all epochs are done, or ``stop_after`` has ended them."""
    if "epoch" not in state:
        return False
    done = state["epoch"] + 1
    return done >= config.training.epochs or config.training.ends_early(done, state["progress"]["best_epoch"])
