"""Slices on a grid: nothing is gained or lost on the way there, and the way back leads where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from boundseg.constraints import Frame, Size
from boundseg.data.dataset import Dataset
from boundseg.data.prepare import Grid, Placement, nearest, normalise, prepare, resample
from boundseg.errors import DatasetError
from tests.conftest import IGNORE, WriteDataset
from tests.plain import run_plain

CASE = "patient1_frame01"
sides = st.integers(1, 40)


@st.composite
def placements(draw: st.DrawFn, fits: tuple[str, ...] = ("pad", "crop", "resize"), resampled: bool = True) -> Placement:
    """Slices of any shape on a grid of any size, odd and even."""
    spacings = st.none() | st.tuples(*[st.floats(0.4, 3)] * 2) if resampled else st.none()
    grid = Grid(draw(st.tuples(sides, sides)), draw(st.sampled_from(fits)), draw(spacings))
    placement = Placement.of(draw(st.tuples(sides, sides)), draw(st.tuples(*[st.floats(0.4, 3)] * 2)), grid)
    assume(grid.fit != "pad" or not placement.cut)
    return placement


@given(placements())
def test_weights_count_every_pixel_of_the_file_once_unless_some_are_cut_off(placement: Placement) -> None:
    weight = placement.weight()
    assert weight.shape == placement.size
    inside = [min(g, r) for g, r in zip(placement.size, placement.resampled, strict=True)]
    share = np.prod(inside) / np.prod(placement.resampled)
    assert weight.sum() == pytest.approx(np.prod(placement.shape) * share, rel=1e-5)
    assert set(np.unique(weight)) <= {0, np.float32(placement.voxels_per_voxel)}
    assert placement.cut == (share < 1)
    assert placement.padded == (weight == 0).any()


@given(placements())
def test_a_slice_lies_in_the_middle(placement: Placement) -> None:
    for grid, resampled, offset in zip(placement.size, placement.resampled, placement.offset, strict=True):
        before, after = offset, grid - resampled - offset
        assert 0 <= after - before <= 1


@given(placements(), st.integers(0, 2**32))
def test_labels_are_those_of_the_nearest_pixel_as_documented(placement: Placement, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (2, *placement.shape), dtype=np.uint8)
    placed = placement.place_labels(labels, 9)
    assert placed.dtype == np.uint8
    assert placed.shape == (2, *placement.size)
    for i in range(placement.size[0]):
        for j in range(placement.size[1]):
            row, column = i - placement.offset[0], j - placement.offset[1]
            if not (0 <= row < placement.resampled[0] and 0 <= column < placement.resampled[1]):
                assert (placed[:, i, j] == 9).all()
                continue
            row = int((row + 0.5) * placement.shape[0] / placement.resampled[0])
            column = int((column + 0.5) * placement.shape[1] / placement.resampled[1])
            assert np.array_equal(placed[:, i, j], labels[:, row, column])


@given(placements(fits=("pad",), resampled=False), st.integers(0, 2**32))
def test_padding_is_undone_exactly(placement: Placement, seed: int) -> None:
    probs = np.random.default_rng(seed).random((3, 2, *placement.shape), dtype=np.float32)
    placed = placement.place_image(probs, -7)
    assert np.array_equal(placement.restore(placed), probs)
    assert (placed[:, :, placement.weight() == 0] == -7).all()
    assert np.array_equal(placement.place_labels(probs, -7), placed)


@given(placements(resampled=False, fits=("crop",)), st.integers(0, 2**32))
def test_what_a_crop_cuts_off_comes_back_as_background(placement: Placement, seed: int) -> None:
    probs = np.random.default_rng(seed).dirichlet([1, 1, 1], (2, *placement.shape)).transpose(3, 0, 1, 2)
    probs = probs.astype(np.float32)
    back = placement.restore(placement.place_image(probs, 0))
    held = placement.restore(np.zeros((1, 1, *placement.size), np.float32))[0, 0] == 0
    assert held.sum() == (placement.weight() > 0).sum()
    assert np.array_equal(back[:, :, held], probs[:, :, held])
    assert (back[0, :, ~held] == 1).all()
    assert (back[1:, :, ~held] == 0).all()


def smooth(shape: tuple[int, int], waves: tuple[float, float]) -> np.ndarray:
    """Probabilities of three classes that vary by less than a period over the slice."""
    y, x = (np.linspace(0, 1, n, endpoint=False) + 0.5 / n for n in shape)
    field = np.cos(waves[0] * y)[:, None] + np.cos(waves[1] * x)[None, :]
    logits = np.stack([np.zeros_like(field), field, -2 * field])
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)


long_sides = st.integers(16, 48)


@given(
    st.tuples(long_sides, long_sides),
    st.tuples(long_sides, long_sides),
    st.sampled_from(["pad", "resize"]),
    st.none() | st.tuples(*[st.floats(0.7, 1.4)] * 2),
    st.tuples(st.floats(0, 4), st.floats(0, 4)),
)
def test_smooth_probabilities_come_back_from_any_grid(
    shape: tuple[int, int],
    size: tuple[int, int],
    fit: str,
    spacing_mm: tuple[float, float] | None,
    waves: tuple[float, float],
) -> None:
    placement = Placement.of(shape, (1.0, 1.0), Grid(size, fit, spacing_mm), enlarge=True)
    probs = smooth(shape, waves)
    back = placement.restore(placement.place_image(probs, 0))
    assert back.shape == probs.shape
    np.testing.assert_allclose(back, probs, atol=0.06)
    np.testing.assert_allclose(back.sum(0), 1, atol=1e-5)


@given(placements())
def test_probabilities_come_back_as_probabilities(placement: Placement) -> None:
    probs = np.zeros((3, 1, *placement.size), np.float32)
    probs[0], probs[2] = 0.25, 0.75
    back = placement.restore(probs)
    assert back.shape == (3, 1, *placement.shape)
    np.testing.assert_allclose(back.sum(0), 1, atol=1e-5)


@st.composite
def ellipses(draw: st.DrawFn) -> np.ndarray:
    """A mask of a filled ellipse, at least three pixels from every edge; with a soft rim of a pixel or two."""
    shape = draw(st.tuples(*[st.integers(24, 48)] * 2))
    radii = [draw(st.floats(5, n / 2 - 4)) for n in shape]
    centre = [draw(st.floats(-1, 1)) * (n / 2 - r - 3) + (n - 1) / 2 for n, r in zip(shape, radii, strict=True)]
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1])
    mask: np.ndarray = 1 / (1 + np.exp(np.clip((distance - 1) * min(radii) * 2, -50, 50)))
    return mask.astype(np.float32)


@given(
    ellipses(),
    st.tuples(*[st.integers(12, 64)] * 2),
    st.sampled_from(["pad", "resize"]),
    st.none() | st.tuples(*[st.floats(0.6, 2)] * 2),
)
def test_the_size_on_the_grid_is_the_size_in_the_file(
    mask: np.ndarray, size: tuple[int, int], fit: str, spacing_mm: tuple[float, float] | None
) -> None:
    """The frame moves, the bound stays: whatever the grid."""
    placement = Placement.of(mask.shape, (1.0, 1.0), Grid(size, fit, spacing_mm), enlarge=True)
    frame = Frame(torch.from_numpy(placement.weight())[None])
    placed = torch.from_numpy(placement.place_image(mask[None], 0))[None]
    assert float(Size("px")(placed, frame)) == pytest.approx(mask.sum(), rel=0.02)
    assert float(frame.voxels_per_voxel) == pytest.approx(placement.voxels_per_voxel)
    hard = torch.from_numpy(placement.place_labels((mask[None] > 0.5).astype(np.uint8), 0)).float()[None]
    # nearest: whole rows and columns are dropped or doubled, those in whole numbers that hold the pixels' middles
    kept = mask > 0.5
    read = [
        [(2 * i + 1) * n // (2 * r) for i in range(r)] for n, r in zip(mask.shape, placement.resampled, strict=True)
    ]
    found = float(Size("px")(hard, frame))
    assert found == pytest.approx(kept[np.ix_(*read)].sum() * placement.voxels_per_voxel, rel=1e-5)
    # of an organ that is ten of the grid's pixels wide; of five, one row is a fifth by itself
    wide = [kept.any(axis).sum() * r / n for axis, n, r in zip((1, 0), mask.shape, placement.resampled, strict=True)]
    if min(wide) >= 10:
        assert found == pytest.approx(kept.sum(), rel=0.2)


@given(placements(fits=("crop",), resampled=False), st.integers(0, 2**32))
def test_what_a_crop_leaves_out_is_what_one_counts(placement: Placement, seed: int) -> None:
    masks = np.random.default_rng(seed).random((4, *placement.shape)) < [[[0.5]], [[0.1]], [[1]], [[0]]]
    held = placement.place_labels(masks, False)
    for mask, on_grid, share in zip(masks, held, placement.left_out(masks), strict=True):
        counted = (mask.sum() - on_grid.sum()) / mask.sum() if mask.any() else 0
        assert share == pytest.approx(counted)


@given(placements(fits=("crop",)))
def test_after_resampling_too_the_share_left_out_is_that_of_the_area(placement: Placement) -> None:
    pairs = zip(placement.size, placement.resampled, strict=True)
    area = 1 - np.prod([min(grid, resampled) / resampled for grid, resampled in pairs])
    share = float(placement.left_out(np.ones((1, *placement.shape), bool))[0])
    rows, columns = placement.shape
    assert share == pytest.approx(area, abs=1 / rows + 1 / columns)  # to half a pixel on each side
    assert placement.cut or share == 0


def test_a_tiled_prediction_grows_the_grid_instead_of_cutting() -> None:
    grid = Grid((16, 16), "pad")
    assert Placement.of((10, 40), (1.0, 1.0), grid).cut
    grown = Placement.of((10, 40), (1.0, 1.0), grid, enlarge=True)
    assert (grown.size, grown.offset, grown.cut) == ((16, 40), (3, 0), False)


def test_spacing_decides_the_resampled_shape() -> None:
    placement = Placement.of((20, 30), (1.5, 0.5), Grid((64, 64), "pad", (1.0, 1.0)))
    assert placement.resampled == (30, 15)
    assert placement.voxels_per_voxel == pytest.approx(600 / 450)
    assert Placement.of((20, 30), (1.5, 0.5), Grid((64, 64), "resize", (1.0, 1.0))).resampled == (64, 64)
    assert Placement.of((1, 1), (0.1, 0.1), Grid((8, 8), "pad", (5.0, 5.0))).resampled == (1, 1)


@given(st.tuples(sides, sides), st.integers(0, 2**32))
def test_a_constant_stays_constant_and_the_same_size_is_the_same_image(size: tuple[int, int], seed: int) -> None:
    constant = np.full((2, 7, 9), 3.5, np.float32)
    np.testing.assert_allclose(resample(constant, size), 3.5, rtol=1e-6)
    image = np.random.default_rng(seed).random((2, *size), dtype=np.float32)
    assert np.array_equal(resample(image, size), image)
    assert np.array_equal(nearest(image, size), image)


@pytest.mark.parametrize("row", range(8, 12))
def test_no_pixel_falls_through_the_grid_when_an_image_shrinks(row: int) -> None:
    image = np.zeros((1, 24, 32), np.float32)
    image[0, row, 13] = 1
    assert resample(image, (6, 8)).sum() * 16 == pytest.approx(1)


def test_twice_as_fine_and_back_is_nearest_exactly() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, 7, 10))
    fine = nearest(labels, (14, 30))
    assert np.array_equal(fine, labels.repeat(2, axis=1).repeat(3, axis=2))
    assert np.array_equal(nearest(fine, (7, 10)), labels)


@given(st.integers(0, 2**32), st.floats(1e-3, 1e4), st.floats(-1e4, 1e4))
def test_intensities_become_comparable(seed: int, scale: float, shift: float) -> None:
    image = np.random.default_rng(seed).random((2, 5, 6, 7), dtype=np.float64)
    moved = (image * [[[[scale]]], [[[1.0]]]] + [[[[shift]]], [[[0.0]]]]).astype(np.float32)
    for kind in ("zscore", "minmax"):
        # float32 holds seven digits of the shifted image
        tolerance = 1e-6 + 1e-5 * abs(shift) / scale
        np.testing.assert_allclose(normalise(moved, kind), normalise(image.astype(np.float32), kind), atol=tolerance)
    zscore, minmax = normalise(moved, "zscore"), normalise(moved, "minmax")
    np.testing.assert_allclose(zscore.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(zscore.std((1, 2, 3)), 1, atol=1e-4)
    assert minmax.min((1, 2, 3)).tolist() == [0, 0]
    assert minmax.max((1, 2, 3)).tolist() == [1, 1]
    assert normalise(moved, "none") is moved


@pytest.mark.parametrize("kind", ["zscore", "minmax"])
def test_a_constant_channel_becomes_zero(kind: str) -> None:
    assert not normalise(np.full((1, 2, 3, 4), 7.0, np.float32), kind).any()


GRID = Grid((32, 28))


def prepared_files(folder: Path) -> dict[str, int]:
    """The prepared files and when they were written."""
    root = folder / "prepared"
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


def touch_label(folder: Path, label_set: str) -> None:
    path = folder / label_set / f"{CASE}.nii.gz"
    volume = nib.load(path)
    array = np.asarray(volume.dataobj).copy()
    array[0, 0, 0] = 2
    nib.save(nib.Nifti1Image(array, volume.affine), path)


def test_prepared_slices_are_those_of_the_file(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    told: list[str] = []
    found = prepare(dataset, GRID, [(case, ["full", "seeds"]) for case in dataset.training_cases], told.append)
    assert told == list(found) == list(dataset.training_cases)
    for case, on_grid in found.items():
        image, volume = dataset.read_image(case)
        rows, columns = image.shape[1:3]
        top, left = (32 - rows) // 2, (28 - columns) // 2
        inside = (slice(None), slice(top, top + rows), slice(left, left + columns))
        assert on_grid.case == case
        assert on_grid.images.shape == (5, 1, 32, 28)
        assert on_grid.images.dtype == np.float16
        zscore = (image - image.mean()) / image.std()
        np.testing.assert_allclose(on_grid.images[:, 0][inside], dataset.to_slices(zscore)[0], atol=2e-3)
        outside = on_grid.placement.weight() == 0
        assert (on_grid.images[:, 0, outside] == np.float16(zscore.min())).all()
        for name, labels in on_grid.labels.items():
            expected = dataset.to_slices(dataset.read_labels(case, name, volume))
            assert np.array_equal(labels[inside], expected)
            assert (labels[:, outside] == IGNORE).all()
        assert on_grid.spacing_mm == pytest.approx(dataset.slice_spacing_mm(volume))
        assert isinstance(on_grid.images, np.memmap)


def test_several_channels_are_normalised_and_padded_each_by_itself(write_dataset: WriteDataset) -> None:
    dataset = Dataset.open(write_dataset(channels=2, patients={"train": 1}))
    on_grid = prepare(dataset, GRID, [(CASE, ["full"])])[CASE]
    assert on_grid.images.shape == (5, 2, 32, 28)
    # the second channel is the first, upside down
    inside = on_grid.placement.weight() > 0
    np.testing.assert_allclose(on_grid.images[:, 0, inside], -on_grid.images[:, 1, inside], atol=5e-3)
    image, _ = dataset.read_image(CASE)
    for channel in range(2):
        least = (image[channel].min() - image[channel].mean()) / image[channel].std()
        np.testing.assert_allclose(on_grid.images[:, channel, ~inside], least, rtol=2e-3)


@pytest.mark.parametrize("slice_axis", [0, 1])
def test_prepared_slices_are_the_same_along_whichever_axis_they_are_stacked(
    write_dataset: WriteDataset, slice_axis: int
) -> None:
    grid = Grid((20, 16), "resize")
    ours, last = (
        prepare(Dataset.open(write_dataset(f"axis{axis}", patients={"train": 1}, slice_axis=axis)), grid, wanted)[CASE]
        for axis, wanted in [(slice_axis, [(CASE, ["full", "seeds"])]), (2, [(CASE, ["full", "seeds"])])]
    )
    assert ours.placement == last.placement
    assert ours.spacing_mm == pytest.approx(last.spacing_mm)
    np.testing.assert_allclose(ours.images, last.images, atol=2e-3)
    for name in ("full", "seeds"):
        assert np.array_equal(ours.labels[name], last.labels[name])


def test_nothing_is_made_again_when_nothing_changed(tiny_dataset: Path) -> None:
    wanted = [(CASE, ["full", "seeds"])]
    first = prepare(Dataset.open(tiny_dataset), GRID, wanted)[CASE]
    before = prepared_files(tiny_dataset)
    assert len(before) == 4  # case.json, images, two label sets
    again = prepare(Dataset.open(tiny_dataset), GRID, wanted)[CASE]
    assert prepared_files(tiny_dataset) == before
    assert again.placement == first.placement
    assert again.spacing_mm == first.spacing_mm
    assert np.array_equal(again.images, first.images)


def test_a_changed_label_file_is_prepared_again_and_nothing_else(tiny_dataset: Path) -> None:
    wanted = [(CASE, ["full", "seeds"]), ("patient2_frame01", ["full"])]
    prepare(Dataset.open(tiny_dataset), GRID, wanted)
    before = prepared_files(tiny_dataset)
    touch_label(tiny_dataset, "labelsTr_seeds")
    found = prepare(Dataset.open(tiny_dataset), GRID, wanted)[CASE]
    top, left = found.placement.offset
    assert found.labels["seeds"][0, top, left] == 2
    after = prepared_files(tiny_dataset)
    changed = {Path(name).name for name in after if after[name] != before[name]}
    assert changed == {"labels_seeds.npy", "case.json"}


def test_a_label_set_is_added_without_making_the_images_again(tiny_dataset: Path) -> None:
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full"])])
    before = prepared_files(tiny_dataset)
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["seeds"])])
    both = prepared_files(tiny_dataset)
    assert {Path(name).name for name in both if both[name] != before.get(name)} == {"labels_seeds.npy", "case.json"}
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full", "seeds"])])
    assert prepared_files(tiny_dataset) == both


def test_a_changed_image_is_prepared_again_with_its_labels(tiny_dataset: Path) -> None:
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full", "seeds"])])
    path = tiny_dataset / "imagesTr" / f"{CASE}_0000.nii.gz"
    volume = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(volume.dataobj)[::-1], volume.affine), path)
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full"])])
    touch_label(tiny_dataset, "labelsTr")
    found = prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full", "seeds"])])[CASE]
    fresh = prepare(Dataset.open(tiny_dataset), Grid((32, 28), intensity="none"), [(CASE, ["full", "seeds"])])[CASE]
    ours, theirs = (np.asarray(c.images, np.float64)[:, :, c.placement.weight() > 0] for c in (found, fresh))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999
    for name in ("full", "seeds"):
        assert np.array_equal(found.labels[name], fresh.labels[name])


def test_labels_that_no_longer_fit_a_changed_image_are_found(tiny_dataset: Path) -> None:
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full"])])
    path = tiny_dataset / "imagesTr" / f"{CASE}_0000.nii.gz"
    volume = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(volume.dataobj)[:-1], volume.affine), path)
    with pytest.raises(DatasetError, match=r"has the shape \(21, 23, 5\), its image \(20, 23, 5\)"):
        prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full"])])


@pytest.mark.parametrize("change", [{"slice_axis": 1}, {"labels": {"background": 0, "LV": 1, "Myo": 2, "RV": 3}}])
def test_another_slice_axis_or_ignore_label_is_prepared_anew(tiny_dataset: Path, change: dict[str, object]) -> None:
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full"])])
    path = tiny_dataset / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    found = prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full"])])[CASE]
    assert len(found.images) == (23 if "slice_axis" in change else 5)
    assert found.labels["full"].max() == (4 if "labels" in change else 3)


def test_another_grid_has_files_of_its_own(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    for grid in (GRID, Grid((32, 28), "resize"), Grid((32, 28), intensity="minmax"), Grid((32, 28), "pad", (2.0, 2.0))):
        prepare(dataset, grid, [(CASE, [])])
    assert len(list((tiny_dataset / "prepared").iterdir())) == 4


@pytest.mark.parametrize("content", ["", "[", '{"image": 3}'])
def test_a_record_that_is_broken_is_made_again(tiny_dataset: Path, content: str) -> None:
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full"])])
    (record,) = (tiny_dataset / "prepared").rglob("case.json")
    good = record.read_text()
    record.write_text(content)
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full"])])
    assert record.read_text() == good


def test_prepared_cases_are_opened_without_a_reader_of_volumes(tiny_dataset: Path) -> None:
    prepare(Dataset.open(tiny_dataset), GRID, [(CASE, ["full", "seeds"])])
    printed = run_plain(
        f"""
        import sys
        from boundseg.data.dataset import Dataset
        from boundseg.data.prepare import Grid, prepare
        found = prepare(Dataset.open({str(tiny_dataset)!r}), Grid((32, 28)), [({CASE!r}, ["full", "seeds"])])
        print(found[{CASE!r}].images.shape, sorted({{"nibabel", "monai", "SimpleITK"}} & set(sys.modules)))
        """
    )
    assert printed.strip() == "(5, 1, 32, 28) []"


def test_all_cases_that_do_not_fit_are_listed(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    (tiny_dataset / "labelsTr" / "patient1_frame01.nii.gz").write_bytes(b"")
    (tiny_dataset / "labelsTr" / "patient3_frame07.nii.gz").unlink()
    with pytest.raises(DatasetError) as raised:
        prepare(dataset, Grid((32, 23)), [(case, ["full"]) for case in dataset.training_cases])
    unreadable, *found = [problem.what for problem in raised.value.problems]
    assert unreadable.startswith("patient1_frame01.nii.gz cannot be read as NIfTI: Empty file")
    assert found == [
        "patient2_frame01: its slices of 22x24 do not fit the grid of 32x23.",
        "patient2_frame07: its slices of 22x24 do not fit the grid of 32x23.",
        "patient3_frame07.nii.gz is not there.",
        "patient4_frame01: its slices of 21x24 do not fit the grid of 32x23.",
        "patient4_frame07: its slices of 21x24 do not fit the grid of 32x23.",
    ]
    assert "Set data.fit to crop or resize, or data.size larger." in str(raised.value)


def test_a_spacing_that_would_blow_a_case_up_is_refused_before_it_is_resampled(tiny_dataset: Path) -> None:
    for folder, ending in (("imagesTr", "_0000"), ("labelsTr", "")):
        path = tiny_dataset / folder / f"{CASE}{ending}.nii.gz"
        image: Any = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([90.0, 90.0, 8.0, 1.0])), path)
    with pytest.raises(
        DatasetError, match=f"{CASE} has pixels of 90 x 90 mm, .* 1.5 x 1.5 mm: it would become"
    ) as found:
        prepare(Dataset.open(tiny_dataset), Grid((24, 24), "crop", (1.5, 1.5)), [(CASE, ["full"])])
    assert found.value.problems[0].remedy == "Mend the spacing in its header."
