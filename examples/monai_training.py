"""A size bound in a training written with MONAI: its transforms, its data loader, its network, and our loss.

    python examples/monai_training.py [--epochs 15]

Discs on noise; one labelled pixel each, and the disc's area known to 10 %. The area travels through the transforms as a
number beside image and labels: flips and crops of the padding do not change it. Prints the DSC without and with the
bound.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.metrics import DiceMetric
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureChannelFirstd, RandFlipd, ScaleIntensityd, ToTensord
from monai.utils import set_determinism

from boundseg.constraints import Bounds, Constraint, Size
from boundseg.losses import Objective

IGNORE = 255


def discs(count: int, seed: int, size: int = 32) -> list[dict[str, object]]:
    """Images, masks, labels of one pixel (the disc's centre), and areas, as MONAI's lists of dictionaries."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    cases = []
    for _ in range(count):
        row, column, radius = rng.integers(10, size - 10), rng.integers(10, size - 10), rng.integers(4, 10)
        mask = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        labels = np.full((size, size), IGNORE)
        labels[row, column] = 1
        image = (mask + 0.3 * rng.standard_normal(mask.shape)).astype(np.float32)
        cases.append({"image": image, "mask": mask.astype(np.int64), "labels": labels, "size": float(mask.sum())})
    return cases


def loader(cases: list[dict[str, object]], *, train: bool) -> DataLoader:
    maps = ["image", "mask", "labels"]
    flips = [RandFlipd(maps, prob=0.5, spatial_axis=axis) for axis in (0, 1)] if train else []
    steps = [EnsureChannelFirstd(maps, channel_dim="no_channel"), ScaleIntensityd("image"), *flips, ToTensord(maps)]
    return DataLoader(Dataset(cases, Compose(steps)), batch_size=8, shuffle=train)


def train(cases: list[dict[str, object]], epochs: int, weight: float) -> torch.nn.Module:
    """Partial cross-entropy, and ``weight`` times the cost of leaving 0.9 to 1.1 times the known size."""
    set_determinism(0)
    # norm=None: with instance norm, the default, the bound gains less in so few steps
    network = UNet(2, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1, norm=None)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    area = Constraint("area of the disc", Size("grid_px"), regions=((1,),), weight=weight)
    objective = Objective(ignore=IGNORE, constraints=[area])
    for _ in range(epochs):
        for batch in loader(cases, train=True):
            bounds = {area.name: Bounds.around(batch["size"].float().unsqueeze(1), relative=0.1)}  # [B, 1]
            logits = network(batch["image"])
            loss = objective(logits, batch["labels"].squeeze(1), bounds).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


@torch.no_grad()
def dice(network: torch.nn.Module, cases: list[dict[str, object]]) -> float:
    network.eval()
    metric = DiceMetric(include_background=False, num_classes=2)
    for batch in loader(cases, train=False):
        metric(network(batch["image"]).argmax(1, keepdim=True), batch["mask"])
    return float(metric.aggregate())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    epochs = parser.parse_args().epochs
    seen, unseen = discs(32, seed=1), discs(16, seed=2)
    for name, weight in (("without the bound", 0.0), ("with the bound", 1e-2)):
        print(f"{name}: DSC {dice(train(seen, epochs, weight), unseen):.3f} on unseen discs")


if __name__ == "__main__":
    main()
