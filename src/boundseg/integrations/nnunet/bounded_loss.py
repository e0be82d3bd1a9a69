"""nnU-Net's loss plus what violated bounds cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boundseg.asked.demands import Demand
from boundseg.constraints import Bounds, Memo
from boundseg.integrations.nnunet.patch import Located, Patch


@dataclass
class Tally:
    """What was found since it was last read, on the device.

    Attributes:
        known: How many bounds there were.
        kept: How many of them were kept, to one predicted voxel.
        cost: The sum of their costs, unweighted.
    """

    known: Tensor | float = 0.0
    kept: Tensor | float = 0.0
    cost: Tensor | float = 0.0

    def read(self) -> tuple[int, float, float]:
        """Known bounds, the share that was kept and the mean cost; NaN where none is known."""
        known = int(self.known)
        return known, float(self.kept) / known if known else float("nan"), float(self.cost) / max(known, 1)


class BoundedLoss(nn.Module):
    r"""nnU-Net's loss and the weighted cost of every constraint of the full-resolution output.

    .. math:: L_{\text{nnU-Net}} + \rho \sum_c \lambda_c \operatorname{mean}_{\text{known}} C_c

    Without constraints it is nnU-Net's, to the bit. With them, padding is ignored: nnU-Net labels it as background, and
    beside a few seeds it would be nearly all that its mean over labelled voxels speaks of.

    Args:
        own: nnU-Net's loss, deep supervision included.
        demands: What is asked, and what is known of each case.
        ignore: The ignore label; None: every voxel is labelled.

    Attributes:
        patches: Where the next batch lies; None: nothing is asked of it.
        strength: ρ of each constraint, by its name, of a warm-up.
        tally: What was found, by the constraints' names.
    """

    def __init__(self, own: nn.Module, demands: Sequence[Demand], ignore: int | None = None) -> None:
        super().__init__()
        self.own = own
        self.demands = tuple(demands)
        self.ignore = ignore
        self.patches: Sequence[Patch] | None = None
        self.strength: dict[str, float] = {}
        self.tally: dict[str, Tally] = {}
        self._bounds: dict[tuple[str, str], np.ndarray] = {}

    def forward(self, output: Any, target: Any) -> Tensor:
        """Of a batch of logits (a list of them with deep supervision) and nnU-Net's targets."""
        if not self.demands or self.patches is None:
            own: Tensor = self.own(output, target)
            return own
        logits = output[0] if isinstance(output, (list, tuple)) else output
        located = Located.of(self.patches, logits.shape[2:], logits.shape[1], logits.device)
        total: Tensor = self.own(output, self._without_padding(target, located)) + self.penalty(logits, located)
        return total

    def penalty(self, logits: Tensor, located: Located) -> Tensor:
        """What the violated bounds of the batch cost."""
        probs = logits.float().softmax(1)  # float32: a foreground of 256 x 256 voxels overflows float16
        if located.along >= 0:
            probs = probs.movedim(2 + located.along, -1)
        costs = [logits.new_zeros((), dtype=torch.float32)]
        memo: Memo = {}
        for demand in self.demands:
            asked = demand.constraint
            bounds = self._known(demand, located).to(logits.device)
            if not len(bounds.lower):
                continue
            # of a slice by itself the volume's other slices are no part
            groups = located.volumes if asked.scope == "volume" else None
            term = asked(probs, bounds, located.frame, groups, memo=memo)
            costs.append(self.strength.get(asked.name, 1.0) * asked.weight * term.mean)
            tally = self.tally.setdefault(asked.name, Tally())
            cost, known = term.bounds.total(term.cost.detach())
            tally.known, tally.cost = tally.known + known, tally.cost + cost
            tally.kept = tally.kept + term.satisfied.sum()
        return torch.stack(costs).sum()

    def read(self) -> dict[str, tuple[int, float, float]]:
        """What was found since the last reading; see :meth:`Tally.read`."""
        found = {name: tally.read() for name, tally in self.tally.items()}
        self.tally = {}
        return found

    def _without_padding(self, target: Any, located: Located) -> Any:
        if self.ignore is None:
            return target
        if isinstance(target, (list, tuple)):
            return [self._without_padding(level, located) for level in target]
        inside = F.interpolate(located.inside.unsqueeze(1).float(), target.shape[2:]) > 0
        return torch.where(inside, target, self.ignore)

    def _known(self, demand: Demand, located: Located) -> Bounds:
        if demand.constraint.scope == "volume":
            rows = [self._table(demand, p.case, p.grid.slices)[:, 0] for p in located.patches]
        else:
            rows = [
                self._table(demand, case, slices)[:, index] if index >= 0 else demand.silence(1)[:, 0]
                for case, slices, index in located.slices
            ]
        if not rows:
            return Bounds.unknown(0, 1)
        lower, upper = torch.from_numpy(np.stack(rows, axis=1))
        return Bounds(lower, upper)

    def _table(self, demand: Demand, case: str, slices: int) -> np.ndarray:
        key = (demand.constraint.name, case)
        if key not in self._bounds:
            self._bounds[key] = demand.bounds(case, slices)
        return self._bounds[key]
