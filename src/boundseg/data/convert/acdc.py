"""ACDC 2017 (cardiac cine MR, short axis; Bernard et al., IEEE TMI 2018) to a dataset folder."""

from __future__ import annotations

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
        InputError: The source holds no patients, misses files, or names unknown targets or splits.
    """
    for name in targets:
        if name not in CLASSES:
            raise DatasetError(f"{name!r} is no class of ACDC{did_you_mean(name, CLASSES)}", remedy="Use RV, Myo, LV.")
    cases = _find(source)
    patients = sorted({case.patient for case in cases})
    path = source / "split.csv"
    split_of = split.read(path, patients, "patient") if path.is_file() else dict.fromkeys(patients, "train")
    kept = [name for name in CLASSES if not targets or name in targets]
    labels = {"background": 0} | {name: i for i, name in enumerate(kept, start=1)}
    ignore = len(labels)
    with whole_folder(destination) as folder:
        for case in cases:
            _write(case, folder, "Ts" if split_of[case.patient] == "test" else "Tr", labels, ignore)
            report(case.name)
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
    return "split: split.csv" if path.is_file() else "no split.csv: every patient trains"


def _find(source: Path) -> list[_Case]:
    masks = sorted(source.glob("patient*/patient*_frame*_gt.nii.gz"))
    cases = []
    for path in masks:
        name = path.name.removesuffix("_gt.nii.gz")
        scribbles = path.with_name(f"{name}_scribble.nii.gz")
        cases.append(_Case(name, path.parent.name, path.with_name(f"{name}.nii.gz"), path, scribbles))
    if not cases:
        raise DatasetError(
            f"{source} holds no patientNNN/patientNNN_frameFF_gt.nii.gz.",
            remedy="Give the folder that holds the patients' folders (ACDC's 'training').",
        )
    missing = [
        Problem(f"{case.image.name} is not there.", str(case.image.parent))
        for case in cases
        if not case.image.is_file()
    ]
    if missing:
        raise DatasetError.of(missing)
    return cases


def _write(case: _Case, folder: Path, side: str, labels: dict[str, int], ignore: int) -> None:
    images = folder / f"images{side}"
    images.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(case.image, images / f"{case.name}_0000.nii.gz")
    # one look-up table for both: 0 stays background, 4 (scribbles only) is what nobody labelled
    table = np.zeros(SCRIBBLE_UNLABELLED + 1, np.uint8)
    for name, value in CLASSES.items():
        table[value] = labels.get(name, 0)
    table[SCRIBBLE_UNLABELLED] = ignore
    written = [(case.masks, folder / f"labels{side}")]
    if case.scribbles.is_file() and side == "Tr":
        written.append((case.scribbles, folder / "labelsTr_scribble"))
    for source, target in written:
        volume = volume_io.read(source)
        highest = SCRIBBLE_UNLABELLED if source == case.scribbles else max(CLASSES.values())
        values = np.unique(volume.array)
        if not set(values.tolist()) <= set(range(highest + 1)):
            raise InputError(
                f"{source.name} holds the values {values.tolist()}.", str(source.parent), "ACDC uses 0 to 3."
            )
        volume_io.write(target / f"{case.name}.nii.gz", table[volume.array.astype(np.uint8)], volume)
