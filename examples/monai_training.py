"""A size bound in a training by MONAI: its transforms, its trainer, its network, and our loss.

    python examples/monai_training.py [--epochs 15]

Discs on noise; one labelled pixel each, and the disc's area known to 10 %. Images are turned, stretched and shifted:
the bound stays what it is, and the frame says how much of the case a predicted pixel stands for. Prints the DSC without
and with the bound.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanDice, from_engine
from monai.networks.nets import UNet
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, RandAffined, ScaleIntensityd
from monai.utils import set_determinism

from boundseg.constraints import Bounds, Constraint, Size
from boundseg.integrations.monai import AddFramed, BoundedLoss, StartFramed, prepare_batch

IGNORE = 255
MAPS = ["image", "label"]


def discs(count: int, seed: int, size: int = 32) -> list[dict[str, object]]:
    """Images, masks, labels of one pixel (the disc's centre), and bounds, as MONAI's lists of dictionaries."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    cases = []
    for _ in range(count):
        row, column, radius = rng.integers(10, size - 10), rng.integers(10, size - 10), rng.integers(4, 10)
        mask = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        label = np.full((size, size), IGNORE, np.float32)
        label[row, column] = 1
        image = (mask + 0.3 * rng.standard_normal(mask.shape)).astype(np.float32)
        around = Bounds.around(float(mask.sum()), relative=0.1)
        bounds = {"area": torch.stack([around.lower, around.upper]).unsqueeze(0)}  # [regions, 2]
        cases.append({"image": image, "mask": mask.astype(np.int64), "label": label, "bounds": bounds})
    return cases


def train(cases: list[dict[str, object]], epochs: int, weight: float) -> torch.nn.Module:
    """Partial cross-entropy, and ``weight`` times the cost of leaving 0.9 to 1.1 times the known area."""
    set_determinism(0)
    steps = [
        EnsureChannelFirstd(MAPS, channel_dim="no_channel"),
        StartFramed(MAPS),
        ScaleIntensityd("image"),
        RandAffined(
            MAPS,
            prob=1.0,
            rotate_range=3.1,
            scale_range=0.1,
            translate_range=2,
            mode=["bilinear", "nearest"],
            padding_mode="border",
        ),
        AddFramed("image"),
    ]
    # norm=None: with instance norm, the default, the bound gains less in so few steps
    network = UNet(2, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1, norm=None)
    area = Constraint("area", Size("px"), regions=((1,),), weight=weight)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(cases, Compose(steps)), batch_size=8, shuffle=True),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=3e-3),
        # discs lie in the middle: what is turned out of the image holds none of them
        loss_function=BoundedLoss([area], ignore=IGNORE, complete=[1]),
        prepare_batch=prepare_batch,
    )
    trainer.run()
    return network


def dice(network: torch.nn.Module, cases: list[dict[str, object]]) -> float:
    """By MONAI's evaluator on full masks; it knows of no bounds, and has MONAI's own ``prepare_batch``."""
    maps = ["image", "label"]
    judged = [{"image": case["image"], "label": case["mask"]} for case in cases]
    steps = Compose([EnsureChannelFirstd(maps, channel_dim="no_channel"), ScaleIntensityd("image")])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(judged, steps), batch_size=8),
        network=network,
        postprocessing=AsDiscreted("pred", argmax=True),
        key_val_metric={
            "dice": MeanDice(include_background=False, num_classes=2, output_transform=from_engine(["pred", "label"]))
        },
    )
    evaluator.run()
    return float(evaluator.state.metrics["dice"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    epochs = parser.parse_args().epochs
    seen, unseen = discs(32, seed=1), discs(16, seed=2)
    for name, weight in (("without the bound", 0.0), ("with the bound", 1e-2)):
        print(f"{name}: DSC {dice(train(seen, epochs, weight), unseen):.3f} on unseen discs")


if __name__ == "__main__":
    main()
