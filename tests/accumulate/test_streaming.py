"""What was seen last stands in for the rest of a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from boundseg.accumulate import Streaming, accumulate, nothing_of
from boundseg.constraints import Bounds
from boundseg.losses import Loss, Objective
from tests.plain import run_plain

from .cases import IGNORE, WANTED, Images, constraints, cut, difference, gradient, network, some, step

NAMES = list(WANTED)


def objective() -> Objective:
    return Objective(IGNORE, constraints(of_slices=False))


def unlabelled(parts: Sequence[int]) -> Images:
    """Bounds of volumes alone, so that only what is remembered makes a difference."""
    batch = step(parts)
    return replace(batch, labels=torch.full_like(batch.labels, IGNORE))


def of_volumes() -> Images:
    return some(unlabelled([6]), torch.arange(6), NAMES)


def visit(model: nn.Module, streaming: Streaming, chunk: Images) -> Loss:
    """One batch, with its gradient added."""
    loss = objective()(
        model(chunk.images),
        chunk.labels,
        chunk.bounds,
        chunk.frame,
        chunk.volumes,
        rows=chunk.rows,
        elsewhere=streaming.elsewhere(chunk),
    )
    loss.total.backward()
    streaming.remember(chunk, loss)
    return loss


def epoch(model: nn.Module, streaming: Streaming, chunks: Sequence[Callable[[], Images]], lr: float = 0.0) -> Tensor:
    """The mean gradient over the batches, each of which takes a step."""
    total = torch.zeros(sum(p.numel() for p in model.parameters()))
    for make in chunks:
        model.zero_grad()
        visit(model, streaming, make())
        total += gradient(model)
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= lr * parameter.grad
    return total / len(chunks)


def exact(model: nn.Module, chunks: Sequence[Callable[[], Images]]) -> Tensor:
    model.zero_grad()
    accumulate(model, objective(), chunks)
    return gradient(model)


def test_at_rest_the_mean_over_batches_is_the_exact_gradient() -> None:
    model, streaming = network("group", dropout=0.0), Streaming(6, 1)
    chunks = cut(unlabelled([6]), 2, NAMES)
    epoch(model, streaming, chunks)
    order = [chunks[i] for i in (2, 0, 1)]
    assert difference(epoch(model, streaming, order), exact(model, chunks)) < 1e-5


def test_the_bias_falls_with_the_learning_rate() -> None:
    chunks = cut(unlabelled([6]), 2, NAMES)

    def bias(lr: float) -> float:
        model, streaming = network("group", dropout=0.0), Streaming(6, 1)
        epoch(model, streaming, chunks)
        before = exact(model, chunks)
        return difference(epoch(model, streaming, chunks, lr), before)

    large, small = bias(1e-2), bias(1e-3)
    assert 1e-4 < small < 0.2 * large


def test_an_image_that_is_drawn_twice_counts_once() -> None:
    """Of all 36 ways to draw two of six images one after the other, the mean gradient is the exact one."""
    model, streaming, batch = network("group", dropout=0.0), Streaming(6, 1), unlabelled([6])
    drawn = [partial(some, batch, torch.tensor([i, j]), NAMES) for i in range(6) for j in range(6)]
    for make in drawn[:5]:
        assert not visit(model, streaming, make()).terms["centre"].bounds.known.any(), "five of six are seen at most"
    epoch(model, streaming, drawn[5:6])
    assert difference(epoch(model, streaming, drawn), exact(model, cut(batch, 2, NAMES))) < 1e-5


def test_copies_leave_the_sums_of_a_volume_right() -> None:
    """As the network changes, and the copies of an image differ by their augmentation: the first one counts."""
    model, streaming, batch = network("group", dropout=0.0), Streaming(6, 1), of_volumes()
    visit(model, streaming, batch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1
    twice = some(batch, torch.tensor([1, 4, 1, 1]), NAMES)
    other = replace(twice, images=twice.images * torch.tensor([1.0, 1.0, 2.0, 3.0]).reshape(-1, 1, 1, 1))
    found = visit(model, streaming, other).terms["size"].value
    with torch.no_grad():
        now = objective()(model(batch.images), batch.labels, batch.bounds, batch.frame, batch.volumes).terms["size"]
    others = torch.tensor([0, 2, 3, 5])
    visit(model, streaming, some(batch, others, NAMES))
    after = visit(model, streaming, some(batch, others, NAMES)).terms["size"].value
    torch.testing.assert_close(after, now.value, check_dtype=False)
    assert not torch.allclose(found, after), "the others were out of date"


def test_sums_that_are_no_numbers_are_not_remembered() -> None:
    model, streaming, batch = network("group", dropout=0.0), Streaming(6, 1), of_volumes()
    first, wrong = (some(batch, torch.tensor(index), NAMES) for index in ([0, 1, 2, 3], [4, 5]))
    poisoned = replace(wrong, images=wrong.images * torch.tensor([torch.nan, 1.0]).reshape(-1, 1, 1, 1))
    for chunk in (first, poisoned, wrong, poisoned):
        loss = visit(model, streaming, chunk)
        assert loss.total.isfinite() == (chunk is not poisoned)
    # of image 4 nothing was known at first, and then what the third batch had seen
    with torch.no_grad():
        whole = objective()(model(batch.images), batch.labels, batch.bounds, batch.frame, batch.volumes)
    for name, term in visit(model, streaming, first).terms.items():
        torch.testing.assert_close(term.value, whole.terms[name].value, check_dtype=False, rtol=1e-4, atol=1e-4)
        assert term.bounds.known.all()


def test_a_chunk_of_nothing_leaves_the_memory_as_it_is() -> None:
    model, streaming, batch = network("group", dropout=0.0), Streaming(6, 1), of_volumes()
    visit(model, streaming, batch)
    before = {name: tensor.clone() for name, tensor in streaming.state_dict().items()}
    visit(model, streaming, nothing_of(some(batch, torch.arange(2), NAMES)))
    for name, tensor in streaming.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_what_was_not_seen_is_not_asked_for() -> None:
    """The first batch of a volume is a part of it: an upper bound of a size holds, a lower one and a centroid wait."""
    model, streaming, batch = network(), Streaming(6, 1), unlabelled([6])
    batch = replace(batch, bounds=batch.bounds | {"size": Bounds(torch.full((1, 2), 3.0), torch.full((1, 2), 9.0))})
    first, *rest = (make() for make in cut(batch, 2, ["size", "centre"]))
    loss = visit(model, streaming, first)
    assert not loss.terms["size"].bounds.lower.isfinite().any() and loss.terms["size"].bounds.upper.isfinite().all()
    assert not loss.terms["centre"].bounds.known.any()
    for chunk in rest:
        loss = visit(model, streaming, chunk)
    assert loss.terms["size"].bounds.lower.isfinite().all() and loss.terms["centre"].bounds.known.all()


def test_a_saved_memory_goes_on_as_it_was() -> None:
    model, chunks = network("group", dropout=0.0), cut(unlabelled([3, 4]), 2, NAMES)
    streaming, restored = Streaming(7, 2), Streaming(7, 2)
    assert not streaming.state_dict()
    epoch(model, streaming, chunks)
    restored.load_state_dict(streaming.state_dict())
    assert torch.equal(epoch(model, restored, chunks), epoch(model, streaming, chunks))
    with pytest.raises(ValueError, match="has 7 rows, and here are 8"):
        Streaming(8, 2).load_state_dict(streaming.state_dict())


def test_memories_of_two_ranks_come_together() -> None:
    run_plain(
        """
        import torch

        from boundseg.accumulate import Streaming

        from tests.accumulate.cases import cut, network
        from tests.accumulate.test_streaming import NAMES, epoch, unlabelled
        from tests.ranks import add_up, on_two_ranks

        chunks = cut(unlabelled([6]), 2, NAMES)


        def rank(number):
            model, ours, alone = network("group", dropout=0.0), Streaming(6, 1), Streaming(6, 1)
            epoch(model, alone, chunks)
            for _ in range(2):
                epoch(model, ours, chunks[:2] if number == 0 else chunks[2:])
                ours.merge(add_up)
            for name in NAMES:
                theirs, mine = (memory.elsewhere(chunks[0]()).totals[name].sums for memory in (alone, ours))
                torch.testing.assert_close(mine, theirs)


        on_two_ranks(rank)
        """
    )


def test_batches_say_what_they_hold() -> None:
    with pytest.raises(ValueError, match="numbers of images and volumes: give each batch"):
        Streaming(6, 1).elsewhere(replace(unlabelled([6]), rows={}))
