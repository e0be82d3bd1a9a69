"""The states of torch's generators, as a checkpoint holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def random_state() -> list[str]:
    """The CPU's, then those of the GPUs; in hexadecimal."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [state.numpy().tobytes().hex() for state in (torch.get_rng_state(), *cuda)]


def set_random_state(saved: Mapping[str, Any], rank: int, count: int) -> None:
    """Puts back what a checkpoint's ``state.json`` holds for this process.

    Args:
        saved: With ``rng``: for each process what :func:`random_state` has found. (Checkpoints of earlier versions have
            one process, the CPU's state in ``rng`` and those of GPUs in ``rng_cuda``.)
        rank: Of this process.
        count: How many there are; were there others, each goes on from what it was seeded with.
    """
    rng = saved["rng"]
    of_all = [[rng, *saved.get("rng_cuda", [])]] if isinstance(rng, str) else rng
    if len(of_all) != count:
        return
    cpu, *cuda = map(_state, of_all[rank])
    torch.set_rng_state(cpu)
    if cuda and torch.cuda.is_available():
        # on a machine with fewer GPUs, the states of the others are of no use
        for index, state in zip(range(torch.cuda.device_count()), cuda, strict=False):
            torch.cuda.set_rng_state(state, index)


def _state(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
