"""Derived bounds against counts by hand (Kervadec et al. 2019, eq. 5 to 7)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from boundseg.constraints import SIZE_UNITS, Frame, Groups, Size
from boundseg.data import derive, priors
from boundseg.data.dataset import Dataset
from boundseg.data.misjudged import Misjudged
from boundseg.data.prepare import Grid, Placement
from boundseg.data.priors import Prior
from boundseg.errors import DatasetError, PriorsError
from tests.conftest import WriteDataset, save

INF = np.inf
SPACING_MM = {"ann": (1.0, 2.0, 10.0), "bob": (1.5, 1.5, 8.0)}
# pixels of LV and Myo in each slice of each case; the patient ann has two phases
SIZES_PX = {
    "ann_ed": [(0, 4), (10, 20), (30, 5), (0, 0)],
    "ann_es": [(0, 0), (6, 25), (12, 7), (1, 0)],
    "bob_ed": [(8, 8), (0, 3), (50, 9), (0, 0)],
}
SEEDED = {"ann_ed": [0, 1, 1, 0], "ann_es": [0, 1, 1, 1], "bob_ed": [1, 0, 1, 0]}  # slices with a seed of LV
SHAPE = (8, 10, 4)


@pytest.fixture(params=[2, 0], ids=["slices last", "slices first"])
def hearts(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    """Masks whose pixels were counted when they were drawn."""
    for case, sizes in SIZES_PX.items():
        target, seeds = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 3, np.uint8)
        for index, (lv, myo) in enumerate(sizes):
            flat = target[..., index].reshape(-1)
            flat[:lv], flat[lv : lv + myo] = 1, 2
            target[..., index] = flat.reshape(SHAPE[:2])
            if SEEDED[case][index]:
                seeds[0, 0, index] = 1
        affine = np.diag([*SPACING_MM[case[:3]], 1])
        for folder, array in (("labelsTr", target), ("labelsTr_seeds", seeds)):
            save(tmp_path / folder / f"{case}.nii.gz", array, affine, request.param)
        save(tmp_path / "imagesTr" / f"{case}_0000.nii.gz", np.zeros(SHAPE, np.int16), affine, request.param)
    description = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "LV": 1, "Myo": 2, "ignore": 3},
        "file_ending": ".nii.gz",
        "slice_axis": request.param,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    patients = {"ann": ["ann_ed", "ann_es"], "bob": ["bob_ed"]}
    splits = {"patients": patients, "train": ["ann", "bob"], "validation": [], "test": []}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    return Dataset.open(tmp_path)


def bounds(rows: list[Prior], case: str, region: str = "LV") -> dict[int | None, tuple[float, float]]:
    return {row.slice: (row.lower, row.upper) for row in rows if (row.case, row.region) == (case, region)}


def test_tags_say_present_where_a_pixel_is_labelled(hearts: Dataset) -> None:
    rows = derive.tags(hearts, hearts.cases, ["LV"], "seeds")
    assert bounds(rows, "ann_ed") == {1: (1, 80), 2: (1, 80)}
    assert bounds(rows, "ann_es") == {1: (1, 80), 2: (1, 80), 3: (1, 80)}
    assert {(row.quantity, row.unit, row.set) for row in rows} == {("size", "px", "tags")}
    assert {row.source for row in rows} == {"labelsTr_seeds: a labelled pixel"}


def test_tags_say_absent_where_none_is_labelled_if_asked_to(hearts: Dataset) -> None:
    rows = derive.tags(hearts, ["ann_ed"], ["LV", "Myo"], "seeds", "absent")
    assert bounds(rows, "ann_ed") == {0: (0, 0), 1: (1, 80), 2: (1, 80), 3: (0, 0)}
    assert bounds(rows, "ann_ed", "Myo") == dict.fromkeys(range(4), (0, 0))
    assert {row.source for row in rows} == {"labelsTr_seeds: a labelled pixel", "labelsTr_seeds: none labelled"}


# ann's slices with LV: 10, 30, 6, 12 and 1 px, over both phases
@pytest.mark.parametrize(
    ("unit", "grid", "lower", "upper"),
    [
        ("px", None, 0.9 * 1, 1.1 * 30),
        ("mm2", None, 0.9 * 1 * 2, 1.1 * 30 * 2),
        ("mL", None, 0.9 * 1 * 20 / 1000, 1.1 * 30 * 20 / 1000),
        ("fraction", None, 0.9 * 1 / 80, 1.1 * 30 / 80),
        ("grid_px", Grid((16, 40), "resize"), 0.9 * 1 * 8, 1.1 * 30 * 8),  # 640 pixels stand for 80
        ("grid_px", Grid((16, 16), "pad"), 0.9 * 1, 1.1 * 30),
        ("grid_px", Grid((32, 32), "pad", (0.5, 1.0)), 0.9 * 1 * 4, 1.1 * 30 * 4),
    ],
)
def test_common_bounds_are_one_patients_smallest_and_largest_slice(
    hearts: Dataset, unit: str, grid: Grid | None, lower: float, upper: float
) -> None:
    rows = derive.common(hearts, ["bob_ed"], ["LV"], "seeds", "ann", unit=unit, grid=grid)
    # presence is known in slices 0 and 2; elsewhere the upper bound holds by itself
    expected = {0: (lower, upper), 1: (-INF, upper), 2: (lower, upper), 3: (-INF, upper)}
    assert bounds(rows, "bob_ed") == {index: pytest.approx(pair) for index, pair in expected.items()}
    assert {(row.unit, row.set) for row in rows} == {(unit, "common")}
    assert "full masks of ann" in rows[0].source


def test_common_bounds_of_a_slice_that_is_known_to_be_empty_are_zero(hearts: Dataset) -> None:
    rows = derive.common(hearts, ["bob_ed"], ["LV", "Myo"], "seeds", "ann", margin=0.2, empty="absent", unit="px")
    known = (pytest.approx(0.8), pytest.approx(36))
    assert bounds(rows, "bob_ed") == {0: known, 1: (0, 0), 2: known, 3: (0, 0)}
    assert bounds(rows, "bob_ed", "Myo") == dict.fromkeys(range(4), (0, 0))


def test_common_bounds_of_a_union_count_both_classes(hearts: Dataset) -> None:
    rows = derive.common(hearts, ["bob_ed"], ["LV+Myo"], "seeds", "ann", margin=0.0, unit="px")
    # ann's slices: 4, 30, 35; 31, 19 and 1
    assert bounds(rows, "bob_ed", "LV+Myo")[0] == pytest.approx((1, 35))


def test_individual_bounds_are_ten_percent_around_each_slice(hearts: Dataset) -> None:
    rows = derive.individual(hearts, hearts.cases, ["LV", "Myo"])
    for case, sizes in SIZES_PX.items():
        for column, region in enumerate(["LV", "Myo"]):
            expected = {i: pytest.approx((0.9 * s[column], 1.1 * s[column])) for i, s in enumerate(sizes)}
            assert bounds(rows, case, region) == expected
    assert bounds(rows, "ann_ed")[3] == (0, 0)
    assert all(row.source.startswith("oracle") for row in rows)
    assert {(row.unit, row.set) for row in rows} == {("px", "individual")}


def test_a_misjudged_size_is_off_by_at_most_its_error_and_what_is_absent_stays_so(hearts: Dataset) -> None:
    for function in (derive.individual, derive.volume):
        true, some, more = (
            [row.lower for row in function(hearts, hearts.cases, ["LV", "Myo"], margin=0.0, misjudged=Misjudged(e, 3))]
            for e in (0.0, 0.2, 0.4)
        )
        true, off, twice = np.array(true), np.subtract(some, true), np.subtract(more, true)
        assert (np.abs(off) <= 0.2 * true).all()
        assert np.abs(off[true > 0]).min() > 0
        np.testing.assert_allclose(twice, 2 * off, rtol=1e-9)
    rows = derive.individual(hearts, ["ann_ed"], ["LV"], misjudged=Misjudged(0.2, 3))
    assert bounds(rows, "ann_ed")[3] == (0, 0)
    assert rows[0].source == "oracle: size in the full mask, wrong by up to 20% (seed 3), margin 0.1"
    alone = derive.individual(hearts, ["bob_ed"], ["Myo"], misjudged=Misjudged(0.2, 3))
    among = derive.individual(hearts, hearts.cases, ["LV", "Myo"], misjudged=Misjudged(0.2, 3))
    assert bounds(alone, "bob_ed", "Myo") == bounds(among, "bob_ed", "Myo")


def test_misjudged_sizes_are_wrong_evenly_in_both_directions() -> None:
    u = Misjudged(0.5).of(np.ones(20000), "case", "LV") - 1
    assert stats.kstest(u, stats.uniform(-0.5, 1.0).cdf).pvalue > 0.01


def test_volume_bounds_are_in_millilitres(hearts: Dataset) -> None:
    rows = derive.volume(hearts, hearts.cases, ["LV"], margin=0.2)
    assert bounds(rows, "ann_ed") == {None: pytest.approx((0.8 * 40 * 0.020, 1.2 * 40 * 0.020))}
    assert bounds(rows, "bob_ed") == {None: pytest.approx((0.8 * 58 * 0.018, 1.2 * 58 * 0.018))}
    assert {(row.unit, row.set) for row in rows} == {("mL", "volume")}
    assert rows[0].source.startswith("oracle")


@pytest.mark.parametrize("unit", SIZE_UNITS)
@pytest.mark.parametrize("scope", ["slice", "volume"])
def test_the_true_mask_measures_as_its_bounds_say_in_every_unit(hearts: Dataset, unit: str, scope: str) -> None:
    """What derives bounds and what measures predictions must mean the same by a unit."""
    grid = Grid((24, 40), "pad", (0.5, 0.5))  # whole pixels of the grid for every pixel of the files
    for case in hearts.cases:
        function = derive.individual if scope == "slice" else derive.volume
        rows = function(hearts, [case], ["LV", "Myo"], margin=0.0, unit=unit, grid=grid)
        _, image = hearts.read_image(case)
        target = hearts.to_slices(hearts.read_labels(case, "full", image))
        rows_mm, columns_mm, between_mm = hearts.slice_spacing_mm(image)
        if unit == "grid_px":
            target = Placement.of(SHAPE[:2], (rows_mm, columns_mm), grid).place_labels(target, 0)
        spacing_mm = torch.tensor([[rows_mm, columns_mm, between_mm]] * 4)
        frame = Frame(torch.ones(4, 1, 1), spacing_mm)
        size = Size(unit)
        probs = np.stack([target == 1, target == 2], axis=1).astype(np.float32)
        sums = size.sums(torch.from_numpy(probs), frame)
        groups = Groups.each(4) if scope == "slice" else Groups.by_name(["all"] * 4, {"all": 4})
        measured = size.value(groups.add(sums))
        expected = torch.tensor([[row.lower for row in rows if row.region == r] for r in ("LV", "Myo")]).T
        torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-6)


def test_what_is_impossible_is_named(hearts: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"'carl' is no list, patient or case"):
        derive.common(hearts, ["ann_ed"], ["LV"], "seeds", "carl")
    with pytest.raises(DatasetError, match=r"'lv' is no class of .*; did you mean 'LV'\?\n.*dataset.json"):
        derive.individual(hearts, ["ann_ed"], ["lv"])
    with pytest.raises(PriorsError, match=r"grid_px needs the grid that is meant\.\n.*Give --size and --fit"):
        derive.individual(hearts, ["ann_ed"], ["LV"], unit="grid_px")
    with pytest.raises(PriorsError, match=r"an error of 1 is no share\."):
        Misjudged(1.0)


def test_a_patient_without_the_class_gives_no_common_bounds(hearts: Dataset) -> None:
    another = replace(hearts, labels={**hearts.labels, "RV": 3}, ignore=4)
    with pytest.raises(PriorsError, match=r"bob has no slice with RV\.\n.*Name another patient"):
        derive.common(another, ["ann_ed"], ["RV"], "seeds", "bob")


def test_the_tiny_dataset_has_bounds_that_its_masks_keep(write_dataset: WriteDataset) -> None:
    dataset = Dataset.open(write_dataset())
    rows = priors.read(dataset.folder / "priors.csv")
    assert {(row.set, row.unit) for row in rows} == {("tags", "px"), ("individual", "px"), ("volume", "mL")}
    for row in rows:
        _, image = dataset.read_image(row.case)
        mask = dataset.read_labels(row.case, "full", image) == dataset.labels[row.region]
        size = mask.sum() * np.prod(image.spacing_mm) / 1000 if row.slice is None else mask[..., row.slice].sum()
        assert row.lower <= size <= row.upper
