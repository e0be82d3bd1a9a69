"""The vertebrae's and PROMISE12's layouts to dataset folders: miniatures of them, and the real ones where at hand."""

from __future__ import annotations

import gzip
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from boundseg.data.check import check
from boundseg.data.convert import CONVERTERS, convert_promise12, convert_vertebrae
from boundseg.data.dataset import Dataset
from boundseg.errors import InputError
from tests.conftest import oblique_affine, save

SimpleITK = pytest.importorskip("SimpleITK")

SHAPE = (9, 8, 4)
CASES = 6
AFFINE = oblique_affine((0.625, 0.625, 3.0))


def voxels(number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2 : 5 + number % 3, 3:6, 1:3] = 1
    return rng.integers(-50, 2000, SHAPE).astype(np.int16), mask


def write_itk(path: Path, array: np.ndarray, compressed: bool) -> None:
    """A MetaImage with that affine, by ITK itself, whose world is LPS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1, 1, 1]) @ AFFINE
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path), compressed)


def vertebrae(folder: Path) -> Path:
    for number in range(1, CASES + 1):
        image, mask = voxels(number)
        save(folder / f"Img_{number:02d}.nii.gz", image, AFFINE)
        save(folder / f"Img_{number:02d}_Labels.nii.gz", mask, AFFINE)
    return folder


def promise12(folder: Path) -> Path:
    """In the parts of the original download; every other volume is not compressed."""
    for number in range(1, CASES + 1):
        image, mask = voxels(number)
        part = folder / f"TrainingData_Part{1 + number % 3}"
        write_itk(part / f"Case{number:02d}.mhd", image, number % 2 == 0)
        write_itk(part / f"Case{number:02d}_segmentation.mhd", mask.astype(np.int8), number % 2 == 0)
    return folder


LAYOUTS = {"zenodo-vertebrae": (vertebrae, "Img_", "vertebrae"), "promise12": (promise12, "Case", "prostate")}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(layout: str, tmp_path: Path) -> Path:
    return LAYOUTS[layout][0](tmp_path / "source")


def test_voxels_and_geometry_stay(layout: str, source: Path, tmp_path: Path) -> None:
    _, prefix, target = LAYOUTS[layout]
    done: list[str] = []
    told = CONVERTERS[layout](source, tmp_path / "new" / "data", (), done.append, 0)
    dataset = Dataset.open(tmp_path / "new" / "data")
    assert dataset.cases == tuple(done) == tuple(f"{prefix}{number:02d}" for number in range(1, CASES + 1))
    assert (dataset.classes, dataset.ignore, dataset.slice_axis) == ({target: 1}, 2, 2)
    for number, case in enumerate(dataset.cases, start=1):
        image, mask = voxels(number)
        stored = nib.load(dataset.image_paths(case)[0])
        assert stored.get_data_dtype() == image.dtype
        assert np.array_equal(np.asarray(stored.dataobj), image)
        assert np.allclose(stored.affine, AFFINE, atol=1e-4)
        labels = nib.load(dataset.label_path(case))
        assert labels.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(labels.dataobj), mask)
    assert check(dataset).problems == []
    sides = {split: dataset.cases_of(split) for split in ("train", "validation", "test")}
    assert {split: len(cases) for split, cases in sides.items()} == {"train": 4, "validation": 1, "test": 1}
    assert sorted(case for cases in sides.values() for case in cases) == list(dataset.cases)
    assert {p.name[: -len("_0000.nii.gz")] for p in (dataset.folder / "imagesTs").iterdir()} == set(sides["test"])
    assert told == (
        "no split.csv: a fifth of the patients tests, drawn with seed 0; 1 of the 5 training patients are held out for "
        "validation, drawn with seed 0"
    )


def test_a_scan_that_is_nifti_is_copied_byte_by_byte(tmp_path: Path) -> None:
    """Also what numpy would round: intensities that are a slope times the stored numbers."""
    source = vertebrae(tmp_path / "source")
    scaled = nib.load(source / "Img_02.nii.gz")
    scaled.header.set_slope_inter(0.1, 3)
    nib.save(scaled, source / "Img_02.nii")
    (source / "Img_02.nii.gz").unlink()
    convert_vertebrae(source, tmp_path / "data")
    dataset = Dataset.open(tmp_path / "data")
    assert dataset.image_paths("Img_01")[0].read_bytes() == (source / "Img_01.nii.gz").read_bytes()
    assert gzip.decompress(dataset.image_paths("Img_02")[0].read_bytes()) == (source / "Img_02.nii").read_bytes()
    assert check(dataset).problems == []


def write_split(source: Path, sides: list[str]) -> None:
    stems = sorted(path.stem for path in source.rglob("Case??.mhd"))
    rows = [f"{stem},UCL,{side}" for stem, side in zip(stems, sides, strict=True)]
    (source / "split.csv").write_text("\n".join(["case,site,split", *rows, "Case49,UCL,train"]) + "\n")


def test_the_split_of_a_table_stays_and_validation_is_drawn_from_its_training_patients(tmp_path: Path) -> None:
    source = promise12(tmp_path / "source")
    write_split(source, ["train", "test", "train", "train", "train", "train"])
    lists = []
    for seed in range(6):
        told = convert_promise12(source, tmp_path / f"{seed}", ["prostate"], seed=seed)
        drawn = f"1 of the 5 training patients are held out for validation, drawn with seed {seed}"
        assert told == f"split: split.csv; {drawn}"
        dataset = Dataset.open(tmp_path / f"{seed}")
        assert dataset.cases_of("test") == ["Case02"]
        assert len(dataset.cases_of("train")) == 4
        lists.append(dataset.splits.lists)
    assert len({str(found) for found in lists}) > 1, "the seed says who is drawn"
    convert_promise12(source, tmp_path / "again", seed=3)
    assert Dataset.open(tmp_path / "again").splits.lists == lists[3]


def test_a_table_that_names_validation_patients_is_left_as_it_is(tmp_path: Path) -> None:
    source = promise12(tmp_path / "source")
    write_split(source, ["train", "test", "validation", "train", "validation", "train"])
    assert convert_promise12(source, tmp_path / "data") == "split: split.csv"
    assert Dataset.open(tmp_path / "data").cases_of("validation") == ["Case03", "Case05"]


def damage_all(source: Path) -> None:
    """Five cases, each with something else."""
    (source / "Img_01_Labels.nii.gz").unlink()
    (source / "Img_02.nii.gz").unlink()
    image, mask = voxels(3)
    save(source / "Img_03_Labels.nii.gz", mask[:-1], AFFINE)
    save(source / "Img_04_Labels.nii.gz", mask * 5, np.diag([1.0, 1, 1, 1]))
    save(source / "Img_05.nii.gz", np.where(image > 1900, np.nan, image).astype(np.float32), AFFINE)
    save(source / "Img_05_Labels.nii.gz", 0 * mask, AFFINE)
    (source / "Img_06.nii.gz").write_bytes(b"x")
    save(source / "copy" / "Img_06_Labels.nii.gz", mask, AFFINE)


def test_everything_that_is_wrong_is_listed_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    source = vertebrae(tmp_path / "source")
    damage_all(source)
    with pytest.raises(InputError) as caught:
        convert_vertebrae(source, tmp_path / "data")
    facts = [problem.what for problem in caught.value.problems]
    for fact in (
        "Img_01.nii.gz is there, the mask Img_01_Labels.nii.gz is not.",
        "Img_02_Labels.nii.gz is there, the scan Img_02.nii.gz is not.",
        "Img_03_Labels.nii.gz has the shape (8, 8, 4), its image (9, 8, 4).",
        "Img_04_Labels.nii.gz holds the values [0, 5].",
        "Img_05_Labels.nii.gz holds no voxel of the class vertebrae.",
        "Img_06_Labels is there 2 times: Img_06_Labels.nii.gz, copy/Img_06_Labels.nii.gz.",
    ):
        assert fact in facts
    for start in (
        "Img_04_Labels.nii.gz has another affine than its image",
        "Img_05.nii.gz holds",
        "Img_06.nii.gz cannot be read as NIfTI",
    ):
        assert any(fact.startswith(start) for fact in facts), start
    assert all(problem.where and problem.remedy for problem in caught.value.problems)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def lose_masks(source: Path) -> None:
    for path in source.rglob("*_segmentation.*"):
        path.unlink()


def lose_voxels(source: Path) -> None:
    next(source.rglob("Case04.zraw")).unlink()


@pytest.mark.parametrize(
    ("break_it", "targets", "message"),
    [
        (shutil.rmtree, [], r"holds no CaseNN.mhd, the scans of PROMISE12.\n.*training data"),
        (
            lambda f: None,
            ["Prostate"],
            r"'Prostate' is no class of PROMISE12; did you mean 'prostate'\?\n.*Use prostate",
        ),
        (lose_masks, [], r"holds 6 scans of PROMISE12, and no CaseNN_segmentation\.\n.*test cases have no masks"),
        (lose_voxels, [], r"Case04.mhd cannot be read: .*\n.*Part2. Export or copy it again"),
        (
            lambda f: (f / "split.csv").write_text("case,split\nCase01,trian\n"),
            [],
            r"'Case01' is in the split 'trian'\.\n.*line 2. Use train, validation, test",
        ),
        (lambda f: (f / "split.csv").write_text("case,split\nCase01,train\n"), [], r"Case02 is in no split\.\n.*Add a"),
    ],
    ids=["no files", "unknown target", "no masks", "no voxels", "mistyped split", "split of too few"],
)
def test_a_failed_conversion_says_why_and_leaves_nothing_behind(
    tmp_path: Path, break_it: Callable[[Path], object], targets: list[str], message: str
) -> None:
    source = promise12(tmp_path / "source")
    break_it(source)
    with pytest.raises(InputError, match=message):
        convert_promise12(source, tmp_path / "data", targets)
    assert {path.name for path in tmp_path.iterdir()} <= {"source"}


def test_without_simpleitk_one_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = promise12(tmp_path / "source")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r"need SimpleITK, which is not installed\.\n.*pip install") as caught:
        convert_promise12(source, tmp_path / "data")
    assert len(caught.value.problems) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_folder_that_holds_something_is_left_alone(layout: str, source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"mine exists and is not empty\.\n.*Name a new folder, or remove it"):
        CONVERTERS[layout](source, tmp_path / "mine", (), lambda case: None, 0)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("layout", "folder", "pattern"),
    [("zenodo-vertebrae", "vertebrae", "Img_0[24]*"), ("promise12", "prostate", "Case0[014]*")],
)
def test_the_real_layout(real_data: Path, tmp_path: Path, layout: str, folder: str, pattern: str) -> None:
    if not (real_data / folder / "split.csv").is_file():
        pytest.skip(f"BOUNDSEG_DATA holds no {folder}/ with a split.csv")
    source = tmp_path / "source"
    source.mkdir()
    for path in [*(real_data / folder).glob(pattern), real_data / folder / "split.csv"]:
        (source / path.name).symlink_to(path)
    CONVERTERS[layout](source, tmp_path / "data", (), lambda case: None, 0)
    dataset = Dataset.open(tmp_path / "data")
    assert check(dataset).problems == []
    for case in dataset.cases:
        end, mask_end = (".mhd", "_segmentation.mhd") if layout == "promise12" else (".nii.gz", "_Labels.nii.gz")
        for theirs, ours in (
            (source / f"{case}{end}", dataset.image_paths(case)[0]),
            (source / f"{case}{mask_end}", dataset.label_path(case)),
        ):
            # an oracle for both: ITK, which reads NIfTI by itself
            before, after = SimpleITK.ReadImage(str(theirs)), SimpleITK.ReadImage(str(ours))
            assert np.array_equal(SimpleITK.GetArrayFromImage(before), SimpleITK.GetArrayFromImage(after))
            for what in ("GetSpacing", "GetOrigin", "GetDirection"):
                assert np.allclose(getattr(before, what)(), getattr(after, what)(), atol=1e-4), what
