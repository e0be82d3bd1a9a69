"""Learning rates and weights over the epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boundseg.training.config import BarrierConfig, ScheduleConfig
from boundseg.training.schedules import Progress, barrier_steepness, constraint_strength, learning_rate

PLATEAU = ScheduleConfig(name="plateau", patience=3)


def rates(scores: list[float], schedule: ScheduleConfig = PLATEAU) -> list[float]:
    """The learning rates of epochs with these scores, from 1."""
    progress, found = Progress(), []
    for epoch, score in enumerate(scores):
        found.append(learning_rate(schedule, 1.0, epoch / len(scores), progress))
        progress.update(epoch, score, schedule)
    return found


def test_the_plateau_halves_after_patience_epochs_without_improvement_and_goes_on() -> None:
    # the first score is the best: epochs 1, 2, 3 do not improve, so epoch 4 runs at half the rate
    assert rates([1.0] * 11) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_an_improvement_starts_the_wait_anew_and_gives_no_rate_back() -> None:
    assert rates([5, 5, 5, 4, 4, 4, 4, 3, 3]) == [1, 1, 1, 1, 1, 1, 1, 0.5, 0.5]


def test_the_published_rule_halves_after_the_first_epoch_and_at_multiples_of_the_best_one_and_patience() -> None:
    published = ScheduleConfig(name="plateau_published", patience=3)
    # best is epoch 0: after epochs 0, 3, 6
    assert rates([1.0] * 8, published) == [1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    # best is epoch 2 from then on: after epochs 0, 5 (the next multiple of 5 would be 10)
    assert rates([3, 2, 1, 1, 1, 1, 1, 1], published) == [1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    # every epoch is better than the last: epoch e is never a multiple of e + 3, but for the first
    assert rates([5, 4, 3, 2, 1], published) == [1, 0.5, 0.5, 0.5, 0.5]
    assert rates([float("nan")] * 5, published) == [1, 0.5, 0.5, 0.5, 0.25]


@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=40), st.integers(1, 5))
def test_best_is_the_first_lowest_score_and_a_score_that_is_nan_is_none(scores: list[float], patience: int) -> None:
    progress = Progress()
    schedule = ScheduleConfig(name="plateau", patience=patience)
    improved = [epoch for epoch, score in enumerate(scores) if progress.update(epoch, score, schedule)]
    defined = [score for score in scores if score == score]
    assert progress.best == min(defined, default=float("inf"))
    assert progress.best_epoch == (scores.index(min(defined)) if defined else -1)
    assert improved == sorted(set(improved))
    assert (improved[-1] if improved else -1) == progress.best_epoch


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_cosine_falls_from_the_whole_rate_to_0(one: float, other: float) -> None:
    cosine = ScheduleConfig(name="cosine")
    at = [learning_rate(cosine, 0.1, done, Progress(cuts=4)) for done in sorted([one, other])]
    assert at[0] >= at[1] >= 0
    assert learning_rate(cosine, 0.1, 0, Progress()) == 0.1
    assert learning_rate(cosine, 0.1, 0.5, Progress()) == pytest.approx(0.05)
    assert learning_rate(cosine, 0.1, 1, Progress()) == pytest.approx(0, abs=1e-17)


def test_poly_and_one_cycle_are_torchs() -> None:
    """Where torch's schedules, stepped once an epoch, are as fine as 200 epochs."""
    epochs = 200

    def theirs(schedule: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.1)
        stepped, found = schedule(optimizer), []
        for _ in range(epochs):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            stepped.step()
        return found

    def ours(name: Any) -> list[float]:
        schedule = ScheduleConfig(name=name)
        return [learning_rate(schedule, 0.1, epoch / epochs, Progress()) for epoch in range(epochs)]

    poly = theirs(lambda o: torch.optim.lr_scheduler.PolynomialLR(o, total_iters=epochs, power=0.9))
    assert ours("poly") == pytest.approx(poly, rel=1e-6)
    # torch's last epoch is its end, ours is one epoch before it
    one_cycle = theirs(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=epochs))
    assert ours("one_cycle") == pytest.approx(one_cycle, abs=2e-3)
    assert max(ours("one_cycle")) == 0.1


def test_the_constant_rate_is_constant() -> None:
    assert rates([1.0] * 9, ScheduleConfig(name="constant", patience=1)) == [1] * 9


def test_the_warm_up_grows_evenly_to_1_and_stays() -> None:
    assert [constraint_strength(4, done) for done in (0, 1, 2.5, 4, 100)] == [0, 0.25, 0.625, 1, 1]
    assert constraint_strength(0, 0) == 1


def test_a_barrier_steepens_by_a_factor_an_epoch_and_stays_in_float32() -> None:
    barrier = BarrierConfig()
    assert [round(barrier_steepness(barrier, epoch), 4) for epoch in (0, 1, 2)] == [5, 5.5, 6.05]
    assert barrier_steepness(barrier, 100_000) == pytest.approx(1e6)
    assert barrier_steepness(BarrierConfig(factor=1.0), 100_000) == pytest.approx(5)
