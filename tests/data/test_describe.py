"""What a dataset folder is said to hold, against nibabel and numpy alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data import priors
from boundseg.data.dataset import Dataset
from boundseg.data.describe import UNITS, Description, describe
from boundseg.data.priors import Prior
from boundseg.errors import DatasetError, PriorsError, VolumeError

CLASSES = {"LV": 1, "Myo": 2}
IGNORE = 3


def told(folder: Path, *regions: str) -> Description:
    return describe(Dataset.open(folder), regions)


def voxels(path: Path, slice_axis: int = 2) -> tuple[np.ndarray, list[float]]:
    """Slices first, and the sizes of a voxel along rows, columns and from slice to slice, by nibabel."""
    image: Any = nib.load(path)
    spacing = [float(s) for s in image.header.get_zooms()]
    between = spacing.pop(slice_axis)
    return np.moveaxis(np.asarray(image.dataobj), slice_axis, 0), [*spacing, between]


def masks(folder: Path) -> list[Path]:
    return sorted([*(folder / "labelsTr").iterdir(), *(folder / "labelsTs").iterdir()], key=lambda path: path.name)


def rewrite(path: Path, array: np.ndarray) -> None:
    image: Any = nib.load(path)
    nib.save(nib.Nifti1Image(array, image.affine, image.header), path)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_sizes_are_those_of_nibabel_and_a_loop(write_dataset: Any, slice_axis: int, channels: int) -> None:
    folder = write_dataset(slice_axis=slice_axis, channels=channels)
    found = told(folder)
    assert list(found.sizes) == ["LV", "Myo"]
    for name, value in CLASSES.items():
        px, mm2, ml, without = [], [], [], 0
        for path in masks(folder):
            slices, (row_mm, column_mm, between_mm) = voxels(path, slice_axis)
            for one in slices:
                count = int((one == value).sum())
                without += count == 0
                if count:
                    px.append(count)
                    mm2.append(count * row_mm * column_mm)
            ml.append((slices == value).sum() * row_mm * column_mm * between_mm / 1000)
        sizes = found.sizes[name]
        assert sizes.px.tolist() == px
        assert np.allclose(sizes.mm2, mm2, rtol=1e-5)
        assert np.allclose(sizes.ml, ml, rtol=1e-5)
        assert (sizes.slices - len(sizes.px), sizes.volumes) == (without, 10)
        assert without == 10  # the last slice of every case holds the background only


def test_grids_lists_and_names(write_dataset: Any) -> None:
    folder = write_dataset(channels=2, slice_axis=1)
    found = told(folder)
    images = sorted([*folder.glob("images*/*_0000.nii.gz")], key=lambda path: path.name)
    for path, shape, spacing in zip(images, found.shapes, found.spacings_mm, strict=True):
        slices, spacing_mm = voxels(path, 1)
        assert tuple(shape) == slices.shape
        assert np.allclose(spacing, spacing_mm, rtol=1e-5)
    assert found.lists == {"train": (3, 6), "validation": (1, 2), "test": (1, 2), "few": (1, 2)}
    facts = found.facts()
    assert facts["dataset"] == f"{folder}: 10 cases of 5 patients"
    assert facts["lists"] == "train 6 of 3, validation 2 of 1, test 2 of 1, few 2 of 1 (cases of patients)"
    assert facts["images"] == "2 channel(s): MR0, MR1; .nii.gz"
    assert facts["classes"] == "background 0, LV 1, Myo 2; ignore 3"
    assert facts["slices"] == "20 to 22 x 23 to 24 px, 5 in a volume, stacked along axis 1"
    assert facts["spacing"] == "1.3 to 1.5 mm in a slice, 8 mm from slice to slice"
    assert "note" not in facts


def test_label_sets_are_counted_as_by_hand(tiny_dataset: Path) -> None:
    first = tiny_dataset / "labelsTr_seeds" / "patient1_frame01.nii.gz"
    rewrite(first, np.where(np.arange(5) == 2, IGNORE, voxels_on_file(first)).astype(np.uint8))
    found = told(tiny_dataset).label_sets
    assert list(found) == ["full", "seeds"]
    for name, paths in (("full", masks(tiny_dataset)), ("seeds", sorted((tiny_dataset / "labelsTr_seeds").iterdir()))):
        all_slices = [one for path in paths for one in voxels(path)[0]]
        known = [int((one != IGNORE).sum()) for one in all_slices]
        of_name = found[name]
        assert of_name.cases == len(paths)
        assert of_name.voxels == sum(one.size for one in all_slices)
        assert of_name.labelled == sum(known)
        assert (of_name.slices, of_name.labelled_slices) == (len(known), sum(count > 0 for count in known))
        for region, value in CLASSES.items():
            assert of_name.shown[region] == sum((one == value).any() for one in all_slices)
    assert found["full"].labelled == found["full"].voxels
    assert found["seeds"].labelled_slices == 8 * 4 - 1


def voxels_on_file(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


def test_a_union_is_measured_as_one_region(tiny_dataset: Path) -> None:
    found = told(tiny_dataset, "LV+Myo")
    counts = [int((one > 0).sum()) for path in masks(tiny_dataset) for one in voxels(path)[0]]
    assert list(found.sizes) == ["LV+Myo"]
    assert found.sizes["LV+Myo"].px.tolist() == [count for count in counts if count]


def test_an_unknown_region_is_refused(tiny_dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)'LW' is no class of .* did you mean 'LV'\?.*dataset.json.*LV, Myo"):
        told(tiny_dataset, "LW")


def test_a_class_that_is_nowhere_has_no_sizes(tiny_dataset: Path) -> None:
    path = tiny_dataset / "dataset.json"
    content = json.loads(path.read_text())
    content["labels"] = {"background": 0, "LV": 1, "Myo": 2, "RV": 3, "ignore": 4}
    path.write_text(json.dumps(content))
    shutil.rmtree(tiny_dataset / "labelsTr_seeds")  # its 3 meant ignore
    found = told(tiny_dataset)
    assert (len(found.sizes["RV"].px), len(found.sizes["RV"].ml), found.sizes["RV"].slices) == (0, 0, 50)
    rows = [row for row in found.size_rows() if row["class"] == "RV"]
    assert [row["shown in"] for row in rows] == ["0 of 50", "0 of 50", "0 of 10"]
    assert {row["median"] for row in rows} == {""}
    # there is nothing to draw of it
    assert "RV" not in "".join(found.histograms())


def test_without_full_masks_sizes_are_unknown_and_weak_labels_still_told(write_dataset: Any) -> None:
    folder = write_dataset(priors=False)
    shutil.rmtree(folder / "labelsTr")
    shutil.rmtree(folder / "labelsTs")
    found = told(folder)
    assert found.sizes == {}
    assert found.size_rows() == found.histograms() == []
    assert list(found.label_sets) == ["seeds"]
    assert found.known == ()
    assert [(kind.labels, kind.bounds, kind.lists) for kind in found.knowledge] == [
        (("seeds",), (), {"train": 6, "validation": 2}),
        ((), (), {"test": 2}),
    ]
    assert [(row["labels"], row["bounds"]) for row in found.knowledge_rows()] == [("seeds", "none"), ("none", "none")]


def test_ignored_voxels_in_a_full_mask_are_said(tiny_dataset: Path) -> None:
    path = tiny_dataset / "labelsTr" / "patient1_frame01.nii.gz"
    array = voxels_on_file(path).copy()
    array[0, 0, 0] = IGNORE
    rewrite(path, array)
    found = told(tiny_dataset)
    assert found.label_sets["full"].labelled == found.label_sets["full"].voxels - 1
    assert found.facts()["note"] == "full masks hold ignored voxels: sizes are of what is labelled"


def test_bounds_are_summarised_as_their_rows_say(tiny_dataset: Path) -> None:
    rows = priors.read(tiny_dataset / "priors.csv")
    found = {(k.set, k.region): k for k in told(tiny_dataset).known}
    assert set(found) == {(s, region) for s in ("tags", "individual", "volume") for region in CLASSES}
    for (name, region), known in found.items():
        own = [row for row in rows if (row.set, row.region) == (name, region)]
        present = [row for row in own if row.upper > 0]
        assert (known.rows, known.cases) == (len(own), 8)
        assert known.absent == len(own) - len(present)
        assert (known.lower, known.upper) == (min(r.lower for r in present), max(r.upper for r in present))
        assert known.scope == ("volume" if name == "volume" else "slice")
        assert known.oracle == (name != "tags")
    assert found["individual", "LV"].absent == 8  # the last slice of each case
    assert found["volume", "LV"].unit == "mL"
    headings = [(row["bounds"], row["on"], row["per"]) for row in told(tiny_dataset).known_rows()]
    assert ("individual (oracle)", "size LV", "slice") in headings
    assert ("tags", "size Myo", "slice") in headings


def test_unknown_sides_stay_unknown(tiny_dataset: Path) -> None:
    case, typed = "patient1_frame01", "typed"
    rows = [
        Prior(case, None, "LV", "size", -np.inf, 80.0, "mL", "report", typed),
        Prior(case, None, "Myo", "size", 20.0, np.inf, "mL", "report", typed),
        Prior(case, 0, "LV", "size", -np.inf, np.inf, "px", "nothing", typed),
        Prior(case, 0, "LV", "size", 0.0, 0.0, "px", "absent", typed),
        Prior(case, 1, "LV", "size", 0.0, 50.0, "px", "absent", typed),  # perhaps there
    ]
    priors.write(tiny_dataset / "priors.csv", rows)
    found = told(tiny_dataset)
    assert [(row["lower from"], row["upper to"], row["say absent"]) for row in found.known_rows()] == [
        ("", "80 mL", "0"),
        ("20 mL", "", "0"),
        ("", "", "0"),
        ("0 px", "50 px", "1"),
    ]
    (knows,) = [kind for kind in found.knowledge if case in kind.cases]
    # a row without bounds tells nothing
    assert knows.bounds == (("absent", "slice", ("LV",)), ("report", "volume", ("LV", "Myo")))
    (row,) = [row for row in found.knowledge_rows() if case in row["of"]]
    assert row["bounds"] == "slices: absent on LV; volumes: report"


def test_cases_that_know_the_same_are_told_together(tiny_dataset: Path) -> None:
    (tiny_dataset / "labelsTr_seeds" / "patient2_frame07.nii.gz").unlink()
    found = told(tiny_dataset)
    kinds = {kind.cases: kind for kind in found.knowledge}
    assert sorted(case for cases in kinds for case in cases) == sorted(found.dataset.cases)
    assert [len(kind.cases) for kind in found.knowledge] == [7, 2, 1]
    assert kinds["patient2_frame07",].labels == ("full",)
    assert found.knowledge[0].lists == {"train": 5, "validation": 2}
    assert [row["of"] for row in found.knowledge_rows()] == [
        "train 5, validation 2",
        "test 2: patient5_frame01, patient5_frame07",
        "train 1: patient2_frame07",
    ]
    named = found.knowledge_rows(names=True)[0]["of"]
    assert named.startswith("train 5, validation 2: patient1_frame01, ")
    assert named.count("patient") == 7
    assert {row["bounds"] for row in found.knowledge_rows()} == {"slices: individual, tags; volumes: volume", "none"}


def test_a_case_outside_of_every_split_is_told(tiny_dataset: Path) -> None:
    path = tiny_dataset / "splits.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"train": ["patient1", "patient2"]}))
    assert told(tiny_dataset).knowledge[0].lists == {"train": 4, "no split": 2, "validation": 2}


def test_histograms_hold_every_slice_and_stand_side_by_side(tiny_dataset: Path) -> None:
    found = told(tiny_dataset)
    for unit in UNITS:
        lines = found.histograms(unit)
        what = "10 volumes" if unit == "mL" else "40 slices"
        assert lines[0].split("  ")[0] == f"LV, {unit} of {what}"
        assert f"Myo, {unit} of {what}" in lines[0]
        assert max(map(len, lines)) <= 100
        counted = [[int(cell.split()[-1]) for cell in (line[:49], line[49:]) if cell.strip()] for line in lines[1:]]
        assert sum(map(sum, counted)) == 2 * (10 if unit == "mL" else 40)
    assert all(ord(char) < 128 for line in found.histograms(plain=True) for char in line)


def test_each_case_is_reported(tiny_dataset: Path) -> None:
    named: list[str] = []
    dataset = Dataset.open(tiny_dataset)
    describe(dataset, report=named.append)
    assert named == list(dataset.cases)


def test_what_cannot_be_read_is_named(tiny_dataset: Path, tmp_path: Path, write_dataset: Any) -> None:
    empty = write_dataset("empty")
    for path in empty.glob("images*/*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"there is no image\.\n  in .*imagesTr"):
        told(empty)
    with (tiny_dataset / "priors.csv").open("a") as file:
        file.write("patient1_frame01,1,LV,size,812,640,px,individual,typed\n")
    with pytest.raises(PriorsError, match="the lower bound 812 px exceeds the upper bound 640 px"):
        told(tiny_dataset)
    (tiny_dataset / "priors.csv").unlink()
    path = tiny_dataset / "labelsTr_seeds" / "patient1_frame01.nii.gz"
    rewrite(path, voxels_on_file(path)[:, :-1])
    with pytest.raises(VolumeError, match=r"patient1_frame01.nii.gz has the shape"):
        told(tiny_dataset)
