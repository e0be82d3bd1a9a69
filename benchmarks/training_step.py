"""Which precision, memory layout and other switches make a training step fastest, against float32, contiguous.

python benchmarks/training_step.py [--size 256] [--batch 8] [--threads 2] [--network enet] [--device cpu] [--compile]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from pairs import ratio

from boundseg.losses import partial_cross_entropy
from boundseg.networks import build


def step(
    network_name: str,
    batch: int,
    size: int,
    device: torch.device,
    *,
    bf16: bool = False,
    channels_last: bool = False,
    deterministic: bool = False,
    compiled: bool | str = False,
) -> Callable[[], None]:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = build(network_name, 1, 2).to(device=device, memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    if compiled:
        network = torch.compile(network, mode=None if compiled is True else compiled)
    images = torch.randn(batch, 1, size, size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(2, (batch, size, size), dtype=torch.uint8, device=device)

    def run() -> None:
        torch.use_deterministic_algorithms(deterministic)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = network(images)
        partial_cross_entropy(logits, labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--network", default="enet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    shape = (arguments.network, arguments.batch, arguments.size, device)
    print(f"torch {torch.__version__}, {vars(arguments)}")
    switches: dict[str, dict[str, Any]] = {
        "bf16": {"bf16": True},
        "channels last": {"channels_last": True},
        "bf16, channels last": {"bf16": True, "channels_last": True},
        "deterministic": {"deterministic": True},
    }
    if arguments.compile:
        switches |= {"compiled": {"compiled": True}, "compiled, CUDA graphs": {"compiled": "reduce-overhead"}}
    for name, switch in switches.items():
        if name.endswith("graphs") and device.type != "cuda":
            continue
        median, (low, high), this_ms, base_ms = ratio(step(*shape, **switch), step(*shape), arguments.pairs)
        interval = f"(95 % {low:.3f} to {high:.3f})"
        print(f"{name}: {median:.3f} of float32, contiguous {interval}, {this_ms:.0f} and {base_ms:.0f} ms")


if __name__ == "__main__":
    main()
