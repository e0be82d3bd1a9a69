"""Batches of slices or of whole volumes, which carry what is known about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from boundseg.constraints import Bounds, Frame, Groups
from boundseg.data.prepare import PreparedCase

BatchOf = Literal["slices", "volumes"]


@dataclass(frozen=True)
class TaughtCase:
    """A prepared case and what it teaches.

    Attributes:
        prepared: The case on the grid.
        labels: ``[S, h, w]``, the ignore label where nothing is known.
        bounds: For each constraint's name, lower and upper bounds ``[2, S, 1]`` of its slices, or ``[2, 1, 1]``
            of the volume.
        complete: Per class, whether the grid holds all of it in this case.
    """

    prepared: PreparedCase
    labels: UInt8[np.ndarray, "S h w"]
    bounds: Mapping[str, Float[np.ndarray, "2 rows 1"]]
    complete: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.prepared.images)


@dataclass(frozen=True)
class Batch:
    """Some slices and what is known about them.

    Attributes:
        images: ``[B, C, h, w]``.
        labels: ``[B, h, w]``.
        frame: Where the slices' pixels lie in their cases.
        volumes: Which slices are of one volume.
        bounds: For each constraint's name, a row per slice or per volume.
        slices: Case and slice number of each image.
    """

    images: Float[Tensor, "B C h w"]
    labels: UInt8[Tensor, "B h w"]
    frame: Frame
    volumes: Groups
    bounds: dict[str, Bounds]
    slices: tuple[tuple[str, int], ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.images.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.frame.to(device),
            self.volumes.to(device),
            {name: bounds.to(device) for name, bounds in self.bounds.items()},
            self.slices,
        )


def order(
    cases: Sequence[TaughtCase], of: BatchOf, batch_size: int, rng: np.random.Generator | None = None
) -> list[list[tuple[int, int]]]:
    """Which slices form which batch, as pairs of an index into ``cases`` and a slice number.

    Args:
        cases: The cases to draw from.
        of: Whether ``batch_size`` counts slices or whole volumes.
        batch_size: How many make a batch; the last one may be smaller.
        rng: Draws the order; left out, it is that of the cases.
    """
    volumes = [[(i, s) for s in range(len(case))] for i, case in enumerate(cases)]
    items = [[pair] for volume in volumes for pair in volume] if of == "slices" else volumes
    ranks = np.arange(len(items)) if rng is None else rng.permutation(len(items))
    chunks = (ranks[start : start + batch_size] for start in range(0, len(ranks), batch_size))
    return [[pair for rank in chunk for pair in items[rank]] for chunk in chunks]


def batches(
    cases: Sequence[TaughtCase],
    of: BatchOf,
    batch_size: int,
    volume_constraints: frozenset[str],
    rng: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """One pass over the cases; see :func:`order`.

    Args:
        volume_constraints: Names of the constraints whose bounds speak of volumes.
    """
    for pairs in order(cases, of, batch_size, rng):
        yield collate(cases, pairs, volume_constraints)


def collate(cases: Sequence[TaughtCase], pairs: Sequence[tuple[int, int]], volume_constraints: frozenset[str]) -> Batch:
    """Puts slices and what is known about them into one batch."""
    members = [cases[i] for i, _ in pairs]
    names = [case.prepared.case for case in members]
    first_of_volume = list(dict.fromkeys(i for i, _ in pairs))
    return Batch(
        images=torch.from_numpy(np.stack([cases[i].prepared.images[s] for i, s in pairs])).float(),
        labels=torch.from_numpy(np.stack([cases[i].labels[s] for i, s in pairs])),
        frame=frame_of(members),
        volumes=Groups.by_name(names, {case.prepared.case: len(case) for case in members}),
        bounds={
            name: _bounds(
                [cases[i].bounds[name][:, 0] for i in first_of_volume]
                if name in volume_constraints
                else [cases[i].bounds[name][:, s] for i, s in pairs]
            )
            for name in members[0].bounds
        },
        slices=tuple((cases[i].prepared.case, s) for i, s in pairs),
    )


def frame_of(members: Sequence[TaughtCase]) -> Frame:
    """Where slices of these cases lie, one slice of each."""
    placements = [case.prepared.placement for case in members]
    weight = (
        torch.from_numpy(np.stack([placement.weight() for placement in placements]))
        if any(placement.padded for placement in placements)
        else torch.tensor([placement.voxels_per_voxel for placement in placements]).reshape(-1, 1, 1)
    )
    return Frame(
        weight,
        torch.tensor([case.prepared.spacing_mm for case in members]),
        torch.tensor([case.complete for case in members]),
    )


def _bounds(rows: Sequence[np.ndarray]) -> Bounds:
    lower, upper = torch.from_numpy(np.stack(rows, axis=1).astype(np.float32))
    return Bounds(lower, upper)
