"""The pieces of the training loop: its batches as chunks, and its model and backward pass from Fabric."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric

from boundseg.accumulate import Chunk, Ranks, accumulate, nothing_of
from boundseg.data.batches import Batch
from boundseg.losses import Objective

from .cases import IGNORE, Images, constraints, cut, difference, gradient, network, step


def as_batch(images: Images) -> Batch:
    slices = tuple(("case", i) for i in range(len(images.images)))
    return Batch(
        images.images,
        images.labels.to(torch.uint8),
        images.frame,
        images.volumes,
        images.bounds,
        slices,
        images.rows,
    )


def test_batches_are_chunks_and_fabric_takes_them() -> None:
    objective, batch = Objective(IGNORE, constraints()), step([4, 3])
    names = [constraint.name for constraint in objective.constraints]
    made = cut(batch, 2, names)
    chunks = [lambda make=make: as_batch(make()) for make in made]  # type: ignore[misc]
    assert isinstance(chunks[0](), Chunk)
    alone, bare = network(), network()
    fabric = Fabric(accelerator="cpu", devices=1)
    model, _ = fabric.setup(bare, torch.optim.SGD(bare.parameters(), lr=0.1))
    add = lambda tensor: fabric.all_reduce(tensor, reduce_op="sum")  # noqa: E731
    ranks = Ranks(add, fabric.world_size, 3, hold=lambda: fabric.no_backward_sync(model, enabled=False))
    torch.manual_seed(0)
    ours = accumulate(model, objective, chunks, backward=fabric.backward, ranks=ranks)
    torch.manual_seed(0)
    theirs = accumulate(alone, objective, made)
    assert difference(gradient(bare), gradient(alone)) < 1e-6
    torch.testing.assert_close(ours.loss.total, theirs.loss.total)


def test_nothing_of_a_chunk_adds_nothing() -> None:
    """A step with a chunk more, of which nothing is said, is the same step."""
    objective, batch = Objective(IGNORE, constraints()), step([4, 3])
    made = cut(batch, 4, [constraint.name for constraint in objective.constraints])
    ranks = Ranks(lambda tensor: tensor, 1, 2)
    models = [network("group", dropout=0.0) for _ in range(2)]
    empty = nothing_of(made[0]())
    ours = accumulate(models[0], objective, [*made, lambda: empty], ranks=ranks)
    theirs = accumulate(models[1], objective, made, ranks=ranks)
    assert difference(gradient(models[0]), gradient(models[1])) < 1e-6
    torch.testing.assert_close(ours.loss.total, theirs.loss.total)
    assert ours.rows["volume"].tolist() == [0, 1] and ours.rows["slice"].tolist() == list(range(7))
