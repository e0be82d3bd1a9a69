"""A line of a table over several seeds, and how steady a training was."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from boundseg.data.dataset import Dataset
from boundseg.paper.rows import row
from boundseg.paper.runs import Result, plan, result
from boundseg.paper.table import Line, lines_of, pairs, steadiness

from .conftest import CHANGED, ROWS, Begun


@pytest.fixture
def judged(begun: Begun) -> list[Result]:
    """Both rows of the table, seed 0."""
    dataset = Dataset.open(begun.dataset)
    planned = plan([(row(f"table1/{name}"), dataset) for name in ROWS], [0], "honest", "quick", begun.out, CHANGED)
    return [result(one, "honest") for one in planned]


def again(one: Result, seed: int, by: float) -> Result:
    """As another seed might have ended: every DSC times a number."""
    assert one.test is not None
    volumes = one.test.volumes.assign(dice=one.test.volumes["dice"] * by)
    return replace(one, planned=replace(one.planned, seed=seed), test=replace(one.test, volumes=volumes))


def test_several_seeds_are_a_mean_and_a_standard_deviation(judged: list[Result]) -> None:
    (line,) = lines_of([judged[0], again(judged[0], 1, 0.5), again(judged[0], 2, 0.9)])
    dice = [float(one.volumes()["dice"].mean()) for one in line.results]
    assert line.dice() == dice
    assert line.shown("honest")["test DSC, volumes"] == f"{mean(dice):.3f} ± {stdev(dice):.3f}"
    assert line.state == "done, 3 seeds"
    assert [one["seed"] for one in line.digits()] == [0, 1, 2]
    assert [one["dice_volumes"] for one in line.digits()] == pytest.approx(dice)


def test_pairs_average_the_seeds_and_phases_of_a_patient(judged: list[Result]) -> None:
    lines = lines_of([*judged, *(again(one, 1, 0.8) for one in judged)])
    (found,) = pairs(lines)
    of_patient = [
        pd.concat([one.volumes() for one in line.results]).groupby("patient")["dice"].mean().to_numpy()
        for line in lines
    ]
    differences = of_patient[0] - of_patient[1]
    assert found["patients"] == len(differences)
    assert found["difference"] == pytest.approx(differences.mean())
    assert found["p"] == pytest.approx(wilcoxon(differences).pvalue)


def trained(one: Result, dice: list[float], longer: float = 1.0) -> Result:
    """A training of so many epochs."""
    rows = [{"epoch": float(epoch), "seconds": 60.0, "validation dice: LV": value} for epoch, value in enumerate(dice)]
    return replace(one, rows=rows, planned=replace(one.planned, longer=longer))


def test_the_last_fifty_epochs_are_steady_or_not(judged: list[Result]) -> None:
    dice = np.random.default_rng(0).random(400).tolist()
    count, middle, spread = steadiness(trained(judged[0], dice))
    assert count == 50
    assert (middle, spread) == pytest.approx((np.mean(dice[-50:]), np.std(dice[-50:])))
    # a row of equal updates has shorter epochs: as many more of them are as many updates
    assert steadiness(trained(judged[0], dice, longer=1.5))[0] == 75
    assert steadiness(trained(judged[0], dice[:8]))[0] == 2, "of a short training its last quarter"


def test_one_epoch_has_no_spread(judged: list[Result]) -> None:
    one = trained(judged[0], [0.2, 0.4, 0.6, 0.7, 0.75])
    count, middle, spread = steadiness(one)
    assert (count, middle) == (1, 0.75)
    assert np.isnan(spread)
    assert Line(one.planned.row, (one,)).shown("honest")["validation DSC, last epochs"] == "0.750 (last 1)"
