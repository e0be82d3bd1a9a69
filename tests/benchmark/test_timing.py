"""Turns, medians and intervals; nothing here asserts how long anything took."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

from boundseg.benchmark.timing import Job, Median, interleaved, median, threads_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(("n", "k"), [(6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (100, 40)])
def test_the_interval_lies_between_the_tabled_order_statistics(n: int, k: int) -> None:
    """k of the tables of the sign test, e.g. Conover 1999, table A3."""
    values = np.random.default_rng(0).permutation(n) + 1.0
    assert median(values) == Median((n + 1) / 2, k, n + 1 - k)


@pytest.mark.parametrize("n", range(6, 60))
def test_the_interval_is_the_shortest_that_holds_95_percent(n: int) -> None:
    k = int(median(np.arange(1.0, n + 1)).low)
    assert 1 - 2 * binom.cdf(k - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(k, n, 0.5) < 0.95


@pytest.mark.parametrize("n", range(1, 6))
def test_few_values_have_a_median_and_no_interval(n: int) -> None:
    found = median([3.0] * n)
    assert found.value == 3
    assert math.isnan(found.low) and math.isnan(found.high)
    assert found.told(1) == "3.0"


def test_a_median_is_told_with_its_interval() -> None:
    assert Median(0.0123, 0.01, 0.02).told(1, 100) == "1.2 (1.0 to 2.0)"


def test_every_round_does_every_job_in_another_order() -> None:
    done: list[str] = []
    told: list[str] = []
    jobs = {name: Job(lambda name=name: done.append(name), repeats) for name, repeats in (("a", 1), ("b", 3), ("c", 2))}
    times = interleaved(jobs, 8, CPU, seed=0, report=told.append)
    rounds = [done[start : start + 6] for start in range(0, len(done), 6)]
    assert len(rounds) == 9  # one warms up
    assert all(sorted(turns) == list("abbbcc") for turns in rounds)
    assert len({tuple(turns) for turns in rounds}) > 4
    assert {name: seconds.shape for name, seconds in times.items()} == {"a": (8,), "b": (8,), "c": (8,)}
    assert told == ["warming up", *(f"round {number} of 8" for number in range(1, 9))]
    again: list[str] = []
    interleaved({name: Job(lambda name=name: again.append(name), jobs[name].repeats) for name in jobs}, 8, CPU, seed=0)
    assert again == done


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with threads_of(before + 1):
        assert torch.get_num_threads() == before + 1
    with threads_of(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
