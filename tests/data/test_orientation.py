"""Volumes that lie otherwise than others: a training takes them as they are, and a check says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data.check import check
from boundseg.data.dataset import Dataset
from boundseg.data.describe import describe
from boundseg.data.orientation import axis_codes, differences, orientations
from boundseg.data.volume_io import Volume, read_affine, write

CASE = "patient1_frame01"


def turn(folder: Path, case: str = CASE) -> None:
    """Flips and permutes the axes of a case's files; where each voxel lies stays."""
    for path in folder.glob(f"*/{case}*"):
        image: Any = nib.load(path)
        nib.save(image.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]])), path)


def respaced(folder: Path, step_mm: tuple[float, float, float]) -> None:
    for path in folder.glob(f"*/{CASE}*"):
        image: Any = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([*step_mm, 1])), path)


def notes(folder: Path) -> list[str]:
    return check(Dataset.open(folder)).notes


def test_one_orientation_is_no_news(tiny_dataset: Path) -> None:
    assert notes(tiny_dataset) == []
    assert set(describe(Dataset.open(tiny_dataset)).orientations.values()) == {10}


def test_several_orientations_are_told(tiny_dataset: Path) -> None:
    usual = axis_codes(read_affine(tiny_dataset / "imagesTr" / f"{CASE}_0000.nii.gz"))
    turn(tiny_dataset)
    dataset = Dataset.open(tiny_dataset)
    (first, *others) = notes(tiny_dataset)
    assert others == []
    turned = axis_codes(read_affine(tiny_dataset / "imagesTr" / f"{CASE}_0000.nii.gz"))
    assert f"several directions: {usual} 9 (patient1_frame07, " in first
    assert f" and 5 more); {turned} 1 ({CASE}). Nothing is turned: " in first
    found = describe(dataset)
    assert found.orientations == {usual: 9, turned: 1}
    assert found.facts()["axes"] == f"{usual} 9, {turned} 1 cases; nothing is turned"
    assert orientations(dataset, [CASE]) == [turned]


def test_a_slice_axis_that_is_not_the_thickest_is_told(tiny_dataset: Path) -> None:
    content = json.loads((tiny_dataset / "dataset.json").read_text())
    (tiny_dataset / "dataset.json").write_text(json.dumps(content | {"slice_axis": 0}))
    (found,) = [note for note in notes(tiny_dataset) if "thickest" in note]
    assert "slices are stacked along axis 0, which is not the thickest axis of patient1_frame01, " in found
    assert found.endswith("(voxels of 1.3 x 1.5 x 8 mm). Was another slice_axis meant in dataset.json?")


def test_pixels_of_quite_another_size_are_told(tiny_dataset: Path) -> None:
    respaced(tiny_dataset, (0.13, 0.13, 8))
    assert any(f"pixels measure 0.13 mm in {CASE} and " in note for note in notes(tiny_dataset))


def test_isotropic_voxels_and_no_volume_are_no_news(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    assert differences(dataset, {}) == []
    assert differences(dataset, {CASE: Volume(np.zeros((2, 3, 4), np.uint8), np.diag([1.2, 1, 1, 1]))}) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_header_alone_tells_the_affine(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("SimpleITK")
    affine = np.array([[0, -1.5, 0, 3], [2.0, 0, 0, 4], [0, 0, 8, -5], [0, 0, 0, 1]])
    write(tmp_path / f"a{ending}", np.zeros((3, 4, 5), np.uint8), Volume(np.zeros((3, 4, 5)), affine))
    assert np.allclose(read_affine(tmp_path / f"a{ending}"), affine)
    assert axis_codes(affine) == "ALS"
