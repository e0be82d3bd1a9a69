"""ACDC's layout to a dataset folder: a miniature of it, and the real one where it is at hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from boundseg.data.check import check
from boundseg.data.convert import CONVERTERS, convert_acdc
from boundseg.data.dataset import Dataset
from boundseg.errors import InputError
from tests.conftest import oblique_affine, save

SHAPE = (12, 10, 3)
SPLIT = {"patient001": "train", "patient002": "validation", "patient003": "test"}


def miniature(folder: Path) -> Path:
    """Three patients of two frames: masks of 0 to 3, scribbles of 0 to 4, and split.csv."""
    for number, patient in enumerate(SPLIT):
        for frame in ("frame01", "frame12"):
            rng = np.random.default_rng([number, len(frame), int(frame[-2:])])
            affine = oblique_affine((1.3 + 0.1 * number, 1.3 + 0.1 * number, 10.0))
            mask = rng.integers(0, 4, SHAPE).astype(np.uint8)
            mask[..., 0] = 0
            scribble = np.where(rng.random(SHAPE) < 0.1, mask, 4).astype(np.uint8)
            path = folder / patient / f"{patient}_{frame}"
            save(path.with_name(f"{path.name}.nii.gz"), rng.integers(0, 255, SHAPE).astype(np.int16), affine)
            save(path.with_name(f"{path.name}_gt.nii.gz"), mask, affine)
            save(path.with_name(f"{path.name}_scribble.nii.gz"), scribble, affine)
        save(folder / patient / f"{patient}_4d.nii.gz", np.zeros(SHAPE, np.int16), np.eye(4))
        (folder / patient / "Info.cfg").write_text("ED: 1\nES: 12\n")
    rows = [f"{patient},{split}" for patient, split in SPLIT.items()]
    (folder / "split.csv").write_text("\n".join(["patient,split", *rows, "patient099,train"]) + "\n")
    return folder


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    return miniature(tmp_path / "acdc")


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


TARGETS = {
    (): {"RV": 1, "Myo": 2, "LV": 3},
    ("LV",): {"LV": 1},
    ("LV", "Myo"): {"Myo": 1, "LV": 2},
}


def assert_is_converted(source: Path, dataset: Dataset, targets: tuple[str, ...], split: dict[str, str]) -> None:
    """Every file of the source against the one that it has become."""
    assert dataset.classes == TARGETS[targets]
    assert dataset.ignore == len(TARGETS[targets]) + 1
    assert dataset.slice_axis == 2
    masks = sorted(source.glob("patient*/*_gt.nii.gz"))
    assert dataset.cases == tuple(path.name.removesuffix("_gt.nii.gz") for path in masks)
    renumbered = {theirs: TARGETS[targets].get(name, 0) for name, theirs in {"RV": 1, "Myo": 2, "LV": 3}.items()}
    for case in dataset.cases:
        patient = case.partition("_")[0]
        assert case in dataset.cases_of(split[patient])
        assert dataset.splits.patient_of(case) == patient
        image, mask, scribble = (source / patient / f"{case}{end}.nii.gz" for end in ("", "_gt", "_scribble"))
        (copied,) = dataset.image_paths(case)
        assert copied.read_bytes() == image.read_bytes()
        assert copied.parent.name == ("imagesTs" if split[patient] == "test" else "imagesTr")
        pairs = [(mask, dataset.label_path(case), {0: 0, **renumbered})]
        if split[patient] != "test" and scribble.is_file():
            table = {0: 0, **renumbered, 4: dataset.ignore}
            pairs.append((scribble, dataset.label_path(case, "scribble"), table))
        for theirs, ours, table in pairs:
            before, after = voxels(theirs), voxels(ours)
            assert after.dtype == np.uint8
            for value in np.unique(before):
                assert set(np.unique(after[before == value])) == {table[value]}
            assert np.array_equal(nib.load(ours).affine, nib.load(theirs).affine)
    assert check(dataset).problems == []


@pytest.mark.parametrize("targets", TARGETS)
def test_files_keep_their_voxels_and_classes_are_renumbered(acdc: Path, targets: tuple[str, ...]) -> None:
    destination = acdc.parent / "new" / "ACDC"
    done: list[str] = []
    convert_acdc(acdc, destination, targets, done.append)
    dataset = Dataset.open(destination)
    assert done == list(dataset.cases)
    assert len(done) == 6
    assert_is_converted(acdc, dataset, targets, SPLIT)
    assert dataset.label_sets == ("scribble",)
    assert len(list((destination / "labelsTr_scribble").iterdir())) == 4
    assert [path.name for path in destination.parent.iterdir()] == ["ACDC"]


def test_without_split_and_scribbles_every_patient_trains(acdc: Path) -> None:
    (acdc / "split.csv").unlink()
    for path in acdc.glob("*/*_scribble.nii.gz"):
        path.unlink()
    convert_acdc(acdc, acdc.parent / "ACDC", ["LV"])
    dataset = Dataset.open(acdc.parent / "ACDC")
    assert dataset.label_sets == ()
    assert_is_converted(acdc, dataset, ("LV",), dict.fromkeys(SPLIT, "train"))


def test_a_split_may_be_separated_by_semicolons(acdc: Path) -> None:
    path = acdc / "split.csv"
    path.write_text(path.read_text().replace(",", ";"))
    convert_acdc(acdc, acdc.parent / "ACDC")
    assert Dataset.open(acdc.parent / "ACDC").cases_of("test") == ["patient003_frame01", "patient003_frame12"]


def test_the_layout_is_known_by_its_name(acdc: Path) -> None:
    destination = acdc.parent / "ACDC"
    destination.mkdir()  # an empty folder may be there
    CONVERTERS["acdc"](acdc, destination, ("LV",), lambda case: None)
    assert Dataset.open(destination).cases_of("test") == ["patient003_frame01", "patient003_frame12"]


@pytest.mark.parametrize("kind", ["the working directory", "a link", "a link to nothing", "with a leftover"])
def test_an_empty_folder_may_be_there(acdc: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder, destination = acdc.parent / "real", acdc.parent / "ACDC"
    if kind != "a link to nothing":
        folder.mkdir()
    if "link" in kind:
        destination.symlink_to("real")
    elif kind == "with a leftover":
        destination = folder
        (folder / ".real.partial" / "imagesTr").mkdir(parents=True)
    else:
        monkeypatch.chdir(folder)
        destination = Path()
    convert_acdc(acdc, destination)
    assert_is_converted(acdc, Dataset.open(folder), (), SPLIT)
    assert not list(acdc.parent.rglob("*.partial"))
    assert destination.is_symlink() == ("link" in kind)


def test_a_failure_leaves_the_empty_folder_that_was_there(acdc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (acdc / f"{LAST}.nii.gz").write_bytes(b"x")
    (acdc.parent / "there").mkdir()
    monkeypatch.chdir(acdc.parent / "there")
    with pytest.raises(InputError):
        convert_acdc(acdc, Path())
    assert list((acdc.parent / "there").iterdir()) == []


def rewrite(path: Path, value: int) -> None:
    volume = nib.load(path)
    array = np.asarray(volume.dataobj).copy()
    array[0, 0, 1] = value
    nib.save(nib.Nifti1Image(array, volume.affine), path)


LAST = Path("patient003") / "patient003_frame12"


@pytest.mark.parametrize(
    ("break_it", "targets", "message"),
    [
        (lambda f: None, ["lv"], r"'lv' is no class of ACDC; did you mean 'LV'\?\n.*Use RV, Myo, LV"),
        (lambda f: shutil.rmtree(f), [], r"holds no patientNNN/patientNNN_frameFF_gt.nii.gz\.\n.*patients' folders"),
        (lambda f: (f / f"{LAST}.nii.gz").unlink(), [], r"patient003_frame12.nii.gz is not there\.\n.*patient003"),
        (lambda f: (f / f"{LAST}_gt.nii.gz").write_bytes(b"x"), [], r"patient003_frame12_gt.nii.gz cannot be read"),
        (lambda f: rewrite(f / f"{LAST}_gt.nii.gz", 4), [], r"frame12_gt.nii.gz holds the values \[0, 1, 2, 3, 4\]"),
        (
            lambda f: (f / f"{LAST}_gt.nii.gz").unlink(),
            [],
            r"patient003_frame12_gt.nii.gz is not there\.\n.*patient003\. Download it again, or remove what",
        ),
        (
            lambda f: (f / f"{LAST}.nii.gz").write_bytes((f / f"{LAST}.nii.gz").read_bytes()[:60]),
            [],
            r"patient003_frame12.nii.gz cannot be read",
        ),
        (
            lambda f: save(f / f"{LAST}_gt.nii.gz", np.ones((12, 10, 2), np.uint8), np.eye(4)),
            [],
            r"frame12_gt.nii.gz has the shape \(12, 10, 2\), its image \(12, 10, 3\)",
        ),
        (
            lambda f: save(f / f"{LAST}_gt.nii.gz", np.ones(SHAPE, np.uint8), np.eye(4)),
            [],
            r"patient003_frame12_gt.nii.gz has another affine than its image",
        ),
        (
            lambda f: save(f / f"{LAST}_gt.nii.gz", np.full(SHAPE, 0.5, np.float32), np.eye(4)),
            [],
            r"frame12_gt.nii.gz holds the values \[0.5\]",
        ),
        (
            lambda f: rewrite(f / "patient001" / "patient001_frame01_scribble.nii.gz", 5),
            [],
            r"patient001_frame01_scribble.nii.gz holds the values .*5\]",
        ),
        (
            lambda f: (f / "split.csv").write_text("patient,split\npatient001,train\n"),
            [],
            r"patient002 is in no split\.\n.*split.csv. Add a row.*\npatient003 is in no split",
        ),
        (
            lambda f: (f / "split.csv").write_text("case,Split\npatient001,train\n"),
            [],
            r"there is no column 'patient'.*\n.*split.csv. Its first line is: patient,split\n"
            r"there is no column 'split'; did you mean 'Split'\?",
        ),
        (
            lambda f: (f / "split.csv").write_bytes("patient,split\nJäger,train\n".encode("latin-1")),
            [],
            r"split.csv is not UTF-8 \(line 2\)\.\n.*'CSV UTF-8",
        ),
        (
            lambda f: (f / "split.csv").write_text("patient,split\npatient001,trian\n,test\n"),
            [],
            r"'patient001' is in the split 'trian'\.\n.*line 2. Use train, validation, test\.\n'' is in the split",
        ),
        (
            lambda f: (f / "split.csv").write_text("patient,split\npatient001,train\npatient001,test\n"),
            [],
            r"patient001 is on two sides: train and test\.\n.*split.csv, line 3\. Keep one of the rows",
        ),
    ],
)
def test_a_failed_conversion_says_why_and_leaves_nothing_behind(
    acdc: Path, break_it: Callable[[Path], object], targets: list[str], message: str
) -> None:
    break_it(acdc)
    with pytest.raises(InputError, match=message):
        convert_acdc(acdc, acdc.parent / "ACDC", targets)
    assert {path.name for path in acdc.parent.iterdir()} <= {"acdc"}


def test_all_that_is_wrong_is_told_at_once(acdc: Path) -> None:
    (acdc / f"{LAST}.nii.gz").unlink()
    rewrite(acdc / "patient001" / "patient001_frame01_gt.nii.gz", 4)
    rewrite(acdc / "patient001" / "patient001_frame01_scribble.nii.gz", 7)
    save(acdc / "patient002" / "patient002_frame01.nii.gz", np.full(SHAPE, np.nan, np.float32), np.eye(4))
    with pytest.raises(InputError) as caught:
        convert_acdc(acdc, acdc.parent / "ACDC")
    told = [problem.what.partition(" ")[0] for problem in caught.value.problems]
    assert told == [
        "patient003_frame12.nii.gz",
        "patient001_frame01_gt.nii.gz",
        "patient001_frame01_scribble.nii.gz",
        "patient002_frame01.nii.gz",
        "patient002_frame01_gt.nii.gz",  # on the grid that the scan had
        "patient002_frame01_scribble.nii.gz",
    ]
    assert [path.name for path in acdc.parent.iterdir()] == ["acdc"]


def test_an_interrupted_conversion_leaves_nothing_behind(acdc: Path) -> None:
    def interrupt(case: str) -> None:
        if case == "patient002_frame01":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_acdc(acdc, acdc.parent / "ACDC", report=interrupt)
    assert [path.name for path in acdc.parent.iterdir()] == ["acdc"]


def test_a_folder_that_cannot_be_made_is_told(acdc: Path) -> None:
    with pytest.raises(InputError, match=r"split.csv/ACDC cannot be written: Not a directory\.\n.*Name a folder"):
        convert_acdc(acdc, acdc / "split.csv" / "ACDC")


def test_a_folder_that_holds_something_is_left_alone(acdc: Path) -> None:
    (acdc.parent / "mine").mkdir()
    (acdc.parent / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"mine exists and is not empty\.\n.*Name a new folder, or remove it"):
        convert_acdc(acdc, acdc.parent / "mine")
    assert [path.name for path in (acdc.parent / "mine").iterdir()] == ["notes.txt"]


def test_the_real_layout(real_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "acdc"
    source.mkdir()
    if not (real_data / "acdc" / "split.csv").is_file():
        pytest.skip("BOUNDSEG_DATA holds no acdc/ with a split.csv")
    shutil.copy(real_data / "acdc" / "split.csv", source)
    split = dict(line.split(",")[:2] for line in (source / "split.csv").read_text().split()[1:])
    chosen = [next(patient for patient in split if split[patient] == side) for side in ("train", "validation", "test")]
    for patient in chosen:
        (source / patient).symlink_to(real_data / "acdc" / patient)
    convert_acdc(source, tmp_path / "ACDC_LV", ["LV"])
    assert_is_converted(source, Dataset.open(tmp_path / "ACDC_LV"), ("LV",), split)
