"""The dataset folder: what is opened is what lies there, and each contradiction is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data import dataset as folders
from boundseg.data import volume_io
from boundseg.data.dataset import Dataset, Splits
from boundseg.errors import DatasetError, VolumeError
from tests.conftest import CLASSES, IGNORE, WriteDataset, oblique_affine, save


def edit(path: Path, **values: Any) -> None:
    """Changes keys of a JSON file; None removes a key."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_folder_opens_as_it_was_written(tiny_dataset: Path) -> None:
    dataset = Dataset.open(str(tiny_dataset))
    assert dataset.labels == {"background": 0, **CLASSES}
    assert dataset.classes == CLASSES
    assert dataset.ignore == IGNORE
    assert dataset.label_sets == ("seeds",)
    assert len(dataset.cases) == 10
    assert dataset.training_cases == tuple(c for c in dataset.cases if not c.startswith("patient5"))
    assert dataset.cases_of("test") == ["patient5_frame01", "patient5_frame07"]
    assert dataset.label_path("patient5_frame01").parent.name == "labelsTs"
    for case in dataset.cases:
        image, volume = dataset.read_image(case)
        assert np.array_equal(image[0], nib.load(dataset.image_paths(case)[0]).get_fdata())
        labels = dataset.read_labels(case, "full", volume)
        assert np.array_equal(labels, np.asarray(nib.load(dataset.label_path(case)).dataobj))
        assert labels.dtype == np.uint8


def test_channels_come_in_the_order_of_their_numbers(write_dataset: WriteDataset) -> None:
    folder = write_dataset(channels=2, patients={"train": 1})
    edit(folder / "dataset.json", channel_names={"1": "second", "0": "first"})
    dataset = Dataset.open(folder)
    assert dataset.channels == ("first", "second")
    image, _ = dataset.read_image("patient1_frame01")
    assert image.shape == (2, 21, 23, 5)
    np.testing.assert_array_equal(image[1], 400 - image[0])


def test_labels_may_come_in_any_order_and_ignore_may_be_left_out(tiny_dataset: Path) -> None:
    edit(tiny_dataset / "dataset.json", labels={"Myo": 2, "LV": 1, "background": 0})
    dataset = Dataset.open(tiny_dataset)
    assert list(dataset.labels) == ["background", "LV", "Myo"]
    assert dataset.ignore == 3


def test_a_name_is_a_list_a_patient_or_a_case(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    assert dataset.cases_of("few") == dataset.cases_of("patient1") == ["patient1_frame01", "patient1_frame07"]
    assert dataset.cases_of("patient2_frame07") == ["patient2_frame07"]
    assert dataset.splits.patient_of("patient2_frame07") == "patient2"
    with pytest.raises(DatasetError, match=r"'patient11' is no list, patient or case; did you mean 'patient1'\?"):
        dataset.cases_of("patient11")
    with pytest.raises(DatasetError, match=r"did you mean 'train'\?\n.*splits.json.* train, validation, test, few"):
        dataset.cases_of("trian")


def test_a_case_that_two_members_of_a_list_name_counts_once() -> None:
    splits = Splits({"p": ["a", "b"]}, {"mixed": ["b", "p"]})
    assert splits.cases("mixed") == ["b", "a"]


def test_without_splits_every_case_is_a_patient(tiny_dataset: Path) -> None:
    (tiny_dataset / "splits.json").unlink()
    dataset = Dataset.open(tiny_dataset)
    assert dataset.cases_of("train") == list(dataset.training_cases)
    assert dataset.cases_of("test") == ["patient5_frame01", "patient5_frame07"]
    assert dataset.splits.patient_of("patient5_frame01") == "patient5_frame01"


def test_regions_are_classes_and_their_unions(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    assert dataset.region("Myo") == (2,)
    assert dataset.region("LV+Myo") == (1, 2)
    for name, told in (("LV+Myo+LV", "names 'LV' twice"), ("LV+Myo:Myo+LV", "is the same on both sides")):
        with pytest.raises(KeyError, match=told):
            dataset.regions(name)
    assert dataset.regions("LV:LV+Myo") == ((1,), (1, 2)), "the share of a union"
    with pytest.raises(KeyError, match=r"'myo' is no class of .*; did you mean 'Myo'\?"):
        dataset.region("LV+myo")


@pytest.mark.parametrize("slice_axis", [0, 1])
def test_slices_are_the_same_along_whichever_axis_they_are_stacked(
    write_dataset: WriteDataset, slice_axis: int
) -> None:
    datasets = [
        Dataset.open(write_dataset(f"axis{axis}", slice_axis=axis, patients={"train": 1})) for axis in (2, slice_axis)
    ]
    case = "patient1_frame01"
    images, volumes = zip(*(dataset.read_image(case) for dataset in datasets), strict=True)
    slices = [d.to_slices(image) for d, image in zip(datasets, images, strict=True)]
    assert slices[0].shape == (1, 5, 21, 23)
    np.testing.assert_array_equal(slices[0], slices[1])
    for dataset, volume in zip(datasets, volumes, strict=True):
        assert dataset.slice_spacing_mm(volume) == pytest.approx((1.3, 1.5, 8.0), rel=1e-6)
    np.testing.assert_array_equal(datasets[1].from_slices(slices[1]), images[1])


def test_negative_slice_axes_count_from_the_end(tiny_dataset: Path) -> None:
    edit(tiny_dataset / "dataset.json", slice_axis=-1)
    assert Dataset.open(tiny_dataset).slice_axis == 2


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    splits = Splits({"p1": ["a", "b"], "p2": ["c"]}, {"train": ["p1"], "validation": [], "test": ["p2"], "half": ["a"]})
    folders.describe(
        tmp_path,
        channels=["CT", "PET"],
        labels={"background": 0, "liver": 1},
        ignore=2,
        file_ending=".nrrd",
        training_cases=2,
    )
    folders.write_splits(tmp_path, splits)
    dataset = Dataset.open(tmp_path)
    assert dataset.splits == splits
    assert dataset.channels == ("CT", "PET")
    assert (dataset.labels, dataset.ignore) == ({"background": 0, "liver": 1}, 2)
    assert dataset.file_ending == ".nrrd"


def test_a_folder_of_metaimage_is_read_too(tmp_path: Path, tiny_dataset: Path) -> None:
    pytest.importorskip("SimpleITK")
    nifti = Dataset.open(tiny_dataset)
    image = volume_io.read(nifti.image_paths("patient1_frame01")[0])
    edit(tiny_dataset / "dataset.json", file_ending=".mha")
    volume_io.write(tiny_dataset / "imagesTr" / "patient1_frame01_0000.mha", image.array, image)
    dataset = Dataset.open(tiny_dataset)
    assert dataset.cases == ("patient1_frame01",)
    np.testing.assert_array_equal(dataset.read_image("patient1_frame01")[0][0], image.array)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": None}, r"the key 'labels' is missing.*\n.*dataset.json"),
        ({"channel_names": None}, r"the key 'channel_names' is missing"),
        ({"file_ending": None}, r"the key 'file_ending' is missing"),
        ({"file_ending": ".jpg"}, r"file_ending = '.jpg' is not a format that boundseg reads.*\n.*\.nii\.gz"),
        ({"slice_axis": 3}, r"slice_axis = 3 is no axis of a volume.*\n.*Use 0, 1 or 2"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, r"'whole' has the value \[1, 2\], .*\n.*Region-based"),
        (
            {"labels": {"background": 0, "LV": 2}},
            r"label values \[0, 2\] with ignore = 3 do not count up from 0.*\n.*dataset.json.*background 0",
        ),
        ({"labels": {}}, r"labels names no class\.\n.*dataset.json. Write"),
        ({"labels": {"ignore": 2}}, r"labels names no class"),
        ({"channel_names": {}}, r"channel_names does not number the channels"),
        ({"channel_names": {"²": "MR"}}, r"channel_names does not number the channels"),
        ({"labels": {"background": 0, "LV": 1, "Myo": 2, "ignore": 1}}, r"with ignore = 1 do not count up"),
    ],
)
def test_an_impossible_dataset_json_is_refused(tiny_dataset: Path, values: dict[str, Any], message: str) -> None:
    edit(tiny_dataset / "dataset.json", **values)
    with pytest.raises(DatasetError, match=message):
        Dataset.open(tiny_dataset)


def test_a_byte_order_mark_changes_nothing(tiny_dataset: Path) -> None:
    before = Dataset.open(tiny_dataset)
    for name in ("dataset.json", "splits.json"):
        (tiny_dataset / name).write_bytes(b"\xef\xbb\xbf" + (tiny_dataset / name).read_bytes())
    assert Dataset.open(tiny_dataset) == before


def test_a_case_of_no_patient_is_not_said_to_be_misspelt(tiny_dataset: Path) -> None:
    edit(tiny_dataset / "splits.json", patients={}, train=["patient1_frame01"])
    for name in ("train", "patient1_frame01"):
        with pytest.raises(DatasetError, match=r"the case 'patient1_frame01' belongs to no patient\.\n.*Add it under"):
            Dataset.open(tiny_dataset).cases_of(name)


@pytest.mark.parametrize("name", ["dataset.json", "splits.json"])
@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not valid JSON"), ("[1]", "is not a JSON object"), ("\udce4", "is not valid JSON")]
)
def test_what_is_no_json_is_refused(tiny_dataset: Path, name: str, text: str, message: str) -> None:
    (tiny_dataset / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match=f"{name} {message}"):
        Dataset.open(tiny_dataset)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset.json is not there\.\n.*nnU-Net v2's raw layout; boundseg convert"):
        Dataset.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "values",
    [
        {"patients": ["patient1"]},
        {"train": "patient1"},
        {"patients": {"p": "c"}},
        {"lists": ["few"]},
        {"train": [["patient1"]]},
        {"patients": {"p": [1]}},
    ],
)
def test_splits_of_another_form_are_refused(tiny_dataset: Path, values: dict[str, Any]) -> None:
    edit(tiny_dataset / "splits.json", **values)
    with pytest.raises(DatasetError, match=r"splits.json is not of the expected form\.\n.*It reads \{\"patients\""):
        Dataset.open(tiny_dataset)


def reread(folder: Path, case: str, label_set: str | None = None) -> None:
    dataset = Dataset.open(folder)
    _, image = dataset.read_image(case)
    if label_set is not None:
        dataset.read_labels(case, label_set, image)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_voxel_that_is_no_number_is_found_in_the_channel_that_holds_it(
    write_dataset: WriteDataset, value: float
) -> None:
    folder = write_dataset(channels=2, patients={"train": 1})
    path = folder / "imagesTr" / "patient1_frame01_0001.nii.gz"
    array = nib.load(path).get_fdata(dtype=np.float32)
    array[2, 3, :2] = value
    nib.save(nib.Nifti1Image(array, nib.load(path).affine), path)
    message = r"patient1_frame01_0001.nii.gz holds 2 voxels of 2415 that are NaN or infinite\.\n.*Replace them"
    with pytest.raises(VolumeError, match=message):
        reread(folder, "patient1_frame01")


def test_channels_of_two_grids_are_refused(write_dataset: WriteDataset) -> None:
    folder = write_dataset(channels=2, patients={"train": 1})
    path = folder / "imagesTr" / "patient1_frame01_0001.nii.gz"
    save(path, np.zeros((21, 23, 4), np.int16), oblique_affine())
    with pytest.raises(VolumeError, match=r"frame01_0001.nii.gz has the shape \(21, 23, 4\), its image \(21, 23, 5\)"):
        reread(folder, "patient1_frame01")
    path.unlink()
    with pytest.raises(VolumeError, match=r"patient1_frame01_0001.nii.gz is not there"):
        reread(folder, "patient1_frame01")


@pytest.mark.parametrize(("change_mm", "accepted"), [(0.1, True), (0.15, False), (100.0, False)])
@pytest.mark.parametrize("what", ["origin", "spacing"])
def test_labels_lie_where_their_image_lies_to_a_tenth_of_a_voxel(
    write_dataset: WriteDataset, what: str, change_mm: float, accepted: bool
) -> None:
    """Voxels of 1.3 x 1.5 x 8 mm, far from the origin of the world; the last row moves by ``change_mm``."""
    folder = write_dataset(patients={"train": 1}, priors=False)
    affine = np.diag([1.3, 1.5, 8, 1])
    affine[:3, 3] = -700, 800, 900
    moved = affine.copy()
    moved[0, 3 if what == "origin" else 0] += change_mm if what == "origin" else change_mm / 20
    for path, lies in (
        (folder / "imagesTr" / "patient1_frame01_0000.nii.gz", affine),
        (folder / "labelsTr" / "patient1_frame01.nii.gz", moved),
    ):
        nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), lies), path)
    if accepted:
        reread(folder, "patient1_frame01", "full")
        return
    message = rf"another affine than its image \(voxels are up to {change_mm:g} mm apart\)\.\n.*header"
    with pytest.raises(VolumeError, match=message):
        reread(folder, "patient1_frame01", "full")


def test_a_rotated_label_file_is_refused(tiny_dataset: Path) -> None:
    path = tiny_dataset / "labelsTr" / "patient1_frame01.nii.gz"
    affine = nib.load(path).affine.copy()
    affine[:3, :3] = np.diag(np.linalg.norm(affine[:3, :3], axis=0))
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), affine), path)
    with pytest.raises(VolumeError, match=r"patient1_frame01\.nii\.gz has another affine than its image"):
        reread(tiny_dataset, "patient1_frame01", "full")


@pytest.mark.parametrize("value", [4, 1.5, -1])
def test_label_values_that_nobody_named_are_refused(tiny_dataset: Path, value: float) -> None:
    path = tiny_dataset / "labelsTr_seeds" / "patient1_frame01.nii.gz"
    labels = nib.load(path).get_fdata(dtype=np.float32)
    labels[0, 0, 0] = value
    nib.save(nib.Nifti1Image(labels, nib.load(path).affine), path)
    message = rf"frame01.nii.gz holds the values \[{float(value)}\], which dataset.json does not name\.\n.*'Myo': 2"
    with pytest.raises(VolumeError, match=message):
        reread(tiny_dataset, "patient1_frame01", "seeds")


def test_a_list_that_names_nobody_is_told_from_a_name_that_is_no_list(tiny_dataset: Path) -> None:
    path = tiny_dataset / "splits.json"
    content = json.loads(path.read_text())
    content["train"].append("patient33")
    path.write_text(json.dumps(content))
    fact = "the list 'train' names 'patient33', which is no patient or case; did you mean 'patient3'"
    with pytest.raises(DatasetError, match=fact):
        Dataset.open(tiny_dataset).cases_of("train")
