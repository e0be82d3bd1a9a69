"""Where a patch lies in its case, and the frame of a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from boundseg.constraints import Frame, Groups
from boundseg.constraints.slices import Slices
from boundseg.integrations.nnunet.case_grid import EXACT, CaseGrid
from boundseg.integrations.nnunet.followed import Map, compose
from boundseg.integrations.nnunet.seen import one_slice_axis

EDGE = 1e-3  # voxels: what rounding may move a position by
NONE = np.array([], int)


@dataclass(frozen=True)
class Patch:
    """One patch of a case. Its axes are those of the network, moved so that slices are stacked along the last.

    Attributes:
        case: The case.
        to_grid: ``[A | b]``: its voxel i is voxel ``A i + b`` of the preprocessed case. The third index of a slice is
            0.
        seen: The first and the last preprocessed voxel it was cut from, along each axis; beyond them it was padded.
        grid: The preprocessed case.
        whole: Whether it shows all of the preprocessed case (of a slice: all of that slice).
        slices: For each position along its last axis the file's slice that lies there, -1 for none; empty where its
            slices are not the file's.
        slices_whole: Whether it shows all of these.
    """

    case: str
    to_grid: Float[np.ndarray, "3 4"]
    seen: Float[np.ndarray, "3 2"]
    grid: CaseGrid
    whole: bool
    slices: Int[np.ndarray, " length"]
    slices_whole: bool

    @classmethod
    def of(cls, case: str, grid: CaseGrid, box: Sequence[tuple[int, int]], moved: Map, size: Sequence[int]) -> Patch:
        """A patch that the network sees.

        Args:
            case: The case.
            grid: The preprocessed case.
            box: The crop's first voxel and the one after its last, along the preprocessed axes; it may lie outside.
            moved: From a voxel of the patch to one of the crop; see
                :func:`~boundseg.integrations.nnunet.followed.follow`.
            size: Of the patch: two axes of a slice, or three.
        """
        first = np.array([side[0] for side in box], float)
        if len(size) == 2:  # nnU-Net's slices lie along its first axis
            in_crop = np.zeros((3, 4))
            in_crop[1:, [0, 1, 3]], in_crop[0, 2] = moved, 1
            lengths, along = (*size, 1), 0
        else:
            along = grid.slice_axis
            order = [axis for axis in range(3) if axis != along] + [along]
            in_crop = moved[:, [*order, 3]]
            lengths = tuple(size[axis] for axis in order)
        to_grid = in_crop.copy()
        to_grid[:, 3] += first
        shape = np.asarray(grid.shape, float)
        seen = np.stack([np.maximum(first, 0), np.minimum([side[1] for side in box], shape) - 1], axis=1)
        in_plane = [axis for axis in range(3) if axis != along]
        stacked = _is_stacked(to_grid, along)
        plane = _holds(to_grid, seen, lengths, shape, in_plane) if stacked else False
        return cls(
            case,
            to_grid,
            seen,
            grid,
            plane if len(size) == 2 else _holds(to_grid, seen, lengths, shape, range(3)),
            _slices(to_grid, seen, grid, lengths[2], along) if stacked and along == grid.slice_axis else NONE,
            plane,
        )

    @property
    def affine(self) -> Float[np.ndarray, "3 4"]:
        """Where its voxels lie in the case, in voxels of the file."""
        return compose(self.grid.affine, self.to_grid)


@dataclass(frozen=True)
class Located:
    """A batch of patches for constraints.

    Attributes:
        frame: Where predicted voxels lie in their cases; of axes whose last one stacks slices.
        volumes: Each patch by itself, a part of its volume or all of it.
        patches: What it was made of.
        along: The axis of the network along which slices are stacked; -1 where it sees slices.
    """

    frame: Frame
    volumes: Groups
    patches: Sequence[Patch]
    along: int

    @classmethod
    def of(cls, patches: Sequence[Patch], space: Sequence[int], classes: int, device: torch.device) -> Located:
        """Locates the patches of a batch.

        Args:
            patches: One for each image.
            space: The network's axes.
            classes: How many there are, the background among them.
            device: Of the logits.

        Raises:
            DatasetError: Of three axes, and the slices of cases are stacked along different ones.
        """
        axes = len(space)
        along = one_slice_axis({patch.case: patch.grid for patch in patches}) if axes == 3 else -1
        lengths = torch.Size(slices_last(space, along))

        def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(device, torch.float32)

        affine = stacked([patch.affine for patch in patches])
        one = torch.ones(len(patches), *[1] * axes, device=device)
        position = Frame(one, affine=stacked([patch.to_grid for patch in patches])).coordinates(lengths)
        first, last = stacked([patch.seen for patch in patches]).reshape(len(patches), 3, 2, *[1] * axes).unbind(2)
        inside = ((position >= first - 0.5 - EDGE) & (position <= last + 0.5 + EDGE)).all(1)
        weight = torch.linalg.det(affine[:, :, :3]).abs().reshape(one.shape) * inside
        whole = torch.tensor([patch.whole for patch in patches], device=device)
        slices = None
        if axes == 3:
            rows = [(image, z) for image, patch in enumerate(patches) for z in np.flatnonzero(patch.slices >= 0)]
            seen = torch.tensor([patches[image].slices_whole for image, _ in rows], dtype=torch.bool)
            index = torch.tensor([image * lengths[2] + int(z) for image, z in rows], dtype=torch.long)
            slices = Slices(index, lengths[2], seen.unsqueeze(1).expand(-1, classes)).to(device)
        frame = Frame(
            weight,
            stacked([np.asarray(patch.grid.spacing_mm) for patch in patches]),
            whole.unsqueeze(1).expand(-1, classes),
            affine,
            slices=slices,
        )
        parts = torch.tensor([1 if axes == 3 else patch.grid.shape[0] for patch in patches], device=device)
        return cls(frame, Groups(torch.arange(len(patches), device=device), parts), patches, along)

    @property
    def inside(self) -> Bool[Tensor, "patches *space"]:
        """Whether a voxel of the network is one of the case, and no padding."""
        inside: Tensor = self.frame.weight > 0
        return inside if self.along < 0 else inside.movedim(-1, 1 + self.along)

    @property
    def slices(self) -> list[tuple[str, int, int]]:
        """Case, the number of its slices, and which of them each row of bounds per slice speaks of; -1: of none."""
        if self.frame.slices is None:
            return [(p.case, p.grid.slices, int(p.slices[0]) if len(p.slices) else -1) for p in self.patches]
        return [
            (patch.case, patch.grid.slices, int(index))
            for patch in self.patches
            for index in patch.slices
            if index >= 0
        ]


def slices_last(space: Sequence[int], along: int) -> list[int]:
    """Lengths of axes, those of slices moved to the end."""
    return list(space) if along < 0 else [*space[:along], *space[along + 1 :], space[along]]


def _is_stacked(to_grid: Float[np.ndarray, "3 4"], along: int) -> bool:
    """Whether slices of the patch are slices of the preprocessed case."""
    across = np.delete(to_grid[along, :3], 2)
    step, first = to_grid[along, 2], to_grid[along, 3]
    tilted = np.abs(np.delete(to_grid[:, 2], along)).max() > EXACT
    return bool(
        np.abs(across).max() < EXACT and abs(abs(step) - 1) < EXACT and abs(first - round(first)) < EXACT and not tilted
    )


def _slices(
    to_grid: Float[np.ndarray, "3 4"], seen: Float[np.ndarray, "3 2"], grid: CaseGrid, length: int, along: int
) -> Int[np.ndarray, " length"]:
    if not grid.keeps_slices:
        return NONE
    on_grid = to_grid[along, 2] * np.arange(length) + to_grid[along, 3]
    in_file = np.rint(grid.affine[2, along] * on_grid + grid.affine[2, 3]).astype(int)
    inside = (on_grid > seen[along, 0] - 0.5) & (on_grid < seen[along, 1] + 0.5)
    return np.where(inside, in_file, -1)


def _holds(
    to_grid: Float[np.ndarray, "3 4"],
    seen: Float[np.ndarray, "3 2"],
    size: Sequence[int],
    shape: Float[np.ndarray, " 3"],
    axes: Sequence[int],
) -> bool:
    """Whether the centres of all preprocessed voxels lie in the patch, and in the crop it came from.

    Args:
        axes: Those of the preprocessed case that are looked at; of the others a slice is.
    """
    if any(seen[a, 0] > 0 or seen[a, 1] < shape[a] - 1 for a in axes):
        return False
    kept = range(len(axes))
    inverse = np.linalg.inv(to_grid[np.ix_(axes, kept)])
    corners = np.stack(np.meshgrid(*[(0.0, shape[a] - 1) for a in axes], indexing="ij")).reshape(len(axes), -1)
    index = inverse @ (corners - to_grid[list(axes), 3][:, None])
    limit = np.asarray(size[: len(axes)])[:, None]
    return bool(((index >= -0.5 - EDGE) & (index <= limit - 0.5 + EDGE)).all())
