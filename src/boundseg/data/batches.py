"""Batches of slices or of whole volumes, which carry what is known about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from boundseg.constraints import Bounds, Frame, Groups, Scope, box_bands
from boundseg.data.prepare import Placement, PreparedCase

BatchOf = Literal["slices", "volumes"]


@dataclass(frozen=True)
class TaughtCase:
    """A prepared case and what it teaches.

    Attributes:
        prepared: The case on the grid.
        labels: ``[S, h, w]``, the ignore label where nothing is known.
        bounds: For each constraint's name, lower and upper bounds ``[2, S, 1]`` of its slices, or ``[2, 1, 1]``
            of the volume; with a further axis where a value has components.
        complete: Per class, whether the grid holds all of it in this case.
        with_image: Whether a constraint reads the image.
        boxes: Bounding boxes of its slices, first line and the one after the last along both axes (0 and 0 where there
            is none), each with the width of a band.
    """

    prepared: PreparedCase
    labels: UInt8[np.ndarray, "S h w"]
    bounds: Mapping[str, Float[np.ndarray, "2 rows 1 *components"]]
    complete: tuple[bool, ...]
    with_image: bool = False
    boxes: tuple[tuple[Integer[np.ndarray, "S 2 2"], int], ...] = ()

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
        rows: Which of all slices (``slice``) the images are, and which of all cases (``volume``) the volumes are.
    """

    images: Float[Tensor, "B C h w"]
    labels: UInt8[Tensor, "B h w"]
    frame: Frame
    volumes: Groups
    bounds: dict[str, Bounds]
    slices: tuple[tuple[str, int], ...]
    rows: dict[Scope, Int[Tensor, " G"]] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.images.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.frame.to(device),
            self.volumes.to(device),
            {name: bounds.to(device) for name, bounds in self.bounds.items()},
            self.slices,
            {scope: rows.to(device, non_blocking=True) for scope, rows in self.rows.items()},
        )

    def pinned(self) -> Batch:
        """The same batch, its images and labels in pinned memory: a GPU copies from there without anyone waiting."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


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
    skip: int = 0,
) -> Iterator[Batch]:
    """One pass over the cases; see :func:`order`.

    Args:
        volume_constraints: Names of the constraints whose bounds speak of volumes.
        skip: How many batches of the pass were taken before.
    """
    for pairs in order(cases, of, batch_size, rng)[skip:]:
        yield collate(cases, pairs, volume_constraints)


def collate(cases: Sequence[TaughtCase], pairs: Sequence[tuple[int, int]], volume_constraints: frozenset[str]) -> Batch:
    """Puts slices and what is known about them into one batch."""
    members, slices = [cases[i] for i, _ in pairs], [s for _, s in pairs]
    names = [case.prepared.case for case in members]
    first_slice = list(accumulate(map(len, cases), initial=0))
    first_of_volume = list(dict.fromkeys(i for i, _ in pairs))
    return Batch(
        images=torch.from_numpy(np.stack([cases[i].prepared.images[s] for i, s in pairs])).float(),
        labels=torch.from_numpy(np.stack([cases[i].labels[s] for i, s in pairs])),
        frame=frame_of(members, slices),
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
        torch.stack([_image(case, s) for case, s in zip(members, slices, strict=True)])
        if any(case.with_image for case in members)
        else None,
    )
    boxes = [
        (np.stack([case.boxes[i][0][s] for case, s in zip(members, slices, strict=True)]), width)
        for i, (_, width) in enumerate(members[0].boxes)
    ]
    return with_bands(frame, members[0].prepared.images.shape[-2:], boxes)


def with_bands(frame: Frame, space: Sequence[int], boxes: Sequence[tuple[Integer[np.ndarray, "B 2 2"], int]]) -> Frame:
    """The frame with the bands of bounding boxes, which are in pixels of the file.

    Args:
        space: Rows and columns of the grid.
        boxes: For each, its lines in every image, and the width of a band.
    """
    if not boxes:
        return frame
    shape = torch.Size(space)
    lines = frame.coordinates(shape)[:, :2]
    bands = [box_bands(torch.from_numpy(box), tuple(shape), width, lines) for box, width in boxes]
    return replace(frame, bands=torch.cat(bands, dim=1))


def affine_of_slice(placement: Placement, index: int) -> Float[Tensor, "3 4"]:
    """Where the grid's pixels lie in the case, of a slice: its two axes, then the slices."""
    affine = torch.zeros(3, 4)
    affine[:2, [0, 1, 3]] = torch.from_numpy(placement.affine())
    affine[2] = torch.tensor([0.0, 0.0, 1.0, index])
    return affine


def _image(case: TaughtCase, index: int) -> Float[Tensor, "C h w"]:
    """A slice in the file's own intensities."""
    centre, width = torch.tensor(case.prepared.intensities).T[..., None, None]
    intensities: Tensor = torch.from_numpy(case.prepared.images[index].astype(np.float32)) * width + centre
    return intensities


def _bounds(rows: Sequence[np.ndarray]) -> Bounds:
    lower, upper = torch.from_numpy(np.stack(rows, axis=1).astype(np.float32))
    return Bounds(lower, upper)
