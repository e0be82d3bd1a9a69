"""Bounds speak of the case on disk: whatever moves the grid, a mask measures what it measured in its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
import torch.nn.functional as F
from torch import Tensor

from boundseg.constraints import Frame, Groups, descriptor
from boundseg.constraints.descriptors.measure import group_sums
from boundseg.constraints.quantities import split
from boundseg.data.augment import AUGMENTATIONS
from boundseg.data.batches import Batch, TaughtCase, collate
from boundseg.data.dataset import Dataset
from boundseg.data.derive import box, individual, volume
from boundseg.data.measured import boxes, measured
from boundseg.data.prepare import Grid, Placement, prepare
from boundseg.errors import PriorsError
from tests.conftest import WriteDataset, save

CASE = "patient1_frame01"
OF_ONE = ["size", "centroid_x", "centroid_y", "spread_x", "spread_y", "elongation", "moment_xy", "moment_xxy"]
OF_ONE += ["intensity", "intensity_variance", "boundary", "compactness"]
OF_TWO = ["ratio", "distance"]
SHAPE = (40, 44, 3)
SPACING_MM = (1.2, 1.6, 8.0)


@pytest.fixture(scope="module")
def ellipses(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One case of lopsided ellipses, turned against the grid, in an image that slopes: nothing is symmetric."""
    folder = tmp_path_factory.mktemp("ellipses")
    i, j, k = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]].astype(float)
    x, y = (i - 18 - k) * SPACING_MM[0], (j - 22) * SPACING_MM[1]
    u, v = 0.8 * x + 0.6 * y, -0.6 * x + 0.8 * y
    inner = (u / 11) ** 2 + (v / 7) ** 2 <= 1 + 0.02 * u
    outer = (u / 17) ** 2 + (v / 13) ** 2 <= 1
    target = np.where(inner, 1, np.where(outer, 2, 0)).astype(np.uint8)
    image = (1000 + 4 * x - 3 * y + 50 * inner + 10 * k).round().astype(np.int16)
    affine = np.diag([*SPACING_MM, 1])
    save(folder / "imagesTr" / f"{CASE}_0000.nii.gz", image, affine)
    save(folder / "labelsTr" / f"{CASE}.nii.gz", target, affine)
    labels = '{"background": 0, "LV": 1, "Myo": 2, "ignore": 3}'
    (folder / "dataset.json").write_text(
        f'{{"channel_names": {{"0": "MR"}}, "labels": {labels}, "file_ending": ".nii.gz"}}'
    )
    return Dataset.open(folder)


def on_grid(dataset: Dataset, grid: Grid) -> Batch:
    """The case on a grid, with its full mask for labels."""
    (case,) = prepare(dataset, grid, [(CASE, ["full"])]).values()
    taught = TaughtCase(case, np.array(case.labels["full"]), {}, (True, True, True), with_image=True)
    return collate([taught], [(0, s) for s in range(len(taught))], frozenset())


def value_of(batch: Batch, quantity: str, region: str, unit: str, of_volume: bool = False) -> Tensor:
    """What a batch's labels measure, as the prediction of a perfect network would."""
    what = descriptor(quantity, unit, "xyz" if of_volume else "xy")
    hard = F.one_hot(batch.labels.long(), 4)[..., :3].movedim(-1, 1).double()
    regions = hard[:, [{"LV": 1, "Myo": 2}[name] for name in region.split(":")]]
    groups = batch.volumes if of_volume else Groups.each(len(hard))
    sums = group_sums(what, regions, batch.frame if of_volume else batch.frame.in_plane(), groups)
    return what.value(sums)[:, 0]


# the smallest crop holds all of LV and cuts the ring around it
@pytest.mark.parametrize(
    ("quantity", "grid"),
    [
        *product(OF_ONE + OF_TWO, [Grid((64, 48)), Grid((48, 64), "crop")]),
        *product(OF_ONE, [Grid((38, 38), "crop")]),
    ],
    ids=str,
)
def test_padding_and_cropping_change_no_value(ellipses: Dataset, quantity: str, grid: Grid) -> None:
    found = split(quantity)
    assert found is not None
    region = "LV:Myo" if found[0].pair else "LV"
    for unit in found[0].units:
        if unit == "fraction" or (unit == "grid_px"):
            continue  # of a grid, which is another one
        expected = measured(ellipses, CASE, quantity, region, unit, of_volume=False)
        # prepared images are kept in half precision: an intensity of 1000 to about 0.1
        tolerance = {"rtol": 2e-3} if "intensity" in quantity else {"rtol": 2e-5, "atol": 1e-6}
        np.testing.assert_allclose(value_of(on_grid(ellipses, grid), quantity, region, unit), expected, **tolerance)


@pytest.mark.parametrize("grid", [Grid((96, 96), "resize"), Grid((80, 100), spacing_mm=(0.7, 0.8))], ids=str)
@pytest.mark.parametrize("quantity", OF_ONE + OF_TWO)
def test_resampling_changes_a_value_by_no_more_than_the_mask_changes(
    ellipses: Dataset, quantity: str, grid: Grid
) -> None:
    """Labels go to the nearest pixel, which moves a border by half a pixel of the finer grid at most."""
    found = split(quantity)
    assert found is not None
    region, unit = ("LV:Myo" if found[0].pair else "LV"), found[0].units[0]
    expected = measured(ellipses, CASE, quantity, region, unit, of_volume=False)
    close = {"rtol": 0.05, "atol": {"moment_xxy": 6e-4, "elongation": 0.01, "distance": 0.35}.get(quantity, 0.0)}
    if quantity in ("boundary", "compactness", "intensity_variance"):
        close["rtol"] = 0.2  # staircases of finer steps; the image is interpolated across the border, the mask is not
    if quantity.startswith("centroid"):
        close = {"rtol": 0, "atol": 0.15}
    np.testing.assert_allclose(value_of(on_grid(ellipses, grid), quantity, region, unit), expected, **close)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
@pytest.mark.parametrize("quantity", OF_ONE + OF_TWO)
def test_augmentation_changes_no_value(
    ellipses: Dataset, quantity: str, augmentation: Callable[[Batch], Batch]
) -> None:
    found = split(quantity)
    assert found is not None
    region, unit = ("LV:Myo" if found[0].pair else "LV"), found[0].units[0]
    before = on_grid(ellipses, Grid((64, 64), spacing_mm=(1.0, 1.1)))
    torch.manual_seed(0)
    for _ in range(3):
        after = augmentation(before)
        assert not torch.equal(after.images, before.images)
        of_after, of_before = (value_of(batch, quantity, region, unit) for batch in (after, before))
        torch.testing.assert_close(of_after, of_before, rtol=2e-5, atol=1e-6)
        if found[0].of_volumes:
            of_volumes = quantity.replace("xxy", "xyz")
            torch.testing.assert_close(
                value_of(after, of_volumes, region, unit, of_volume=True),
                value_of(before, of_volumes, region, unit, of_volume=True),
                rtol=2e-5,
                atol=1e-6,
            )


def test_what_is_measured_agrees_with_scipy(ellipses: Dataset) -> None:
    array, image = ellipses.read_image(CASE)
    mask = ellipses.read_labels(CASE, "full", image) == 1
    for axis, letter in enumerate("xyz"):
        centre = ndi.center_of_mass(mask)[axis] * SPACING_MM[axis]
        assert measured(ellipses, CASE, f"centroid_{letter}", "LV", "mm", of_volume=True) == pytest.approx(centre)
    index = np.argwhere(mask)
    # voxels are boxes: to the variance of their centres each adds its own
    spread = np.sqrt(index.var(0) + 1 / 12) * SPACING_MM
    for axis, letter in enumerate("xyz"):
        found = measured(ellipses, CASE, f"spread_{letter}", "LV", "mm", of_volume=True)
        assert found == pytest.approx(spread[axis])
    inside = array[0][mask]
    assert measured(ellipses, CASE, "intensity", "LV", "intensity", of_volume=True) == pytest.approx(inside.mean())
    variance = measured(ellipses, CASE, "intensity_variance", "LV", "intensity2", of_volume=True)
    assert variance == pytest.approx(inside.var())


def test_slices_without_a_class_have_a_size_and_no_centroid(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    last = 4  # which holds the background only
    assert measured(dataset, CASE, "size", "LV", "px", of_volume=False)[last] == 0
    assert np.isnan(measured(dataset, CASE, "centroid_x", "LV", "mm", of_volume=False)[last])
    rows = individual(dataset, [CASE], ["LV"], quantity="centroid_x", unit="mm", margin=0, absolute=2.0)
    assert [row.slice for row in rows] == [0, 1, 2, 3]
    assert {round(row.upper - row.lower, 6) for row in rows} == {4.0}


def test_absent_stays_absent_whatever_the_margin(tiny_dataset: Path) -> None:
    rows = individual(Dataset.open(tiny_dataset), [CASE], ["LV"], absolute=5.0)
    assert (rows[-1].lower, rows[-1].upper) == (0, 0)
    assert rows[0].lower >= 0


def test_letters_of_axes_are_those_of_the_file_wherever_slices_are_stacked(write_dataset: WriteDataset) -> None:
    last, first = Dataset.open(write_dataset("last")), Dataset.open(write_dataset("first", slice_axis=0))
    assert (last.axes, first.axes) == ("xyz", "yzx")
    for mine, theirs in zip("xyz", "yzx", strict=True):
        values = [
            measured(d, CASE, f"centroid_{c}", "LV", "mm", of_volume=True) for d, c in ((last, mine), (first, theirs))
        ]
        np.testing.assert_allclose(*values)
    with pytest.raises(PriorsError, match="centroid_x speaks of the axis x, and a slice here has y and z"):
        measured(first, CASE, "centroid_x", "LV", "mm", of_volume=False)


@pytest.mark.parametrize(
    ("quantity", "region", "unit", "of_volume", "message"),
    [
        ("centroyd_x", "LV", "mm", False, "'centroyd_x' is no quantity"),
        ("centroid_x", "LV", "mL", False, "centroid_x has no unit 'mL': use mm or px"),
        ("centroid_z", "LV", "mm", False, "speaks of the axis z, and a slice here has x and y"),
        ("compactness", "LV", "1", True, "compactness is measured in slices"),
        ("ratio", "LV", "1", False, "ratio is of a pair of classes, as LV:Myo, not of LV"),
        ("size", "LV:Myo", "px", False, "size is of one class, or a union, not of LV:Myo"),
    ],
)
def test_what_cannot_be_measured_says_why(
    tiny_dataset: Path, quantity: str, region: str, unit: str, of_volume: bool, message: str
) -> None:
    with pytest.raises(PriorsError, match=message):
        measured(Dataset.open(tiny_dataset), CASE, quantity, region, unit, of_volume=of_volume)


def test_volumes_have_bounds_on_everything_that_volumes_have(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    (row,) = volume(dataset, [CASE], ["LV:Myo"], quantity="ratio", unit="1", margin=0.0)
    (ratio,) = measured(dataset, CASE, "ratio", "LV:Myo", "1", of_volume=True)
    assert row.slice is None
    assert row.lower == row.upper == pytest.approx(ratio)


def test_boxes_are_tight(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    _, image = dataset.read_image(CASE)
    target = dataset.to_slices(dataset.read_labels(CASE, "full", image)) == 2
    found = boxes(dataset, CASE, "Myo")
    assert set(found) == set(np.flatnonzero(target.any((1, 2))))
    for index, ((top, bottom), (left, right)) in found.items():
        inside = np.zeros_like(target[index])
        inside[top : bottom + 1, left : right + 1] = True
        assert not target[index][~inside].any()
        rows, columns = target[index].any(1), target[index].any(0)
        assert rows[top] and rows[bottom] and columns[left] and columns[right]
    rows_of_box = box(dataset, [CASE], ["Myo"])
    assert {row.quantity for row in rows_of_box} == {"box_x", "box_y"}
    assert len(rows_of_box) == 2 * len(found)


def test_the_files_frame_is_where_prepared_pixels_say_they_are() -> None:
    """The centre of the first pixel is 0, on every grid."""
    for grid in (Grid((20, 30)), Grid((8, 9), "crop"), Grid((20, 30), "resize"), Grid((40, 40), spacing_mm=(0.5, 0.7))):
        placement = Placement.of((12, 17), (1.0, 1.4), grid)
        lines = np.mgrid[: placement.size[0], : placement.size[1]]
        affine = placement.affine()
        for axis in (0, 1):
            positions = np.tensordot(affine[axis, :2], lines, 1) + affine[axis, 2]
            # an image of its own positions, brought onto the grid by interpolation
            image = np.mgrid[:12, :17][axis].astype(np.float32)[None]
            placed = placement.place_image(image, np.nan)[0]
            inside = np.isfinite(placed) & (positions > 1) & (positions < image.shape[1 + axis] - 2)
            np.testing.assert_allclose(placed[inside], positions[inside], atol=1e-4)


def test_a_frame_goes_where_it_is_sent() -> None:
    frame = Frame.plain(2, 2)
    assert replace(frame.to("cpu"), halo=(1, 0)).to("cpu").halo == (1, 0)
