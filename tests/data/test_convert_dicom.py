"""DICOM series to volumes: files written tag by tag with pydicom; the standard's own formula says where voxels lie."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from boundseg.data.dataset import Dataset
from tests.cli.cases import Result, ok, refused
from tests.conftest import CommandLine

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("SimpleITK")
SHAPE = (5, 7, 4)  # rows, columns, slices
SPACING_MM = (1.25, 0.75)  # of rows, of columns
STEP_MM = 3.0
# a tilted scan; first the direction of a row, then that of a column
ROW = np.array([np.cos(0.2), np.sin(0.2), 0.0])
COLUMN = np.array([-np.sin(0.2) * np.cos(0.3), np.cos(0.2) * np.cos(0.3), np.sin(0.3)])
ORIGIN = np.array([-40.0, 25.5, 10.0])


def voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3000, SHAPE).astype(np.uint16)


def position(index: int) -> np.ndarray:
    return ORIGIN + index * STEP_MM * np.cross(ROW, COLUMN)


def scan(
    folder: Path,
    number: int = 1,
    description: str = "cine",
    seed: int = 0,
    skip: tuple[int, ...] = (),
    patient: str = "x",
) -> str:
    """Writes a series whose file names say nothing of the order; returns its UID."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    uid, study = generate_uid(), generate_uid()
    array = voxels(seed)
    for index in range(SHAPE[2]):
        if index in skip:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{(index * 3 + 1) % 7}_{number}.dcm"
        file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = study, uid, study
        file.PatientID, file.Modality = patient, "CT"
        file.SeriesNumber, file.SeriesDescription = number, description
        file.InstanceNumber = index + 1
        file.ImagePositionPatient = [f"{value:.6f}" for value in position(index)]
        file.ImageOrientationPatient = [f"{value:.9f}" for value in (*ROW, *COLUMN)]
        file.PixelSpacing, file.SliceThickness = list(SPACING_MM), STEP_MM
        file.Rows, file.Columns = SHAPE[:2]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated = file.BitsStored = 16
        file.HighBit, file.PixelRepresentation = 15, 0
        file.RescaleSlope, file.RescaleIntercept = 1, -1024
        file.PixelData = np.ascontiguousarray(array[..., index]).tobytes()
        file.save_as(path, enforce_file_format=True)
    return str(uid)


def test_voxels_and_affine_are_those_that_the_standard_gives(tmp_path: Path, command_line: CommandLine) -> None:
    """Part 3, C.7.6.2.1.1: position plus column index times spacing along a row, and so on; LPS+ to RAS+."""
    scan(tmp_path / "in" / "heart")
    out = ok(Result(*command_line("convert", "dicom", tmp_path / "in", tmp_path / "out", "--map", "1=LV"))).out
    assert "1 cases (train 1, validation 0, test 0), classes LV" in out
    image = nib.load(tmp_path / "out" / "imagesTr" / "heart_0000.nii.gz")
    stored = np.asarray(image.dataobj)
    assert image.shape == (SHAPE[1], SHAPE[0], SHAPE[2])
    expected = voxels()
    for row, column, index in np.ndindex(SHAPE):
        lps = position(index) + column * SPACING_MM[1] * ROW + row * SPACING_MM[0] * COLUMN
        ras = lps * (-1, -1, 1)
        voxel = np.linalg.inv(image.affine) @ (*ras, 1)
        assert np.abs(voxel - voxel.round()).max() < 1e-3
        assert stored[tuple(voxel[:3].round().astype(int))] == int(expected[row, column, index]) - 1024
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.channels, dataset.labels) == (("CT",), {"background": 0, "LV": 1})


def test_series_of_one_patient_stay_together(tmp_path: Path, command_line: CommandLine) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for patient, frames in {"p01": "AB", "p02": "A"}.items():
        for frame in frames:
            scan(source / patient / frame, patient=f"hospital {patient}")
    command = ("convert", "dicom", source)
    shown = ok(Result(*command_line(*command, out))).out
    assert "no split.csv: every case trains; 3 cases are of 2 patients" in shown
    dataset = Dataset.open(out)
    # B is there once and keeps its name; who the patient is stays in the hospital
    assert dataset.splits.patients == {"B": ["B", "p01_A"], "p02_A": ["p02_A"]}
    assert "hospital" not in (out / "splits.json").read_text()
    split = source / "split.csv"
    split.write_text("case,split\nB,test\np01_A,train\np02_A,train\n")
    refused(
        Result(*command_line(*command, tmp_path / "other")),
        "one patient is on 2 sides: p01_A in train, B in test.",
        "a column patient says who is whom",
    )
    # of files that were made anonymous alike, somebody knows better
    split.write_text("case,split,patient\nB,test,1\np01_A,train,2\np02_A,train,2\n")
    ok(Result(*command_line(*command, tmp_path / "other")))
    assert Dataset.open(tmp_path / "other").splits.patients == {"1": ["B"], "2": ["p01_A", "p02_A"]}


def test_of_several_series_one_is_named(tmp_path: Path, command_line: CommandLine) -> None:
    first = scan(tmp_path / "in", 1, "localiser")
    second = scan(tmp_path / "in", 2, "cine", seed=1)
    command = ("convert", "dicom", tmp_path / "in", tmp_path / "out")
    refused(
        Result(*command_line(*command)),
        "in holds 2 series:",
        f"1 'localiser' (CT, 4 files, {first})",
        second,
        "--series 1",
    )
    refused(Result(*command_line(*command, "--series", "3")), "in holds no series '3', but: 1 'localiser'")
    assert not (tmp_path / "out").exists()
    for out, name in enumerate(("2", "cine", second)):
        assert "classes none yet" in ok(Result(*command_line(*command[:3], tmp_path / str(out), "--series", name))).out
        stored = np.asarray(nib.load(tmp_path / str(out) / "imagesTr" / "in_0000.nii.gz").dataobj)
        assert np.array_equal(np.sort(stored.ravel()), np.sort(voxels(1).ravel().astype(int)) - 1024)


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        ("missing", "slices are 3 mm apart, and 6 mm behind slice"),
        ("times", "5 slices lie at 4 places (time points, or echoes)."),
        ("turned", "its slices are not parallel"),
        ("nowhere", "do not say where their slices lie"),
        ("no position", "do not say where their slices lie"),
        ("tilted", "a tilted gantry"),
        ("frames", "is a multi-frame file, of 2 frames"),
        ("pixels", "its pixels are not of one size, but of 0.5 x 0.5 mm and 1.25 x 0.75 mm"),
        ("cut in the header", "1 file(s) cannot be read as images: 1_1.dcm"),
        ("cut in the pixels", "1 file(s) cannot be read as images: 1_1.dcm"),
        ("without pixels", "1 file(s) cannot be read as images: 1_1.dcm"),
        ("empty", "holds no DICOM series"),
    ],
)
def test_what_is_no_stack_is_refused(tmp_path: Path, command_line: CommandLine, damage: str, fact: str) -> None:
    folder = tmp_path / "in"
    scan(folder, skip=(2,) if damage == "missing" else ())
    paths = sorted(folder.iterdir())
    for number, path in enumerate(paths):
        file = pydicom.dcmread(path)
        if damage == "times" and number == 0:
            file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            file.save_as(folder / "again.dcm")
        elif damage == "turned" and number == 0:
            file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        elif damage == "nowhere":
            del file.ImagePositionPatient
        elif damage == "no position" and number == 0:
            file.ImagePositionPatient = None
        elif damage == "tilted":
            moved = np.array(file.ImagePositionPatient, float) + 0.5 * file.InstanceNumber * COLUMN
            file.ImagePositionPatient = [f"{value:.6f}" for value in moved]
        elif damage == "frames" and number == 0:
            file.NumberOfFrames, file.PixelData = 2, 2 * file.PixelData
        elif damage == "pixels" and number == 0:
            file.PixelSpacing = [0.5, 0.5]
        elif damage == "without pixels" and file.InstanceNumber == 1:
            del file.PixelData
        file.save_as(path)
        if damage.startswith("cut") and file.InstanceNumber == 1:
            path.write_bytes(path.read_bytes()[: 300 if damage.endswith("header") else -20])
        if damage == "empty":
            path.write_text("notes")
    refused(Result(*command_line("convert", "dicom", folder, tmp_path / "out")), fact)
    assert not (tmp_path / "out").exists()


def test_one_file_of_several_frames_is_refused(tmp_path: Path, command_line: CommandLine) -> None:
    """SimpleITK would take time points for slices, and leave out each frame's own rescale slope."""
    scan(tmp_path / "in", skip=(1, 2, 3))
    (path,) = (tmp_path / "in").iterdir()
    file = pydicom.dcmread(path)
    file.NumberOfFrames, file.PixelData = 3, 3 * file.PixelData
    file.save_as(path)
    command = ("convert", "dicom", tmp_path / "in", tmp_path / "out")
    refused(Result(*command_line(*command)), "1_1.dcm is a multi-frame file, of 3 frames.", "files of one slice each")
    assert not (tmp_path / "out").exists()


def test_every_slice_has_its_own_slope_and_intercept(tmp_path: Path, command_line: CommandLine) -> None:
    scan(tmp_path / "in")
    slopes, intercepts = (1, 1.5, 1000, 0.1), (0, 0.25, 0, -3)
    for path in (tmp_path / "in").iterdir():
        file = pydicom.dcmread(path)
        file.RescaleSlope, file.RescaleIntercept = slopes[file.InstanceNumber - 1], intercepts[file.InstanceNumber - 1]
        file.save_as(path)
    ok(Result(*command_line("convert", "dicom", tmp_path / "in", tmp_path / "out")))
    found = nib.load(tmp_path / "out" / "imagesTr" / "in_0000.nii.gz").get_fdata()
    assert np.allclose(found, (voxels() * slopes + intercepts).transpose(1, 0, 2), rtol=1e-6)


@pytest.mark.parametrize("thickness_mm", [STEP_MM, None])
def test_a_slice_alone_is_as_thick_as_its_file_says(
    tmp_path: Path, command_line: CommandLine, thickness_mm: float | None
) -> None:
    scan(tmp_path / "in", skip=(1, 2, 3))
    (path,) = (tmp_path / "in").iterdir()
    file = pydicom.dcmread(path)
    file.SliceThickness, file.SpacingBetweenSlices = thickness_mm, 4.5
    file.save_as(path)
    ok(Result(*command_line("convert", "dicom", tmp_path / "in", tmp_path / "out")))
    zooms = nib.load(tmp_path / "out" / "imagesTr" / "in_0000.nii.gz").header.get_zooms()
    assert np.allclose(zooms, (SPACING_MM[1], SPACING_MM[0], thickness_mm or 4.5))


@pytest.mark.parametrize("characters", ["ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 101"])
def test_a_description_is_in_the_characters_that_its_header_names(
    tmp_path: Path, command_line: CommandLine, characters: str
) -> None:
    scan(tmp_path / "in", 1, "localiser")
    scan(tmp_path / "in", 2, "Schädel")
    for path in (tmp_path / "in").glob("*_2.dcm"):
        file = pydicom.dcmread(path)
        file.SpecificCharacterSet, file.SeriesDescription = characters, "Schädel"
        file.save_as(path)
    command = ("convert", "dicom", tmp_path / "in", tmp_path / "out")
    refused(Result(*command_line(*command)), "2 'Schädel' (CT, 4 files")
    ok(Result(*command_line(*command, "--series", "Schädel")))


def test_objects_without_pixels_are_passed_over(tmp_path: Path, command_line: CommandLine) -> None:
    scan(tmp_path / "in")
    scan(tmp_path / "other", 2)
    report, directory = sorted((tmp_path / "other").iterdir())[:2]
    for path, kind in ((report, "1.2.840.10008.5.1.4.1.1.88.11"), (directory, "1.2.840.10008.1.3.10")):
        file = pydicom.dcmread(path)
        file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = kind
        del file.PixelData, file.Rows, file.Columns
        file.save_as(tmp_path / "in" / ("report.dcm" if path == report else "DICOMDIR"))
    ok(Result(*command_line("convert", "dicom", tmp_path / "in", tmp_path / "out")))


@pytest.mark.parametrize("classes", ["1=background,2=LV", "1=LV,2=LV", "0=LV,1=Myo", "1=LV,3=Myo"])
def test_classes_that_cannot_be_are_refused(tmp_path: Path, command_line: CommandLine, classes: str) -> None:
    scan(tmp_path / "in")
    command = ("convert", "dicom", tmp_path / "in", tmp_path / "out", "--map", classes)
    refused(Result(*command_line(*command)), "count up from 1, each with a name of its own")
    assert not (tmp_path / "out").exists()
