"""What augmentation costs: milliseconds an image, and as a share of a training step of ENet.

python benchmarks/augmentation.py [--size 256] [--batch 8] [--threads 1] [--rounds 20] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from training_step import step

from boundseg.constraints import Frame, Groups
from boundseg.data.batches import Batch
from boundseg.training.config.augment import AugmentationConfig, augmentations

ROWS: dict[str, list[Any]] = {
    "mirror, transpose": ["mirror", "transpose"],
    "rotate, scale": [{"rotate": 15}, {"scale": [0.9, 1.1]}],
    "elastic": [{"elastic": 4}],
    "intensity": [{"intensity": {"gain": 0.1, "shift": 0.1}}],
    "intensity, with gamma": [{"intensity": {"gain": 0.1, "shift": 0.1, "gamma": [0.8, 1.25]}}],
    "noise": [{"noise": 0.05}],
    "all of these": [
        "mirror",
        "transpose",
        {"rotate": 15},
        {"scale": [0.9, 1.1]},
        {"elastic": 4},
        {"intensity": {"gain": 0.1, "shift": 0.1, "gamma": [0.8, 1.25]}},
        {"noise": 0.05},
    ],
}


def batch_of(count: int, size: int, device: torch.device) -> Batch:
    """Padded slices of one channel with full masks, as a training has them."""
    torch.manual_seed(0)
    weight = torch.ones(count, size, size)
    weight[:, : size // 8] = 0
    return Batch(
        torch.randn(count, 1, size, size),
        torch.randint(4, (count, size, size), dtype=torch.uint8),
        Frame(
            weight, torch.ones(count, 3), torch.ones(count, 4, dtype=torch.bool), torch.eye(3, 4).repeat(count, 1, 1)
        ),
        Groups.each(count),
        {},
        tuple(("case", i) for i in range(count)),
    ).to(device)


def augmenting(content: list[Any], batch: Batch) -> Callable[[], None]:
    steps = augmentations([AugmentationConfig.model_validate(entry) for entry in content], 255, (True,) * 4)

    def run() -> None:
        after = batch
        for augment in steps:
            after = augment(after)
        if batch.images.device.type == "cuda":
            torch.cuda.synchronize()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    batch = batch_of(arguments.batch, arguments.size, device)
    runs = {"a training step": step("enet", arguments.batch, arguments.size, device, False, False)}
    runs |= {name: augmenting(content, batch) for name, content in ROWS.items()}
    print(f"torch {torch.__version__}, {vars(arguments)}")
    times = np.empty((arguments.rounds + 1, len(runs)))
    for times_of_round in times:  # interleaved, so that a machine that slows down slows all; the first warms up
        for i, run in enumerate(runs.values()):
            started = time.perf_counter()
            run()
            times_of_round[i] = time.perf_counter() - started
    shares = np.median(times[1:] / times[1:, :1], axis=0)
    for name, share, seconds in zip(runs, shares, np.median(times[1:], axis=0), strict=True):
        print(f"{name}: {seconds * 1000 / arguments.batch:.2f} ms an image, {share:.1%} of a step")


if __name__ == "__main__":
    main()
