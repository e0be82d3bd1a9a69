"""A volume bound in a LightningModule: whole volumes in, slice by slice through the network, one size for each.

    python examples/lightning_module.py [--epochs 30]

Balls in noise; one labelled voxel each, and the ball's volume known to 10 %, nothing of single slices. Prints the DSC
without and with the bound.
"""

from __future__ import annotations

import argparse
import logging

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from boundseg.constraints import Bounds, Constraint, Groups, Size, log_hinge
from boundseg.losses import Objective

IGNORE = 255


def balls(count: int, slices: int = 8, size: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Volumes ``[N, S, H, W]``, masks, and labels of one voxel per volume (of the ball's centre)."""
    z, y, x = torch.meshgrid(torch.arange(slices), torch.arange(size), torch.arange(size), indexing="ij")
    centre = torch.randint(9, size - 9, (count, 2))
    radius = torch.randint(4, 9, (count, 1, 1, 1))
    row, column = centre[:, 0].reshape(-1, 1, 1, 1), centre[:, 1].reshape(-1, 1, 1, 1)
    masks = ((2 * (z - slices // 2)) ** 2 + (y - row) ** 2 + (x - column) ** 2 <= radius**2).long()
    images = masks.float() + 0.3 * torch.randn(count, slices, size, size)
    labels = torch.full_like(masks, IGNORE)
    labels[torch.arange(count), slices // 2, centre[:, 0], centre[:, 1]] = 1
    return images, masks, labels


class Segmenter(lightning.LightningModule):
    """Partial cross-entropy, and ``weight`` times the cost of leaving 0.9 to 1.1 times the known volume."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        layers = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Conv2d(16, 2, 1))
        self.volume = Constraint("volume", Size("px"), ((1,),), scope="volume", penalty=log_hinge, weight=weight)
        self.objective = Objective(ignore=IGNORE, constraints=[self.volume])

    def forward(self, volumes: Tensor) -> Tensor:
        return self.network(volumes.flatten(0, 1).unsqueeze(1))  # [N * S, 2, H, W]

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        volumes, labels, sizes = batch
        count, slices = volumes.shape[:2]
        groups = Groups(
            torch.arange(count, device=self.device).repeat_interleave(slices),  # the volume of each slice
            torch.full((count,), slices, device=self.device),  # how many slices each has
        )
        bounds = {self.volume.name: Bounds.around(sizes.unsqueeze(1), relative=0.1)}  # [N, 1]
        return self.objective(self(volumes), labels.flatten(0, 1), bounds, volumes=groups).total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def train(images: Tensor, labels: Tensor, sizes: Tensor, epochs: int, weight: float) -> Segmenter:
    lightning.seed_everything(0, verbose=False)
    module = Segmenter(weight)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(images, labels, sizes), batch_size=4, shuffle=True))
    return module


@torch.no_grad()
def dice(module: Segmenter, images: Tensor, masks: Tensor) -> float:
    prediction = module(images).argmax(1).reshape(masks.shape)
    return float(2 * (prediction * masks).sum() / (prediction.sum() + masks.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    epochs = parser.parse_args().epochs
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # no lines about GPUs that are not there
    torch.manual_seed(1)
    images, masks, labels = balls(8)
    unseen, unseen_masks, _ = balls(8)
    sizes = masks.sum((1, 2, 3)).float()
    for name, weight in (("without the bound", 0.0), ("with the bound", 1.0)):
        module = train(images, labels, sizes, epochs, weight)
        print(f"{name}: DSC {dice(module, unseen, unseen_masks):.3f} on unseen balls")


if __name__ == "__main__":
    main()
