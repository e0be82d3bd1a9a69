"""What the size penalty costs a training step: ENet, 256 x 256, batch 1 and 8, against partial cross-entropy alone.

python benchmarks/penalty_cost.py [--pairs 30] [--batch 1 8] [--threads 1] [--device cpu]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from pairs import ratio

from boundseg.constraints import Bounds, Constraint, Size
from boundseg.losses import Objective
from boundseg.networks import build


def step(batch: int, device: torch.device, constrained: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    network = build("enet", 1, 2).to(device)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    images = torch.randn(batch, 1, 256, 256, device=device)
    labels = torch.full((batch, 256, 256), 255, dtype=torch.uint8, device=device)
    labels[:, 120:128, 120:128] = 1
    constraint = Constraint("size", Size(), ((1,),))
    bounds = Bounds(torch.full((batch, 1), 900.0), torch.full((batch, 1), 1100.0)).to(device)
    objective = Objective(255, [constraint])
    known = {"size": bounds} if constrained else {}

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective(network(images), labels, known).total.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(f"torch {torch.__version__}, {device}, {arguments.threads} thread(s), {arguments.pairs} pairs")
    for batch in arguments.batch:
        median, (low, high), with_ms, without_ms = ratio(
            step(batch, device, True), step(batch, device, False), arguments.pairs
        )
        print(
            f"batch {batch}: with / without the size penalty {median:.4f} (95 % {low:.4f} to {high:.4f}), "
            f"{with_ms:.1f} and {without_ms:.1f} ms a step"
        )


if __name__ == "__main__":
    main()
