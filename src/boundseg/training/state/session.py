"""Everything that changes while a training runs: saved as one, restored as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from typing import Any

import torch
from torch import Tensor, nn

from boundseg.accumulate import Streaming
from boundseg.errors import CheckpointError, RunError
from boundseg.losses import Lagrangian, Method
from boundseg.training.processes import Processes
from boundseg.training.run import Run
from boundseg.training.running import Running, merged
from boundseg.training.schedules import Progress
from boundseg.training.state import checkpoint as checkpoints
from boundseg.training.state.average import WeightAverage
from boundseg.training.state.random_state import random_state, set_random_state
from boundseg.training.state.writing import writing


@dataclass
class Session:
    """Where a training stands.

    Attributes:
        network: The bare network, without what wraps it for a device.
        optimizer: Its optimiser, likewise.
        method: How constraints teach; multipliers are saved with it.
        running: What the current epoch has added up.
        average: A moving average of the weights, where one is kept.
        memory: What was seen last of each volume, where it stands in for what a batch does not hold.
        processes: Those that share the training; the first one writes.
        progress: What the selection has said so far.
        epoch: The epoch that is being trained.
        step: How many of its steps are done.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    method: Method
    running: Running
    processes: Processes
    average: WeightAverage | None = None
    memory: Streaming | None = None
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

    def average_statistics(self) -> None:
        """Brings running statistics of several processes together, those of the average of the weights as well.

        Each update is linear in them, so that it makes no difference how often this is done within an epoch.
        """
        self.processes.average(self.network)
        if self.average is not None:
            self.processes.average(self.average.module)

    def save_epoch(self, run: Run, best: bool) -> None:
        """At the end of an epoch."""
        if best and self.processes.first:
            _saving(run, self.epoch, "best", self.judged, None, {"epoch": self.epoch})
        self.step = 0
        self._save(run, {"epoch": self.epoch, "step": 0})

    def save_step(self, run: Run) -> None:
        """Within an epoch, between two steps."""
        self.average_statistics()
        running = merged(self.processes.gather(self.running.state()))
        self._save(run, {"epoch": self.epoch - 1, "step": self.step, "running": running})

    def _save(self, run: Run, state: dict[str, Any]) -> None:
        state |= {"progress": vars(self.progress), "rng": self.processes.gather(random_state())}
        others: dict[str, Mapping[str, Tensor]] = {}
        if isinstance(self.method, Lagrangian):
            if self.processes.count > 1:
                self.method.multipliers.merge(self.processes.add)
            others["multipliers"] = self.method.multipliers.state_dict()
        if self.average is not None:
            others["average"] = self.average.module.state_dict()
        if self.memory is not None:
            others["memory"] = self.memory.state_dict()
        if self.processes.first:
            _saving(run, self.epoch, "last", self.network, self.optimizer, state, others)
        # what is saved is what all go on from, and nobody goes on before it is there
        self.processes.wait()

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
        # what all had added up until then is one's from now on
        self.running.restore(state.get("running", {}) if self.processes.first else {})
        if self.memory is not None:
            checkpoints.restore_memory(self.memory, last, run.folder, self.processes.fabric.device)
        set_random_state(state, self.processes.rank, self.processes.count)


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
