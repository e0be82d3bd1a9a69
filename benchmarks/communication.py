"""What several processes tell one another in a step: bytes beside those of the gradients, and the time at a bandwidth.

python benchmarks/communication.py [--config FILE] [--processes 8] [--gigabits 1 25 200] [--microseconds 50 20 5]

Bytes are counted: the tensor that a step reduces is built by the code of a training (``boundseg.accumulate.gathered``)
from a step of one small image, for the constraints of a config or of the built-in cases; the gradients are the sizes of
the networks' parameters in float32. Times are no measurement but a formula: a ring over P processes passes
2 (P - 1) / P of the bytes through each link, in 2 (P - 1) messages, so that

    time = 2 (P - 1) / P * bytes / bandwidth + 2 (P - 1) * latency

for each reduction. Gradients are reduced while the backward pass goes on, in pieces of 25 MB (a reduction each), the
table and the two small ones (whether a step is finite, and the pulls of every tenth of an epoch) wait for it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from boundseg.accumulate import Ranks
from boundseg.accumulate.gathered import Part, gather
from boundseg.constraints import Bounds, Centroid, Constraint, Elongation, Frame, Groups, Size, Spread
from boundseg.losses import Objective
from boundseg.networks import build

IGNORE = 255
BUCKET = 25 * 2**20  # bytes: DistributedDataParallel's default


@dataclass(frozen=True)
class Case:
    """What a table row is about."""

    name: str
    constraints: list[Constraint]
    classes: int
    volumes: int
    axes: int
    network: nn.Module


def regions(classes: int) -> tuple[tuple[int, ...], ...]:
    """Each class but the background."""
    return tuple((k,) for k in range(1, classes))


def built_in() -> list[Case]:
    def several(classes: int) -> list[Constraint]:
        of = regions(classes)
        measured = {"size": Size(), "centroid": Centroid(), "spread": Spread(), "elongation": Elongation()}
        return [Constraint(name, d, of, "volume", scale=1.0) for name, d in measured.items()]

    def size(classes: int) -> list[Constraint]:
        return [Constraint("size", Size(), regions(classes), "volume")]

    asked = [
        ("bounds of slices only, ENet", [Constraint("size", Size(), ((1,),), "slice")], 2, 1, 2),
        ("size per volume, ENet", size(2), 2, 1, 2),
        ("size per volume, ENet", size(4), 4, 8, 2),
        ("size, centroid, spread, elongation, ENet", several(4), 4, 8, 2),
        ("size per volume, 3D UNet", size(4), 4, 8, 3),
        ("size, centroid, spread, elongation, 3D UNet", several(15), 15, 8, 3),
    ]
    return [
        Case(name, constraints, classes, volumes, axes, build("enet" if axes == 2 else "unet", 1, classes, axes))
        for name, constraints, classes, volumes, axes in asked
    ]


def of_config(path: Path) -> Case:
    """The constraints, classes and training cases of a config; its dataset must be there."""
    from boundseg.data.dataset import Dataset
    from boundseg.training.config import Config
    from boundseg.training.supervision import demands_of_entries, entries_of

    config = Config.load(path)
    dataset = Dataset.open(config.data.folder)
    demands_of, _ = demands_of_entries(config, dataset)
    constraints = [demand.constraint for of_entry in demands_of for demand in of_entry]
    cases = min(config.training.batch_size, len(entries_of(config, dataset)))
    axes, outputs = config.data.grid.axes, len(dataset.labels) + config.network.spare_outputs
    network = build(config.network.name, len(dataset.channels), outputs, axes, **config.network.options)
    return Case(path.name, constraints, len(dataset.labels), cases, axes, network)


def table_bytes(case: Case) -> int:
    """Bytes of the one tensor that a step reduces: a row for each of its volumes, and the counts."""
    found: list[int] = []

    def add(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor.numel() * tensor.element_size())
        return tensor

    space = (4, 4, 4)[: case.axes]
    # where it lies and what it shows is of no matter: only how many numbers describe it
    frame = Frame(
        torch.ones(1, *([1] * case.axes)),
        torch.ones(1, 3),
        affine=torch.eye(3, 4).unsqueeze(0),
        image=torch.zeros(1, 1, *space),
    )
    logits = torch.zeros(1, case.classes, *space)
    bounds = {}
    for constraint in case.constraints:
        value = constraint.descriptor.value(constraint.totals(logits.softmax(1), frame).sums)
        bounds[constraint.name] = Bounds.unknown(*value.shape)
    objective = Objective(IGNORE, case.constraints)
    labels = torch.full((1, *space), IGNORE)
    share = objective.share(logits, labels, bounds, frame)
    part = Part(share, Groups.each(1), bounds, torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), 1)
    gather(case.constraints, [part], 5.0, Ranks(add, 2, case.volumes))
    (size,) = found
    return size


def seconds(size: int, reductions: int, processes: int, gigabits: float, microseconds: float) -> float:
    """Of a ring; see above."""
    through = 2 * (processes - 1) / processes * size / (gigabits * 1e9 / 8)
    return through + reductions * 2 * (processes - 1) * microseconds * 1e-6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="instead of the built-in cases")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--gigabits", type=float, nargs="+", default=[1, 25, 200], help="per second, of a link")
    parser.add_argument(
        "--microseconds", type=float, nargs="+", default=[50, 20, 5], help="latency of each of these, in turn"
    )
    given = parser.parse_args(arguments)
    links = list(zip(given.gigabits, given.microseconds, strict=True))
    cases = [of_config(given.config)] if given.config else built_in()
    print(f"{given.processes} processes; ms are simulated (a formula): gradients / all else")
    columns = " | ".join(f"{bits:g} Gbit/s, {latency:g} µs" for bits, latency in links)
    print(f"| | classes | volumes a step | parameters | gradients, bytes | beside them, bytes | share | {columns} |")
    print("|---" * (7 + len(links)) + "|")
    for case in cases:
        parameters = sum(p.numel() for p in case.network.parameters())
        gradients, table = 4 * parameters, table_bytes(case)
        beside = table + 4  # and whether the step is finite
        times = []
        for bits, latency in links:
            of_gradients = seconds(gradients, math.ceil(gradients / BUCKET), given.processes, bits, latency)
            of_rest = seconds(beside, 2, given.processes, bits, latency)
            times.append(f"{1000 * of_gradients:.2f} / {1000 * of_rest:.2f}")
        print(
            f"| {case.name} | {case.classes} | {case.volumes:,} | {parameters:,} | {gradients:,} | {beside:,} | "
            f"{beside / gradients:.2%} | {' | '.join(times)} |"
        )


if __name__ == "__main__":
    main()
