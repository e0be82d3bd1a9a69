"""Volumes on a grid of three axes; what holds of two is in test_prepare.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from boundseg.constraints import Centroid, Frame, Size
from boundseg.data.dataset import Dataset
from boundseg.data.placement import Grid, Placement, nearest, resample
from boundseg.data.prepare import prepare
from boundseg.errors import DatasetError

sides = st.integers(1, 14)
shapes = st.tuples(sides, sides, sides)
spacings = st.tuples(*[st.floats(0.5, 3)] * 3)


@st.composite
def placements(draw: st.DrawFn, fits: tuple[str, ...] = ("pad", "crop", "resize")) -> Placement:
    """Volumes of any shape on a grid of any size, or in patches of any size."""
    spacing_mm = draw(st.none() | st.tuples(*[st.none() | st.floats(0.5, 3)] * 3))
    fit = draw(st.sampled_from(fits))
    grid = Grid(draw(shapes), fit, spacing_mm, patches=fit == "pad" and draw(st.booleans()))
    placement = Placement.of(draw(shapes), draw(spacings), grid)
    assume(grid.fit != "pad" or not placement.cut)
    return placement


@given(placements())
def test_weights_count_every_voxel_of_the_file_once_unless_some_are_cut_off(placement: Placement) -> None:
    weight = placement.weight()
    inside = [min(g, r) for g, r in zip(placement.size, placement.resampled, strict=True)]
    share = np.prod(inside) / np.prod(placement.resampled)
    assert weight.sum() == pytest.approx(np.prod(placement.shape) * share, rel=1e-4)
    assert placement.cut == (share < 1) == any(placement.cut_along)
    assert placement.padded == (weight == 0).any()


@given(placements(), st.integers(0, 99))
def test_labels_are_those_of_the_voxel_that_the_affine_map_names(placement: Placement, seed: int) -> None:
    """Two ways to say where a grid voxel lies agree: the map that the frame has, and what was read from there."""
    rows, columns, slices = placement.shape
    x, y, z = np.meshgrid(np.arange(rows), np.arange(columns), np.arange(slices), indexing="ij")
    on_grid = placement.affine()[:, :3] @ np.indices(placement.size).reshape(3, -1) + placement.affine()[:, 3:]
    held = placement.weight().ravel() > 0
    for axis, coordinate in enumerate((x, y, z)):
        placed = placement.place_labels(coordinate.astype(np.int16), -1).ravel()
        assert (placed[~held] == -1).all()
        assert np.abs(placed[held] - on_grid[axis, held]).max(initial=0) <= 0.5 + 1e-4


@given(placements(fits=("pad",)), st.integers(0, 99))
def test_what_was_not_resampled_comes_back_exactly(placement: Placement, seed: int) -> None:
    assume(placement.resampled == placement.shape)
    probs = np.random.default_rng(seed).random((2, *placement.shape), dtype=np.float32)
    assert np.array_equal(placement.restore(placement.place_image(probs, -7)), probs)


@given(placements())
def test_probabilities_come_back_as_probabilities_of_the_files_shape(placement: Placement) -> None:
    probs = np.zeros((3, *placement.size), np.float32)
    probs[0], probs[2] = 0.25, 0.75
    back = placement.restore(probs)
    assert back.shape == (3, *placement.shape)
    np.testing.assert_allclose(back.sum(0), 1, atol=1e-5)


@given(shapes, shapes, st.integers(0, 99))
def test_where_nothing_shrinks_resampling_is_torchs_trilinear(
    shape: tuple[int, int, int], more: tuple[int, int, int], seed: int
) -> None:
    size = (shape[0] + more[0] - 1, shape[1] + more[1] - 1, shape[2] + more[2] - 1)
    image = np.random.default_rng(seed).random((2, *shape), dtype=np.float32)
    true = F.interpolate(torch.from_numpy(image)[None], size, mode="trilinear", align_corners=False)[0]
    np.testing.assert_allclose(resample(image, size), true.numpy(), atol=1e-5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_slices_shrink_as_rows_do(old: int, new: int, seed: int) -> None:
    line = np.random.default_rng(seed).random(old, dtype=np.float32)
    along_rows = resample(line[:, None], (new, 1))[:, 0]
    np.testing.assert_allclose(resample(line[None, None, :], (1, 1, new))[0, 0], along_rows, atol=1e-6)


@given(shapes, st.integers(0, 99))
def test_the_same_size_is_the_same_volume(size: tuple[int, int, int], seed: int) -> None:
    image = np.random.default_rng(seed).random((2, *size), dtype=np.float32)
    assert np.array_equal(resample(image, size), image)
    assert np.array_equal(nearest(image, size), image)


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """A ball with a rim of a voxel or two."""
    place = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    distance = np.linalg.norm(place - centre, axis=-1)
    return np.asarray(1 / (1 + np.exp(2 * (distance - radius))), np.float32)


@pytest.mark.parametrize(
    "grid",
    [
        Grid((40, 44, 36)),
        Grid((12, 12, 12), patches=True),
        Grid((24, 30, 20), "resize"),
        Grid((12, 12, 12), spacing_mm=(1.3, 0.9, 1.6), patches=True),
        Grid((64, 64, 64), spacing_mm=(1.5, None, 1.2)),
    ],
)
def test_size_and_centre_on_the_grid_are_those_in_the_file(grid: Grid) -> None:
    shape = (32, 36, 28)
    mask = ball(shape, (14.0, 19.5, 12.0), 8.0)
    placement = Placement.of(shape, (1.0, 1.1, 1.2), grid)
    frame = Frame(torch.from_numpy(placement.weight())[None], affine=torch.from_numpy(placement.affine())[None])
    placed = torch.from_numpy(placement.place_image(mask, 0))[None, None]
    assert float(Size()(placed, frame)) == pytest.approx(mask.sum(), rel=0.01)
    found = Centroid()(placed, frame)[0, 0]
    np.testing.assert_allclose(found.numpy(), (14.0, 19.5, 12.0), atol=0.05)
    np.testing.assert_allclose(
        placement.restore(np.stack([1 - placed[0, 0].numpy(), placed[0, 0].numpy()]))[1], mask, atol=0.3
    )


def test_a_volume_larger_than_a_patch_keeps_its_size_and_a_smaller_one_is_padded() -> None:
    grid = Grid((16, 16, 8), patches=True)
    placement = Placement.of((20, 10, 5), (1.0, 1.0, 8.0), grid)
    assert (placement.size, placement.offset, placement.cut) == ((20, 16, 8), (0, 3, 1), False)


def test_null_keeps_the_files_slices() -> None:
    keeping = Placement.of((20, 30, 7), (1.5, 0.5, 8.0), Grid((8, 8, 4), spacing_mm=(1.0, 1.0, None), patches=True))
    assert keeping.resampled == (30, 15, 7)
    assert keeping.keeps_slices
    other = Placement.of((20, 30, 7), (1.5, 0.5, 8.0), Grid((8, 8, 4), spacing_mm=(1.0, 1.0, 4.0), patches=True))
    assert other.resampled == (30, 15, 14)
    assert not other.keeps_slices


def test_a_prepared_volume_holds_the_prepared_slices(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    wanted = [(case, ["full"]) for case in dataset.cases_of("train")]
    slices = prepare(dataset, Grid((32, 28)), wanted)
    volumes = prepare(dataset, Grid((32, 28, 5)), wanted)
    for case, of_slices in slices.items():
        volume = volumes[case]
        assert volume.images.shape == (1, 1, 32, 28, 5)
        assert np.array_equal(np.moveaxis(volume.images[0], -1, 0), of_slices.images)
        assert np.array_equal(np.moveaxis(volume.labels["full"][0], -1, 0), of_slices.labels["full"])
        assert (volume.spacing_mm, volume.intensities) == (of_slices.spacing_mm, of_slices.intensities)
    again = prepare(dataset, Grid((32, 28, 5)), wanted)
    assert {case: p.placement for case, p in again.items()} == {case: p.placement for case, p in volumes.items()}


def test_a_volume_that_does_not_fit_is_refused_and_patches_are_named(tiny_dataset: Path) -> None:
    with pytest.raises(DatasetError) as raised:
        prepare(Dataset.open(tiny_dataset), Grid((32, 28, 4)), [("patient1_frame01", [])])
    assert str(raised.value) == (
        "patient1_frame01: its volume of 21x23x5 does not fit the grid of 32x28x4.\n"
        f"  in {tiny_dataset}. Set data.fit to crop or resize, or data.size larger, or learn from patches (data.batch: "
        "patches)."
    )
