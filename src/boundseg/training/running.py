"""What an epoch adds up: on the device, read once at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from boundseg.losses import Loss


class Running:
    """Means of the objective, the cross-entropy, every penalty, every share of kept bounds, and a method's figures."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._dtype = torch.float32 if device.type == "mps" else torch.float64  # which has no float64
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, loss: Loss) -> None:
        """Adds a batch; waits for nothing."""
        one = torch.ones((), device=self._device)
        self._add("objective", loss.total.detach(), one)
        self._add("cross_entropy", loss.cross_entropy.detach(), one)
        if loss.gated_crf is not None:
            self._add("gated_crf", loss.gated_crf.detach(), one)
        for name, (total, count) in loss.figures.items():
            self._add(name, total.detach(), count)
        for name, term in loss.terms.items():
            total, count = term.bounds.total(term.cost.detach())
            self._add(f"penalty: {name}", total, count)
            self._add(f"satisfied: {name}", term.satisfied.sum(), count)
            self._add(f"value: {name}", term.bounds.total(term.value.detach())[0], count)

    def clear(self) -> None:
        """Begins anew."""
        self._sums, self._counts = {}, {}

    def state(self) -> dict[str, list[float]]:
        """Sums and counts, to go on from (reads from the device)."""
        return {name: [float(total), float(self._counts[name])] for name, total in self._sums.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Goes on from sums and counts."""
        self.clear()
        for name, (total, count) in state.items():
            self._sums[name] = torch.tensor(total, dtype=self._dtype, device=self._device)
            self._counts[name] = torch.tensor(count, dtype=self._dtype, device=self._device)

    def means(self) -> dict[str, float]:
        """All means; NaN where nothing was counted (reads from the device)."""
        return means(self.state())

    def add_defined(self, name: str, figure: Tensor) -> None:
        """The same of a figure that may be NaN, which is not counted."""
        there = ~figure.isnan()
        self._add(name, figure.detach().nan_to_num(0), there)

    def add_mean(self, name: str, figure: Tensor) -> None:
        """Adds one figure of a batch, to be averaged over those it was added for."""
        self._add(name, figure.detach(), torch.ones((), device=self._device))

    def add_each(self, name: str, figures: Tensor) -> None:
        """The same of several figures at once."""
        self._add(name, figures.detach().sum(), torch.tensor(figures.numel(), device=self._device))

    def _add(self, name: str, total: Tensor, count: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0) + total.to(self._dtype)
        self._counts[name] = self._counts.get(name, 0) + count.to(self._dtype)


State = Mapping[str, Sequence[float]]


def merged(states: Sequence[State]) -> dict[str, list[float]]:
    """What several processes have added up, as that of one."""
    whole: dict[str, list[float]] = {}
    for state in states:
        for name, (total, count) in state.items():
            before = whole.get(name, [0.0, 0.0])
            whole[name] = [before[0] + total, before[1] + count]
    return whole


def means(state: State) -> dict[str, float]:
    """Totals over counts; NaN where nothing was counted."""
    return {name: total / count if count else math.nan for name, (total, count) in state.items()}
