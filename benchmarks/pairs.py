"""Interleaved pairs: A B A B …, so that a machine that slows down slows both."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def ratio(a: Callable[[], None], b: Callable[[], None], pairs: int) -> tuple[float, tuple[float, float], float, float]:
    """Median of the ratio time(a) / time(b) over pairs, its 95 % bootstrap interval, and both median times in ms."""
    for step in (a, b, a, b):
        step()
    times = np.empty((pairs, 2))
    for i in range(pairs):
        for j in (0, 1) if i % 2 else (1, 0):
            started = time.perf_counter()
            (a, b)[j]()
            times[i, j] = time.perf_counter() - started
    ratios = times[:, 0] / times[:, 1]
    drawn = np.random.default_rng(0).choice(ratios, (2000, pairs))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    milliseconds = np.median(times, axis=0) * 1000
    return float(np.median(ratios)), (float(low), float(high)), float(milliseconds[0]), float(milliseconds[1])
