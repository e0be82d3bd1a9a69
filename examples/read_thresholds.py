"""How a network's probabilities are best read: the DSC of one class at several thresholds, beside that of the argmax.

    python examples/read_thresholds.py runs/individual --class LV --thresholds 0.1 0.3 0.5 0.7

A soft size can be right while the label map is too small (the size leaks into faint pixels) or, with spare outputs,
the argmax can take a class that has less than half of the probability. Both show here, without another training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from boundseg import Dataset, Run
from boundseg.evaluation.metrics import dice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--class", dest="name", required=True)
    parser.add_argument("--cases", default="test")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    parser.add_argument("--weights", choices=("best", "last"), default="best")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.open(arguments.run)
    dataset, predictor = Dataset.open(run.config.data.folder), run.predictor(arguments.weights)
    value = dataset.labels[arguments.name]
    columns: dict[str, list[tuple[float, float]]] = {}
    for case in dataset.cases_of(arguments.cases):
        array, image = dataset.read_image(case)
        target = dataset.to_slices(dataset.read_labels(case, "full", image)) == value
        probs = predictor(dataset.to_slices(array), dataset.slice_spacing_mm(image)[:2])
        readings = {"argmax": probs.argmax(0) == value}
        readings |= {f"over {t:g}": probs[value] > t for t in arguments.thresholds}
        for name, prediction in readings.items():
            columns.setdefault(name, []).append((dice(prediction, target), prediction.sum() / max(target.sum(), 1)))
    print(f"{arguments.run.name}, {arguments.name}: DSC and predicted / true volume, means over volumes")
    for name, found in columns.items():
        mean_dice, mean_ratio = np.nanmean(found, axis=0)
        print(f"{name:10s}  {mean_dice:.3f}  {mean_ratio:.2f}")


if __name__ == "__main__":
    main()
