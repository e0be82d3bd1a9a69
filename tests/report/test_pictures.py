"""Pictures of slices: what is drawn, and where."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from boundseg.report.panels import panel
from boundseg.report.pictures import COLOURS, Row, draw_slices


def pixels(address: str) -> np.ndarray:
    return matplotlib.image.imread(BytesIO(b64decode(address.partition(",")[2])))[..., :3]


@pytest.mark.parametrize("count", [40, 150, 1400])
def test_a_panel_is_of_about_one_size_whatever_the_slice_has(count: int) -> None:
    labels = np.zeros((count, count), np.uint8)
    labels[: count // 2] = 1
    picture = pixels(panel(np.zeros((count, count)), labels, {"LV": 1}))
    assert 150 <= len(picture) <= 360
    coloured = (np.ptp(picture, axis=2) > 0.1).mean()
    assert coloured == pytest.approx(0.5, abs=0.01)


def test_a_panel_is_as_high_and_wide_as_its_slice_in_mm() -> None:
    image = np.zeros((40, 80))
    rows, columns, _ = pixels(panel(image, None, {}, (4.0, 1.0))).shape
    assert rows == 2 * columns
    rows, columns, _ = pixels(panel(image, None, {}, (0.0005, 0.0005))).shape
    assert columns == 2 * rows == 240


def test_where_pixels_are_joined_their_mean_is_shown() -> None:
    image = np.indices((720, 720)).sum(0) % 2  # a chess board
    picture = pixels(panel(image.astype(float), None, {}))
    assert picture.shape[:2] == (360, 360)
    assert np.abs(picture - 0.5).max() < 0.01


def test_a_picture_of_three_colours_has_them() -> None:
    image = np.zeros((60, 60, 3))
    image[:, :20, 0], image[:, 20:40, 1], image[:, 40:, 2] = 200, 200, 200
    picture = pixels(panel(image, None, {}))
    for channel, column in enumerate((10, 30, 50)):
        middle = picture[picture.shape[0] // 2, column * picture.shape[1] // 60]
        assert middle == pytest.approx(np.eye(3)[channel])


def drawn(folder: Path, rows: list[Row], **options: Any) -> np.ndarray:
    draw_slices(rows, {"LV": 1, "Myo": 2}, folder / "new" / "picture.png", **options)
    assert [path.name for path in (folder / "new").iterdir()] == ["picture.png"]
    return matplotlib.image.imread(folder / "new" / "picture.png")[..., :3]


def near(picture: np.ndarray, colour: str) -> int:
    """How many pixels have about this colour."""
    return int((np.abs(picture - to_rgb(colour)).max(2) < 0.02).sum())


def row(labels: np.ndarray, image: np.ndarray | None = None) -> Row:
    return Row("case", np.random.default_rng(0).random(labels.shape) if image is None else image, {"seeds": labels})


def disc(value: int) -> np.ndarray:
    y, x = np.mgrid[:24, :20]
    return np.where(np.hypot(y - 12, x - 10) < 6, value, 0).astype(np.uint8)


def test_a_region_has_the_outline_of_its_class_beyond_that_of_the_legend(tmp_path: Path) -> None:
    nothing = drawn(tmp_path / "none", [row(disc(0))])
    lv = drawn(tmp_path / "lv", [row(disc(1))])
    assert near(lv, COLOURS[0]) > near(nothing, COLOURS[0])
    assert near(lv, COLOURS[1]) == near(nothing, COLOURS[1])


def test_ignored_pixels_stay_plain(tmp_path: Path) -> None:
    nothing = drawn(tmp_path / "none", [row(disc(0))])
    ignored = drawn(tmp_path / "ignored", [row(np.where(disc(1) == 1, 0, 2).astype(np.uint8))], ignore=2)
    assert np.array_equal(nothing, ignored)


@pytest.mark.parametrize("level", [0.0, 1e4])
def test_an_image_without_contrast_and_a_region_at_the_edge_are_drawn(tmp_path: Path, level: float) -> None:
    picture = drawn(tmp_path, [row(np.ones((24, 20), np.uint8), np.full((24, 20), level)), row(disc(2))])
    assert picture.shape[0] > picture.shape[1] / 2


def test_each_row_and_column_adds_to_the_size(tmp_path: Path) -> None:
    one = drawn(tmp_path / "one", [row(disc(1))])
    two = drawn(tmp_path / "two", [row(disc(1)), row(disc(2))])
    wide = drawn(tmp_path / "wide", [Row("case", np.zeros((8, 8)), {"a": disc(1)[:8, :8], "b": disc(2)[:8, :8]})])
    assert two.shape[0] > one.shape[0]
    assert two.shape[1] == one.shape[1]
    assert wide.shape[1] > one.shape[1]


def test_a_slice_is_as_high_as_it_is_in_mm(tmp_path: Path) -> None:
    def frame(spacing_mm: tuple[float, float]) -> tuple[int, int]:
        """Height and width of the image's panel: white pixels of an image that is white but for one."""
        image = np.ones((20, 20))
        image[0, 0] = 0
        labels = {"none": np.zeros((20, 20), np.uint8)}
        picture = drawn(tmp_path / str(spacing_mm), [Row("", image, labels, spacing_mm)])
        dark = np.argwhere((picture < 0.3).all(2))
        height, width = np.ptp(dark, axis=0)
        return int(height), int(width)

    square, high = frame((1.0, 1.0)), frame((2.0, 1.0))
    assert high[1] == pytest.approx(square[1], rel=0.05)
    assert high[0] == pytest.approx(2 * square[0], rel=0.25), "the title and the legend stay as they are"


def test_a_footnote_lies_below_the_slices_and_not_on_the_legend(tmp_path: Path) -> None:
    plain = drawn(tmp_path / "plain", [row(disc(1))])
    noted = drawn(tmp_path / "noted", [row(disc(1))], footnote="Scale quick, data.size=[48, 48], $1 + 1$.")
    written = [int((picture[-50:].max(2) < 0.6).sum()) for picture in (plain, noted)]
    assert written[1] > 2 * written[0]
    # the legend's lines are not written over
    assert near(noted[-60:], COLOURS[1]) == near(plain[-60:], COLOURS[1])
