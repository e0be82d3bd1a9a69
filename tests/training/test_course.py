"""Rows of ``metrics.csv`` as tables: every column that there is, none that there is not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from boundseg.training import course

SIZE, RATIO = "size LV individual per slice in px", "ratio LV:Myo report per volume in 1"
# of a version that logged little
OLD = {"epoch": 0.0, "lr": 1e-3, "objective": 2.0, "cross_entropy": 1.5, "seconds": 4.0, "waiting": 0.25}


def row(epoch: int, **more: float) -> dict[str, float]:
    return {
        "epoch": float(epoch),
        "lr": 1e-3 / (epoch + 1),
        "pull: cross_entropy": 0.25,
        f"pull: {SIZE}": 0.5,
        "objective": 2.5 - epoch,
        "cross_entropy": 1.5,
        f"penalty: {SIZE}": 12.345678,
        f"satisfied: {SIZE}": 0.125,
        f"value: {SIZE}": 385.8029,
        f"penalty: {RATIO}": 0.5,
        f"satisfied: {RATIO}": math.nan,
        f"value: {RATIO}": -1.5,
        "gradient": 42.340666,
        f"validation satisfied: {SIZE}": 1 / 3,
        "validation dice: LV": 0.7,
        "validation penalty: size": 3.0,
        "seconds": 10.0,
        "waiting": 0.25,
        "images_per_second": 9.0072687,
        "new figure": 3.0,
        **more,
    }


def test_each_part_has_its_loss_its_pull_and_what_it_has_reached() -> None:
    assert course.parts(row(1)) == [
        {"part": "cross_entropy", "loss": "1.5", "pull": "0.25", "satisfied": "", "soft value": ""},
        {"part": SIZE, "loss": "12.35", "pull": "0.5", "satisfied": "12.5%", "soft value": "385.8"},
        {"part": RATIO, "loss": "0.5", "pull": "", "satisfied": "-", "soft value": "-1.5"},
    ]


def test_multipliers_and_proposals_are_shown_where_there_are_any() -> None:
    told = course.parts(row(0) | {f"multiplier: {SIZE}": 2.4082983})
    assert [part["multiplier"] for part in told] == ["", "2.408", ""]
    figures = {"proposal": 0.0470297, "pull: proposal": 0.001, "proposal feasible": 1.0, "proposal residual": 1e-6}
    told = course.parts(row(0) | figures)
    assert told[1]["part"] == "proposal"
    assert (told[1]["loss"], told[1]["pull"]) == ("0.04703", "0.001")
    compared = {line["figure"]: line["first and last (0)"] for line in course.compared([row(0) | figures], None)}
    assert (compared["proposal feasible"], compared["proposal residual"]) == ("100.0%", "1e-06")


@pytest.mark.parametrize(
    ("epochs", "best", "titles"),
    [
        (1, 0, ["first and best and last (0)"]),
        (1, None, ["first and last (0)"]),
        (3, 2, ["first (0)", "best and last (2)"]),
        (3, 0, ["first and best (0)", "last (2)"]),
        (5, 3, ["first (0)", "best (3)", "last (4)"]),
        (3, 7, ["first (0)", "last (2)"]),  # of a checkpoint whose row is gone
    ],
)
def test_the_first_the_best_and_the_last_epoch_are_compared(epochs: int, best: int | None, titles: list[str]) -> None:
    told = course.compared([row(epoch) for epoch in range(epochs)], best)
    assert list(told[0]) == ["figure", *titles]
    objective = next(line for line in told if line["figure"] == "objective")
    numbers = [int(title.split("(")[1][:-1]) for title in titles]
    assert [objective[title] for title in titles] == [f"{2.5 - number:g}" for number in numbers]


def test_training_comes_before_held_out_cases_and_what_nobody_knows_last() -> None:
    assert [line["figure"] for line in course.compared([row(0)], 0)] == [
        "objective",
        "cross_entropy",
        "gradient",
        "lr",
        f"satisfied: {SIZE}",
        f"satisfied: {RATIO}",
        f"value: {SIZE}",
        f"value: {RATIO}",
        "validation dice: LV",
        f"validation satisfied: {SIZE}",
        "new figure",
    ]


def test_the_seconds_of_every_phase_are_added_up() -> None:
    assert course.times([row(0), row(1)]) == []
    first = row(0) | {"seconds: forward": 2.0, "seconds: a new phase": 1.0}
    last = row(1) | {"seconds: forward": 4.0, "seconds: a new phase": 0.0}
    columns = ("phase", "first epoch, s", "last epoch, s", "all epochs, s", "share")
    assert [tuple(line.values()) for line in course.times([first, last])] == [
        ("whole epoch", "10.00", "10.00", "20.00", "100.0%"),
        ("forward", "2.00", "4.00", "6.00", "30.0%"),
        ("a new phase", "1.00", "0.00", "1.00", "5.0%"),
    ]
    assert tuple(course.times([first, last])[0]) == columns
    # the run began with a version that did not log them: a share of all epochs is not known
    before: dict[str, Any] = row(0) | {"seconds: forward": math.nan}
    assert tuple(course.times([before, last])[1].values()) == ("forward", "-", "4.00", "4.00", "-")


def test_rows_of_an_old_run_are_shown_as_far_as_they_go() -> None:
    assert course.parts(OLD) == [{"part": "cross_entropy", "loss": "1.5"}]
    assert course.compared([OLD], 0)[0] == {"figure": "objective", "first and best and last (0)": "2"}
    assert course.times([OLD]) == []
    assert course.speed(OLD) == "4.0 s an epoch, 25.0% of the time waiting for data"
    assert course.speed({"seconds": 4.0}) == "4.0 s an epoch"
    assert course.speed(row(0)) == "10.0 s an epoch, 9.01 images/s, 25.0% of the time waiting for data"
