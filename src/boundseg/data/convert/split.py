"""Who trains, is held out and tests: ``split.csv`` beside a download, and patients drawn where it says nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boundseg.data.dataset import SPLITS, Splits
from boundseg.data.spreadsheet import as_text, read_sheet
from boundseg.errors import DatasetError, Problem
from boundseg.nearest import did_you_mean

SHARE = 5  # one patient of so many is drawn for the validation, and for the test
HEADER = "Its first line is: {},split"


@dataclass(frozen=True)
class Split:
    """The side of each case, and in words how it came about.

    Attributes:
        of: ``train``, ``validation`` or ``test`` of each case, in their order.
        told: A sentence for whoever converts.
        patient_of: The patient of each case that is not one of its own.
    """

    of: dict[str, str]
    told: str = ""
    patient_of: Mapping[str, str] = field(default_factory=dict)

    def cases(self, split: str) -> list[str]:
        """The cases of a side."""
        return [case for case, side in self.of.items() if side == split]

    def splits(self) -> Splits:
        """Patients, their cases, and the patients of each side."""
        members = _members(self.of, self.patient_of)
        return Splits(
            members, {side: [p for p, cases in members.items() if self.of[cases[0]] == side] for side in SPLITS}
        )


def read_or_draw(
    path: Path, cases: Collection[str], column: str, seed: int, masked: Collection[str] | None = None
) -> Split:
    """The split of a ``split.csv``; where that names nobody for the validation, or is not there, patients are drawn.

    One in five of the training patients is drawn for the validation. Without the file, one in five of all is drawn
    for the test before that, among those with masks. At least one of each is drawn from two patients or more.

    Args:
        path: Of the table; its column ``patient`` may say whose each case is.
        cases: All that there are.
        column: The one that names cases.
        seed: Of what is drawn.
        masked: Those with masks, which a test needs; None means all.

    Raises:
        DatasetError: As :func:`read` and :func:`patients_of`.
    """
    patient_of: dict[str, str] = {}
    if path.is_file():
        split_of, told = read(path, cases, column), "split: split.csv"
        patient_of = patients_of(path, cases, column)
        require_one_side(split_of, patient_of, path)
    else:
        split_of, among = dict.fromkeys(sorted(cases), "train"), None if masked is None else set(masked)
        told = f"no split.csv: a fifth of the patients tests, drawn with seed {seed}"
        if among == set():
            told = "no split.csv: nobody tests, for there are no masks"
        elif among is not None and among < set(cases):
            told += f" among the {len(among)} with masks"
        split_of = _draw(split_of, "test", seed, patient_of, among)
    if "validation" not in split_of.values():
        split_of = _draw(split_of, "validation", seed, patient_of)
        learning = _members({case: side for case, side in split_of.items() if side != "test"}, patient_of)
        drawn = sum(split_of[members[0]] == "validation" for members in learning.values())
        told += (
            f"; {drawn} of the {len(learning)} training patients are held out for validation, drawn with seed {seed}"
        )
    return Split(split_of, told, patient_of)


def patients_of(path: Path, cases: Collection[str], column: str) -> dict[str, str]:
    """The patient of each case, as the column ``patient`` of a ``split.csv`` says; empty without such a column.

    Raises:
        PriorsError: It is no table.
        DatasetError: A case is of two patients; all of them are listed.
    """
    sheet = read_sheet(path)
    if column == "patient" or "patient" not in sheet.columns:
        return {}
    found: dict[str, str] = {}
    problems = []
    for line, row in sheet.rows:
        case, patient = as_text(row[column]), as_text(row["patient"])
        if case not in cases or not patient:
            continue
        if found.setdefault(case, patient) != patient:
            fact = f"{case} is of two patients: {found[case]} and {patient}."
            problems.append(Problem(fact, f"{path}, line {line}", "Keep one of the rows."))
    if problems:
        raise DatasetError.of(problems)
    return found


def require_one_side(split_of: Mapping[str, str], patient_of: Mapping[str, str], path: Path) -> None:
    """Refuses patients of whom one case trains and another is held out or tests.

    Raises:
        DatasetError: Such patients, all of them, by their cases.
    """
    problems = []
    for cases in _members(split_of, patient_of).values():
        sides = {split_of[case]: case for case in reversed(cases)}
        if len(sides) > 1:
            fact = f"one patient is on {len(sides)} sides: {', '.join(f'{case} in {s}' for s, case in sides.items())}."
            remedy = "Keep a patient's cases on one side; a column patient says who is whom."
            problems.append(Problem(fact, str(path), remedy))
    if problems:
        raise DatasetError.of(problems)


def _members(cases: Collection[str], patient_of: Mapping[str, str]) -> dict[str, list[str]]:
    """The cases of each patient; one that nobody speaks of is a patient of its own."""
    found: dict[str, list[str]] = {}
    for case in cases:
        found.setdefault(patient_of.get(case, case), []).append(case)
    return found


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


def _draw(
    split_of: dict[str, str],
    side: str,
    seed: int,
    patient_of: Mapping[str, str],
    among: Collection[str] | None = None,
) -> dict[str, str]:
    """Moves a fifth of the training patients to another side; of those with a case in ``among``, half at most."""
    training = _members([case for case, split in split_of.items() if split == "train"], patient_of)
    able = [patient for patient, cases in training.items() if among is None or any(case in among for case in cases)]
    if len(training) < 2 or not able:
        return split_of
    rng = np.random.default_rng([seed, SPLITS.index(side)])
    count = max(1, min(round(len(training) / SHARE), len(able) // 2))
    chosen = rng.choice(len(able), count, replace=False)
    return split_of | {case: side for i in chosen for case in training[able[i]]}
