"""What each constraint costs a training step: ENet, 4 outputs, 256 x 256, batch 1 and 8.

python benchmarks/constraint_cost.py [--rounds 20] [--batch 1 8] [--threads 1] [--device cpu]

A row's share is the time that the constraint adds to the loss (from logits to their gradient), over the time of a whole
training step with the cross-entropy alone. All are timed in turns, round after round, and medians are compared. Beside
ours, the published form: a Python loop over constraints, images and classes, in float64, each with its own softmax.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from boundseg.constraints import (
    BoundaryLength,
    Bounds,
    BoxTightness,
    Centroid,
    Compactness,
    Constraint,
    Descriptor,
    Elongation,
    Frame,
    Groups,
    Intensity,
    Size,
    Spread,
    box_bands,
    measure,
)
from boundseg.losses import Objective, partial_cross_entropy
from boundseg.networks import build

CLASSES, SIDE = 4, 256
REGIONS = ((1,), (2,), (3,))
ALONE: dict[str, list[Descriptor]] = {
    "size": [Size()],
    "centroid": [Centroid("mm")],
    "spread": [Spread("mm")],
    "elongation": [Elongation("mm")],
    "intensity": [Intensity()],
    "intensity variance": [Intensity("variance")],
    "boundary length": [BoundaryLength("mm")],
    "compactness": [Compactness(2, "mm")],
    "box tightness": [BoxTightness(32)],
    "size + centroid + spread + intensity": [Size(), Centroid("mm"), Spread("mm"), Intensity()],
    "size + centroid + spread + elongation + intensity": [
        Size(),
        Centroid("mm"),
        Spread("mm"),
        Elongation("mm"),
        Intensity(),
    ],
}
PUBLISHED = ("size", "centroid", "size + centroid + spread + intensity")


class Case:
    """One batch: its network, its labels and bounds, and the losses on it."""

    def __init__(self, batch: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.network = build("enet", 1, CLASSES).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), fused=True)
        self.images = torch.randn(batch, 1, SIDE, SIDE, device=device)
        self.labels = torch.full((batch, SIDE, SIDE), 255, dtype=torch.uint8, device=device)
        self.labels[:, 120:128, 120:128] = 1
        self.logits = torch.randn(batch, CLASSES, SIDE, SIDE, device=device)
        box = torch.tensor([[[60, 200], [70, 190]]], device=device).expand(batch, 2, 2)
        self.frame = Frame(
            torch.ones(batch, 1, 1, device=device),
            torch.tensor([[1.4, 1.6, 8.0]], device=device).repeat(batch, 1),
            affine=torch.eye(3, 4, device=device).repeat(batch, 1, 1),
            image=self.images,
            bands=box_bands(box, (SIDE, SIDE), 5),
        )
        self.synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def step(self) -> None:
        """A training step with the cross-entropy alone."""
        self.optimizer.zero_grad(set_to_none=True)
        partial_cross_entropy(self.network(self.images), self.labels).backward()
        self.optimizer.step()
        self.synchronise()

    def loss(self, descriptors: list[Descriptor]) -> Callable[[], None]:
        """From logits to their gradient, with constraints on these."""
        constraints = [Constraint(type(d).__name__, d, REGIONS) for d in descriptors]
        probs = self.logits.softmax(1)[:, 1:]
        bounds = {}
        for constraint in constraints:
            value = measure(constraint.descriptor, probs, self.frame.in_plane(), Groups.each(len(probs), probs.device))
            bounds[constraint.name] = Bounds.around(0.5 * value.abs(), 0.1)
        objective = Objective(255, constraints)

        def run() -> None:
            logits = self.logits.requires_grad_()
            logits.grad = None
            objective(logits, self.labels, bounds, self.frame).total.backward()
            self.synchronise()

        return run

    def published(self, descriptors: list[Descriptor]) -> Callable[[], None]:
        """The same values and penalties, one constraint, image and class after the other, in float64."""
        lines = torch.arange(SIDE, dtype=torch.float64, device=self.images.device)
        rows, columns = torch.meshgrid(lines * 1.4, lines * 1.6, indexing="ij")

        def penalty(value: Tensor) -> Tensor:
            target = 0.5 * value.detach()
            return (0.9 * target - value).relu() ** 2 + (value - 1.1 * target).relu() ** 2

        def values(name: str, p: Tensor, image: Tensor) -> list[Tensor]:
            if name == "Size":
                return [p.sum() / SIDE]
            if name == "Intensity":
                return [(p * image).sum() / p.sum()]
            centre = [(p * axis).sum() / p.sum() for axis in (rows, columns)]
            if name == "Centroid":
                return centre
            squares = [(p * (axis - c) ** 2).sum() / p.sum() for axis, c in zip((rows, columns), centre, strict=True)]
            return [square.sqrt() for square in squares]

        def run() -> None:
            logits = self.logits.requires_grad_()
            logits.grad = None
            total = partial_cross_entropy(logits, self.labels)
            for descriptor in descriptors:
                probs = logits.softmax(1)
                for i in range(len(probs)):
                    for (k,) in REGIONS:
                        found = values(type(descriptor).__name__, probs[i, k].double(), self.images[i, 0].double())
                        total = total + 1e-2 * sum(penalty(value) for value in found)
            total.backward()
            self.synchronise()

        return run


def medians(functions: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each, timed in turns so that a slow moment of the machine is everybody's."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 2):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if number >= 2:  # the first rounds warm up
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(of_name) for name, of_name in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(f"torch {torch.__version__}, {device}, {arguments.threads} thread(s), {arguments.rounds} rounds")
    for batch in arguments.batch:
        case = Case(batch, device)
        functions: dict[str, Callable[[], None]] = {"step": case.step, "loss": case.loss([])}
        functions |= {name: case.loss(descriptors) for name, descriptors in ALONE.items()}
        functions |= {f"published: {name}": case.published(ALONE[name]) for name in PUBLISHED}
        found = medians(functions, arguments.rounds)
        print(
            f"\nbatch {batch}: a step takes {1e3 * found['step']:.1f} ms, the cross-entropy {1e3 * found['loss']:.2f}"
        )
        print(f"{'constraint':<52}{'ms':>8}{'share of a step':>18}{'published':>12}")
        for name in ALONE:
            added = found[name] - found["loss"]
            theirs = found.get(f"published: {name}")
            told = "" if theirs is None else f"{(theirs - found['loss']) / found['step']:>11.1%}"
            print(f"{name:<52}{1e3 * added:>8.2f}{added / found['step']:>18.2%}{told:>12}")


if __name__ == "__main__":
    main()
