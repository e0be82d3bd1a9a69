"""The grid on which a network sees slices or volumes, and where a case lies on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped

Fit = Literal["pad", "crop", "resize"]
Intensity = Literal["zscore", "minmax", "none"]

Lengths = tuple[int, int] | tuple[int, int, int]  # of the two axes of a slice, or of these and then between slices
Spacing = tuple[float, float] | tuple[float, float, float]
Wanted = tuple[float | None, float | None] | tuple[float | None, float | None, float | None]
Slices = tuple[slice, slice] | tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """The grid on which a network sees slices, volumes or patches of volumes.

    Attributes:
        size: Rows and columns; of volumes also slices.
        fit: ``pad`` (by the volume's least intensity; cases that are larger are refused in training and
            tiled in prediction), ``crop`` (the centre; padded where smaller) or ``resize`` (as the published
            code does on the heart).
        spacing_mm: Resample to this spacing before, an axis with None aside; None keeps the file's throughout.
        intensity: Per volume: ``zscore``, ``minmax`` (to 0 … 1) or ``none``.
        patches: The size is that of a patch: a larger volume keeps its own, and patches are cut from it.
    """

    size: Lengths
    fit: Fit = "pad"
    spacing_mm: Wanted | None = None
    intensity: Intensity = "zscore"
    patches: bool = False

    @property
    def axes(self) -> int:
        """2 for slices, 3 for volumes."""
        return len(self.size)

    @property
    def stored(self) -> type[np.float16] | type[np.float32]:
        """The type in which prepared images are kept: raw intensities may exceed float16's 65504."""
        return np.float32 if self.intensity == "none" else np.float16


@dataclass(frozen=True)
class Placement:
    """Where the slices of one case, or all of it, lie on the grid; along the two axes of a slice, then between slices.

    Attributes:
        shape: The file's rows and columns (and slices).
        resampled: The same after resampling or resizing.
        size: The grid.
        offset: Grid position of the first resampled row and column (and slice); negative where the centre is cut out.
    """

    shape: Lengths
    resampled: Lengths
    size: Lengths
    offset: Lengths

    @classmethod
    def of(cls, shape: Lengths, spacing_mm: Spacing, grid: Grid, *, enlarge: bool = False) -> Placement:
        """Places slices or a volume of a shape and spacing on the grid, centred.

        Args:
            shape: The file's rows and columns (and slices).
            spacing_mm: The file's spacing along them.
            grid: What the config says.
            enlarge: With ``fit="pad"``, let the grid grow to hold a larger case, as prediction by tiles does.
        """
        resampled = shape
        if grid.spacing_mm is not None:
            resampled = _tuple(
                n if t is None else max(1, round(n * s / t))
                for n, s, t in zip(shape, spacing_mm, grid.spacing_mm, strict=True)
            )
        if grid.fit == "resize":
            resampled = grid.size
        grows = grid.patches or (enlarge and grid.fit == "pad")
        size = _tuple(map(max, grid.size, resampled)) if grows else grid.size
        offset = _tuple((g - r) // 2 for g, r in zip(size, resampled, strict=True))
        return cls(shape, resampled, size, offset)

    @property
    def axes(self) -> int:
        """2 for slices, 3 for a volume."""
        return len(self.size)

    @property
    def voxels_per_voxel(self) -> float:
        """How many of the file's pixels (voxels) one resampled pixel stands for."""
        return float(np.prod(self.shape) / np.prod(self.resampled))

    @property
    def padded(self) -> bool:
        """Whether some grid pixels lie outside of the file's slice."""
        return any(g > r for g, r in zip(self.size, self.resampled, strict=True))

    @property
    def cut(self) -> bool:
        """Whether some of the file's slice lies outside of the grid."""
        return any(self.cut_along)

    @property
    def cut_along(self) -> tuple[bool, bool] | tuple[bool, bool, bool]:
        """The same for each axis."""
        cut: tuple[bool, bool] | tuple[bool, bool, bool] = _tuple(
            g < r for g, r in zip(self.size, self.resampled, strict=True)
        )
        return cut

    @property
    def keeps_slices(self) -> bool:
        """Whether the grid's slices are the file's: of a volume that is resampled between them they are not."""
        return self.resampled[2:] == self.shape[2:]

    def weight(self) -> Float[np.ndarray, "*grid"]:
        """The frame's weight of every grid pixel; 0 in padding."""
        weight = np.zeros(self.size, np.float32)
        weight[self.on_grid] = self.voxels_per_voxel
        return weight

    def affine(self) -> Float[np.ndarray, "axes columns"]:
        """Where the grid's pixels lie in the file's slice (volume); 0 is the centre of its first pixel."""
        step = np.divide(self.shape, self.resampled)
        # resampling aligns the borders of images, so that the centres of their first pixels lie half a step inside
        start = (0.5 - np.asarray(self.offset)) * step - 0.5
        return np.column_stack([np.diag(step), start]).astype(np.float32)

    def place_image(self, images: Float[np.ndarray, "*n_and_file"], padding: float) -> Float[np.ndarray, "*n_and_grid"]:
        """Brings images onto the grid: linear, with an antialiasing filter where they shrink."""
        return self._place(images, padding, lambda x: resample(x, self.resampled))

    def place_labels(
        self, labels: Shaped[np.ndarray, "*n_and_file"], padding: int
    ) -> Shaped[np.ndarray, "*n_and_grid"]:
        """Brings labels onto the grid: each pixel takes the label of the nearest one."""
        return self._place(labels, padding, lambda x: nearest(x, self.resampled))

    def restore(self, probs: Float[np.ndarray, "K *n_and_grid"]) -> Float[np.ndarray, "K *n_and_file"]:
        """Brings class probabilities back onto the file's slices (volume); what the grid left out is background."""
        whole = np.zeros((*probs.shape[: -self.axes], *self.resampled), np.float32)
        whole[0] = 1
        whole[(..., *self.of_resampled)] = probs[(..., *self.on_grid)]
        return resample(whole, self.shape)

    def left_out(self, mask: Shaped[np.ndarray, "*n_and_file"]) -> Float[np.ndarray, "*n"]:
        """The share of each mask that the grid does not hold; 0 for an empty mask."""
        held = np.zeros(self.shape, bool)
        steps = [n / r for n, r in zip(self.shape, self.resampled, strict=True)]
        held[
            tuple(
                slice(round(part.start * step), round(part.stop * step))
                for part, step in zip(self.of_resampled, steps, strict=True)
            )
        ] = True
        axes = tuple(range(-self.axes, 0))
        share: np.ndarray = (mask & ~held).sum(axes) / np.maximum(mask.sum(axes), 1)
        return share

    @cached_property
    def on_grid(self) -> Slices:
        """The part of the grid that holds something of the file."""
        held: Slices = _tuple(
            slice(max(o, 0), min(o + r, g)) for o, r, g in zip(self.offset, self.resampled, self.size, strict=True)
        )
        return held

    @cached_property
    def of_resampled(self) -> Slices:
        held: Slices = _tuple(slice(s.start - o, s.stop - o) for s, o in zip(self.on_grid, self.offset, strict=True))
        return held

    def _place(
        self, images: np.ndarray, padding: float, to_resampled: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        placed = np.full((*images.shape[: -self.axes], *self.size), padding, images.dtype)
        placed[(..., *self.on_grid)] = to_resampled(images)[(..., *self.of_resampled)]
        return placed


def resample(image: Float[np.ndarray, "*n_and_space"], size: Lengths) -> Float[np.ndarray, "*n_and_size"]:
    """Linear interpolation of the last two or three axes, voxel centres aligned, antialiased where it shrinks.

    The third axis is done for itself after the first two: torch's filter has two, and it is a product of filters.
    """
    if image.shape[-len(size) :] == size:
        return image
    if len(size) == 2:
        return _in_plane(image, size)
    before, slices = image.shape[:-3], image.shape[-1]
    in_plane = np.moveaxis(_in_plane(np.moveaxis(image, -1, 0), size[:2]), 0, -1)
    columns = in_plane.reshape(*before, size[0] * size[1], slices)
    return _in_plane(columns, (size[0] * size[1], size[2])).reshape(*before, *size)


def nearest(labels: Shaped[np.ndarray, "*n_and_space"], size: Lengths) -> Shaped[np.ndarray, "*n_and_size"]:
    """Nearest neighbour in the last two or three axes: output i reads input floor((i + ½) H / h)."""
    read = [
        np.floor((np.arange(new) + 0.5) * old / new).astype(int)
        for old, new in zip(labels.shape[-len(size) :], size, strict=True)
    ]
    return labels[(..., *np.ix_(*read))]


def _in_plane(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[-2:] == size:
        return image
    if size[1] == 1 < size[0]:
        # torch 2.13's filter leaves the rows out where there is one column
        return np.swapaxes(_in_plane(np.swapaxes(image, -1, -2), (1, size[0])), -1, -2)
    flat = torch.from_numpy(np.ascontiguousarray(image, np.float32)).reshape(-1, 1, *image.shape[-2:])
    resized = F.interpolate(flat, size, mode="bilinear", align_corners=False, antialias=True)
    return np.asarray(resized.reshape(*image.shape[:-2], *size))


def _tuple(values: Iterable[Any]) -> Any:
    """As many as there are axes, which is more than types can tell."""
    return tuple(values)
