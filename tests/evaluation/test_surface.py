"""Surface distances against a brute-force search with scipy, by hand, and by their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from boundseg.evaluation.surface import surface_distances


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two masks that are not empty, 2D or 3D, and an anisotropic spacing."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * draw(st.sampled_from([2, 3]))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    masks = [rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 1.0])) for _ in range(2)]
    for mask in masks:
        mask[tuple(rng.integers(shape))] = True
    return masks[0], masks[1], tuple(draw(st.sampled_from([0.7, 1.0, 2.5, 10.0])) for _ in shape)


def surface_mm(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    return np.argwhere(mask & ~binary_erosion(mask)) * np.asarray(spacing_mm)


@given(cases())
def test_agrees_with_every_pair_of_surface_voxels(case: tuple[np.ndarray, np.ndarray, tuple[float, ...]]) -> None:
    prediction, target, spacing_mm = case
    apart = cdist(surface_mm(prediction, spacing_mm), surface_mm(target, spacing_mm))
    there, back = apart.min(1), apart.min(0)
    found = surface_distances(prediction, target, spacing_mm)
    assert found.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5, abs=1e-6)
    assert found.assd_mm == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5, abs=1e-6)


@given(cases())
def test_is_symmetric_and_0_only_for_equal_surfaces(case: tuple[np.ndarray, np.ndarray, tuple[float, ...]]) -> None:
    prediction, target, spacing_mm = case
    found, turned = surface_distances(prediction, target, spacing_mm), surface_distances(target, prediction, spacing_mm)
    assert found.hd95_mm == pytest.approx(turned.hd95_mm)
    assert found.assd_mm == pytest.approx(turned.assd_mm)
    assert surface_distances(target, target, spacing_mm).assd_mm == 0


def test_two_voxels_apart_along_each_axis() -> None:
    for axis, spacing_mm in enumerate((8.0, 1.25, 1.5)):
        one, other = np.zeros((2, 5, 5, 5), bool)
        one[2, 2, 1:4][1] = other[2, 2, 2] = True
        other = np.roll(other, 2, axis)
        found = surface_distances(one, other, (8.0, 1.25, 1.5))
        assert (found.hd95_mm, found.assd_mm) == pytest.approx((2 * spacing_mm, 2 * spacing_mm))


def test_nothing_has_no_surface() -> None:
    empty, there = np.zeros((2, 3), bool), np.ones((2, 3), bool)
    for pair in ((empty, empty), (empty, there), (there, empty)):
        found = surface_distances(*pair, (1.0, 1.0))
        assert math.isnan(found.hd95_mm)
        assert math.isnan(found.assd_mm)
