"""A histogram for the terminal: round edges, bars of characters, and the quantiles that bounds are read off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

QUANTILES = {"min": 0, "5 %": 5, "median": 50, "95 %": 95, "max": 100}
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Histogram:
    """How many values lie in each bin.

    Attributes:
        edges: A bin holds what is at least its lower edge and less than its upper one.
        counts: Of each bin; they add up to the number of values.
    """

    edges: Float[np.ndarray, " edges"]
    counts: Int[np.ndarray, " bins"]

    def lines(self, width: int = 40, plain: bool = False) -> list[str]:
        """A line per bin: its edges, a bar as long as its count, the count.

        Args:
            width: Of each line, in characters.
            plain: Bars of ``#``, for terminals without block characters.
        """
        edges = [figure(edge) for edge in self.edges]
        wide, count_wide = max(map(len, edges)), len(str(self.counts.max()))
        room = max(width - 2 * wide - count_wide - len(" to   "), 1)
        longest = self.counts.max()
        return [
            f"{low:>{wide}} to {high:>{wide}} {_bar(count / longest * room, plain)} {count}".ljust(width)
            for low, high, count in zip(edges, edges[1:], self.counts.tolist(), strict=False)
        ]


TINY = 1e-290  # of a bin's width: smaller numbers have no reciprocal in float64


def histogram(values: Real[np.ndarray, " n"], bins: int = 12) -> Histogram:
    """Counts values in at most about ``bins`` bins, whose edges are multiples of 1, 2, 2.5 or 5 times a power of ten.

    All bins are equally wide but for the last, which reaches to the largest value: what lies above the 99th
    percentile would otherwise press everything else into two or three bins.

    Args:
        values: One or more finite numbers.
        bins: How many are wanted; round edges make them fewer, or one more.

    Raises:
        ValueError: There are no values, or some are not finite.
    """
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("a histogram needs one or more values, all of them finite")
    low, high = float(values.min()), float(values.max())
    most = float(np.percentile(values, 99, method="higher"))
    step, per = _round_step(max((most - low or abs(high) or 1) / bins, TINY))
    first, last = _place(low, step, per), _place(most, step, per) + 1
    multiples = list(range(first, last + 1))
    if (end := _place(high, step, per) + 1) > last:
        multiples.append(end)
    edges = np.array([multiple * step / per for multiple in multiples])
    # np.histogram also counts what equals the last edge: there, nothing is lost to rounding
    counts, _ = np.histogram(values, edges)
    return Histogram(edges, counts)


def quantiles(values: Real[np.ndarray, " n"]) -> dict[str, float]:
    """Minimum, 5th, 50th and 95th percentile (linear between neighbours, as numpy's default) and maximum."""
    return dict(zip(QUANTILES, np.percentile(values, list(QUANTILES.values())).tolist(), strict=True))


def figure(value: float) -> str:
    """A number as people read it: whole from 100 on, three digits below."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def side_by_side(blocks: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    """Blocks of lines beside one another, as columns of a page."""
    height = max(map(len, blocks), default=0)
    wide = [max(map(len, block), default=0) for block in blocks]
    rows = [
        [(block[i] if i < len(block) else "").ljust(w) for block, w in zip(blocks, wide, strict=True)]
        for i in range(height)
    ]
    return [(" " * gap).join(row).rstrip() for row in rows]


def _round_step(least: float) -> tuple[int, int]:
    """The smallest step of 1, 2, 2.5 or 5 times a power of ten that is no less, as numerator and denominator."""
    power = math.floor(math.log10(least)) - 1
    # whole numbers: 3 * 0.1 is not 0.3, and 3 / 10 is
    for factor in (10, 20, 25, 50, 100):
        step, per = (factor * 10**power, 1) if power >= 0 else (factor, 10**-power)
        if step / per >= least:
            break
    return step, per


def _place(value: float, step: int, per: int) -> int:
    return math.floor(value * per / step)


def _bar(length: float, plain: bool) -> str:
    # whatever was counted is seen
    eighths = max(round(length * 8), 1) if length else 0
    if plain:
        return "#" * max(round(length), 1) if length else ""
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
