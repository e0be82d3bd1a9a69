"""Draws the tables over an axis from the figures that were committed, whichever trainings were judged together.

python docs/results/draw_tables.py [FOLDER]

Writes figure4.png, and errors.png and patients.png where a row of theirs is there, beside the CSV files.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from boundseg.paper.pictures import draw_over
from boundseg.paper.rows import tables
from boundseg.paper.table import Line

FOLDER = Path(__file__).parent / "paper"
FOOTNOTE = "Scale quick (reduced, not the paper's protocol), preset honest; one seed."


@dataclass(frozen=True)
class Recorded(Line):
    """A row whose trainings are gone, and whose figures are here."""

    recorded: tuple[float, ...] = ()

    def dice(self) -> list[float]:
        """For every seed, the mean DSC of the test volumes."""
        return list(self.recorded)


def draw(folder: Path, into: Path) -> list[Path]:
    """The pictures of a folder's CSV files."""
    read = pd.concat(pd.read_csv(path) for path in folder.glob("*.csv") if path.stem in tables())
    found = {key: tuple(rows["dice_volumes"]) for key, rows in read.groupby("row")}
    drawn = []
    for name in ("figure4", "errors", "patients"):
        asked = tables()[name]
        lines = [Recorded(row, (), found.get(row.key, ())) for row in asked.rows]
        if any(line.row.at is not None and line.recorded for line in lines):
            drawn.append(into / f"{name}.png")
            draw_over(lines, drawn[-1], FOOTNOTE, asked.over)
    return drawn


if __name__ == "__main__":
    for path in draw(FOLDER, Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(path)
