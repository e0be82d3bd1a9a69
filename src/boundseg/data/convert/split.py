"""Who trains, is held out and tests: ``split.csv`` beside a download, and patients drawn where it says nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boundseg.data.dataset import SPLITS
from boundseg.data.spreadsheet import as_text, read_sheet
from boundseg.errors import DatasetError, Problem
from boundseg.nearest import did_you_mean

SHARE = 5  # one patient of so many is drawn for the validation, and for the test
HEADER = "Its first line is: {},split"


@dataclass(frozen=True)
class Split:
    """The side of each patient, and in words how it came about.

    Attributes:
        of: ``train``, ``validation`` or ``test`` of each patient, in the patients' order.
        told: A sentence for whoever converts.
    """

    of: dict[str, str]
    told: str = ""

    def patients(self, split: str) -> list[str]:
        """The patients of a side."""
        return [patient for patient, side in self.of.items() if side == split]


def read_or_draw(path: Path, patients: Collection[str], column: str, seed: int) -> Split:
    """The split of a ``split.csv``; where that names no validation patients, or is not there, patients are drawn.

    One in five of the training patients is drawn for the validation. Without the file, one in five of all is drawn
    for the test before that. At least one of each is drawn from two patients or more.

    Raises:
        DatasetError: As :func:`read`.
    """
    if path.is_file():
        split_of, told = read(path, patients, column), "split: split.csv"
    else:
        split_of = _draw(dict.fromkeys(sorted(patients), "train"), "test", seed)
        told = f"no split.csv: a fifth of the patients tests, drawn with seed {seed}"
    if "validation" not in split_of.values():
        split_of = _draw(split_of, "validation", seed)
        drawn = sum(side == "validation" for side in split_of.values())
        of = sum(side in ("train", "validation") for side in split_of.values())
        told += f"; {drawn} of the {of} training patients are held out for validation, drawn with seed {seed}"
    return Split(split_of, told)


def read(path: Path, patients: Collection[str], column: str) -> dict[str, str]:
    """The side of each patient as ``split.csv`` says; its rows about nobody here are passed over.

    Args:
        path: A table with the columns ``column`` and ``split``.
        patients: Those that need a side.
        column: The one that names patients.

    Raises:
        PriorsError: It is no table, see :func:`boundseg.data.spreadsheet.read_sheet`.
        DatasetError: A column is missing, a row names no split, a patient is on two sides or on none; all of them are
            listed.
    """
    sheet = read_sheet(path)
    problems = [
        Problem(f"there is no column {name!r}{did_you_mean(name, sheet.columns)}", str(path), HEADER.format(column))
        for name in (column, "split")
        if name not in sheet.columns
    ]
    if problems:
        raise DatasetError.of(problems)
    split_of: dict[str, str] = {}
    for line, row in sheet.rows:
        patient, split = as_text(row[column]), as_text(row["split"])
        where = f"{path}, line {line}"
        if not patient or split not in SPLITS:
            problems.append(Problem(f"{patient!r} is in the split {split!r}.", where, f"Use {', '.join(SPLITS)}."))
        elif split_of.get(patient, split) != split:
            fact = f"{patient} is on two sides: {split_of[patient]} and {split}."
            problems.append(Problem(fact, where, "Keep one of the rows."))
        else:
            split_of[patient] = split
    problems += [
        Problem(f"{patient} is in no split.", str(path), "Add a row for it.")
        for patient in sorted(set(patients) - set(split_of))
        if not problems
    ]
    if problems:
        raise DatasetError.of(problems)
    return {patient: split_of[patient] for patient in sorted(patients)}


def _draw(split_of: dict[str, str], side: str, seed: int) -> dict[str, str]:
    """Moves a fifth of the training patients to another side."""
    training = [patient for patient, split in split_of.items() if split == "train"]
    if len(training) < 2:
        return split_of
    rng = np.random.default_rng([seed, SPLITS.index(side)])
    chosen = rng.choice(len(training), max(1, round(len(training) / SHARE)), replace=False)
    return split_of | {training[i]: side for i in chosen}
