"""The next batch is made while the device computes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from boundseg.data.batches import Batch


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on the device, in their order.

    On a GPU, a thread makes the next one in pinned memory, from which it is copied while the device computes. On a
    CPU, which is the device, that gains nothing.
    """
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    with ThreadPoolExecutor(1, "batches") as thread:
        upcoming = thread.submit(_pinned, batches)
        while (batch := upcoming.result()) is not None:
            upcoming = thread.submit(_pinned, batches)
            yield batch.to(device)


def _pinned(batches: Iterator[Batch]) -> Batch | None:
    batch = next(batches, None)
    return None if batch is None else batch.pinned()
