"""Intervals and tests: against scipy, by hand, and by what must hold whatever the numbers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from boundseg.evaluation.statistics import Steadiness, compare, holm, mean

NAN = math.nan


def test_the_interval_is_scipys_where_every_patient_has_one_case() -> None:
    values = np.random.default_rng(0).beta(8, 2, 25)
    found = mean(values.tolist(), [f"p{i}" for i in range(25)])
    np.random.seed(1)  # of the generator that scipy draws from where none is given, whose keyword has changed its name
    theirs = stats.bootstrap((values,), np.mean, method="percentile")
    assert found.value == pytest.approx(values.mean())
    # two draws of thousands of resamples: the ends agree to a fraction of the interval's width
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_a_patients_cases_are_drawn_together() -> None:
    """Ten copies of every case are no more evidence than one."""
    values = [0.2, 0.4, 0.6, 0.8, 0.9]
    once = mean(values, list("abcde"))
    tenfold = mean(values * 10, list("abcde") * 10)
    assert (tenfold.value, tenfold.low, tenfold.high) == pytest.approx((once.value, once.low, once.high))
    assert tenfold.count == 50


def test_undefined_values_are_counted_and_left_out() -> None:
    found = mean([0.5, NAN, 0.7], ["a", "a", "b"])
    assert (found.value, found.count, found.undefined) == (pytest.approx(0.6), 2, 1)
    assert found.low == pytest.approx(0.5)
    assert found.high == pytest.approx(0.7)


def test_one_patient_has_no_interval_and_nothing_no_mean() -> None:
    alone = mean([0.5, 0.7], ["a", "a"])
    assert alone.value == pytest.approx(0.6)
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    nothing = mean([NAN], ["a"])
    assert (math.isnan(nothing.value), nothing.count, nothing.undefined) == (True, 0, 1)


def runs(**dice: list[float]) -> dict[str, pd.DataFrame]:
    """Two cases a patient, both with the patient's number."""
    return {
        name: pd.DataFrame(
            {"patient": [f"p{i}" for i in range(len(v))] * 2, "dice": [x - 0.01 for x in v] + [x + 0.01 for x in v]}
        )
        for name, v in dice.items()
    }


def test_pairs_are_wilcoxons_on_patients() -> None:
    rng = np.random.default_rng(3)
    a, b, c = rng.random((3, 14))
    found = compare(runs(a=a.tolist(), b=b.tolist(), c=c.tolist()))
    assert [f.pair for f in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    expected = [float(stats.wilcoxon(x, y).pvalue) for x, y in ((a, b), (a, c), (b, c))]
    assert [f.p for f in found] == pytest.approx(expected)
    assert [f.p_holm for f in found] == pytest.approx(holm(expected))
    assert [f.difference for f in found] == pytest.approx([(a - b).mean(), (a - c).mean(), (b - c).mean()])
    for f in found:
        assert f.low < f.difference < f.high
        assert f.patients == 14


def test_patients_without_the_measure_in_both_runs_are_left_out() -> None:
    pair = compare(runs(a=[0.5, 0.6, NAN, 0.8], b=[0.4, NAN, 0.5, 0.6]))[0]
    assert (pair.patients, pair.difference) == (2, pytest.approx(0.15))


def test_equal_runs_do_not_differ_and_strangers_cannot_be_compared() -> None:
    (equal,) = compare(runs(a=[0.5, 0.6], b=[0.5, 0.6]))
    assert (equal.difference, equal.p, equal.p_holm) == (pytest.approx(0), 1, 1)
    (nothing,) = compare(runs(a=[0.5], b=[NAN]))
    assert (nothing.patients, math.isnan(nothing.difference), math.isnan(nothing.p)) == (0, True, True)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    corrected = holm([NAN, 0.02])
    assert math.isnan(corrected[0])
    assert corrected[1] == 0.02
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_keeps_the_order_and_is_within_bonferronis(p: list[float]) -> None:
    corrected = holm(p)
    assert all(old <= new <= min(1, len(p) * old) + 1e-12 for old, new in zip(p, corrected, strict=True))
    ranked = [corrected[i] for i in np.argsort(p, kind="stable")]
    assert ranked == sorted(ranked)


def test_the_end_of_a_training_is_its_last_fifty_epochs_or_its_last_quarter() -> None:
    values = np.random.default_rng(0).random(400)
    found = Steadiness.of([*enumerate(values.tolist())], 400)
    assert (found.epochs, found.mean, found.deviation) == (50, values[-50:].mean(), values[-50:].std())
    every_fifth = [*enumerate(values.tolist())][4::5]
    assert Steadiness.of(every_fifth, 400).values == tuple(values[354::5])
    assert Steadiness.of([*enumerate(values[:8].tolist())], 8).values == tuple(values[6:8])


def test_a_single_epoch_has_no_deviation_and_none_has_no_mean() -> None:
    found = Steadiness.of([(2, 0.5)], 3)
    assert (found.epochs, found.mean) == (1, 0.5)
    assert math.isnan(found.deviation)
    assert math.isnan(Steadiness.of([], 3).mean)
