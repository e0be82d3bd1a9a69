"""Batches that are made ahead are the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from threading import current_thread

import pytest
import torch

from boundseg.constraints import Frame, Groups
from boundseg.data.ahead import ahead
from boundseg.data.batches import Batch


@pytest.fixture
def moved_to(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Where batches were moved to: no GPU is needed to see who makes them, in which order, and when."""
    devices: list[torch.device] = []

    def to(batch: Batch, device: torch.device) -> Batch:
        devices.append(device)
        return batch

    monkeypatch.setattr(Batch, "to", to)
    monkeypatch.setattr(Batch, "pinned", lambda batch: batch)
    return devices


def made(count: int, fails_at: int | None = None) -> Iterator[Batch]:
    """Batches that say in their slices who made them."""
    for number in range(count):
        if number == fails_at:
            raise OSError("the disk is gone")
        labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
        slices = ((current_thread().name, number),)
        yield Batch(torch.zeros(1, 1, 2, 2), labels, Frame.plain(1, 2), Groups.each(1), {}, slices)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_batches_come_in_their_order_and_on_the_device(kind: str, count: int, moved_to: list[torch.device]) -> None:
    device = torch.device(kind)
    found = [batch.slices[0] for batch in ahead(made(count), device)]
    assert [number for _, number in found] == list(range(count))
    assert all(maker.startswith("batches") == (kind == "cuda") for maker, _ in found)
    assert moved_to == [device] * count


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_what_goes_wrong_is_raised_where_the_batch_is_taken(kind: str, moved_to: list[torch.device]) -> None:
    taken = ahead(made(3, fails_at=2), torch.device(kind))
    assert [next(taken).slices[0][1] for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(taken)


def test_a_loop_that_ends_early_leaves_no_thread_at_work(moved_to: list[torch.device]) -> None:
    taken = ahead(made(100), torch.device("cuda"))
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    assert list(taken) == []
