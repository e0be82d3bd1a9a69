"""Everything that changes while a training runs: saved as one, restored as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from typing import Any

import torch
from torch import nn

from boundseg.errors import CheckpointError, RunError
from boundseg.losses import Lagrangian, Method
from boundseg.training import checkpoint as checkpoints
from boundseg.training.average import WeightAverage
from boundseg.training.run import Run
from boundseg.training.running import Running
from boundseg.training.schedules import Progress
from boundseg.training.writing import writing


@dataclass
class Session:
    """Where a training stands.

    Attributes:
        network: The bare network, without what wraps it for a device.
        optimizer: Its optimiser, likewise.
        method: How constraints teach; multipliers are saved with it.
        running: What the current epoch has added up.
        average: A moving average of the weights, where one is kept.
        progress: What the selection has said so far.
        epoch: The epoch that is being trained.
        step: How many of its steps are done.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    method: Method
    running: Running
    average: WeightAverage | None = None
    progress: Progress = field(default_factory=Progress)
    epoch: int = 0
    step: int = 0

    @property
    def judged(self) -> nn.Module:
        """What is validated and kept as the best: the average of the weights, where there is one."""
        return self.network if self.average is None else self.average.module

    def begin(self, epoch: int) -> None:
        """Begins an epoch, or goes on with the one that was interrupted."""
        if epoch != self.epoch or not self.step:
            self.epoch, self.step = epoch, 0
            self.running.clear()

    def save_epoch(self, run: Run, best: bool) -> None:
        """At the end of an epoch."""
        if best:
            _saving(run, self.epoch, "best", self.judged, None, {"epoch": self.epoch})
        self.step = 0
        self._save(run, {"epoch": self.epoch, "step": 0})

    def save_step(self, run: Run) -> None:
        """Within an epoch, between two steps."""
        self._save(run, {"epoch": self.epoch - 1, "step": self.step, "running": self.running.state()})

    def _save(self, run: Run, state: dict[str, Any]) -> None:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        state |= {
            "progress": vars(self.progress),
            "rng": torch.get_rng_state().numpy().tobytes().hex(),
            "rng_cuda": [rng.numpy().tobytes().hex() for rng in cuda],
        }
        multipliers = self.method.multipliers if isinstance(self.method, Lagrangian) else None
        average = None if self.average is None else self.average.module
        _saving(run, self.epoch, "last", self.network, self.optimizer, state, multipliers, average)

    def restore(self, run: Run) -> None:
        """Goes back to the run's last checkpoint.

        Raises:
            CheckpointError: It cannot be read, or is another training's; the newest that can be read is named.
        """
        last = _newest(run)
        checkpoints.restore_weights(self.network, last, run.folder)
        checkpoints.restore_optimizer(self.optimizer, last)
        if isinstance(self.method, Lagrangian):
            checkpoints.restore_multipliers(self.method.multipliers, last, run.folder)
        if self.average is not None:
            self.average.module.load_state_dict(last.average or last.weights)
            self.average.begun = True
        state = last.state
        self.progress = Progress(**state["progress"])
        self.epoch, self.step = int(state["epoch"]) + 1, int(state.get("step", 0))
        self.running.restore(state.get("running", {}))
        torch.set_rng_state(_rng(state["rng"]))
        if torch.cuda.is_available() and state.get("rng_cuda"):
            torch.cuda.set_rng_state_all([_rng(rng) for rng in state["rng_cuda"]])


def require_room(folder: Path | str, network: nn.Module) -> None:
    """Refuses to begin where the checkpoints of a run will not fit, beside those that it has.

    Raises:
        RunError: There is too little free space.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    there = Path(folder).resolve()
    held = sum(path.stat().st_size for path in (there / "checkpoints").rglob("*") if path.is_file())
    # three times: weights and two averages of Adam's; of last, previous, and the one being written; then the best
    needed = max(3 * 3 * weights + 2 * weights - held, 3 * weights) + 2**24
    while not there.exists():
        there = there.parent
    free = disk_usage(there).free
    if free < needed:
        raise RunError(
            f"{needed / 1e6:.0f} MB are needed for checkpoints, and {free / 1e6:.0f} MB are free.",
            str(folder),
            "Make room, or name another place with --out.",
        )


def _rng(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


def _saving(run: Run, epoch: int, which: str, *arguments: Any) -> None:
    with writing(f"the checkpoint of epoch {epoch}", run.folder):
        checkpoints.save(run.folder / "checkpoints" / which, *arguments)


def _newest(run: Run) -> checkpoints.Checkpoint:
    folder = run.folder / "checkpoints"
    try:
        return checkpoints.load(folder / "last")
    except CheckpointError as error:
        try:
            previous = checkpoints.load(folder / "previous")
        except CheckpointError:
            raise error from None
        raise CheckpointError(
            f"the last checkpoint cannot be read; the newest good one is that of epoch {previous.state['epoch']}.",
            str(folder),
            f"Remove {folder / 'last'} and rename {folder / 'previous'} to it, then go on with --resume.",
        ) from error
