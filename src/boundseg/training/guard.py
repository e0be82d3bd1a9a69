"""What may happen to a training from outside or from within: interruptions, and steps that are no numbers."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from boundseg.errors import InputError, RunError
from boundseg.training.processes import Processes
from boundseg.training.run import Run

Images = Callable[[], list[str]]
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; what schedulers send before they kill


class Interruption:
    """Lets a step be finished: a first signal is remembered, a second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        # elsewhere than in the main thread, Python takes no signals
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Refusals:
    """Refuses steps whose loss or gradients are not finite: noted on the device, read once an epoch."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._first = torch.full((), -1, dtype=torch.long, device=processes.fabric.device)
        self._images: list[Images] = []

    def refuse(self, optimizer: torch.optim.Optimizer, loss: Tensor, gradient_norm: Tensor, images: Images) -> None:
        """Tells a fused optimiser to leave everything as it is where something is not finite; waits for nothing.

        Args:
            optimizer: Of which the step is about to be taken.
            loss: What was descended.
            gradient_norm: Of all its parameters.
            images: Says, where it is asked, which images the step holds, on all processes.
        """
        wrong = ~(loss.detach().isfinite() & gradient_norm.isfinite())
        wrong = self._processes.add(wrong.to(torch.float32))  # what one refuses, all do
        # the place where gradient scalers tell fused optimisers the same
        optimizer.found_inf = wrong.clamp(max=1)  # type: ignore[attr-defined]
        step = len(self._images)
        self._images.append(images)
        self._first = torch.where((self._first < 0) & (wrong > 0), step, self._first)

    def first(self) -> tuple[int, list[str]] | None:
        """The first refused step since :meth:`clear`, counted from there, and its images (reads from the device)."""
        step = int(self._first)
        return None if step < 0 else (step, self._images[step]())

    def require_none(self, epoch: int, run: Run) -> None:
        """Ends a training one of whose steps was refused since :meth:`clear` (reads from the device).

        Raises:
            RunError: It names the step and its images.
        """
        refused = self.first()
        if refused is None:
            return
        step, images = refused
        where = ", ".join(images[:4]) + (", …" if len(images) > 4 else "")
        raise RunError(
            f"the loss of epoch {epoch} is not finite, first at its step {step} ({where}).",
            str(run.folder),
            f"{_kept(epoch)}Look at these cases; else start a new run with a lower learning rate or lower weights of "
            "the constraints.",
        )

    def clear(self) -> None:
        """Begins to count anew."""
        self._first.fill_(-1)
        self._images.clear()


@contextmanager
def found_lost(processes: Processes, run: Run) -> Iterator[None]:
    """Says so where a process waits in vain for another; what all of them meet, the first one says.

    Raises:
        RunError: Another process of the training has ended.
    """
    try:
        yield
    except InputError as error:
        error.repeated = not processes.first
        raise
    except RuntimeError as error:
        if processes.count == 1 or not _of_others(error):
            raise
        kept = "The last checkpoint is kept" if run.has_checkpoint else "There is no checkpoint yet"
        raise RunError(
            f"another process of the training was lost ({str(error).splitlines()[0][:120]}).",
            str(run.folder),
            f"{kept}. Look at why it ended (often memory), and go on with --resume.",
        ) from error


def _of_others(error: RuntimeError) -> bool:
    told = str(error)
    return isinstance(error, dist.DistError) or any(word in told for word in ("gloo", "NCCL", "Connection closed"))


def require_finite(row: Mapping[str, float], run: Run) -> None:
    """Ends a training whose epoch came out as no number; the validation is the first to see what its last step did.

    Raises:
        RunError: The objective, or that of the validation, is not finite.
    """
    if not all(math.isfinite(row.get(name, 0.0)) for name in ("objective", "validation objective")):
        epoch = int(row["epoch"])
        raise RunError(
            f"the loss of epoch {epoch} is not finite.",
            str(run.folder),
            f"{_kept(epoch)}Start a new run with a lower learning rate or lower weights of the constraints.",
        )


def _kept(epoch: int) -> str:
    return f"The checkpoint of epoch {epoch - 1} is kept. " if epoch else ""
