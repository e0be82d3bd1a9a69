"""A volume bound in a training by Lightning: whole volumes in, slice by slice through the network, one size for each.

    python examples/lightning_module.py [--epochs 30]

Balls in noise; one labelled voxel each, and the ball's volume known to 10 %, nothing of single slices. Prints the DSC
without and with the bound, and what the callback has logged of it.
"""

from __future__ import annotations

import argparse
import logging
from functools import partial

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from boundseg.constraints import Bounds, Constraint, Size, log_hinge
from boundseg.integrations.lightning import BoundedModule, LogConstraints
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


def batch_of(volumes: list[tuple[int, Tensor, Tensor, float]]) -> dict[str, object]:
    """Some volumes as a batch of slices that says which belong together, and how large each volume is."""
    sizes = Bounds.around(torch.tensor([size for _, _, _, size in volumes]), relative=0.1)
    return {
        "image": torch.cat([image for _, image, _, _ in volumes]).unsqueeze(1),  # [N * S, 1, H, W]
        "label": torch.cat([label for _, _, label, _ in volumes]),
        "volume": [str(number) for number, image, _, _ in volumes for _ in image],
        "bounds": {"volume": torch.stack([sizes.lower, sizes.upper], dim=1)},  # [N, 2]
    }


def loader(images: Tensor, masks: Tensor, labels: Tensor, shuffle: bool = False) -> DataLoader:
    sizes = masks.sum((1, 2, 3)).float().tolist()
    volumes = list(zip(range(len(images)), images, labels, sizes, strict=True))
    return DataLoader(volumes, batch_size=4, shuffle=shuffle, collate_fn=batch_of)


def train(teaching: DataLoader, held_out: DataLoader, epochs: int, weight: float) -> BoundedModule:
    lightning.seed_everything(0, verbose=False)
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU()]
    volume = Constraint("volume", Size("px"), ((1,),), scope="volume", penalty=log_hinge, weight=weight)
    module = BoundedModule(
        nn.Sequential(*layers, nn.Conv2d(16, 2, 1)),
        Objective(ignore=IGNORE, constraints=[volume]),
        partial(torch.optim.Adam, lr=5e-3),
    )
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LogConstraints()],
    )
    trainer.fit(module, teaching, held_out)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    value, low, high = (logged[f"val/volume/{what}"] for what in ("value", "lower", "upper"))
    print(f"held out: {value:.0f} px on average, where {low:.0f} to {high:.0f} are known")
    return module


@torch.no_grad()
def dice(module: BoundedModule, images: Tensor, masks: Tensor) -> float:
    prediction = module(images.flatten(0, 1).unsqueeze(1)).argmax(1).reshape(masks.shape)
    return float(2 * (prediction * masks).sum() / (prediction.sum() + masks.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    epochs = parser.parse_args().epochs
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # no lines about GPUs that are not there
    torch.manual_seed(1)
    images, masks, labels = balls(8)
    unseen, unseen_masks, unseen_labels = balls(8)
    held_out = loader(unseen, unseen_masks, unseen_labels)
    for name, weight in (("without the bound", 0.0), ("with the bound", 1.0)):
        module = train(loader(images, masks, labels, shuffle=True), held_out, epochs, weight)
        print(f"{name}: DSC {dice(module, unseen, unseen_masks):.3f} on unseen balls")


if __name__ == "__main__":
    main()
