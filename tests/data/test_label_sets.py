"""Weak label sets: a file a case, on the case's grid, the same whoever else is weakened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data.check import check
from boundseg.data.dataset import Dataset
from boundseg.data.label_sets import write_label_set
from boundseg.errors import DatasetError, InputError
from tests.conftest import CLASSES, IGNORE, WriteDataset

CASE = "patient1_frame01"
OPTIONS: dict[str, dict[str, Any]] = {
    "erosion": {},
    "text": {"method": "erosion", "reading": "text"},
    "disc": {"method": "disc", "radius_px": 2},
    "prepared grid": {"method": "erosion", "grid_size": (64, 64)},
}


def written(folder: Path, label_set: str, case: str = CASE) -> np.ndarray:
    return np.asarray(nib.load(folder / f"labelsTr_{label_set}" / f"{case}.nii.gz").dataobj)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("slice_axis", [1, 2])
def test_labels_lie_in_the_masks_and_every_slice_with_a_class_has_some(
    write_dataset: WriteDataset, options: dict[str, Any], slice_axis: int
) -> None:
    folder = write_dataset(slice_axis=slice_axis, weak=False)
    dataset = Dataset.open(folder)
    done: list[str] = []
    cases = dataset.training_cases
    found = write_label_set(dataset, cases, "weak", **{"method": "erosion", **options}, report=done.append)
    assert done == list(cases)
    assert Dataset.open(folder).label_sets == ("weak",)
    assert check(Dataset.open(folder)).problems == []  # grids, values
    counted = dict.fromkeys(CLASSES.values(), 0)
    for case in cases:
        labels, target = written(folder, "weak", case), np.asarray(nib.load(dataset.label_path(case)).dataobj)
        assert labels.dtype == np.uint8
        known = labels != IGNORE
        assert np.array_equal(labels[known], target[known])
        for value in CLASSES.values():
            counted[value] += int((labels == value).sum())
            others = tuple(axis for axis in range(3) if axis != slice_axis)
            assert np.array_equal((labels == value).any(others), (target == value).any(others))
        original = nib.load(dataset.image_paths(case)[0])
        assert np.array_equal(nib.load(dataset.label_path(case, "weak")).affine, original.affine)
    assert found.names == CLASSES
    assert found.total is not None
    assert found.total.labelled == counted
    assert found.empty_cases == []


def test_one_class_alone_may_be_labelled(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    found = write_label_set(dataset, [CASE], "ring", "disc", classes=["Myo"])
    assert found.names == {"Myo": 2}
    assert set(np.unique(written(tiny_dataset, "ring"))) == {2, IGNORE}


def test_a_case_gets_the_same_labels_whoever_is_weakened_beside_it(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    write_label_set(dataset, list(dataset.training_cases), "all", "disc", seed=3)
    write_label_set(dataset, list(dataset.training_cases)[::-1], "backwards", "disc", seed=3)
    write_label_set(dataset, [CASE], "alone", "disc", seed=3)
    write_label_set(dataset, [CASE], "other", "disc", seed=4)
    for case in dataset.training_cases:
        assert np.array_equal(written(tiny_dataset, "all", case), written(tiny_dataset, "backwards", case))
    assert np.array_equal(written(tiny_dataset, "all"), written(tiny_dataset, "alone"))
    assert not np.array_equal(written(tiny_dataset, "all"), written(tiny_dataset, "other"))


def test_cases_without_any_label_are_counted(tiny_dataset: Path) -> None:
    path = tiny_dataset / "labelsTr" / f"{CASE}.nii.gz"
    mask = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine), path)
    found = write_label_set(Dataset.open(tiny_dataset), [CASE, "patient2_frame01"], "weak", "erosion")
    assert found.empty_cases == [CASE]
    assert (written(tiny_dataset, "weak") == IGNORE).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": ["lv"]}, r"'lv' is no class to label; did you mean 'LV'\?\n.*dataset.json.*LV, Myo"),
        ({"classes": ["LV+Myo"]}, r"'LV\+Myo' is no class to label"),
        ({"classes": ["background"]}, r"'background' is no class to label"),
        ({"name": "full"}, r"a weak label set cannot be called 'full'\.\n.*Choose another --name"),
        ({"cases": ["patient3_frame01"]}, r"patient3_frame01.nii.gz is not there"),
        ({"kernel": 0}, r"The kernel of the erosion is 0"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(tiny_dataset: Path, values: dict[str, Any], message: str) -> None:
    (tiny_dataset / "labelsTr" / "patient3_frame01.nii.gz").unlink()
    given = {"cases": [CASE], "name": "weak", "method": "erosion", **values}
    with pytest.raises(InputError, match=message):
        write_label_set(Dataset.open(tiny_dataset), **given)
    assert not (tiny_dataset / "labelsTr_weak").exists()


def test_masks_stay_as_they_are(tiny_dataset: Path) -> None:
    before = {path: path.read_bytes() for path in tiny_dataset.glob("[il]*T[rs]/*")}
    dataset = Dataset.open(tiny_dataset)
    write_label_set(dataset, dataset.training_cases, "weak", "erosion")
    assert {path: path.read_bytes() for path in tiny_dataset.glob("[il]*T[rs]/*")} == before
    with pytest.raises(DatasetError):
        write_label_set(dataset, dataset.training_cases, "full", "erosion")
    assert {path: path.read_bytes() for path in tiny_dataset.glob("[il]*T[rs]/*")} == before
