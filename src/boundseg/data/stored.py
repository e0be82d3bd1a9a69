"""Volumes kept as their files store them, often two bytes a voxel, and read as float32 a few slices at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from boundseg.data import volume_io
from boundseg.data.dataset import require_finite, require_same_grid
from boundseg.data.prepare import Intensity
from boundseg.data.volume_io import Scaling, Volume

BLOCK = 2**22  # voxels that are brought into float32 or float64 at once


@dataclass(frozen=True)
class StoredSlices:
    """The channels of a case, slices first; a part of them is read as float32.

    Attributes:
        channels: For each channel ``[S, H, W]``, of any type; views of the files' arrays.
        scalings: From stored numbers to intensities, for each channel.
    """

    channels: tuple[Shaped[np.ndarray, "S H W"], ...]
    scalings: tuple[Scaling, ...]

    @classmethod
    def of(cls, image: Shaped[np.ndarray, "C S H W"]) -> StoredSlices:
        """Slices of an array, whose numbers are the intensities."""
        return cls(tuple(image), (Scaling(),) * len(image))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.channels[0].shape
        return slices, rows, columns

    def __getitem__(self, part: slice) -> Float[np.ndarray, "C B H W"]:
        """The intensities of some slices."""
        return np.stack(
            [
                np.asarray(scaling(channel[part]), np.float32)
                for channel, scaling in zip(self.channels, self.scalings, strict=True)
            ]
        )

    def blocks(self) -> Iterator[Float[np.ndarray, "C B H W"]]:
        """All slices, a few at a time."""
        slices, rows, columns = self.shape
        step = max(1, BLOCK // max(1, rows * columns))
        for start in range(0, slices, step):
            yield self[start : start + step]

    def require_finite(self, paths: Sequence[Path]) -> None:
        """Raises VolumeError where a channel holds NaN or infinite voxels; ``paths`` name the channels."""
        for path, channel, scaling in zip(paths, self.channels, self.scalings, strict=True):
            if channel.dtype.kind in "iub" and scaling == Scaling():
                continue
            one = StoredSlices((channel,), (scaling,))
            if not all(np.isfinite(block).all() for block in one.blocks()):
                require_finite(one[:], path)

    def intensities(self, intensity: Intensity) -> tuple[tuple[float, float], ...]:
        """What :func:`boundseg.data.prepare.intensities_of` finds in the whole volume, in one or two passes.

        The sums run in float64: means of integers are the same, deviations to the last bits of float64.
        """
        channels = len(self.channels)
        if intensity == "none":
            return ((0.0, 1.0),) * channels
        if intensity == "minmax":
            centre, greatest = self._extremes()
            width = greatest - centre
        else:
            voxels = int(np.prod(self.shape))
            centre = sum((b.sum((1, 2, 3), np.float64) for b in self.blocks()), np.zeros(channels)) / voxels
            squares = np.zeros(channels)
            for block in self.blocks():
                squares += np.square(block - centre.reshape(-1, 1, 1, 1)).sum((1, 2, 3))
            width = np.sqrt(squares / voxels)
        return tuple(zip(centre.tolist(), np.where(width > 0, width, 1).tolist(), strict=True))

    def least(self) -> Float[np.ndarray, " C"]:
        """The least intensity of each channel."""
        return self._extremes()[0]

    def _extremes(self) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
        """In the stored numbers, whose order a scaling keeps or turns round."""
        ends = np.array(
            [
                np.asarray(scaling(np.array([channel.min(), channel.max()])), np.float32)
                for channel, scaling in zip(self.channels, self.scalings, strict=True)
            ],
            np.float64,
        )
        return ends.min(1), ends.max(1)


def read_stored(paths: Sequence[Path], slice_axis: int) -> tuple[StoredSlices, Volume]:
    """The channels of a case as their files store them, and the first one's place in the world.

    Raises:
        VolumeError: As :func:`boundseg.data.dataset.read_channels`: a file is missing or unreadable, the channels
            differ in shape or affine, or a voxel is NaN or infinite.
    """
    read = [(path, *stored) for path in paths for stored in volume_io.read_stored_channels(path)]
    of, volumes, scalings = zip(*read, strict=True)
    for path, volume in zip(of, volumes, strict=True):
        require_same_grid(path, volume, volumes[0])
    slices = StoredSlices(tuple(np.moveaxis(volume.array, slice_axis, 0) for volume in volumes), scalings)
    slices.require_finite(of)
    return slices, volumes[0]
