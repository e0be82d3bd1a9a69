"""Measures by hand, by their laws, and against MONAI's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics.meandice import DiceMetric

from boundseg.evaluation.metrics import dice, slice_rows, volume_rows

CLASSES = {"LV": 1, "Myo": 2}
IGNORE = 3
MM = (1.25, 1.5, 8.0)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a reference of classes 0 to 2; empty ones and empty classes are common."""
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sides = [draw(st.sampled_from([(0,), (0, 1), (0, 1, 2), (2,), (0, 2)])) for _ in range(2)]
    prediction, target = (rng.choice(values, shape).astype(np.uint8) for values in sides)
    return prediction, target


@given(pairs())
def test_dice_is_monais(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, target = pair
    one_hot = [torch.stack([torch.from_numpy(m == value) for value in range(3)])[None] for m in pair]
    for ignore_empty, empty in ((True, "nan"), (False, "one")):
        metric = DiceMetric(reduction="none", ignore_empty=ignore_empty)
        theirs = metric(*one_hot)[0].tolist()  # type: ignore[index]
        ours = [dice(prediction == value, target == value, empty) for value in range(3)]  # type: ignore[arg-type]
        for value, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            # where the reference alone is empty MONAI leaves the class out; here it is a false alarm, 0
            if ignore_empty and not (target == value).any() and (prediction == value).any():
                assert a == 0
            else:
                assert a == pytest.approx(b, nan_ok=True)


@given(pairs())
def test_dice_is_symmetric_and_1_only_for_what_is_equal(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (m == 1 for m in pair)
    assert dice(a, b, "one") == dice(b, a, "one")
    assert 0 <= dice(a, b, "one") <= 1
    assert (dice(a, b, "one") == 1) == np.array_equal(a, b)


def test_dice_by_hand() -> None:
    prediction = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    target = np.array([[1, 0, 0, 0], [1, 1, 1, 0]], bool)
    assert dice(prediction, target) == 4 / 7


def test_conventions_where_something_is_empty() -> None:
    empty, full = np.zeros((2, 3), bool), np.ones((2, 3), bool)
    assert math.isnan(dice(empty, empty))
    assert dice(empty, empty, empty="one") == 1
    for convention in ("nan", "one"):
        assert dice(empty, full, convention) == dice(full, empty, convention) == 0  # type: ignore[arg-type]


def test_volumes_by_hand() -> None:
    prediction = np.zeros((2, 4, 4), np.uint8)
    target = np.zeros((2, 4, 4), np.uint8)
    prediction[0, :3, :3] = 1  # 9
    target[0, :2, :3] = 1  # 6, all of them hit
    target[1, 0, 0] = 2  # 1, missed
    lv, myo = volume_rows("p1_a", "p1", prediction, target, CLASSES, spacing_mm=(2.0, 2.5, 4.0))
    assert lv == {
        "case": "p1_a",
        "patient": "p1",
        "class": "LV",
        "dice": 2 * 6 / 15,
        "sensitivity": 1,
        "precision": 6 / 9,
        "hd95_mm": pytest.approx(2.0),
        "assd_mm": pytest.approx((6 * 0 + 3 * 2 + 6 * 0) / 15),
        "reference_px": 6,
        "predicted_px": 9,
        "volume_error_px": 3,
        "reference_ml": pytest.approx(0.12),
        "predicted_ml": pytest.approx(0.18),
        "volume_error_ml": pytest.approx(0.06),
        "relative_volume_error": 0.5,
    }
    assert (myo["dice"], myo["volume_error_px"], myo["relative_volume_error"]) == (0, -1, -1)


def test_an_absent_class_has_an_error_in_px_and_none_relative_to_nothing() -> None:
    prediction, target = np.zeros((2, 1, 3, 3), np.uint8)
    prediction[0, 0] = 1
    lv, myo = volume_rows("c", "p", prediction, target, CLASSES, MM)
    assert (lv["dice"], lv["volume_error_px"]) == (0, 3)
    assert math.isnan(float(lv["relative_volume_error"]))
    assert math.isnan(float(myo["dice"]))
    assert myo["volume_error_px"] == 0


@given(pairs(), st.integers(0, 2**32))
def test_ignored_voxels_are_as_if_both_sides_had_background_there(
    pair: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    prediction, target = pair
    unknown = np.random.default_rng(seed).random(target.shape) < 0.3
    ignored = np.where(unknown, IGNORE, target).astype(np.uint8)
    removed = [np.where(unknown, 0, m).astype(np.uint8) for m in pair]
    assert_same(
        volume_rows("c", "p", prediction, ignored, CLASSES, MM, IGNORE),
        volume_rows("c", "p", *removed, CLASSES, MM),
    )
    assert_same(
        slice_rows("c", "p", prediction, ignored, CLASSES, MM, IGNORE),
        slice_rows("c", "p", *removed, CLASSES, MM),
    )


@given(pairs())
def test_slices_add_up_to_the_volume_and_a_single_slice_is_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, target = pair
    volumes = volume_rows("c", "p", prediction, target, CLASSES, MM)
    slices = slice_rows("c", "p", prediction, target, CLASSES, MM)
    assert len(slices) == len(CLASSES) * len(target)
    for volume in volumes:
        of_class = [row for row in slices if row["class"] == volume["class"]]
        assert [row["slice"] for row in of_class] == list(range(len(target)))
        for key in ("reference_px", "predicted_px"):
            assert sum(int(row[key]) for row in of_class) == volume[key]
        for row in of_class:
            index = int(row["slice"])
            alone = volume_rows("c", "p", prediction[[index]], target[[index]], CLASSES, MM)
            (same,) = [r for r in alone if r["class"] == row["class"]]
            assert same["dice"] == pytest.approx(row["dice"], nan_ok=True)


def test_empty_slices_count_as_1_by_the_papers_convention() -> None:
    nothing = np.zeros((3, 2, 2), np.uint8)
    assert [row["dice"] for row in slice_rows("c", "p", nothing, nothing, CLASSES, MM, empty="one")] == [1] * 6


def assert_same(ours: list, theirs: list) -> None:
    """Rows equal, NaN among them."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        assert all(a[k] == b[k] or (a[k] != a[k] and b[k] != b[k]) for k in a)
