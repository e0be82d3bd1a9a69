"""Volumes and patches of volumes as images of three axes: which are drawn, and what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.constraints import Frame, Groups, Slices
from boundseg.data.placement import Placement
from boundseg.data.taught import Batch, Origin, TaughtCase, bounds_of, in_file_units, with_bands

Size = tuple[int, int, int]
CORNER: Origin = (0, 0, 0)


@dataclass(frozen=True)
class Patches:
    """How patches are drawn.

    Attributes:
        size: Rows, columns and slices of a patch, on the grid.
        per_case: How many an epoch draws of each case.
        foreground: The share of them whose centre is a labelled voxel.
    """

    size: Size
    per_case: int = 4
    foreground: float = 0.33


def draw(cases: Sequence[TaughtCase], patches: Patches, rng: np.random.Generator) -> list[tuple[int, Origin]]:
    """The patches of one epoch, as pairs of an index into ``cases`` and the grid position at which a patch begins.

    With probability ``foreground`` the centre is a labelled voxel: of a class that is drawn among those labelled in
    the case, background aside (a small organ is met as often as a large one), then any of its voxels; where only
    background is labelled, one of that. Otherwise, and in a case without labels, it is any voxel of the case. A patch
    that would leave the grid is shifted inside, so that voxels at the border are met as well.

    Args:
        cases: Prepared as volumes.
        patches: How.
        rng: Draws everything; the same generator gives the same patches.
    """
    drawn = []
    for index in np.repeat(np.arange(len(cases)), patches.per_case).tolist():
        case = cases[index]
        placement = case.prepared.placement
        labelled = [seeds for seeds in case.seeds[1:] if len(seeds)] or [s for s in case.seeds[:1] if len(s)]
        # as many numbers for every patch, so that the labels of one case do not change what is drawn of another
        kind, of_class, of_voxel, *uniform = rng.random(6)
        if kind < patches.foreground and labelled:
            seeds = labelled[int(of_class * len(labelled))]
            voxel = int(seeds[int(of_voxel * len(seeds))])
            centre = [int(place) for place in np.unravel_index(voxel, placement.size)]
        else:
            held = placement.on_grid
            centre = [part.start + int(u * (part.stop - part.start)) for part, u in zip(held, uniform, strict=True)]
        drawn.append((index, _inside(centre, patches.size, placement)))
    return drawn


def cut(
    cases: Sequence[TaughtCase],
    places: Sequence[tuple[int, Origin]],
    volume_constraints: frozenset[str],
    size: Size | None = None,
) -> Batch:
    """Puts patches, or whole volumes, and what is known about them into one batch.

    Bounds of a slice hold where a patch holds all of the slice, those of the volume where it holds all of the volume;
    else their upper sides remain for what grows with more voxels, and absence: the frame says what is seen whole. Two
    patches of a volume may overlap, so that they are not added up.

    Args:
        cases: Prepared as volumes.
        places: Index of the case and first grid position of each patch.
        volume_constraints: Names of the constraints whose bounds speak of volumes.
        size: Of the patches; left out, that of the grid, which must then be one for all.
    """
    members, origins = [cases[i] for i, _ in places], [origin for _, origin in places]
    size = size or grid_of(members[0])
    frame = frame_of_patches(members, origins, size)
    inside = [list(file_slices(c.prepared.placement, o[2], size[2])) for c, o in zip(members, origins, strict=True)]
    of_slices = set(members[0].bounds) - volume_constraints
    first_slice = list(accumulate(map(len, cases), initial=0))
    return Batch(
        images=torch.from_numpy(
            np.stack([_window(c.prepared.images, o, size) for c, o in zip(members, origins, strict=True)])
        ).float(),
        labels=torch.from_numpy(np.stack([_window(c.labels, o, size) for c, o in zip(members, origins, strict=True)])),
        frame=frame if of_slices or members[0].boxes else replace(frame, slices=None),
        volumes=Groups.each(len(places)),
        bounds={
            name: bounds_of(
                [case.bounds[name][:, s] for case, of_case in zip(members, inside, strict=True) for s in of_case]
                if name in of_slices
                else [case.bounds[name][:, 0] for case in members]
            )
            for name in members[0].bounds
        },
        slices=tuple((case.prepared.case, origin) for case, origin in zip(members, origins, strict=True)),
        rows={
            "slice": torch.tensor(
                [first_slice[i] + s for (i, _), of_case in zip(places, inside, strict=True) for s in of_case],
                dtype=torch.long,
            ),
            "volume": torch.tensor([i for i, _ in places]),
        },
    )


def frame_of_patches(members: Sequence[TaughtCase], origins: Sequence[Origin], size: Size) -> Frame:
    """Where patches of these cases lie, one patch of each, and which of their slices are slices of the case."""
    placements = [case.prepared.placement for case in members]
    places = list(zip(placements, origins, strict=True))
    weight = (
        torch.from_numpy(np.stack([_weight(placement, origin, size) for placement, origin in places]))
        if any(placement.padded for placement in placements)
        else torch.tensor([placement.voxels_per_voxel for placement in placements]).reshape(-1, 1, 1, 1)
    )
    covered = [_covered(placement, origin, size) for placement, origin in places]
    of_slices = [list(file_slices(placement, origin[2], size[2])) for placement, origin in places]
    first = [placement.offset[-1] - origin[2] for placement, origin in places]
    frame = Frame(
        weight,
        torch.tensor([case.prepared.spacing_mm for case in members]),
        torch.tensor([[all(c) and k for k in case.complete] for case, c in zip(members, covered, strict=True)]),
        torch.stack([_affine(placement, origin) for placement, origin in places]),
        torch.stack([_image(case, origin, size) for case, origin in zip(members, origins, strict=True)])
        if any(case.with_image for case in members)
        else None,
        slices=Slices(
            torch.tensor(
                [j * size[2] + first[j] + s for j, of_case in enumerate(of_slices) for s in of_case], dtype=torch.long
            ),
            size[2],
            torch.tensor(
                [
                    [all(covered[j][:2]) and k for k in _complete_in_plane(case)]
                    for j, case in enumerate(members)
                    for _ in of_slices[j]
                ],
                dtype=torch.bool,
            ).reshape(-1, len(members[0].complete)),
        ),
    )
    return _with_bands(frame, members, of_slices, size)


def grid_of(case: TaughtCase) -> Size:
    """Rows, columns and slices of a prepared volume."""
    size = case.prepared.placement.size
    assert len(size) == 3, "a case that was prepared as slices has no volume"
    return size


def _window(volume: np.ndarray, origin: Origin, size: Size) -> np.ndarray:
    (x, y, z), (rows, columns, slices) = origin, size
    window: np.ndarray = volume[0, ..., x : x + rows, y : y + columns, z : z + slices]
    return window


def _inside(centre: Sequence[int], size: Size, placement: Placement) -> Origin:
    x, y, z = (min(max(c - n // 2, 0), grid - n) for c, n, grid in zip(centre, size, placement.size, strict=True))
    return x, y, z


def file_slices(placement: Placement, begin: int, count: int) -> range:
    """The slices of the file that lie in so many slices of the grid; none where the grid's are others."""
    if not placement.keeps_slices:
        return range(0)
    held, offset = placement.on_grid[-1], placement.offset[-1]
    return range(max(held.start, begin) - offset, min(held.stop, begin + count) - offset)


def _covered(placement: Placement, origin: Origin, size: Size) -> list[bool]:
    """Along which axes a patch holds all that the grid holds."""
    return [
        begin <= held.start and held.stop <= begin + length
        for begin, length, held in zip(origin, size, placement.on_grid, strict=True)
    ]


def _complete_in_plane(case: TaughtCase) -> list[bool]:
    """Per class, whether the grid holds all of it in the slices that it holds."""
    cut_in_plane = any(case.prepared.placement.cut_along[:2])
    return [complete or not cut_in_plane for complete in case.complete]


def _weight(placement: Placement, origin: Origin, size: Size) -> Float[np.ndarray, "x y z"]:
    weight = np.zeros(size, np.float32)
    weight[
        tuple(
            slice(max(held.start - o, 0), max(min(held.stop - o, n), 0))
            for held, o, n in zip(placement.on_grid, origin, size, strict=True)
        )
    ] = placement.voxels_per_voxel
    return weight


def _affine(placement: Placement, origin: Origin) -> Float[Tensor, "3 4"]:
    affine = placement.affine()
    affine[:, 3] += affine[:, :3] @ np.asarray(origin, np.float32)
    return torch.from_numpy(affine)


def _image(case: TaughtCase, origin: Origin, size: Size) -> Float[Tensor, "C x y z"]:
    return in_file_units(case, _window(case.prepared.images, origin, size))


def _with_bands(frame: Frame, members: Sequence[TaughtCase], of_slices: Sequence[Sequence[int]], size: Size) -> Frame:
    """The frame with the bands of the boxes of its slices."""
    if not members[0].boxes or frame.slices is None:
        return frame
    boxes = [
        (np.concatenate([c.boxes[i][0][list(s)] for c, s in zip(members, of_slices, strict=True)]), width)
        for i, (_, width) in enumerate(members[0].boxes)
    ]
    bands = with_bands(frame.of_slices(), size[:2], boxes).bands
    assert bands is not None
    everywhere = bands.new_zeros(len(members) * size[2], *bands.shape[1:])
    everywhere[frame.slices.index] = bands
    return replace(frame, bands=everywhere.reshape(len(members), size[2], *bands.shape[1:]).movedim(1, -1))
