"""Batches of slices, of whole volumes or of patches, which carry what is known about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.constraints import Frame, Groups
from boundseg.data.patches import CORNER, Patches, cut, draw
from boundseg.data.placement import Placement
from boundseg.data.taught import Batch, Place, TaughtCase, bounds_of, in_file_units, with_bands

__all__ = [
    "Batch",
    "BatchOf",
    "TaughtCase",
    "affine_of_slice",
    "batches",
    "collate",
    "count_batches",
    "frame_of",
    "made",
    "named",
    "order",
    "with_bands",
]

BatchOf = Literal["slices", "volumes"]


def order(
    cases: Sequence[TaughtCase], of: BatchOf | Patches, batch_size: int, rng: np.random.Generator | None = None
) -> list[list[tuple[int, Place]]]:
    """Which images form which batch, as pairs of an index into ``cases`` and a slice number (or a patch's beginning).

    Args:
        cases: The cases to draw from.
        of: Whether ``batch_size`` counts slices or whole volumes, or how the patches are drawn that it counts.
        batch_size: How many make a batch; the last one may be smaller.
        rng: Draws the order, and patches; left out, the order is that of the cases.

    Raises:
        ValueError: Patches without a generator.
    """
    items: list[list[tuple[int, Place]]]
    if isinstance(of, Patches):
        if rng is None:
            raise ValueError("patches are drawn: give a generator")
        items = [[place] for place in draw(cases, of, rng)]
    else:
        volumes: list[list[tuple[int, Place]]] = [
            [(i, CORNER)] if case.is_volume else [(i, s) for s in range(len(case))] for i, case in enumerate(cases)
        ]
        items = [[pair] for volume in volumes for pair in volume] if of == "slices" else volumes
    ranks = np.arange(len(items)) if rng is None else rng.permutation(len(items))
    chunks = (ranks[start : start + batch_size] for start in range(0, len(ranks), batch_size))
    return [[pair for rank in chunk for pair in items[rank]] for chunk in chunks]


def count_batches(cases: Sequence[TaughtCase], of: BatchOf | Patches, batch_size: int) -> int:
    """How many batches one pass over the cases has."""
    if isinstance(of, Patches):
        return -(-len(cases) * of.per_case // batch_size)
    return len(order(cases, of, batch_size))


def batches(
    cases: Sequence[TaughtCase],
    of: BatchOf | Patches,
    batch_size: int,
    volume_constraints: frozenset[str],
    rng: np.random.Generator | None = None,
    skip: int = 0,
) -> Iterator[Batch]:
    """One pass over the cases; see :func:`order`.

    Args:
        volume_constraints: Names of the constraints whose bounds speak of volumes.
        skip: How many batches of the pass were taken before.
    """
    for places in order(cases, of, batch_size, rng)[skip:]:
        yield made(cases, of, places, volume_constraints)


def made(
    cases: Sequence[TaughtCase],
    of: BatchOf | Patches,
    places: Sequence[tuple[int, Place]],
    volume_constraints: frozenset[str],
) -> Batch:
    """The batch of one entry of :func:`order`, or of a part of it."""
    if cases[0].is_volume:
        size = of.size if isinstance(of, Patches) else None
        return cut(cases, [(i, place) for i, place in places if not isinstance(place, int)], volume_constraints, size)
    return collate(cases, [(i, place) for i, place in places if isinstance(place, int)], volume_constraints)


def named(cases: Sequence[TaughtCase], places: Sequence[tuple[int, Place]]) -> list[str]:
    """Which images these are, in words."""
    return [
        f"{cases[i].prepared.case} slice {place}"
        if isinstance(place, int)
        else f"{cases[i].prepared.case} patch at {'x'.join(map(str, place))}"
        for i, place in places
    ]


def collate(cases: Sequence[TaughtCase], pairs: Sequence[tuple[int, int]], volume_constraints: frozenset[str]) -> Batch:
    """Puts slices and what is known about them into one batch."""
    members, slices = [cases[i] for i, _ in pairs], [s for _, s in pairs]
    names = [case.name for case in members]
    first_slice = list(accumulate(map(len, cases), initial=0))
    first_of_volume = list(dict.fromkeys(i for i, _ in pairs))
    return Batch(
        images=torch.from_numpy(np.stack([cases[i].prepared.images[s] for i, s in pairs])).float(),
        labels=torch.from_numpy(np.stack([cases[i].labels[s] for i, s in pairs])),
        frame=frame_of(members, slices),
        volumes=Groups.by_name(names, {case.name: len(case) for case in members}),
        bounds={
            name: bounds_of(
                [cases[i].bounds[name][:, 0] for i in first_of_volume]
                if name in volume_constraints
                else [cases[i].bounds[name][:, s] for i, s in pairs]
            )
            for name in members[0].bounds
        },
        slices=tuple((cases[i].prepared.case, s) for i, s in pairs),
        rows={
            "slice": torch.tensor([first_slice[i] + s for i, s in pairs]),
            "volume": torch.tensor(first_of_volume),
        },
    )


def frame_of(members: Sequence[TaughtCase], slices: Sequence[int]) -> Frame:
    """Where slices of these cases lie, one slice of each."""
    placements = [case.prepared.placement for case in members]
    weight = (
        torch.from_numpy(np.stack([placement.weight() for placement in placements]))
        if any(placement.padded for placement in placements)
        else torch.tensor([placement.voxels_per_voxel for placement in placements]).reshape(-1, 1, 1)
    )
    frame = Frame(
        weight,
        torch.tensor([case.prepared.spacing_mm for case in members]),
        torch.tensor([case.complete for case in members]),
        torch.stack([affine_of_slice(p, s) for p, s in zip(placements, slices, strict=True)]),
        torch.stack([in_file_units(case, case.prepared.images[s]) for case, s in zip(members, slices, strict=True)])
        if any(case.with_image for case in members)
        else None,
    )
    boxes = [
        (np.stack([case.boxes[i][0][s] for case, s in zip(members, slices, strict=True)]), width)
        for i, (_, width) in enumerate(members[0].boxes)
    ]
    return with_bands(frame, members[0].prepared.images.shape[-2:], boxes)


def affine_of_slice(placement: Placement, index: int) -> Float[Tensor, "3 4"]:
    """Where the grid's pixels lie in the case, of a slice: its two axes, then the slices."""
    affine = torch.zeros(3, 4)
    affine[:2, [0, 1, 3]] = torch.from_numpy(placement.affine())
    affine[2] = torch.tensor([0.0, 0.0, 1.0, index])
    return affine
