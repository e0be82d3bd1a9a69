"""Times that can be compared on a machine that others use too: taken in turns, and told by medians."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

Report = Callable[[str], None]
WARM_UP = 1  # rounds: the first call of each job asks for memory and chooses its kernels


@dataclass(frozen=True)
class Median:
    """A median with its 95 % interval.

    Attributes:
        value: The median.
        low: Lower end of the interval; NaN with fewer than six values.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def told(self, digits: int, factor: float = 1.0) -> str:
        """``1.02 (1.01 to 1.04)``, each times a factor."""
        value, low, high = (f"{factor * number:.{digits}f}" for number in (self.value, self.low, self.high))
        return value if math.isnan(self.low) else f"{value} ({low} to {high})"


def median(values: Sequence[float] | Float[np.ndarray, " n"]) -> Median:
    r"""The median, and the interval between two order statistics that holds it in 95 % of all samples or more.

    .. math:: [x_{(k)}, x_{(n + 1 - k)}], \qquad P(\operatorname{Bin}(n, 1/2) < k) \le 0.025

    with the largest such k. It asks nothing of the distribution of the values; fewer than six have no such interval.
    """
    ordered, n = sorted(float(value) for value in values), len(values)
    below, k = 1.0, 0
    while below <= 0.025 * 2**n:
        k += 1
        below += math.comb(n, k)
    low, high = (ordered[k - 1], ordered[n - k]) if k else (math.nan, math.nan)
    return Median(float(np.median(ordered)), low, high)


@dataclass(frozen=True)
class Job:
    """Something that is timed.

    Attributes:
        run: Does it once.
        repeats: How often in a round: what is short is timed more often.
    """

    run: Callable[[], None]
    repeats: int = 1


def interleaved(
    jobs: Mapping[str, Job],
    rounds: int,
    device: torch.device,
    seed: int = 0,
    report: Report | None = None,
) -> dict[str, Float[np.ndarray, " rounds"]]:
    """Seconds that each job takes in each round; of several repeats, their median.

    Every round does every job, in an order drawn anew, so that a slow moment of the machine is everybody's and none
    follows the same neighbour always. Numbers of one round are pairs: ratios and differences of them hold while the
    machine's speed drifts. A round before the first is not counted. See :func:`clock_of` for what is counted.

    Args:
        jobs: By their names.
        rounds: How many are counted.
        device: Waited for before and after each job, where it runs by itself.
        seed: Of the orders.
        report: Told of each round that begins.
    """
    clock, _ = clock_of(device)
    rng = np.random.default_rng(seed)
    turns = [name for name, job in jobs.items() for _ in range(job.repeats)]
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with _uncollected():
        for number in range(-WARM_UP, rounds):
            if report:
                report("warming up" if number < 0 else f"round {number + 1} of {rounds}")
            taken: dict[str, list[float]] = {name: [] for name in jobs}
            for turn in rng.permutation(len(turns)):
                name = turns[turn]
                _wait(device)
                started = clock()
                jobs[name].run()
                _wait(device)
                taken[name].append(clock() - started)
            if number >= 0:
                for name, seconds in taken.items():
                    times[name].append(float(np.median(seconds)))
            gc.collect(0)  # what this round left; all that is older stays as it is
    return {name: np.array(seconds) for name, seconds in times.items()}


def clock_of(device: torch.device) -> tuple[Callable[[], float], str]:
    """What counts seconds, and its name.

    Work on one thread of the CPU is counted in processor time: where nothing else runs that is the time on the wall,
    and elsewhere it leaves out the moments in which other processes had their turn.
    """
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return time.process_time, "processor time"
    return time.perf_counter, "wall time"


@contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    """So many CPU threads for what torch does inside; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python's collection of garbage is kept out of the times, as in ``timeit``."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
