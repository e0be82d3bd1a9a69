"""The processes that share a training: who is first, what all agree on, what they add up."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch.distributed as dist
from torch import Tensor, nn

from boundseg.accumulate import Ranks
from boundseg.errors import ConfigError, InputError
from boundseg.training.config import TrainingConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricModule

T = TypeVar("T")
AGREE_EVERY = 10


def start(device: str, devices: int | None, nodes: int, settings: TrainingConfig) -> Fabric:
    """Fabric on so many devices, its processes begun; where a launcher has begun them already, as it says.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: Processes of each node; left out, what torchrun says, or one.
        nodes: How many there are.
        settings: For the precision.

    Raises:
        ConfigError: There are no such devices, or a launcher says otherwise.
    """
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every process

    by_fabric_run = "LT_CLI_USED" in os.environ
    if devices is None and "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    devices = devices or 1
    several = devices * nodes > 1
    together = DDPStrategy(**_without_buffers())
    if by_fabric_run:
        return _launched(strategy=together, precision=settings.precision)
    return _launched(
        several,
        accelerator=device,
        strategy=together if several else "auto",
        devices=devices,
        num_nodes=nodes,
        precision=settings.precision,
    )


def _launched(launch: bool = False, **asked: Any) -> Fabric:
    """Fabric, whose refusals (more devices than there are, another number of tasks than SLURM's) are the user's."""
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        fabric = Fabric(**asked)
        if launch:
            fabric.launch()
    except (ValueError, MisconfigurationException) as error:
        raise ConfigError(
            f"the devices that are asked for cannot be used: {' '.join(str(error).split())}",
            "--device, --devices, --nodes",
            "Ask for what there is, and let either the launcher or --devices say it.",
        ) from error
    return fabric


def _without_buffers() -> dict[str, Any]:
    """Statistics are brought together once an epoch: processes pass different numbers of chunks through the network."""
    names = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": False}


@dataclass(frozen=True)
class Processes:
    """All processes of a training, as one of them sees them; a single one is all by itself."""

    fabric: Fabric

    @property
    def rank(self) -> int:
        """The number of this one."""
        return self.fabric.global_rank

    @property
    def count(self) -> int:
        """How many there are."""
        return self.fabric.world_size

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, and that people read."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Those of this process: each item is one's."""
        return items[self.rank :: self.count]

    def in_turn(self, work: Callable[[], T]) -> T:
        """The first one works, the others after it: what it has written is there for them.

        Raises:
            InputError: What the first one met, in all of them.
        """
        if self.count == 1:
            return work()
        done: T | None = None
        met: InputError | None = None
        if self.first:
            try:
                done = work()
            except InputError as error:
                met = error
        told = self.fabric.broadcast(None if met is None else (type(met), met.problems))
        if told is not None:
            kind, problems = told
            everywhere: InputError = met or kind.of(problems)
            everywhere.repeated = met is None
            raise everywhere
        return cast(T, done) if self.first else work()

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)  # Fabric's own waits at a barrier first: on GPUs the host would wait in each step
        return total

    def gather(self, mine: T) -> list[T]:
        """What each process has, in the order of their numbers."""
        if self.count == 1:
            return [mine]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, mine)
        return found

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            self.fabric.barrier()

    def agree(self, asked: bool, step: int, steps: int) -> bool:
        """Whether any of them asks; several wait for one another, and only at every tenth step and an epoch's last.

        Args:
            asked: Whether this one does.
            step: Which step of the epoch was taken, from 0.
            steps: How many it has.
        """
        if self.count == 1:
            return asked
        due = step % AGREE_EVERY == AGREE_EVERY - 1 or step == steps - 1
        return due and any(self.gather(asked))

    def average(self, network: nn.Module) -> None:
        """Brings running statistics together, as their mean; each process has seen other images."""
        if self.count > 1:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.add(buffer) / self.count)

    def ranks(self, model: nn.Module, volumes: Sequence[int]) -> Ranks | None:
        """What a step on such volumes must know of them; see :func:`boundseg.accumulate.accumulate`."""
        if self.count == 1:
            return None
        return Ranks(self.add, self.count, volumes, lambda: self.fabric.no_backward_sync(cast("_FabricModule", model)))
