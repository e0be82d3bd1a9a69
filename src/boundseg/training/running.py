"""What an epoch adds up: on the device, read once at its end."""

from __future__ import annotations

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

    def means(self) -> dict[str, float]:
        """All means; NaN where nothing was counted (reads from the device)."""
        return {name: float(total / self._counts[name]) for name, total in self._sums.items()}

    def _add(self, name: str, total: Tensor, count: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0) + total.to(self._dtype)
        self._counts[name] = self._counts.get(name, 0) + count.to(self._dtype)
