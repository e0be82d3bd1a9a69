"""Several trainings on this machine: side by side with a share of the cores each, or one after the other with all.

python benchmarks/side_by_side.py [--rounds 3] [--trainings 2] [--epochs 2] [--patients 4] [--batch 8] [--device cpu]

Synthetic hearts on 96 x 96, ENet, size bounds; the processes of `boundseg train a.yaml b.yaml`, their start included.
Both arrangements take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import yaml

from boundseg.demo import write_hearts
from boundseg.training.several import train_several


def write_configs(folder: Path, trainings: int, epochs: int, patients: int, batch: int) -> list[Path]:
    hearts = folder / "hearts"
    write_hearts(hearts, {"train": patients, "validation": 1, "test": 1})
    paths = []
    for seed in range(trainings):
        content = {
            "data": {"folder": str(hearts), "size": [96, 96]},
            "supervision": [
                {
                    "cases": "train",
                    "labels": "erosion",
                    "constraints": [{"size": {"class": "LV", "weight": 0.05, "set": "individual"}}],
                }
            ],
            "training": {"epochs": epochs, "batch_size": batch},
            "seed": seed,
        }
        paths.append(folder / f"seed{seed}.yaml")
        paths[-1].write_text(yaml.safe_dump(content), encoding="utf-8")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trainings", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cores", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    trainings, cores = arguments.trainings, arguments.cores
    share = max(1, cores // trainings)
    arrangements = {
        f"side by side, {share} thread(s) each": (trainings, share),
        f"one after the other, {cores} thread(s)": (1, cores),
    }
    print(f"torch {torch.__version__}, {vars(arguments)}")
    with TemporaryDirectory() as name:
        folder = Path(name)
        configs = write_configs(folder, trainings, arguments.epochs, arguments.patients, arguments.batch)
        train_several(configs[:1], folder / "first", device=arguments.device, quiet=True)  # prepares
        seconds: dict[str, list[float]] = {arrangement: [] for arrangement in arrangements}
        for turn in range(arguments.rounds):
            for arrangement in list(arrangements)[:: 1 if turn % 2 == 0 else -1]:
                jobs, threads = arrangements[arrangement]
                started = time.perf_counter()
                outcomes = train_several(
                    configs, folder / "runs", jobs=jobs, threads=threads, device=arguments.device, quiet=True
                )
                seconds[arrangement].append(time.perf_counter() - started)
                print(f"round {turn}, {arrangement}: {seconds[arrangement][-1]:.1f} s", flush=True)
                assert all(outcome.state == "done" for outcome in outcomes), outcomes
                shutil.rmtree(folder / "runs")
    for arrangement, measured in seconds.items():
        print(f"{arrangement}: median {median(measured):.1f} s")
    one, other = seconds.values()
    ratios = [b / a for a, b in zip(one, other, strict=True)]
    print(
        f"one after the other / side by side, by rounds: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
