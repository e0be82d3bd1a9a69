"""A dataset folder as nnU-Net v2 wants it: one label set in ``labelsTr``, and nnU-Net's splits in and out."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from boundseg.data import atomic, dataset, volume_io
from boundseg.data.convert.staging import whole_folder
from boundseg.data.dataset import Dataset, Splits
from boundseg.errors import DatasetError, Problem

SPLITS_FINAL = "splits_final.json"
# nnU-Net reads whatever boundseg reads but this one, of which a link would be a header without its voxels
WRITTEN_ANEW = {".mhd": ".mha"}
FOLDER_NAME = re.compile(r"Dataset\d{3}_\w[\w-]*")
FOLD_LIST = re.compile(r"fold\d+_(train|validation)")  # lists of splits.json that folds become

Fold = tuple[list[str], list[str]]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        train: Cases that train.
        held_out: Cases of ``imagesTr`` that are held out.
        test: Cases of ``imagesTs``.
        unlabelled: Of the first two, those of which the set has no labels: ignore everywhere.
    """

    train: list[str]
    held_out: list[str]
    test: list[str]
    unlabelled: list[str]


def convert_nnunet(
    source: Dataset,
    destination: Path,
    labels: str,
    held_out_labels: str | None = None,
    report: Callable[[str], None] = lambda case: None,
) -> Written:
    """Writes a folder for ``nnUNet_raw``: the chosen labels as ``labelsTr``, test patients in ``imagesTs``.

    Volumes are hard links where the file system has them, and copies elsewhere; ``.mhd``, for which nnU-Net has no
    reader, becomes ``.mha``. ``splits.json``, ``priors.csv`` and
    every ``boundseg*.yaml`` lie beside ``dataset.json``; ``splits_final.json`` says who trains and who is held out.

    Args:
        source: The dataset; nothing in it changes.
        destination: ``DatasetNNN_NAME``, which is there whole or not at all.
        labels: ``full``, or the name of a weak set. A case that the set does not have is ignore everywhere, for it may
            be taught by its bounds alone.
        held_out_labels: Of the cases that are held out, by which nnU-Net judges itself; left out, the same.
        report: Told of each case.

    Raises:
        DatasetError: A name that nnU-Net does not take, a folder that is not empty, an unknown label set, no case that
            trains.
        VolumeError: A label map that does not fit its image.
    """
    if not FOLDER_NAME.fullmatch(destination.name):
        raise DatasetError(
            f"{destination.name!r} is no name of nnU-Net's.",
            remedy="Call it Dataset, three digits, _ and a name: Dataset027_ACDC.",
        )
    known = ["full", *source.label_sets]
    for name in [labels, *([held_out_labels] if held_out_labels else [])]:
        if name not in known:
            raise DatasetError(
                f"there is no label set {name!r}.", str(source.folder), f"The sets are: {', '.join(known)}."
            )
    sides = {name: source.cases_of(name) for name in ("train", "validation", "test")}
    if not sides["train"]:
        raise DatasetError("nobody trains.", str(source.folder / "splits.json"), "Fill its list train.")
    written = Written(sides["train"], sides["validation"], sides["test"], [])
    with whole_folder(destination) as folder:
        for case in [*written.train, *written.held_out]:
            _images(source, case, folder / "imagesTr")
            chosen = held_out_labels if held_out_labels and case in written.held_out else labels
            if not _labels(source, case, chosen, folder / "labelsTr"):
                written.unlabelled.append(case)
            report(case)
        for case in written.test:
            _images(source, case, folder / "imagesTs")
            if source.label_path(case).is_file():
                _place(source, source.label_path(case), folder / "labelsTs")
            report(case)
        _describe(source, folder, len(written.train) + len(written.held_out))
        for path in (
            source.folder / "splits.json",
            source.folder / "priors.csv",
            *source.folder.glob("boundseg*.yaml"),
        ):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
        write_splits_final(folder / SPLITS_FINAL, [(written.train, written.held_out)])
    return written


def write_splits_final(path: Path, folds: Sequence[tuple[Sequence[str], Sequence[str]]]) -> None:
    """Writes nnU-Net's ``splits_final.json``: for each fold who trains and who is held out."""
    content = [{"train": sorted(train), "val": sorted(held_out)} for train, held_out in folds]
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(content, indent=1) + "\n")


def read_splits_final(path: Path) -> list[Fold]:
    """Who trains and who is held out in each fold of nnU-Net's ``splits_final.json``.

    Raises:
        DatasetError: The file is missing, or is none of nnU-Net's.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path.name} is not there.",
            str(path.parent),
            "nnU-Net writes it when it first trains, into nnUNet_preprocessed.",
        )
    try:
        folds: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path.name} is not valid JSON: {error}", str(path.parent), "Mend it.") from error
    well_formed = isinstance(folds, list) and all(
        isinstance(of_fold, dict) and all(dataset.are_names(of_fold.get(side)) for side in ("train", "val"))
        for of_fold in folds
    )
    if not well_formed:
        raise DatasetError(
            f"{path.name} is not of nnU-Net's form.",
            str(path.parent),
            'It reads [{"train": ["case1"], "val": ["case2"]}, …].',
        )
    return [(of_fold["train"], of_fold["val"]) for of_fold in folds]


def splits_from_nnunet(source: Dataset, path: Path, fold: int | None = None) -> Splits:
    """Takes train and validation from nnU-Net's folds, and writes them into the dataset's ``splits.json``.

    Patients, other lists and test stay as they are.

    Args:
        source: The dataset.
        path: ``splits_final.json``.
        fold: Which one becomes ``train`` and ``validation``. None takes all: the first one so, and each as the lists
            ``fold0_train``, ``fold0_validation``, ``fold1_train`` and so on, which configs can name; those of another
            file's folds go.

    Raises:
        DatasetError: See :func:`read_splits_final`; there is no such fold; cases that the dataset does not have, that
            belong to no patient or stand on two sides; a patient on two sides. All of it is listed, and nothing is
            written.
    """
    folds, first = read_splits_final(path), fold or 0
    if not 0 <= first < len(folds):
        raise DatasetError(f"there is no fold {first}.", str(path), f"It has {len(folds)}, counted from 0.")
    numbers = range(len(folds)) if fold is None else [first]
    taken = {number: _sides_of(source, folds[number], f"{path}, fold {number}") for number in numbers}
    if problems := [problem for _, of_fold in taken.values() for problem in of_fold]:
        raise DatasetError.of(list(dict.fromkeys(problems)))
    lists = source.splits.lists | taken[first][0]
    if fold is None:
        lists = {name: members for name, members in lists.items() if not FOLD_LIST.fullmatch(name)}
        for number, (sides, _) in taken.items():
            lists |= {f"fold{number}_{side}": sides[side] for side in ("train", "validation")}
    new = Splits(source.splits.patients, lists)
    dataset.write_splits(source.folder, new)
    return new


def _sides_of(source: Dataset, fold: Fold, where: str) -> tuple[dict[str, list[str]], list[Problem]]:
    """Who is on which side, by patients as far as they are whole, and what does not fit."""
    train, held_out = fold
    elsewhere = [case for case in source.cases if case not in source.training_cases]
    sides = {"train": train, "validation": held_out, "test": source.cases_of("test") or elsewhere}
    problems = _misplaced(source, where, sides)
    side_of = {case: side for side, cases in sides.items() for case in cases}
    found: dict[str, list[str]] = {side: [] for side in sides}
    for patient, cases in source.splits.patients.items():
        of_patient = {case: side_of[case] for case in cases if case in side_of}
        for side in set(of_patient.values()):
            found[side] += [patient] if len(of_patient) == len(cases) else [*of_patient]
        if len(set(of_patient.values())) > 1:
            fact = f"{patient} is on two sides: {' and '.join(sorted(set(of_patient.values())))}."
            remedy = "Split by patients, and plan nnU-Net's folds so: boundseg convert nnunet writes such a file."
            problems.append(Problem(fact, where, remedy))
    return found, problems


def _misplaced(source: Dataset, where: str, sides: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Cases of a fold that the dataset does not have, that are nobody's, or that stand on two sides."""
    problems = []
    if strangers := {*sides["train"], *sides["validation"]} - {*source.training_cases}:
        fact = f"the fold names what is no case of {source.folder / 'imagesTr'}: {_some(strangers)}."
        problems.append(Problem(fact, where, "It is that of another dataset, or cases were renamed."))
    owned = {case for cases in source.splits.patients.values() for case in cases}
    if orphans := {case for cases in sides.values() for case in cases if case in source.cases} - owned:
        fact = f"these cases belong to no patient: {_some(orphans)}."
        problems.append(Problem(fact, str(source.folder / "splits.json"), "Add them under patients."))
    for one, other in combinations(sides, 2):
        if both := {*sides[one]} & {*sides[other]}:
            remedy = (
                "Take them out of test in splits.json, or out of the fold." if other == "test" else "Mend the fold."
            )
            problems.append(Problem(f"these cases are in {one} and in {other}: {_some(both)}.", where, remedy))
    return problems


def _some(cases: Collection[str], shown: int = 8) -> str:
    more = f" and {len(cases) - shown} more" if len(cases) > shown else ""
    return ", ".join(sorted(cases)[:shown]) + more


def link(source: Path, folder: Path) -> None:
    """A hard link in a folder, or a copy where the file system has none."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, folder / source.name)
    except OSError:
        shutil.copyfile(source, folder / source.name)


def _images(source: Dataset, case: str, folder: Path) -> None:
    for path in source.image_paths(case):
        if not path.is_file():
            raise DatasetError(f"{path.name} is not there.", str(path.parent), "boundseg check lists all such files.")
        _place(source, path, folder)


def _place(source: Dataset, path: Path, folder: Path) -> None:
    """A volume as nnU-Net reads it."""
    if source.file_ending not in WRITTEN_ANEW:
        link(path, folder)
        return
    volume = volume_io.read(path)
    volume_io.write(folder / f"{volume_io.stem(path)}{_ending(source)}", volume.array, volume)


def _ending(source: Dataset) -> str:
    return WRITTEN_ANEW.get(source.file_ending, source.file_ending)


def _labels(source: Dataset, case: str, name: str, folder: Path) -> bool:
    """Whether the set has labels of the case; where not, they are ignore everywhere."""
    path, image = source.label_path(case, name), source.read_grid(case)
    if path.is_file():
        source.read_label_file(path, image)  # values and grid, which nnU-Net would only complain about later
        _place(source, path, folder)
        return True
    folder.mkdir(parents=True, exist_ok=True)
    nothing = np.full(image.array.shape, source.ignore, np.uint8)
    volume_io.write(folder / f"{case}{_ending(source)}", nothing, image)
    return False


def _describe(source: Dataset, folder: Path, cases: int) -> None:
    content = json.loads((source.folder / "dataset.json").read_text(encoding="utf-8-sig"))
    # nnU-Net wants the ignore label right behind the last class, and boundseg allows a gap
    labels = {**source.labels, "ignore": source.ignore}
    if source.ignore != len(source.labels):
        raise DatasetError(
            f"ignore = {source.ignore} does not follow the last class, {len(source.labels) - 1}, as nnU-Net wants it.",
            str(source.folder / "dataset.json"),
            f"Write {len(source.labels)}, there and in the label maps.",
        )
    content |= {"labels": labels, "numTraining": cases, "slice_axis": source.slice_axis}
    content["file_ending"] = _ending(source)
    atomic.write_text(folder / "dataset.json", json.dumps(content, indent=2) + "\n")
