"""What choosing an epoch without masks costs: the DSC of the chosen epoch against that of the best one.

python examples/selection_regret.py runs/full runs/individual …

Reads the metrics.csv of runs whose held-out patients have full masks, of which the selection itself reads nothing. Each
row: the best epoch's DSC on them, and how far below it the choices end: by the objective on weak labels and bounds
(`selection: {by: weak}`), by the cross-entropy of the labelled pixels alone, by the share of kept bounds, and the last
epoch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from boundseg.training.run import Run

Row = dict[str, float]
CHOICES: dict[str, Callable[[Row], float]] = {  # lower is better
    "weak": lambda row: row["validation objective"],
    "labels alone": lambda row: row["validation cross_entropy"],
    "bounds alone": lambda row: -sum(value for name, value in row.items() if name.startswith("validation satisfied: ")),
    "last": lambda row: -row["epoch"],
}


def dice(row: Row) -> float:
    """Mean DSC over the classes."""
    return fmean(value for name, value in row.items() if name.startswith("validation dice: "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    regrets: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    print("| run | epochs | best DSC | " + " | ".join(CHOICES) + " |")
    print("|---|---|---|" + "---|" * len(CHOICES))
    for folder in parser.parse_args().runs:
        rows = Run.open(folder).metrics()
        best = max(map(dice, rows))
        cells = []
        for choice, score in CHOICES.items():
            chosen = min(rows, key=score)
            regrets[choice].append(best - dice(chosen))
            cells.append(f"{dice(chosen) - best:+.3f} (epoch {chosen['epoch']:.0f})")
        print(f"| {folder.name} | {len(rows)} | {best:.3f} | " + " | ".join(cells) + " |")
    means = " | ".join(f"{-fmean(of_choice):+.3f}" for of_choice in regrets.values())
    print(f"| mean | | | {means} |")


if __name__ == "__main__":
    main()
