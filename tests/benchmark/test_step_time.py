"""Table 5: its rows, its columns, its files; nothing here asserts how long anything took."""

from __future__ import annotations

import csv
import io
import math

import pytest
import torch

from boundseg.benchmark import ROWS, Median, StepTimes, step_time
from boundseg.errors import ConfigError


@pytest.fixture(scope="module")
def times() -> StepTimes:
    return step_time("enet", (1,), (32, 32), rounds=1, threads=1)


def test_every_row_is_timed(times: StepTimes) -> None:
    assert [(time.batch, time.row) for time in times.rows] == [(1, row) for row in ROWS]
    for time in times.rows:
        assert time.step_s.value > 0
        assert time.loss_s.value > 0
        assert math.isnan(time.step_s.low), "one round has no interval"


def test_partial_cross_entropy_is_its_own_measure(times: StepTimes) -> None:
    (plain,) = (time for time in times.rows if time.row == "partial")
    assert (plain.ratio.value, plain.share.value) == (1, 0)


def test_the_table_stands_beside_the_papers(times: StepTimes) -> None:
    ((title, rows),) = times.tables().items()
    assert title.startswith("batch 1; enet, 32 x 32, 32-true, 1 round, cpu, 1 thread, processor time, torch ")
    paper = {row["training step"]: (row["paper, ms"], row["paper, ratio"]) for row in rows if row["paper, ms"]}
    assert paper == {
        "partial CE": ("112", "1.000"),
        "full supervision": ("112", "1.000"),
        "direct loss, 1 bound": ("113", "1.009"),
        "direct loss, 2 bounds": ("113", "1.009"),
        "ascent proposals, 1 bound": ("610", "5.446"),
        "ascent proposals, 2 bounds": ("675", "6.027"),
        "ascent, early stop, 1 bound": ("221", "1.973"),
        "ascent, early stop, 2 bounds": ("220", "1.964"),
    }
    assert len(rows) == len(ROWS)


def test_as_markdown(times: StepTimes) -> None:
    text = times.markdown()
    assert text.startswith("**Batch 1; enet, ")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == len(ROWS) + 2
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| partial CE | ")


def test_as_csv(times: StepTimes) -> None:
    rows = list(csv.DictReader(io.StringIO(times.csv())))
    assert [(row["row"], row["batch"]) for row in rows] == [(time.row, str(time.batch)) for time in times.rows]
    for row, time in zip(rows, times.rows, strict=True):
        assert float(row["step_s"]) == pytest.approx(time.step_s.value, rel=1e-5)
        assert float(row["share"]) == pytest.approx(time.share.value, rel=1e-5)
        assert row["ratio_low"] == ""  # of one round
        assert row["paper_ms"] == ("" if ROWS[time.row].paper_ms is None else f"{ROWS[time.row].paper_ms:.0f}")


def test_six_rounds_have_intervals() -> None:
    times = step_time("enet", (1,), (32, 32), ["direct-2"], rounds=6, precision="bf16-mixed", seed=1)
    assert [time.row for time in times.rows] == ["partial", "direct-2"]
    for measured in (times.rows[1].step_s, times.rows[1].ratio, times.rows[1].share):
        assert isinstance(measured, Median)
        assert measured.low <= measured.value <= measured.high
    assert times.rows[0].ratio == Median(1, 1, 1)
    assert "bf16-mixed, 6 rounds" in times.setting


def test_other_batches_stand_without_the_papers_figures() -> None:
    ((title, rows),) = step_time("enet", (2,), (32, 32), ["partial"], rounds=1).tables().items()
    assert title.startswith("batch 2;")
    assert not [name for name in rows[0] if "paper" in name]


def test_what_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        step_time(batches=(0, 1), size=(-1, 32), rounds=0, threads=0)
    assert [problem.what for problem in caught.value.problems] == [
        "batch is 0, and must be 1 or more.",
        "size is -1, and must be 1 or more.",
        "rounds is 0, and must be 1 or more.",
        "threads is 0, and must be 1 or more.",
    ]
    with pytest.raises(ConfigError, match=r"no batch is named\.\n  Give --batch once or more\."):
        step_time(batches=())
    with pytest.raises(
        ConfigError, match=r"there is no row 'exct'; did you mean 'exact-\d'\?\n  The rows are: partial"
    ):
        step_time(rows=["exct"])


def test_threads_are_given_back_when_something_is_wrong() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ConfigError, match="Unknown network"):
        step_time("nonet", threads=before + 1)
    assert torch.get_num_threads() == before
