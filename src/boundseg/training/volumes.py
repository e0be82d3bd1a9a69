"""``volumes.csv`` beside predicted label maps: how much there is of each class, known without any mask."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from boundseg.data import atomic
from boundseg.errors import VolumeError

NAME = "volumes.csv"
COLUMNS = ("case", "class", "voxels", "mL", "mm2")


@dataclass
class Counted:
    """Voxels of each class of a case, added up as its slices come.

    Attributes:
        labels: Class names and values, the background among them.
        voxel_ml: Of one voxel; None where nothing says its size.
        pixel_mm2: Of one, in a case of one slice; else None.
        voxels: By class, the background left out.
    """

    labels: Mapping[str, int]
    voxel_ml: float | None
    pixel_mm2: float | None = None
    voxels: dict[str, int] = field(default_factory=dict)

    def add(self, maps: UInt8[np.ndarray, "*slices"]) -> None:
        """Counts label maps of some slices."""
        counts = np.bincount(maps.ravel(), minlength=max(self.labels.values()) + 1)
        for name, value in self.labels.items():
            if value:
                self.voxels[name] = self.voxels.get(name, 0) + int(counts[value])

    def rows(self, case: str) -> list[list[str]]:
        """Lines of the table; cells of what is not known are empty."""
        units = (self.voxel_ml, self.pixel_mm2)
        return [
            [case, name, str(count), *("" if one is None else f"{count * one:.6g}" for one in units)]
            for name, count in self.voxels.items()
        ]


def require_own(folder: Path) -> None:
    """Raises VolumeError where a file of that name lies in the folder that no prediction wrote."""
    _read(folder)


def write(folder: Path, found: Mapping[str, Counted]) -> None:
    """Writes the volumes of cases; rows of others that were predicted into the folder before stay.

    Raises:
        VolumeError: The file is somebody's own, or cannot be written.
    """
    rows = [row for row in _read(folder) if row[0] not in found]
    rows += [row for case, counted in found.items() for row in counted.rows(case)]
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([COLUMNS, *rows])
    try:
        atomic.write_text(folder / NAME, text.getvalue())
    except OSError as error:
        fact = f"{NAME} cannot be written: {error.strerror or error}."
        raise VolumeError(fact, str(folder), "Make room there, or choose another folder.") from error


def _read(folder: Path) -> list[list[str]]:
    path = folder / NAME
    if not path.exists():
        return []
    try:
        header, *rows = list(csv.reader(StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, csv.Error):
        header, rows = [], []
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        fact = f"{path} is no table of a prediction, and would be replaced."
        raise VolumeError(fact, remedy="Choose another --out, or rename it.")
    return rows
