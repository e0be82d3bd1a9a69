"""Cases that were prepared as volumes, whose voxels say where in the file they lie."""

from __future__ import annotations

import numpy as np

from boundseg.data.patches import grid_of
from boundseg.data.placement import Grid, Placement
from boundseg.data.prepare import PreparedCase
from boundseg.data.taught import TaughtCase

IGNORE = 2
SPACING_MM = (1.0, 1.5, 8.0)
VOLUME_CONSTRAINTS = frozenset({"volume"})


def taught(
    shape: tuple[int, int, int], grid: Grid, number: int = 0, *, labelled: bool = True, image: bool = False
) -> TaughtCase:
    """A case of two classes, class 1 in a box about the middle.

    Its image's channels are the file's coordinates; the bounds of slice s are [1000 + s, 2000 + s], those of the volume
    [10 + number, 20 + number].
    """
    placement = Placement.of(shape, SPACING_MM, grid)
    size = placement.size
    affine = placement.affine()
    images = (affine[:, :3] @ np.indices(size).reshape(3, -1) + affine[:, 3:]).reshape(3, *size)
    target = np.zeros(shape, np.uint8)
    target[tuple(slice(n // 3, n // 3 + max(n // 3, 1)) for n in shape)] = 1
    labels = placement.place_labels(target, IGNORE) if labelled else np.full(size, IGNORE, np.uint8)
    slices = np.arange(shape[2])
    return TaughtCase(
        PreparedCase(f"case{number}", placement, SPACING_MM, images[None].astype(np.float32), ((0.0, 1.0),) * 3, {}),
        labels[None],
        {
            "slice": np.stack([1000 + slices, 2000 + slices]).astype(np.float32)[:, :, None],
            "volume": np.array([[[10 + number]], [[20 + number]]], np.float32),
        },
        (not placement.cut, not placement.cut),
        image,
    )


def anywhere(case: TaughtCase, size: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Every place at which a patch can begin."""
    return [
        (x, y, z)
        for x in range(grid_of(case)[0] - size[0] + 1)
        for y in range(grid_of(case)[1] - size[1] + 1)
        for z in range(grid_of(case)[2] - size[2] + 1)
    ]
