"""Two processes that know of one another, for tests of what is shared between ranks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_two_ranks(work: Callable[[int], None]) -> None:
    """Runs ``work(0)`` and ``work(1)`` side by side in one gloo group; both must end without an error."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ranks = [mp.get_context("fork").Process(target=_joined, args=(work, n, f"{folder}/met")) for n in (0, 1)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        assert [rank.exitcode for rank in ranks] == [0, 0]


def _joined(work: Callable[[int], None], number: int, file: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=number, world_size=2)
    work(number)
    dist.destroy_process_group()


def add_up(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over both ranks."""
    total = tensor.clone()
    dist.all_reduce(total)
    return total
