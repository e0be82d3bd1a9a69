"""DICOM series to volumes of a dataset folder: voxels and affine by SimpleITK, one case for each folder of a series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boundseg.data import dataset as folders
from boundseg.data import volume_io
from boundseg.data.convert.split import read
from boundseg.data.convert.staging import whole_folder
from boundseg.data.dataset import SPLITS, Splits
from boundseg.data.volume_io import Volume, of_itk
from boundseg.errors import DatasetError, InputError, Problem, VolumeError

MODALITY, DESCRIPTION, NUMBER = "0008|0060", "0008|103e", "0020|0011"
POSITION, ORIENTATION = "0020|0032", "0020|0037"
UNEVEN = 0.02  # share of the step between slices by which one may differ: positions are rounded decimals


@dataclass(frozen=True)
class Series:
    """A series in a folder.

    Attributes:
        uid: Series Instance UID.
        files: Sorted along the stack.
        modality: Such as MR, CT.
        number: Of the examination.
        description: What the scanner's user called it.
    """

    uid: str
    files: tuple[str, ...]
    modality: str
    number: str
    description: str

    def __str__(self) -> str:
        return f"{self.number or '?'} {self.description!r} ({self.modality}, {len(self.files)} files, {self.uid})"


def convert_dicom(
    source: Path,
    destination: Path,
    classes: Sequence[str] = (),
    *,
    series: str | None = None,
    report: Callable[[str], None] = lambda case: None,
) -> str:
    """Writes a dataset folder from a DICOM folder, or from a folder of such folders; all problems are told at once.

    Every folder that holds a series is a case of that folder's name. Intensities are those of the rescale slope and
    intercept (HU of CT). ``split.csv`` (columns case, split) is honoured; without one every case trains.

    Args:
        source: The folder.
        destination: The dataset folder to be written; must not exist, or be empty.
        classes: Names of the classes, counted up from 1; labels come later (``convert labels``).
        series: The number, description or UID of the series that is meant where a folder holds several.
        report: Told of each case.

    Returns:
        How the cases were split.

    Raises:
        InputError: No DICOM file, several series of which none is named, missing slices, slices at one place (time
            points), colours, cases of one name.
    """
    library = volume_io.itk("DICOM files need SimpleITK")
    if not source.is_dir():
        raise DatasetError(f"{source} is no folder.", remedy="Give the folder that holds the DICOM files.")
    within = [source, *sorted(path for path in source.rglob("*") if path.is_dir())]
    found = {folder: series_of(folder, library) for folder in within}
    found = {folder: of for folder, of in found.items() if of}
    if not found:
        raise DatasetError(f"{source} holds no DICOM series.", remedy="Give the folder that holds the DICOM files.")
    problems = []
    for name, count in Counter(folder.resolve().name for folder in found).items():
        if count > 1:
            remedy = "A case has the name of its folder: rename one of them."
            problems.append(Problem(f"{count} folders of series are called {name}.", str(source), remedy))
    chosen: dict[str, tuple[Path, Series]] = {}
    for folder, of in found.items():
        try:
            chosen[folder.resolve().name] = (folder, choose(of, series, folder))
        except InputError as error:
            problems += error.problems
    cases, split_csv = sorted(chosen), source / "split.csv"
    sides = dict.fromkeys(cases, "train")
    if split_csv.is_file() and not problems:
        sides = read(split_csv, cases, "case")
    labels = {"background": 0} | {name: i for i, name in enumerate(classes, start=1)}
    with whole_folder(destination) as out:
        for case, (folder, one) in sorted(chosen.items()):
            try:
                volume = read_series(one, folder, library)
                side = "Ts" if sides[case] == "test" else "Tr"
                volume_io.write(out / f"images{side}" / f"{case}_0000.nii.gz", volume.array, volume)
            except InputError as error:
                problems += error.problems
            report(case)
        if problems:
            raise DatasetError.of(problems)
        folders.describe(
            out,
            channels=[", ".join(sorted({one.modality for _, one in chosen.values()})) or "DICOM"],
            labels=labels,
            ignore=len(labels),
            file_ending=".nii.gz",
            training_cases=sum(side != "test" for side in sides.values()),
        )
        lists = {side: [case for case in cases if sides[case] == side] for side in SPLITS}
        folders.write_splits(out, Splits({case: [case] for case in cases}, lists))
    return "split: split.csv" if split_csv.is_file() else "no split.csv: every case trains"


def series_of(folder: Path, library: Any) -> list[Series]:
    """The series whose files lie in a folder itself."""
    found = []
    library.ProcessObject.SetGlobalWarningDisplay(False)  # of files that are no DICOM
    try:
        for uid in library.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            files = library.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            header = _header(files[0], library)
            texts = (header.get(tag, "").strip() for tag in (MODALITY, NUMBER, DESCRIPTION))
            found.append(Series(uid, tuple(files), *texts))
    finally:
        library.ProcessObject.SetGlobalWarningDisplay(True)
    return sorted(found, key=lambda one: (one.number.zfill(9), one.uid))


def choose(found: Sequence[Series], named: str | None, folder: Path) -> Series:
    """The series of a folder that is meant.

    Raises:
        DatasetError: There are several, or none or several of that name; all are listed.
    """
    meant = [one for one in found if named is None or named in (one.uid, one.number, one.description)]
    if len(meant) == 1:
        return meant[0]
    listed = "; ".join(map(str, found))
    if named is None:
        remedy = f"Say which one: --series {found[0].number or found[0].uid} (a number, a description or a UID)."
        raise DatasetError(f"{folder.name} holds {len(found)} series: {listed}.", str(folder), remedy)
    what = "no series" if not meant else f"{len(meant)} series"
    raise DatasetError(f"{folder.name} holds {what} {named!r}, but: {listed}.", str(folder), "Name one by its UID.")


def read_series(series: Series, folder: Path, library: Any) -> Volume:
    """The volume of a series.

    Raises:
        VolumeError: It cannot be read, is of colours, or its slices are no even stack.
    """
    if len(series.files) > 1:
        _require_stack([_header(path, library) for path in series.files], series, folder)
    reader = library.ImageSeriesReader()
    reader.SetFileNames(series.files)
    try:
        image = reader.Execute() if len(series.files) > 1 else library.ReadImage(series.files[0])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise VolumeError(f"series {series} cannot be read: {reason}", str(folder), "Export it again.") from error
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() != 3:
        raise VolumeError(f"series {series} is of colours, or no volume.", str(folder), "Choose a series of scans.")
    volume = of_itk(image, library)
    array = volume.array.astype(np.float32) if volume.array.dtype == np.float64 else volume.array
    return Volume(array, volume.affine)


def _header(path: str, library: Any) -> Mapping[str, str]:
    reader = library.ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO("GDCMImageIO")
    with suppress(RuntimeError):
        reader.ReadImageInformation()
        return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    return {}


def _require_stack(headers: Sequence[Mapping[str, str]], series: Series, folder: Path) -> None:
    """Refuses what is no stack of parallel slices at even steps; a reader would take it for one."""
    named = f"series {series}"
    if any(POSITION not in header or ORIENTATION not in header for header in headers):
        remedy = "Choose a series of scans (localisers and reports have none)."
        raise VolumeError(f"{named}: files do not say where their slices lie.", str(folder), remedy)
    positions = np.array([_numbers(header[POSITION]) for header in headers])
    turns = np.array([_numbers(header[ORIENTATION]) for header in headers])
    if np.abs(turns - turns[0]).max() > 1e-3:
        raise VolumeError(f"{named}: its slices are not parallel.", str(folder), "Choose another series.")
    normal = np.cross(turns[0, :3], turns[0, 3:])
    along = np.sort(positions @ normal)
    steps = np.diff(along)
    step = float(steps.min())
    if (steps < 1e-3).any():
        places = len(headers) - int((steps < 1e-3).sum())
        fact = f"{named}: {len(headers)} slices lie at {places} places (time points, or echoes)."
        raise VolumeError(fact, str(folder), "Put the files of each time point into a folder of their own.")
    if np.abs(steps - step).max() > UNEVEN * step:
        worst = int(np.abs(steps - step).argmax())
        fact = f"{named}: slices are {step:.4g} mm apart, and {steps[worst]:.4g} mm behind slice {worst} (from 0)."
        raise VolumeError(fact, str(folder), "Is a file missing? Copy the series again.")
    order = np.argsort(positions @ normal)
    shift = np.diff(positions[order], axis=0)
    aside = np.linalg.norm(shift - (shift @ normal)[:, None] * normal, axis=1).max()
    if aside > UNEVEN * step:
        fact = f"{named}: slices are shifted sideways by {aside:.4g} mm a step (a tilted gantry)."
        raise VolumeError(fact, str(folder), "Resample it to a straight grid first, for example in 3D Slicer.")


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]
