"""DICOM series to volumes of a dataset folder: voxels and affine by SimpleITK, one case for each folder of a series."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boundseg.data import dataset as folders
from boundseg.data import volume_io
from boundseg.data.convert.split import Split, patients_of, read, require_one_side
from boundseg.data.convert.staging import whole_folder
from boundseg.data.volume_io import Volume, of_itk
from boundseg.errors import DatasetError, InputError, Problem, VolumeError

PATIENT = "0010|0020"
CHARACTERS, MODALITY, DESCRIPTION, NUMBER = "0008|0005", "0008|0060", "0008|103e", "0020|0011"
POSITION, ORIENTATION, FRAMES = "0020|0032", "0020|0037", "0028|0008"
SPACING, THICKNESS, STEP = "0028|0030", "0018|0050", "0018|0088"
# slope and intercept, bits allocated and stored, sign: what makes intensities of stored numbers
STORED = ("0028|1052", "0028|1053", "0028|0100", "0028|0101", "0028|0103")
# of ISO_IR 100, ISO 2022 IR 100 and so on; 6 is ASCII
CODECS = {"6": "ascii", "13": "shift_jis", "100": "latin-1", "101": "iso8859-2", "109": "iso8859-3", "110": "iso8859-4"}
CODECS |= {"126": "iso8859-7", "127": "iso8859-6", "138": "iso8859-8", "144": "iso8859-5", "148": "iso8859-9"}
# SOP classes of images, by the part behind 1.2.840.10008.5.1.4.1.1 (4.2 are spectra; reports, contours, PDF are others)
_IMAGES = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.([12367]|4(?!\.2$)|12|13|14|20|77|128|130)(\.[\d.]+)?")
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
        patient: Patient ID, which tells patients apart and is written nowhere.
    """

    uid: str
    files: tuple[str, ...]
    modality: str
    number: str
    description: str
    patient: str = ""

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

    Every folder that holds a series is a case of that folder's name, or of its path from the source where several have
    one name. Intensities are those of the rescale slope and intercept (HU of CT). ``split.csv`` (columns case, split)
    is honoured; without one every case trains. Whose a case is says its column patient, else the files' Patient ID;
    such a patient is called as the first of his cases.

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
            points), pixels of several sizes, files of several frames, colours, images that cannot be read, a patient
            on two sides.
    """
    library = volume_io.itk("DICOM files need SimpleITK")
    if not source.is_dir():
        raise DatasetError(f"{source} is no folder.", remedy="Give the folder that holds the DICOM files.")
    within = [source, *sorted(path for path in source.rglob("*") if path.is_dir())]
    found = {folder: series_of(folder, library) for folder in within}
    problems = [problem for folder, of in found.items() for problem in _unread(folder, of)]
    found = {folder: of for folder, of in found.items() if of}
    if not found:
        nothing = Problem(f"{source} holds no DICOM series.", "", "Give the folder that holds the DICOM files.")
        raise DatasetError.of([nothing, *problems])
    names = _case_names(found, source)
    chosen: dict[str, tuple[Path, Series]] = {}
    for folder, of in found.items():
        try:
            chosen[names[folder]] = (folder, choose(of, series, folder))
        except InputError as error:
            problems += error.problems
    cases, split_csv = sorted(chosen), source / "split.csv"
    split = Split(dict.fromkeys(cases, "train"), "no split.csv: every case trains")
    if not problems:
        split = _split(split_csv, {case: chosen[case][1].patient for case in cases})
    sides = split.of
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
        folders.write_splits(out, split.splits())
    patients = len(split.splits().patients)
    return split.told + (f"; {len(cases)} cases are of {patients} patients" if patients < len(cases) else "")


def _case_names(found: Collection[Path], source: Path) -> dict[Path, str]:
    """A folder's own name, or its path from the source where several folders have that name (``p01_ED``).

    Raises:
        DatasetError: Paths that read alike.
    """
    times = Counter(folder.resolve().name for folder in found)
    paths = {folder: "_".join(folder.relative_to(source).parts) or folder.resolve().name for folder in found}
    names = {folder: name if times[name := folder.resolve().name] == 1 else paths[folder] for folder in found}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        remedy = "A case has the name of its folder: rename one of them."
        raise DatasetError.of(
            [Problem(f"several folders of series make the case {n}.", str(source), remedy) for n in twice]
        )
    return names


def _split(path: Path, ids: Mapping[str, str]) -> Split:
    """The sides of cases, and their patients: as a column of ``split.csv`` says, else by the Patient IDs of the files.

    A Patient ID may name a person: the first case of a patient stands for it in what is written.
    """
    split_of, told, named = dict.fromkeys(ids, "train"), "no split.csv: every case trains", dict[str, str]()
    if path.is_file():
        split_of, told, named = read(path, ids, "case"), "split: split.csv", patients_of(path, ids, "case")
    if not named:
        first: dict[str, str] = {}
        named = {case: first.setdefault(patient, case) for case, patient in ids.items() if patient}
    require_one_side(split_of, named, path)
    return Split(split_of, told, named)


def series_of(folder: Path, library: Any) -> list[Series]:
    """The series whose files lie in a folder itself."""
    found = []
    library.ProcessObject.SetGlobalWarningDisplay(False)  # of files that are no DICOM
    try:
        for uid in library.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            files = library.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            header = _header(files[0], library)
            texts = (_text(header, tag) for tag in (MODALITY, NUMBER, DESCRIPTION, PATIENT))
            found.append(Series(uid, tuple(files), *texts))
    finally:
        library.ProcessObject.SetGlobalWarningDisplay(True)
    return sorted(found, key=lambda one: (one.number.zfill(9), one.uid))


def _unread(folder: Path, found: Sequence[Series]) -> list[Problem]:
    """Images that are in no series, for they are damaged: without them a stack would end early, and look whole."""
    known = {Path(file).name for one in found for file in one.files}
    others = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in known)
    lost = [path.name for path in others if not path.name.startswith(".") and _is_lost(path)]
    if not lost:
        return []
    shown = ", ".join(lost[:6]) + (" …" if len(lost) > 6 else "")
    fact = f"{folder.name}: {len(lost)} file(s) cannot be read as images: {shown}."
    return [Problem(fact, str(folder), "Copy them again, or move what is no slice elsewhere.")]


def _is_lost(path: Path) -> bool:
    """Whether a file that is in no series should be in one: reports, contours and DICOMDIR have no pixels."""
    try:
        with path.open("rb") as file:
            start = file.read(2048)
    except OSError:
        return True
    if start[128:132] != b"DICM":
        return path.suffix.lower() in (".dcm", ".ima")
    kind = re.search(rb"\x02\x00\x02\x00UI..([\d.]+)", start, re.DOTALL)
    return kind is None or _IMAGES.fullmatch(kind[1]) is not None


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
        VolumeError: It cannot be read, is of colours, has several frames in a file, or its slices are no even stack.
    """
    headers = [_header(path, library) for path in series.files]
    for path, header in zip(series.files, headers, strict=True):
        # where each frame lies, and what its numbers mean, stands in sequences that the reader does not show
        if (frames := header.get(FRAMES, "1").strip()) not in ("", "1"):
            fact = f"series {series}: {Path(path).name} is a multi-frame file, of {frames} frames."
            raise VolumeError(fact, str(folder), "Export it as files of one slice each, or split it into them.")
    if len(headers) > 1:
        _require_stack(headers, series, folder)
    reader = library.ImageSeriesReader()
    reader.SetFileNames(series.files)
    if len({tuple(header.get(tag, "").strip() for tag in STORED) for header in headers}) > 1:
        # the reader would round every slice to the numbers of the first, and wrap what is too large for them
        reader.SetOutputPixelType(library.sitkFloat64)
    try:
        image = reader.Execute() if len(series.files) > 1 else library.ReadImage(series.files[0])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise VolumeError(f"series {series} cannot be read: {reason}", str(folder), "Export it again.") from error
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() != 3:
        raise VolumeError(f"series {series} is of colours, or no volume.", str(folder), "Choose a series of scans.")
    if len(headers) == 1 and (thick_mm := _thickness_mm(headers[0])):
        image.SetSpacing((*image.GetSpacing()[:2], thick_mm))
    volume = of_itk(image, library)
    volume_io.require_grid(volume.affine, f"series {series}", str(folder))
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


def _text(header: Mapping[str, str], tag: str) -> str:
    """A text of the header in the character set that the header names; SimpleITK takes every one for UTF-8."""
    stored = header.get(tag, "").encode("utf-8", "surrogateescape")
    number = re.search(r"IR (\d+)", header.get(CHARACTERS, "").replace("_", " "))
    codec = CODECS.get(number[1], "utf-8") if number else "utf-8"
    with suppress(UnicodeDecodeError):
        return stored.decode(codec).strip()
    return stored.decode("latin-1").strip()


def _thickness_mm(header: Mapping[str, str]) -> float | None:
    """Of a slice that has no neighbour: its own thickness, or else the step that was meant."""
    told = (*_numbers(header, THICKNESS), *_numbers(header, STEP))
    return next((value for value in told if value > 0), None)


def _require_stack(headers: Sequence[Mapping[str, str]], series: Series, folder: Path) -> None:
    """Refuses what is no stack of parallel slices at even steps; a reader would take it for one."""
    named = f"series {series}"
    places = [(_numbers(header, POSITION), _numbers(header, ORIENTATION)) for header in headers]
    if any((len(position), len(turn)) != (3, 6) for position, turn in places):
        remedy = "Choose a series of scans (localisers and reports have none)."
        raise VolumeError(f"{named}: files do not say where their slices lie.", str(folder), remedy)
    positions, turns = (np.array(part) for part in zip(*places, strict=True))
    if np.abs(turns - turns[0]).max() > 1e-3:
        raise VolumeError(f"{named}: its slices are not parallel.", str(folder), "Choose another series.")
    sizes = sorted({size for header in headers if len(size := _numbers(header, SPACING)) == 2})
    if sizes and not np.allclose(sizes, sizes[0], rtol=1e-3):
        shown = " and ".join(f"{rows:.4g} x {columns:.4g} mm" for rows, columns in (sizes[0], sizes[-1]))
        fact = f"{named}: its pixels are not of one size, but of {shown}."
        raise VolumeError(fact, str(folder), "Put the slices of each size into a folder of their own.")
    normal = np.cross(turns[0, :3], turns[0, 3:])
    along = np.sort(positions @ normal)
    steps = np.diff(along)
    step = float(steps.min())
    if (steps < 1e-3).any():
        apart = len(headers) - int((steps < 1e-3).sum())
        fact = f"{named}: {len(headers)} slices lie at {apart} places (time points, or echoes)."
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


def _numbers(header: Mapping[str, str], tag: str) -> tuple[float, ...]:
    """The numbers of a tag; none where it is missing, empty or no number."""
    try:
        return tuple(float(part) for part in header.get(tag, "").split("\\"))
    except ValueError:
        return ()
