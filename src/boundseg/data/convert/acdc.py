"""ACDC 2017 (cardiac cine MR, short axis; Bernard et al., IEEE TMI 2018) to a dataset folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boundseg.data import dataset as folders
from boundseg.data import volume_io
from boundseg.data.convert import split
from boundseg.data.convert.staging import whole_folder
from boundseg.data.dataset import SPLITS, Splits
from boundseg.data.volume_io import Volume
from boundseg.errors import DatasetError, InputError, Problem
from boundseg.nearest import did_you_mean

# as the files hold them; the human scribbles (Valvano et al., IEEE TMI 2021) mark unlabelled pixels by 4
CLASSES = {"RV": 1, "Myo": 2, "LV": 3}
SCRIBBLE_UNLABELLED = 4


@dataclass(frozen=True)
class _Case:
    name: str
    patient: str
    image: Path
    masks: Path
    scribbles: Path


def convert_acdc(
    source: Path,
    destination: Path,
    targets: Sequence[str] = (),
    report: Callable[[str], None] = lambda case: None,
    seed: int = 0,
) -> str:
    """Writes a dataset folder from ACDC's ``patientNNN/patientNNN_frameFF[_gt].nii.gz``.

    Every problem of the download is told at once, and then nothing is written.

    Human scribbles beside them (``…_scribble.nii.gz``) become ``labelsTr_scribble``. A ``split.csv`` (columns
    patient, split) is honoured; without one every patient trains.

    Args:
        source: The folder of the patients' folders.
        destination: The dataset folder to be written; must not exist, or be empty.
        targets: The classes to keep, among RV, Myo, LV; the others become background. Empty keeps all.
        report: Called with each case that is done.
        seed: Of nothing; other layouts draw patients with it.

    Returns:
        How the patients were split.

    Raises:
        InputError: The source holds no patients, misses files, or names unknown targets or splits; files are unreadable
            or do not fit together.
    """
    for name in targets:
        if name not in CLASSES:
            raise DatasetError(f"{name!r} is no class of ACDC{did_you_mean(name, CLASSES)}", remedy="Use RV, Myo, LV.")
    cases, problems = _find(source)
    patients = sorted({case.patient for case in cases})
    path = source / "split.csv"
    try:
        split_of = split.read(path, patients, "patient") if path.is_file() else dict.fromkeys(patients, "train")
    except InputError as error:
        raise DatasetError.of([*problems, *error.problems]) from None
    kept = [name for name in CLASSES if not targets or name in targets]
    labels = {"background": 0} | {name: i for i, name in enumerate(kept, start=1)}
    ignore = len(labels)
    with whole_folder(destination) as folder:
        for case in cases:
            try:
                _write(case, folder, "Ts" if split_of[case.patient] == "test" else "Tr", labels, ignore)
            except InputError as error:
                problems += error.problems
            report(case.name)
        if problems:
            raise DatasetError.of(problems)
        folders.describe(
            folder,
            channels=["cine MR"],
            labels=labels,
            ignore=ignore,
            file_ending=".nii.gz",
            training_cases=sum(split_of[case.patient] != "test" for case in cases),
        )
        members = {p: [case.name for case in cases if case.patient == p] for p in split_of}
        lists = {side: [p for p, s in split_of.items() if s == side] for side in SPLITS}
        folders.write_splits(folder, Splits(members, lists))
    return "split: split.csv" if path.is_file() else "no split.csv: every patient trains, nobody is held out or tests"


def _find(source: Path) -> tuple[list[_Case], list[Problem]]:
    """The frames that have a scan and a mask, and what the others miss."""
    found: dict[Path, set[str]] = {}
    for path in sorted(source.glob("patient*/patient*_frame*.nii.gz")):
        if match := re.fullmatch(r"(.+_frame[^_]+?)(_gt|_scribble)?\.nii\.gz", path.name):
            found.setdefault(path.with_name(match[1]), set()).add(match[2] or "")
    if not any("_gt" in parts for parts in found.values()):
        raise DatasetError(
            f"{source} holds no patientNNN/patientNNN_frameFF_gt.nii.gz.",
            remedy="Give the folder that holds the patients' folders (ACDC's 'training').",
        )
    cases, problems = [], []
    for path, parts in found.items():
        image, masks, scribbles = (path.with_name(f"{path.name}{part}.nii.gz") for part in ("", "_gt", "_scribble"))
        missing = [other.name for part, other in (("", image), ("_gt", masks)) if part not in parts]
        if missing:
            remedy = f"Download it again, or remove what there is of {path.name}."
            problems.append(Problem(f"{' and '.join(missing)} is not there.", str(path.parent), remedy))
        else:
            cases.append(_Case(path.name, path.parent.name, image, masks, scribbles))
    return cases, problems


def _write(case: _Case, folder: Path, side: str, labels: dict[str, int], ignore: int) -> None:
    # one look-up table for both: 0 stays background, 4 (scribbles only) is what nobody labelled
    table = np.zeros(SCRIBBLE_UNLABELLED + 1, np.uint8)
    for name, value in CLASSES.items():
        table[value] = labels.get(name, 0)
    table[SCRIBBLE_UNLABELLED] = ignore
    targets = {case.masks: (max(CLASSES.values()), folder / f"labels{side}")}
    if case.scribbles.is_file() and side == "Tr":
        targets[case.scribbles] = (SCRIBBLE_UNLABELLED, folder / "labelsTr_scribble")
    scan: Volume | None = None
    problems: list[Problem] = []
    try:
        scan = volume_io.read(case.image)
        folders.require_finite(scan.array, case.image)
    except InputError as error:
        problems += error.problems
    volumes = {}
    for source, (most, _) in targets.items():
        try:
            volumes[source] = _read(source, most, scan)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError.of(problems)
    images = folder / f"images{side}"
    images.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(case.image, images / f"{case.name}_0000.nii.gz")
    for source, (_, target) in targets.items():
        volume = volumes[source]
        volume_io.write(target / f"{case.name}.nii.gz", table[volume.array.astype(np.uint8)], volume)


def _read(source: Path, highest: int, scan: Volume | None) -> Volume:
    """A label map that holds whole numbers up to the highest, on the grid of its scan."""
    volume = volume_io.read(source)
    values = np.unique(volume.array).tolist()
    if not set(values) <= set(range(highest + 1)):
        shown = f"{values[:8]}" + (f" and {len(values) - 8} more" if len(values) > 8 else "")
        fact = f"{source.name} holds the values {shown}."
        raise InputError(fact, str(source.parent), f"ACDC uses 0 to {highest} there.")
    if scan is not None:
        folders.require_same_grid(source, volume, scan)
    return volume
