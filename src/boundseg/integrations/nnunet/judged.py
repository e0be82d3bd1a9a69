"""Which bounds are kept by label maps that nnU-Net has predicted, whichever trainer taught it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from io import StringIO
from pathlib import Path

import numpy as np
import torch

from boundseg.asked.demands import Demand
from boundseg.constraints import Bounds, Groups
from boundseg.data import atomic, volume_io
from boundseg.data.measured import frame_of_file
from boundseg.errors import DatasetError, InputError, PriorsError, Problem, VolumeError
from boundseg.integrations.nnunet.settings import TRAINER, Asked


@dataclass(frozen=True)
class Judged:
    """A bound and what a label map holds.

    Attributes:
        case: The case.
        slice: In the file; None: the bound is of the volume.
        constraint: Its name.
        value: In the unit of the bounds.
        lower: ``-inf`` where unknown.
        upper: ``inf`` where unknown.
        kept: Whether it is kept, to one voxel of the file.
    """

    case: str
    slice: int | None
    constraint: str
    value: float
    lower: float
    upper: float
    kept: bool

    @property
    def missed_by(self) -> float:
        """How far the value lies outside, in its unit."""
        return max(self.lower - self.value, self.value - self.upper, 0.0)


@torch.no_grad()
def judge(
    predictions: Path, cases: Sequence[str], demands: Sequence[Demand], classes: int, slice_axis: int, file_ending: str
) -> list[Judged]:
    """Measures label maps.

    Args:
        predictions: Folder of ``CASE.nii.gz``.
        cases: Which of them.
        demands: What is asked, and known of each case.
        classes: How many there are, the background among them.
        slice_axis: Of the files.
        file_ending: Of the files.

    Raises:
        VolumeError: A label map cannot be read, or holds a value that is no class.
        InputError: Bounds of slices that are not there; all of them are listed.
    """
    found: list[Judged] = []
    problems: dict[Problem, None] = {}  # several demands may read one row
    for case in cases:
        if not any(demand.knows(case) for demand in demands):
            continue
        path = predictions / f"{case}{file_ending}"
        volume = volume_io.read(path)
        labels = np.moveaxis(np.asarray(volume.array), slice_axis, 0).astype(np.int64)
        if labels.min() < 0 or labels.max() >= classes:
            raise VolumeError(f"{path.name} holds values that are no classes.", str(predictions), "Predict it again.")
        probs = torch.from_numpy(np.eye(classes)[labels]).movedim(-1, 1)
        spacing = list(volume.spacing_mm)
        between = spacing.pop(slice_axis)
        frame = frame_of_file((spacing[0], spacing[1], between), len(labels))
        groups = Groups.by_name([case] * len(labels), {case: len(labels)})
        for demand in (demand for demand in demands if demand.knows(case)):
            try:
                lower, upper = torch.from_numpy(demand.bounds(case, len(labels))).double()
            except PriorsError as error:
                problems |= dict.fromkeys(error.problems)
                continue
            of_volume = demand.constraint.scope == "volume"
            term = demand.constraint(probs, Bounds(lower, upper), frame, groups if of_volume else None)
            columns = (term.value, term.bounds.lower, term.bounds.upper, term.satisfied)
            table = zip(*(column[:, 0].tolist() for column in columns), strict=True)
            found += [
                Judged(case, None if of_volume else index, demand.constraint.name, value, low, high, kept)
                for index, (value, low, high, kept) in enumerate(table)
                if math.isfinite(low) or math.isfinite(high)
            ]
    if problems:
        raise InputError.of(problems)
    return found


def judge_folder(predictions: Path, dataset: Path, name: str = "") -> list[Judged]:
    """Measures all label maps of a folder by what ``boundseg.yaml`` asks.

    Args:
        predictions: Label maps of ``nnUNetv2_predict``, or the folder ``validation`` of a fold.
        dataset: The dataset's folder in ``nnUNet_raw`` (or ``nnUNet_preprocessed``).
        name: ``NAME`` of ``boundseg_NAME.yaml``.

    Raises:
        InputError: See :func:`judge` and :meth:`Asked.load`; nothing was predicted.
    """
    if not (dataset / "dataset.json").is_file():
        raise DatasetError("dataset.json is not there.", str(dataset), "Name the dataset's folder in nnUNet_raw.")
    description = json.loads((dataset / "dataset.json").read_text(encoding="utf-8-sig"))
    ending = description["file_ending"]
    cases = sorted(path.name.removesuffix(ending) for path in predictions.glob(f"*{ending}"))
    if not cases:
        raise DatasetError(f"there is no label map *{ending}.", str(predictions), "Predict first.")
    asked = Asked.load(f"{TRAINER}_{name}" if name else TRAINER, [dataset], description, cases)
    classes = len([label for label in description["labels"] if label != "ignore"])
    return judge(predictions, cases, asked.demands, classes, description.get("slice_axis", 2) % 3, ending)


def write(path: Path, rows: Sequence[Judged]) -> None:
    """Writes ``bounds.csv``; unknown sides and whole volumes are empty cells."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Judged)])
    for row in rows:
        writer.writerow(["" if cell is None or cell in (-math.inf, math.inf) else cell for cell in astuple(row)])
    atomic.write_text(path, text.getvalue())


def summary(rows: Sequence[Judged]) -> dict[str, tuple[int, int, float]]:
    """For each constraint: bounds, how many of them are kept, and by how much all are missed in the mean."""
    names = dict.fromkeys(row.constraint for row in rows)
    of = {name: [row for row in rows if row.constraint == name] for name in names}
    return {
        name: (len(some), sum(row.kept for row in some), float(np.mean([row.missed_by for row in some])))
        for name, some in of.items()
    }
