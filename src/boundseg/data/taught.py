"""What a case teaches, and a batch that carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from boundseg.constraints import Bounds, Frame, Groups, Scope, box_bands
from boundseg.data.prepare import PreparedCase

Origin = tuple[int, int, int]
Place = int | Origin  # of an image in its case: a slice's number, or where a patch begins on the grid

MOST_SEEDS = 100_000  # of a class, that are kept to draw from


@dataclass(frozen=True)
class TaughtCase:
    """A prepared case and what it teaches.

    Attributes:
        prepared: The case on the grid.
        labels: ``[S, h, w]`` (or ``[1, h, w, s]``), the ignore label where nothing is known.
        bounds: For each constraint's name, lower and upper bounds ``[2, S, 1]`` of the file's slices, or ``[2, 1, 1]``
            of the volume; with a further axis where a value has components.
        complete: Per class, whether the grid holds all of it in this case.
        with_image: Whether a constraint reads the image.
        boxes: Bounding boxes of its slices, first line and the one after the last along both axes (0 and 0 where there
            is none), each with the width of a band.
        also_called: Where several entries of a config teach the case, what tells them apart.
    """

    prepared: PreparedCase
    labels: UInt8[np.ndarray, "N *grid"]
    bounds: Mapping[str, Float[np.ndarray, "2 rows 1 *components"]]
    complete: tuple[bool, ...]
    with_image: bool = False
    boxes: tuple[tuple[Integer[np.ndarray, "S 2 2"], int], ...] = ()
    also_called: str = ""

    @property
    def name(self) -> str:
        """Under which its slices belong together: of a case that is taught twice, those of one entry."""
        return self.also_called or self.prepared.case

    def __len__(self) -> int:
        """The file's slices."""
        placement = self.prepared.placement
        return len(self.prepared.images) if placement.axes == 2 else placement.shape[-1]

    @property
    def is_volume(self) -> bool:
        """Whether it was prepared as one volume, and not as slices."""
        return self.prepared.placement.axes == 3

    @cached_property
    def seeds(self) -> list[Int[np.ndarray, " voxels"]]:
        """For each class, the flat indices of its labelled voxels (where there are many, a fixed random choice)."""
        values, flat = len(self.complete), np.asarray(self.labels).ravel()
        found = [np.flatnonzero(flat == value) for value in range(values)]
        fixed = np.random.default_rng(0)
        return [
            voxels if len(voxels) <= MOST_SEEDS else fixed.choice(voxels, MOST_SEEDS, replace=False) for voxels in found
        ]


@dataclass(frozen=True)
class Batch:
    """Some images (slices, patches or volumes) and what is known about them.

    Attributes:
        images: ``[B, C, h, w]``, or ``[B, C, h, w, s]`` of volumes and patches of them.
        labels: ``[B, h, w]``, or ``[B, h, w, s]``.
        frame: Where the images' voxels lie in their cases.
        volumes: Which images are of one volume. Patches are drawn and may overlap, so that each is by itself.
        bounds: For each constraint's name, a row per slice (in 3D, per slice that the frame names) or per volume.
        slices: Case and slice number of each image; of a patch, case and the grid position at which it begins.
        rows: Which of all slices (``slice``) the slices are, and which of all cases (``volume``) the volumes are.
    """

    images: Float[Tensor, "B C *space"]
    labels: UInt8[Tensor, "B *space"]
    frame: Frame
    volumes: Groups
    bounds: dict[str, Bounds]
    slices: tuple[tuple[str, Place], ...]
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


def in_file_units(case: TaughtCase, image: np.ndarray) -> Float[Tensor, "C *space"]:
    """A part of the prepared image in the file's own intensities."""
    centre, width = torch.tensor(case.prepared.intensities).T.reshape(2, -1, *([1] * (image.ndim - 1)))
    intensities: Tensor = torch.from_numpy(image.astype(np.float32)) * width + centre
    return intensities


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


def bounds_of(rows: Sequence[np.ndarray]) -> Bounds:
    """Bounds of several slices or volumes, from the pair of each."""
    lower, upper = torch.from_numpy(np.stack(rows, axis=1).astype(np.float32))
    return Bounds(lower, upper)
