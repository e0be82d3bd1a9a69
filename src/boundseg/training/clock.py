"""Where an epoch's time goes."""

from __future__ import annotations

import time
from typing import Literal, get_args

import torch

Phase = Literal["data", "augment", "forward", "loss", "backward", "step", "validation"]


class Clock:
    """Adds up the seconds of each phase of an epoch.

    On a GPU, which works behind, marks are put into its stream and read once, at the epoch's end; a phase then holds
    what the GPU waited for its commands as well. Elsewhere the host's own clock is read. Only the wait for ``data`` is
    always the host's.

    Args:
        device: Where the network computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self.begin()

    def begin(self) -> None:
        """Begins an epoch; time runs from here."""
        self.started = self._last = time.perf_counter()
        self._seconds: dict[Phase, float] = dict.fromkeys(get_args(Phase), 0.0)
        self._marks: list[tuple[Phase | None, torch.cuda.Event]] = []
        self._mark(None)

    def lap(self, phase: Phase) -> None:
        """What passed since the last lap belongs to a phase."""
        now = time.perf_counter()
        if phase == "data" or not self._on_gpu:
            self._seconds[phase] += now - self._last
        self._last = now
        # what the host waited for is not counted twice: the mark after it belongs to nothing
        self._mark(None if phase == "data" else phase)

    @property
    def elapsed(self) -> float:
        """Seconds since the epoch began."""
        return time.perf_counter() - self.started

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase, by its column in ``metrics.csv`` (waits for the device)."""
        if self._marks:
            self._marks[-1][1].synchronize()
            for (_, before), (phase, mark) in zip(self._marks, self._marks[1:], strict=False):
                if phase is not None:
                    self._seconds[phase] += before.elapsed_time(mark) / 1000
            del self._marks[:-1]
        return {f"seconds: {phase}": seconds for phase, seconds in self._seconds.items()}

    def _mark(self, phase: Phase | None) -> None:
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((phase, event))
