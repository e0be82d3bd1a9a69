"""What grows: points, table, file and picture; nothing here asserts how long anything took."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from boundseg.benchmark import Growth, GrowthPoint, growth
from boundseg.benchmark.growth import METHODS
from boundseg.errors import ConfigError


@pytest.fixture(scope="module")
def grown() -> Growth:
    told: list[str] = []
    found = growth("enet", (1, 2), (1, 4), (32, 32), rounds=4, largest_step=2, threads=1, report=told.append)
    assert told[0] == "1 classes, batch 1, warming up"
    return found


def test_classes_grow_at_the_smallest_batch_and_batches_with_the_fewest_classes(grown: Growth) -> None:
    assert [(point.classes, point.batch, point.method) for point in grown.points] == [
        (classes, batch, method) for classes, batch in ((1, 1), (1, 4), (2, 1)) for method in METHODS
    ]
    for method in METHODS:
        assert [point.classes for point in grown.along("classes", method)] == [1, 2]
        assert [point.batch for point in grown.along("batch", method)] == [1, 4]


def test_a_big_batch_has_fewer_rounds_and_two_at_least(grown: Growth) -> None:
    assert [point.rounds for point in grown.points] == [4, 4, 2, 2, 4, 4]


def test_a_share_lies_between_its_rounds(grown: Growth) -> None:
    for point in grown.points:
        assert point.lowest <= point.share <= point.highest
        assert point.step_s > 0


def test_a_step_that_was_too_large_is_said_to_be_extrapolated(grown: Growth) -> None:
    assert {point.batch for point in grown.points if point.extrapolated} == {4}
    steps = [row["plain step, ms"] for row in grown.table()]
    assert [step.endswith(" (extrapolated)") for step in steps] == [False, True, False]


def test_as_csv(grown: Growth) -> None:
    rows = list(csv.DictReader(io.StringIO(grown.csv())))
    assert tuple(rows[0]) == tuple(GrowthPoint.__dataclass_fields__)
    for row, point in zip(rows, grown.points, strict=True):
        assert (row["method"], row["extrapolated"]) == (point.method, str(point.extrapolated))
        assert float(row["share"]) == pytest.approx(point.share, rel=1e-5)


@pytest.mark.parametrize("extrapolated", [False, True])
def test_the_picture_has_two_panels_and_any_range_of_shares(grown: Growth, tmp_path: Path, extrapolated: bool) -> None:
    points = tuple(replace(point, extrapolated=extrapolated, highest=3.0) for point in grown.points)
    path = tmp_path / "new" / "growth.png"
    Growth(points, "").draw(path)
    with Image.open(path) as image:
        assert image.width > 2 * image.height
    assert 5_000 < path.stat().st_size < 150_000


def test_one_point_can_be_drawn(tmp_path: Path) -> None:
    points = tuple(GrowthPoint(name, 2, 3, 0.01, 0.4, 0.025, 0.02, 0.03, 4, False) for name in METHODS)
    Growth(points, "").draw(tmp_path / "one.svg")
    assert "<svg" in (tmp_path / "one.svg").read_text()


def test_what_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        growth(classes=(0,), batches=(1, -2), rounds=0, largest_step=0)
    assert [problem.what.partition(",")[0] for problem in caught.value.problems] == [
        "classes is 0",
        "batch is -2",
        "rounds is 0",
        "largest-step is 0",
    ]
