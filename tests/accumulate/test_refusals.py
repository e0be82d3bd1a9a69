"""What cannot be divided is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from boundseg.accumulate import Ranks, accumulate
from boundseg.constraints import BoundaryLength, Bounds, Constraint, Size
from boundseg.errors import BoundsError
from boundseg.losses import Elsewhere, Objective, Proposals

from .cases import IGNORE, constraints, cut, network, step


def test_proposals_need_their_batch_at_once() -> None:
    objective = Objective(IGNORE, [Constraint("size", Size("mL"), ((1,),), "volume")], method=Proposals())
    batch = step([4])
    bounds = {"size": Bounds(torch.full((1, 1), 0.2), torch.full((1, 1), 0.5))}
    chunks = [lambda: replace(batch, bounds=bounds)]
    assert accumulate(network(), objective, chunks).loss.total > 0
    with pytest.raises(ValueError, match="Proposals are found for a whole batch at once: give one chunk, not 2"):
        accumulate(network(), objective, chunks * 2)
    with pytest.raises(ValueError, match="Proposals need the whole batch at once, and this is a part of one"):
        objective(network()(batch.images), batch.labels, bounds, batch.frame, batch.volumes, elsewhere=Elsewhere({}))


def test_no_chunks() -> None:
    with pytest.raises(ValueError, match="a step without chunks: a process that has nothing brings nothing_of"):
        accumulate(network(), Objective(IGNORE), [])


def test_volumes_without_numbers() -> None:
    first, _ = cut(step([4]), 2, ["size"])
    objective = Objective(IGNORE, constraints(["size"], of_slices=False))
    with pytest.raises(ValueError, match=r'\'size\' speaks of volumes, .*give each chunk rows=\{"volume"'):
        accumulate(network(), objective, [lambda: replace(first(), rows={})] * 2)
    with pytest.raises(ValueError, match=r"'size' speaks of volumes: give chunks their volumes=Groups"):
        accumulate(network(), objective, [lambda: replace(first(), volumes=None)] * 2)


def test_volume_numbers_beyond_those_of_all_ranks() -> None:
    objective = Objective(IGNORE, constraints(["size"], of_slices=False))
    ranks = Ranks(lambda tensor: tensor, 1, volumes=3)
    with pytest.raises(ValueError, match=r'rows\["volume"\] holds 5, which is not among the volumes'):
        accumulate(network(), objective, cut(step([4], first=5), 2, ["size"]), ranks=ranks)


def test_chunks_that_are_asked_different_things() -> None:
    first, second = cut(step([4]), 2, ["size", "slice size"])
    objective = Objective(IGNORE, constraints(["size"]))
    chunks = [first, lambda: replace(second(), bounds={})]
    with pytest.raises(ValueError, match="bounds for different constraints: give all of them in each chunk, unknown"):
        accumulate(network(), objective, chunks)


def test_chunks_that_know_different_bounds_of_a_volume() -> None:
    first, second = cut(step([4], first=7), 2, ["size"])
    objective = Objective(IGNORE, constraints(["size"], of_slices=False))
    other = Bounds(torch.tensor([[0.2, 0.2]]), torch.tensor([[0.5, 0.7]]))
    chunks = [first, lambda: replace(second(), bounds={"size": other})]
    told = r"size: .* different upper bounds of volume 7: one says 0.5, and the mean of all is 0.6"
    with pytest.raises(BoundsError, match=told):
        accumulate(network(), objective, chunks)
    # and where the other one is another process's
    table: list[torch.Tensor] = []
    accumulate(network(), objective, chunks[1:], ranks=Ranks(lambda own: (table.append(own.clone()), own)[1], 2, 8))
    with pytest.raises(BoundsError, match=told):
        accumulate(network(), objective, chunks[:1], ranks=Ranks(lambda own: own + table[0], 2, 8))


def test_boundaries_across_patches_need_a_halo() -> None:
    batch = step([3], (6, 5, 4))
    objective = Objective(IGNORE, [Constraint("surface", BoundaryLength("mm"), ((1,),), "volume")])
    batch = replace(batch, bounds={"surface": Bounds.at_most(torch.ones(1, 1))})
    with pytest.raises(ValueError, match=r"surface looks at a voxel's neighbours, .* give their frame a halo of 1"):
        accumulate(network(dims=3), objective, cut(batch, 1, ["surface"]))
