"""Predictions of several runs beside the reference: good, middling and bad slices by the DSC of the first run.

    python examples/compare_runs.py runs/individual runs/partial runs/full --out comparison.png

The runs must have been evaluated on the same cases (boundseg evaluate RUN).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from boundseg import Dataset, Run
from boundseg.report.pictures import Row, draw_slices

SHARES = {"best decile": 0.9, "median": 0.5, "worst quarter": 0.25, "worst decile": 0.1}


def around(mask: np.ndarray, side: int) -> tuple[slice, slice]:
    """A square window of a slice around its mask's centre, moved so that it lies inside."""
    rows, columns = np.nonzero(mask) if mask.any() else np.nonzero(np.ones_like(mask))
    starts = [
        int(np.clip(p.mean() - side / 2, 0, max(n - side, 0))) for p, n in zip((rows, columns), mask.shape, strict=True)
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--window", type=int, default=140, help="pixels shown around the reference's centre")
    arguments = parser.parse_args()
    dataset = Dataset.open(Run.open(arguments.runs[0]).config.data.folder)
    slices = pd.read_csv(arguments.runs[0] / "evaluation" / "slices.csv").dropna(subset="dice").sort_values("dice")
    rows = []
    for name, share in SHARES.items():
        chosen = slices.iloc[round(share * (len(slices) - 1))]
        case, index = str(chosen["case"]), int(chosen["slice"])
        image, volume = dataset.read_image(case)
        maps = {}
        for run in arguments.runs:
            path = run / "predictions" / f"{case}{dataset.file_ending}"
            maps[run.name] = dataset.to_slices(dataset.read_label_file(path, volume))[index]
        maps["reference"] = dataset.to_slices(dataset.read_labels(case, "full", volume))[index]
        window = around(maps["reference"], arguments.window)
        maps = {column: labels[window] for column, labels in maps.items()}
        title = f"{name}, DSC {chosen['dice']:.2f}\n{case}, slice {index}"
        rows.append(Row(title, dataset.to_slices(image)[0, index][window], maps))
    draw_slices(rows, dataset.classes, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
