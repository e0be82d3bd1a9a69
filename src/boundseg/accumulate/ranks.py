"""Several processes that share a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """What a step must know of the processes that share it.

    The model is expected to average its gradients over them, as ``DistributedDataParallel`` does with the last chunk of
    a step: each loss is multiplied by their number, so that every parameter has the gradient of one process.

    Attributes:
        add: Adds a tensor up over all processes and returns the sum; called once a step, by all of them.
        count: How many there are.
        volumes: The numbers in ``rows["volume"]`` that any process may bring: those of the step, where all know them,
            or how many volumes there are in all. What is exchanged has a row for each.
        hold: Makes a context in which the model does not average, as ``model.no_sync``; for all chunks but the last.
    """

    add: Callable[[Tensor], Tensor]
    count: int
    volumes: int | Sequence[int]
    hold: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def numbers(self) -> Sequence[int]:
        """Of the volumes, in the order of their rows."""
        return range(self.volumes) if isinstance(self.volumes, int) else sorted(self.volumes)
