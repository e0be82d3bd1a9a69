"""The DSC on the validation patients over the epochs of several runs, as a picture and as a table.

python docs/results/acdc-lv/methods/draw_curves.py runs/penalty runs/proposals_exact … --out curves.png

Beside the picture, a .csv of the same name holds the figures.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

from boundseg.training.run import Run


def curve(folder: Path) -> list[float]:
    """The mean DSC over classes of each epoch."""
    rows = Run.open(folder).metrics()
    of_epoch = [[v for name, v in row.items() if name.startswith("validation dice: ")] for row in rows]
    return [sum(dice) / len(dice) for dice in of_epoch]


def apart(places: list[float], gap: float) -> list[float]:
    """Sorted places, moved until none lies closer to the next than the gap."""
    for _ in range(500):
        for i in range(len(places) - 1):
            push = (gap - (places[i + 1] - places[i])) / 2
            if push > 0:
                places[i], places[i + 1] = places[i] - push, places[i + 1] + push
    return places


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """One line a run, named at its end."""
    figure = Figure(figsize=(7.6, 4.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    last = sorted((values[-1], name) for name, values in curves.items())
    places = apart([value for value, _ in last], 0.026)
    for (_, name), place in zip(last, places, strict=True):
        values = curves[name]
        (line,) = axes.plot(range(1, len(values) + 1), values, marker=".", linewidth=1.4)
        axes.annotate(
            name.replace("_", " "), (len(values) + 0.2, place), color=line.get_color(), va="center", fontsize=8.5
        )
    longest = max(map(len, curves.values()))
    axes.set_ylim(top=max(max(places), *map(max, curves.values())) + 0.02)
    axes.set_xlim(0.7, longest * 1.3)
    axes.set_xticks(range(1, longest + 1))
    axes.set_xlabel("epoch")
    axes.set_ylabel("DSC, validation patients")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    arguments = parser.parse_args()
    curves = {folder.name: curve(folder) for folder in arguments.runs}
    draw(curves, arguments.out)
    with arguments.out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *curves])
        for epoch in range(max(map(len, curves.values()))):
            values = (f"{c[epoch]:.4f}" if epoch < len(c) else "" for c in curves.values())
            writer.writerow([epoch + 1, *values])


if __name__ == "__main__":
    main()
