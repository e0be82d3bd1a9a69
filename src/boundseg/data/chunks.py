"""A case in parts that make it up: each voxel in one of them, as whole-volume gradients in bounded memory need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import torch

from boundseg.constraints import Groups, Slices
from boundseg.data.batches import collate
from boundseg.data.patches import Size, cut, grid_of
from boundseg.data.taught import Batch, Origin, TaughtCase

Chunk = Callable[[], Batch]


def chunks_of_slices(
    cases: Sequence[TaughtCase], index: int, volume_constraints: frozenset[str], slices: int
) -> list[Chunk]:
    """The slices of a case, so many at a time; each chunk is read when it is called.

    A chunk's ``volumes`` says that it is a part of the volume, so that by itself only upper bounds hold of it; sums of
    all chunks, added up, are those of the volume.

    Args:
        cases: All cases, for a batch's ``rows``.
        index: Which one.
        volume_constraints: Names of the constraints whose bounds speak of volumes.
        slices: In a chunk; the last one may hold fewer.
    """
    count = len(cases[index])
    return [
        partial(collate, cases, [(index, s) for s in range(start, min(start + slices, count))], volume_constraints)
        for start in range(0, count, slices)
    ]


def chunks_of_patches(
    cases: Sequence[TaughtCase],
    index: int,
    volume_constraints: frozenset[str],
    size: Size,
    ignore: int,
    overlap: int = 0,
) -> list[Chunk]:
    """The patches that a volume is made of; each chunk holds one and is cut when it is called.

    All have one size, as networks like it, and so may overlap where it does not divide the volume: what the next chunk
    holds as well is that one's. There the frame has a halo and labels are ignored, so that sums over all chunks count
    each voxel once. (Weights of 0 would do for sizes in voxels of the case, but neither for ``grid_px``, which counts
    voxels of the grid, nor for surfaces, whose cells reach over to the next chunk.)

    Args:
        cases: All cases, for a batch's ``rows``.
        index: Which one; it was prepared as a volume.
        volume_constraints: As above.
        size: Of a patch.
        ignore: The label of voxels of which nothing is known.
        overlap: How many voxels neighbours share at least: 1 for descriptors that look at neighbours.

    Raises:
        ValueError: Patches that are no longer than what they share.
    """
    grid = grid_of(cases[index])
    if any(p <= overlap and p < n for p, n in zip(size, grid, strict=True)):
        raise ValueError(
            f"patches of {'x'.join(map(str, size))} cannot share {overlap} voxel(s) along every axis of "
            f"{'x'.join(map(str, grid))}: use larger ones"
        )
    along = [_owned(n, p, overlap) for n, p in zip(grid, size, strict=True)]
    tiles = list(product(*along))
    return [
        partial(
            _chunk,
            cases,
            index,
            (x[0], y[0], z[0]),
            tuple(p - part[1] for part, p in zip((x, y, z), size, strict=True)),
            len(tiles),
            volume_constraints,
            size,
            ignore,
        )
        for x, y, z in tiles
    ]


def _owned(length: int, patch: int, overlap: int) -> list[tuple[int, int]]:
    """First voxel of each tile along an axis, and how many from there on are its own.

    From the end on: what is shared lies at the end of a tile, where frames have their halo.
    """
    begins = [length - patch]
    while begins[0] > 0:
        begins.insert(0, max(begins[0] - (patch - overlap), 0))
    return [(begin, after - begin) for begin, after in zip(begins, [*begins[1:], length], strict=True)]


def _chunk(
    cases: Sequence[TaughtCase],
    index: int,
    origin: Origin,
    halo: tuple[int, ...],
    parts: int,
    volume_constraints: frozenset[str],
    size: Size,
    ignore: int,
) -> Batch:
    batch = cut(cases, [(index, origin)], volume_constraints, size)
    case = cases[index]
    frame, labels = batch.frame, batch.labels.clone()
    for axis, width in enumerate(halo, 1):
        labels.narrow(axis, labels.shape[axis] - width, width).fill_(ignore)
    # of the volume this is one part of so many, and seen whole as such
    whole = batch.frame.weight.new_tensor(case.complete).bool().unsqueeze(0)
    batch = replace(
        batch,
        labels=labels,
        frame=replace(frame, halo=halo if any(halo) else (), whole=whole, piece=torch.tensor([1 / parts])),
        volumes=Groups.by_name([case.prepared.case], {case.prepared.case: parts}),
    )
    return batch if frame.slices is None else _own_slices(batch, frame.slices, halo, volume_constraints)


def _own_slices(batch: Batch, slices: Slices, halo: tuple[int, ...], volume_constraints: frozenset[str]) -> Batch:
    """Leaves out the slices that belong to the next chunk; a slice that goes on there is seen in part."""
    own = slices.position < slices.length - halo[2]
    whole = None if slices.whole is None else slices.whole[own] & (not any(halo[:2]))
    return replace(
        batch,
        frame=replace(batch.frame, slices=Slices(slices.index[own], slices.length, whole)),
        bounds={
            name: bounds
            if name in volume_constraints
            else replace(bounds, lower=bounds.lower[own], upper=bounds.upper[own])
            for name, bounds in batch.bounds.items()
        },
        rows={**batch.rows, "slice": batch.rows["slice"][own]},
    )
