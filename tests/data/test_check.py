"""Every problem of a folder at once, each in words that say what, where and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from boundseg.data import priors
from boundseg.data.check import Findings, check
from boundseg.data.dataset import Dataset
from tests.conftest import IGNORE, WriteDataset

CASE = "patient1_frame01"


def checked(folder: Path) -> Findings:
    return check(Dataset.open(folder))


def messages(folder: Path) -> list[str]:
    return [str(problem) for problem in checked(folder).problems]


def change(path: Path, how: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    """Rewrites a volume."""
    volume = nib.load(path)
    nib.save(nib.Nifti1Image(how(np.asarray(volume.dataobj)), volume.affine if affine is None else affine), path)


def image(folder: Path) -> Path:
    return folder / "imagesTr" / f"{CASE}_0000.nii.gz"


def labels(folder: Path, label_set: str = "") -> Path:
    return folder / f"labelsTr{label_set}" / f"{CASE}.nii.gz"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def shift(path: Path) -> None:
    affine = nib.load(path).affine.copy()
    affine[2, 3] += 5
    change(path, lambda array: array, affine)


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.astype(np.float32)
    array[0] = np.nan
    return array


def with_value(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def how(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[0, 0, 0] = value
        return array

    return how


def nothing_labelled(folder: Path) -> None:
    for path in (folder / "labelsTr_seeds").iterdir():
        change(path, lambda array: np.full_like(array, IGNORE))


def no_labels(folder: Path) -> None:
    for path in folder.glob("labels*/*"):
        path.unlink()


def edit_splits(folder: Path, how: Callable[[dict], object]) -> None:
    path = folder / "splits.json"
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def edit_priors(folder: Path, **values: object) -> None:
    """Changes the first row, on line 2."""
    first, *others = priors.read(folder / "priors.csv")
    priors.write(folder / "priors.csv", [replace(first, **values), *others])


def test_a_good_folder_has_no_problem_and_is_counted(tiny_dataset: Path) -> None:
    done: list[str] = []
    dataset = Dataset.open(tiny_dataset)
    found = check(dataset, done.append)
    assert found.problems == []
    assert found.notes == []
    assert done == list(dataset.cases)
    masks = [nib.load(path).get_fdata() for path in tiny_dataset.glob("labelsT[rs]/*.nii.gz")]
    # seeds: three pixels of two classes in four slices of eight cases
    assert found.labelled == {"full": (10, sum(int((mask > 0).sum()) for mask in masks)), "seeds": (8, 3 * 2 * 4 * 8)}


@pytest.mark.parametrize(
    ("break_it", "what", "remedy"),
    [
        (lambda f: image(f).write_bytes(b""), f"{CASE}_0000.nii.gz cannot be read as NIfTI: ", "Export or copy"),
        (lambda f: truncate(image(f)), f"{CASE}_0000.nii.gz cannot be read as NIfTI: ", "Export or copy it again"),
        (lambda f: truncate(labels(f)), f"{CASE}.nii.gz cannot be read as NIfTI: ", "labelsTr. Export or copy"),
        (
            lambda f: change(labels(f), lambda array: array[..., :-1]),
            f"{CASE}.nii.gz has the shape (21, 23, 4), its image (21, 23, 5).",
            "labelsTr. Resample it onto the image's grid",
        ),
        (
            lambda f: shift(labels(f, "_seeds")),
            f"{CASE}.nii.gz has another affine than its image (voxels are up to 5 mm apart).",
            "labelsTr_seeds. Resample it onto the image's grid, or copy the image's header",
        ),
        (
            lambda f: change(labels(f), with_value(7)),
            f"{CASE}.nii.gz holds the values [7], which dataset.json does not name.",
            "labelsTr. It names {'background': 0, 'LV': 1, 'Myo': 2} and ignore = 3.",
        ),
        (
            lambda f: change(image(f), with_nan),
            f"{CASE}_0000.nii.gz holds 115 voxels of 2415 that are NaN or infinite.",
            "imagesTr. Replace them",
        ),
        (nothing_labelled, "the label set 'seeds' has no labelled voxel in any of its 8 cases.", "Draw labels"),
        (no_labels, "no case has labels.", "Put them into labelsTr"),
        (
            lambda f: edit_priors(f, lower=812.0, upper=640.0),
            f"{CASE}, slice 0, LV: the lower bound 812 px exceeds the upper bound 640 px.",
            "priors.csv, line 2. Swap them, or widen the margin (boundseg priors --margin 0.2).",
        ),
        (
            lambda f: edit_priors(f, case="patient1_frame07_"),
            "'patient1_frame07_' is no case of this dataset; did you mean 'patient1_frame07'?",
            "priors.csv, line 2. Mend the name.",
        ),
        (lambda f: edit_priors(f, slice=5), f"{CASE} has slices 0 to 4, not 5.", "priors.csv, line 2. Count from 0."),
        (
            lambda f: (f / "priors.csv").write_text("case,slice\n"),
            "the columns ['class', 'quantity', 'lower', 'upper', 'unit', 'set', 'source'] are missing.",
            "The header is: case,slice,class",
        ),
        (
            lambda f: edit_splits(f, lambda s: s["test"].append("patient2")),
            "patient2 is on two sides of the split: train and test.",
            "splits.json. Keep a patient's cases on one side.",
        ),
        (
            lambda f: edit_splits(f, lambda s: s["validation"].append("patient2_frame07")),
            "patient2 is on two sides of the split: train and validation.",
            "splits.json. Keep a patient's cases on one side.",
        ),
        (
            lambda f: edit_splits(f, lambda s: s["patients"]["patient2"].append(CASE)),
            f"{CASE} belongs to 2 patients.",
            "splits.json. Keep one of them.",
        ),
        (
            lambda f: edit_splits(f, lambda s: s["patients"]["patient3"].pop()),
            "patient3_frame07 belongs to no patient.",
            "splits.json. Add it under patients.",
        ),
        (
            lambda f: edit_splits(f, lambda s: s["lists"]["few"].append("pateint1")),
            "the list 'few' names 'pateint1', which is no patient or case; did you mean 'patient1'?",
            "splits.json. Mend the name.",
        ),
        (
            lambda f: (labels(f, "_seeds")).rename(labels(f, "_seeds").with_name("patient1_frame1.nii.gz")),
            "patient1_frame1.nii.gz has no image; did you mean 'patient1_frame01'?",
            "labelsTr_seeds. Add CASE_0000, or remove the labels.",
        ),
    ],
)
def test_each_problem_is_named(tiny_dataset: Path, break_it: Callable[[Path], object], what: str, remedy: str) -> None:
    break_it(tiny_dataset)
    (message,) = messages(tiny_dataset)
    assert message.startswith(what)
    assert remedy in message
    assert f"in {tiny_dataset}" in message


def test_volumes_that_nothing_reads_are_told(tiny_dataset: Path) -> None:
    names = ("imagesTr/c.nii.gz", "imagesTr/e_0000.nii", f"imagesTr/{CASE}_0001.nii.gz", f"labelsTr/{CASE}.nii")
    for name in (*names, "labelsTr_seeds/a.mha", "labelsTr/patient5_frame01.nii.gz", "imagesTs/x_0000.jpg"):
        (tiny_dataset / name).touch()
    for name in ("imagesTr/.c.nii.gz", "imagesTr/c.json", "imagesTr/c.raw", "labelsTr/readme.txt"):
        (tiny_dataset / name).touch()
    (tiny_dataset / "imagesVal").mkdir()
    (tiny_dataset / "imagesVal" / "a_0000.nii.gz").touch()
    found = checked(tiny_dataset)
    assert [str(problem).replace(f"{tiny_dataset}/", "") for problem in found.problems] == [
        f"volumes that are never read: c.nii.gz, e_0000.nii, {CASE}_0001.nii.gz.\n"
        "  in imagesTr. Names there are CASE_0000.nii.gz; mend or remove them.",
        "volumes that are never read: x_0000.jpg.\n"
        "  in imagesTs. Names there are CASE_0000.nii.gz; mend or remove them.",
        f"volumes that are never read: {CASE}.nii, patient5_frame01.nii.gz.\n"
        "  in labelsTr. Names there are CASE.nii.gz of cases in imagesTr; mend or remove them.",
        "volumes that are never read: a.mha.\n"
        "  in labelsTr_seeds. Names there are CASE.nii.gz of cases in imagesTr; mend or remove them.",
    ]
    assert found.notes == ["imagesVal is no folder of the layout: its 1 volumes are never read."]


def test_a_missing_image_is_told_by_all_that_speak_of_it(tiny_dataset: Path) -> None:
    image(tiny_dataset).unlink()
    (tiny_dataset / "priors.csv").unlink()
    assert [message.partition(";")[0] for message in messages(tiny_dataset)] == [
        f"{CASE}.nii.gz has no image",  # its mask
        f"{CASE}.nii.gz has no image",  # its seeds
        f"'{CASE}' has no image",  # its patient
    ]


def test_a_missing_channel_is_named(write_dataset: WriteDataset) -> None:
    folder = write_dataset(channels=2, patients={"train": 1})
    (folder / "imagesTr" / f"{CASE}_0001.nii.gz").unlink()
    (message,) = messages(folder)
    assert message.startswith(f"{CASE}_0001.nii.gz is not there.")


def test_a_folder_without_images_says_so(tmp_path: Path, tiny_dataset: Path) -> None:
    (tmp_path / "dataset.json").write_text((tiny_dataset / "dataset.json").read_text())
    assert [message.partition("\n")[0] for message in messages(tmp_path)] == ["there is no image."]


def test_all_problems_come_in_one_report(tiny_dataset: Path) -> None:
    truncate(image(tiny_dataset))
    change(tiny_dataset / "labelsTr" / "patient2_frame01.nii.gz", with_value(9))
    change(tiny_dataset / "imagesTs" / "patient5_frame01_0000.nii.gz", with_nan)
    nothing_labelled(tiny_dataset)
    edit_splits(tiny_dataset, lambda splits: splits["test"].append("patient2"))
    edit_priors(tiny_dataset, case="patient9_frame01", lower=9.0, upper=1.0)
    found = "\n".join(messages(tiny_dataset))
    for part in [
        f"{CASE}_0000.nii.gz cannot be read",
        "patient2_frame01.nii.gz holds the values [9]",
        "patient5_frame01_0000.nii.gz holds",
        "patient2 is on two sides",
        "the lower bound 9 px exceeds the upper bound 1 px",
        "'patient9_frame01' is no case of this dataset",
        "the label set 'seeds' has no labelled voxel in any of its 7 cases",
    ]:
        assert part in found
    assert len(messages(tiny_dataset)) == 7


def test_what_may_be_meant_so_is_a_note(tiny_dataset: Path) -> None:
    (tiny_dataset / "splits.json").unlink()
    (tiny_dataset / "priors.csv").unlink()
    change(labels(tiny_dataset), with_value(IGNORE))
    change(labels(tiny_dataset, "_seeds"), lambda array: np.full_like(array, IGNORE))
    found = checked(tiny_dataset)
    assert found.problems == []
    assert found.notes == [
        f"{CASE}: the full mask holds ignored voxels.",
        f"{CASE} has no labelled voxel in the set 'seeds'.",
        "no splits.json: every case is taken as one patient, imagesTr trains, imagesTs tests.",
        "no priors.csv: nothing is known about sizes (boundseg priors derives bounds).",
    ]


def test_a_full_mask_of_background_and_ignore_labels_nothing(tiny_dataset: Path) -> None:
    for path in tiny_dataset.glob("labelsT[rs]/*"):
        change(path, lambda array: np.where(array > 0, IGNORE, 0).astype(np.uint8))
    (message,) = messages(tiny_dataset)
    assert message.startswith("the label set 'full' has no labelled voxel in any of its 10 cases.")


def test_a_drawing_with_0_for_not_drawn_is_noted(tiny_dataset: Path) -> None:
    path = tiny_dataset / "labelsTr_seeds" / "patient1_frame01.nii.gz"
    image = nib.load(path)
    drawn = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.where(drawn == 3, 0, drawn).astype(np.uint8), image.affine), path)
    (note,) = [note for note in check(Dataset.open(tiny_dataset)).notes if "are labelled" in note]
    assert note.startswith("patient1_frame01: 100% of the voxels of the set 'seeds' are labelled, most as background.")
    assert note.endswith("If 0 means 'not drawn' there, write 3 (ignore) instead.")
