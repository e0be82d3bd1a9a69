"""A size bound in a training loop of one's own: the loss alone, no files and no configs.

    python examples/own_training.py [--steps 60]

Discs on noise; one labelled pixel each, and the disc's area known to 10 %. Prints the DSC without and with the bound.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from boundseg.constraints import Bounds, Size, quadratic
from boundseg.losses import partial_cross_entropy

IGNORE = 255


def discs(count: int, size: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Images, masks, and labels of one pixel per image (of the disc's centre)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = torch.randint(10, size - 10, (count, 2, 1, 1))
    radius = torch.randint(4, 10, (count, 1, 1))
    masks = ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 <= radius**2).long()
    images = masks.float() + 0.3 * torch.randn(count, size, size)
    labels = torch.full_like(masks, IGNORE)
    labels[torch.arange(count), centre[:, 0, 0, 0], centre[:, 1, 0, 0]] = 1
    return images.unsqueeze(1), masks, labels


def train(images: Tensor, labels: Tensor, sizes: Tensor, steps: int, weight: float) -> nn.Module:
    """Partial cross-entropy, and ``weight`` times the cost of leaving 0.9 to 1.1 times the known size."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(16, 2, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    unknown = torch.full_like(sizes, torch.inf)  # nothing is known of the background's size
    bounds = Bounds(torch.stack([-unknown, 0.9 * sizes], 1), torch.stack([unknown, 1.1 * sizes], 1))
    for _ in range(steps):
        logits = network(images)
        probs = logits.softmax(1)
        cost = quadratic(Size()(probs), bounds, scale=probs[0, 0].numel())
        loss = partial_cross_entropy(logits, labels, ignore=IGNORE) + weight * bounds.mean(cost)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@torch.no_grad()
def dice(network: nn.Module, images: Tensor, masks: Tensor) -> float:
    prediction = network(images).argmax(1)
    return float(2 * (prediction * masks).sum() / (prediction.sum() + masks.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    torch.manual_seed(1)
    images, masks, labels = discs(16)
    unseen, unseen_masks, _ = discs(16)
    sizes = masks.sum((1, 2)).float()
    for name, weight in (("without the bound", 0.0), ("with the bound", 1e-2)):
        network = train(images, labels, sizes, steps, weight)
        print(f"{name}: DSC {dice(network, unseen, unseen_masks):.3f} on unseen discs")


if __name__ == "__main__":
    main()
