"""What may happen to a training from outside or from within: interruptions, and steps that are no numbers."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

from boundseg.data.batches import Batch
from boundseg.errors import RunError
from boundseg.training.run import Run

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

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), -1, dtype=torch.long, device=device)
        self._images: list[tuple[str, ...]] = []

    def refuse(self, optimizer: torch.optim.Optimizer, loss: Tensor, gradient_norm: Tensor, batch: Batch) -> None:
        """Tells a fused optimiser to leave everything as it is where something is not finite; waits for nothing."""
        wrong = ~(loss.detach().isfinite() & gradient_norm.isfinite())
        # the place where gradient scalers tell fused optimisers the same
        optimizer.found_inf = wrong.to(torch.float32)  # type: ignore[attr-defined]
        step = len(self._images)
        self._images.append(batch.named)
        self._first = torch.where((self._first < 0) & wrong, step, self._first)

    def first(self) -> tuple[int, tuple[str, ...]] | None:
        """The first refused step since :meth:`clear`, counted from there, and its images (reads from the device)."""
        step = int(self._first)
        return None if step < 0 else (step, self._images[step])

    def require_none(self, epoch: int, run: Run) -> None:
        """Ends a training one of whose steps was refused since :meth:`clear` (reads from the device).

        Raises:
            RunError: It names the step and its slices.
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
