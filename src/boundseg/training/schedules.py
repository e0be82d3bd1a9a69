"""How the learning rate and the constraints' weights change over the epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from boundseg.training.config import STEEPEST, BarrierConfig, ScheduleConfig

RISE = 0.3  # share of a one-cycle training in which the rate goes up (Smith and Topin 2019; torch's OneCycleLR)


@dataclass
class Progress:
    """What the selection has said so far; written into every checkpoint.

    Attributes:
        best: The lowest score so far.
        best_epoch: Its epoch.
        waited: Epochs since the last improvement or the last cut of the learning rate.
        cuts: How often a plateau schedule has cut the learning rate.
    """

    best: float = math.inf
    best_epoch: int = -1
    waited: int = 0
    cuts: int = 0

    def update(self, epoch: int, score: float, schedule: ScheduleConfig) -> bool:
        """Takes the score of an epoch (lower is better) and says whether it is the best so far."""
        # an infinite first score is kept until a better one comes, so that a run always has a best epoch; NaN is none
        improved = score < self.best or (self.best_epoch < 0 and not math.isnan(score))
        if improved:
            self.best, self.best_epoch, self.waited = score, epoch, 0
        else:
            self.waited += 1
        if schedule.name == "plateau_published":
            # without any best epoch so far it counts from epoch 0, as the published code does
            self.cuts += epoch % (max(self.best_epoch, 0) + schedule.patience) == 0
        elif self.waited >= schedule.patience:
            self.cuts, self.waited = self.cuts + 1, 0
        return improved


def learning_rate(schedule: ScheduleConfig, lr: float, done: float, progress: Progress) -> float:
    """The learning rate after a share ``done`` of the training (0 to 1)."""
    if schedule.name == "cosine":
        return lr * 0.5 * (1 + math.cos(math.pi * done))
    if schedule.name == "poly":
        return float(lr * (1 - done) ** 0.9)
    if schedule.name == "one_cycle":
        if done < RISE:
            return _between(lr / 25, lr, done / RISE)
        return _between(lr, lr / 25e4, (done - RISE) / (1 - RISE))
    if schedule.name in ("plateau", "plateau_published"):
        return lr * float(schedule.factor**progress.cuts)
    return lr


def _between(first: float, last: float, done: float) -> float:
    """From one rate to another along half a cosine."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))


def barrier_steepness(barrier: BarrierConfig, epoch: int) -> float:
    """t of the log-barriers in an epoch (Kervadec et al. 2022, section 3: times 1.1 an epoch)."""
    steps = math.log(STEEPEST / barrier.start)
    return float(barrier.start * math.exp(min(steps, epoch * math.log(barrier.factor))))


def constraint_strength(warm_up: int, epochs_done: float) -> float:
    """The factor on the constraints' weights: from 0 to 1 over the first ``warm_up`` epochs."""
    return min(1.0, epochs_done / warm_up) if warm_up else 1.0
