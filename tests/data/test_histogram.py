"""Histograms for the terminal: nothing is lost, edges are round, bars are as long as they should be."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boundseg.data.histogram import figure, histogram, quantiles, side_by_side

numbers = st.one_of(st.integers(0, 10**7), st.floats(0, 1e6), st.floats(-1e3, 1e3)).map(float)


@given(st.lists(numbers, min_size=1, max_size=300), st.integers(1, 20))
@example([2.2e-313], 1)
@example([0.0, 5e-324], 20)
def test_every_value_lies_in_one_bin(values: list[float], bins: int) -> None:
    found = histogram(np.array(values), bins)
    assert found.counts.sum() == len(values)
    assert len(found.counts) == len(found.edges) - 1 <= bins + 2
    assert (np.diff(found.edges) > 0).all()
    # to rounding: 0.3 lies on an edge that is 3 / 10
    room = 1e-9 * max(map(abs, values))
    assert found.edges[0] <= min(values) + room
    assert max(values) <= found.edges[-1] + room


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=300))
def test_counts_are_those_of_a_loop(values: list[int]) -> None:
    found = histogram(np.array(values))
    for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        assert count == sum(low <= value < high for value in values)


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        (np.arange(100), [*range(0, 101, 10)]),
        (np.arange(0, 1, 0.01), [i / 10 for i in range(11)]),
        (np.array([41, 44, 52]), [40, 42, 44, 46, 48, 50, 52, 54]),
        # a step of 2.5 times a power of ten
        (np.array([0, 2400]), [*range(0, 2501, 250)]),
    ],
)
def test_edges_are_round_and_no_more_than_were_asked_for(values: np.ndarray, edges: list[float]) -> None:
    assert histogram(values, 10).edges.tolist() == edges


def test_a_few_giants_share_the_last_bin_and_leave_the_others_their_width() -> None:
    values = np.concatenate([np.arange(1000), [90_000]])
    found = histogram(values, 10)
    assert found.edges.tolist() == [*range(0, 1001, 100), 90_100]
    assert found.counts.tolist() == [100] * 10 + [1]


@pytest.mark.parametrize("value", [0.0, 617.0, 0.37, 1e-7, 123_456.0, -4.0])
@pytest.mark.parametrize("count", [1, 25])
def test_one_value_once_or_often_has_one_bin(value: float, count: int) -> None:
    found = histogram(np.full(count, value))
    assert found.counts.tolist() == [count]
    assert found.edges[0] <= value < found.edges[1]
    assert len(found.lines()) == 1


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_nothing_and_what_is_not_finite_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="one or more values, all of them finite"):
        histogram(np.array(values, float))


@pytest.mark.parametrize("plain", [False, True])
@given(values=st.lists(st.integers(0, 6000), min_size=1, max_size=200), width=st.integers(24, 100))
def test_lines_say_edges_and_counts_and_bars_are_in_proportion(values: list[int], width: int, plain: bool) -> None:
    found = histogram(np.array(values))
    lines = found.lines(width, plain)
    assert {len(line) for line in lines} == {width}
    longest = found.counts.max()
    room = None
    for line, low, count in zip(lines, found.edges, found.counts, strict=False):
        match = re.fullmatch(r" *(\S+) to +(\S+) ([#█▏▎▍▌▋▊▉]*) (\d+) *", line)
        assert match
        assert (match[1], int(match[4])) == (figure(low), count)
        bar = match[3]
        length = len(bar) if plain else sum("▏▎▍▌▋▊▉█".index(char) + 1 for char in bar) / 8
        if count == longest:
            assert room in (None, length)
            room = length
    assert room
    for line, count in zip(lines, found.counts, strict=True):
        bar = line.split()[3] if count else ""
        length = len(bar) if plain else sum("▏▎▍▌▋▊▉█".index(char) + 1 for char in bar) / 8
        assert abs(length - count / longest * room) <= (1 if plain else 1 / 8)
        assert (length > 0) == (count > 0)
        assert all(ord(char) < 128 for char in line) or not plain


def test_quantiles_are_those_of_a_sorted_list() -> None:
    values = np.random.default_rng(0).permutation(np.arange(101))
    assert quantiles(values) == {"min": 0, "5 %": 5, "median": 50, "95 %": 95, "max": 100}
    assert quantiles(np.array([3])) == dict.fromkeys(["min", "5 %", "median", "95 %", "max"], 3)
    # between neighbours: the 5th percentile of two values is a twentieth of the way
    assert quantiles(np.array([10.0, 20.0]))["5 %"] == 10.5


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (5359, "5359"), (219136, "219136"), (99.96, "100"), (55.04, "55"), (0.7031, "0.703")]
)
def test_figures_as_people_read_them(value: float, text: str) -> None:
    assert figure(value) == text


def test_blocks_stand_beside_one_another() -> None:
    assert side_by_side([["a", "bb"], ["c"], ["d", "e", "f"]]) == ["a   c  d", "bb     e", "       f"]
    assert side_by_side([]) == []
