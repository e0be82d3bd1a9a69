"""Voxels brought onto a grid that differs from theirs by axes and direction only: exactly, without interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from boundseg.data.volume_io import Volume
from boundseg.errors import VolumeError

TOLERANCE = 0.1  # of a voxel: exporters round the affine, and nothing smaller matters


@dataclass(frozen=True)
class Placing:
    """How a volume's voxels lie in a grid.

    Attributes:
        axes: The volume's axis for each axis of the grid.
        flipped: Which of the grid's axes the volume has the other way round.
        start: The first voxel that the volume covers, counted in the grid; below 0 where it reaches beyond.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    start: tuple[int, int, int]

    @property
    def moves_axes(self) -> bool:
        """Whether axes are permuted or flipped."""
        return self.axes != (0, 1, 2) or any(self.flipped)

    def __call__(
        self, array: Shaped[np.ndarray, "A B C"], shape: tuple[int, ...], fill: int
    ) -> Shaped[np.ndarray, "X Y Z"]:
        """The voxels on the grid of that shape, ``fill`` where the volume does not reach; others are cut off."""
        turned = array.transpose(self.axes)
        turned = np.flip(turned, tuple(axis for axis in range(3) if self.flipped[axis]))
        placed = np.full(shape, fill, array.dtype)
        ends = [first + n for first, n in zip(self.start, turned.shape, strict=True)]
        inside = [(max(first, 0), min(end, n)) for first, end, n in zip(self.start, ends, shape, strict=True)]
        if all(first < end for first, end in inside):
            here = tuple(slice(first, end) for first, end in inside)
            there = tuple(slice(first - s, end - s) for (first, end), s in zip(inside, self.start, strict=True))
            placed[here] = turned[there]
        return placed


def placing(path: Path, volume: Volume, image: Volume) -> Placing:
    """How a volume lies in the grid of an image, if its voxels are voxels of the image.

    Axes may be permuted and flipped (an LPS file of an RAS scan, a tool that stores slices first), and the volume may
    be a box cut from the image, or reach beyond it (3D Slicer saves the box in which it segments). Every corner lies
    within a tenth of a voxel of where the image's grid has it.

    Raises:
        VolumeError: Spacing, direction or origin differ otherwise; the volume is as large as the image and displaced.
    """
    remedy = "Draw on the image of the dataset, or resample the drawing onto its grid (nearest neighbour)."
    where = str(path.parent)
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine)) == 0:
        raise VolumeError(f"{path.name} has no usable affine.", where, remedy)
    # voxels of the volume to voxels of the image
    to_image = np.linalg.inv(image.affine) @ volume.affine
    turn, start = np.rint(to_image[:3, :3]), np.rint(to_image[:3, 3])
    if not (np.abs(turn).sum(0) == 1).all() or not (np.abs(turn).sum(1) == 1).all():
        raise VolumeError(
            f"{path.name} has other axes or another spacing than its image{_both(volume, image)}", where, remedy
        )
    corners = np.array([[*corner, 1] for corner in product(*((0, n - 1) for n in volume.array.shape))]).T
    exact = np.eye(4)
    exact[:3, :3], exact[:3, 3] = turn, start
    off = image.affine[:3] @ (to_image - exact) @ corners
    apart_mm = float(np.abs(off).max())
    if not apart_mm <= TOLERANCE * min(image.spacing_mm):
        raise VolumeError(
            f"{path.name} does not lie on its image's grid: voxels are up to {apart_mm:.3g} mm apart"
            f"{_both(volume, image)}",
            where,
            f"{remedy} If the voxels agree, copy the image's header.",
        )
    first = (exact @ corners)[:3].min(1).astype(int)
    axes = tuple(int(axis) for axis in np.abs(turn).argmax(1))
    whole = tuple(volume.array.shape[axis] for axis in axes) == image.array.shape
    if whole and first.any():
        # no box: its origin was lost or belongs to another scan
        raise VolumeError(
            f"{path.name} has its image's shape, but lies {first.tolist()} voxels beside it.",
            where,
            "Draw on the image of the dataset. If the voxels agree, copy the image's header.",
        )
    flipped = tuple(bool(direction < 0) for direction in turn.sum(1))
    return Placing((axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2]), (*first.tolist(),))


def _both(volume: Volume, image: Volume) -> str:
    """Shape and spacing of both, in brackets."""

    def of(one: Volume) -> str:
        spacing = "x".join(f"{step:.3g}" for step in one.spacing_mm)
        return f"{'x'.join(map(str, one.array.shape))} voxels of {spacing} mm"

    return f" ({of(volume)}; the image has {of(image)})."
