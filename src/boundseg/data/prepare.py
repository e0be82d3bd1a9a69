"""Volumes to memory-mapped slices on one grid, with what it takes to go back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped

from boundseg.data import atomic
from boundseg.data.dataset import Dataset
from boundseg.errors import DatasetError, InputError, Problem

Fit = Literal["pad", "crop", "resize"]
Intensity = Literal["zscore", "minmax", "none"]

FORMAT = 2  # of the prepared files; another number and they are made again


@dataclass(frozen=True)
class Grid:
    """The grid on which a network sees slices.

    Attributes:
        size: Rows and columns.
        fit: ``pad`` (by the volume's least intensity; slices that are larger are refused in training and
            tiled in prediction), ``crop`` (the centre; padded where smaller) or ``resize`` (as the published
            code does on the heart).
        spacing_mm: Resample in-plane to this spacing before; None keeps the file's.
        intensity: Per volume: ``zscore``, ``minmax`` (to 0 … 1) or ``none``.
    """

    size: tuple[int, int]
    fit: Fit = "pad"
    spacing_mm: tuple[float, float] | None = None
    intensity: Intensity = "zscore"

    @property
    def stored(self) -> type[np.float16] | type[np.float32]:
        """The type in which prepared images are kept: raw intensities may exceed float16's 65504."""
        return np.float32 if self.intensity == "none" else np.float16


@dataclass(frozen=True)
class Placement:
    """Where the slices of one case lie on the grid; in-plane axes throughout.

    Attributes:
        shape: The file's rows and columns.
        resampled: The same after resampling or resizing.
        size: The grid.
        offset: Grid position of the first resampled row and column; negative where the centre is cut out.
    """

    shape: tuple[int, int]
    resampled: tuple[int, int]
    size: tuple[int, int]
    offset: tuple[int, int]

    @classmethod
    def of(
        cls, shape: tuple[int, int], spacing_mm: tuple[float, float], grid: Grid, *, enlarge: bool = False
    ) -> Placement:
        """Places slices of a shape and spacing on the grid, centred.

        Args:
            shape: The file's rows and columns.
            spacing_mm: The file's in-plane spacing.
            grid: What the config says.
            enlarge: With ``fit="pad"``, let the grid grow to hold a larger slice, as prediction by tiles does.
        """
        resampled = shape
        if grid.spacing_mm is not None:
            resampled = _pair(
                max(1, round(n * s / t)) for n, s, t in zip(shape, spacing_mm, grid.spacing_mm, strict=True)
            )
        if grid.fit == "resize":
            resampled = grid.size
        size = _pair(map(max, grid.size, resampled)) if enlarge and grid.fit == "pad" else grid.size
        offset = _pair((g - r) // 2 for g, r in zip(size, resampled, strict=True))
        return cls(shape, resampled, size, offset)

    @property
    def voxels_per_voxel(self) -> float:
        """How many of the file's pixels one resampled pixel stands for."""
        return float(np.prod(self.shape) / np.prod(self.resampled))

    @property
    def padded(self) -> bool:
        """Whether some grid pixels lie outside of the file's slice."""
        return any(g > r for g, r in zip(self.size, self.resampled, strict=True))

    @property
    def cut(self) -> bool:
        """Whether some of the file's slice lies outside of the grid."""
        return any(g < r for g, r in zip(self.size, self.resampled, strict=True))

    def weight(self) -> Float[np.ndarray, "h w"]:
        """The frame's weight of every grid pixel; 0 in padding."""
        weight = np.zeros(self.size, np.float32)
        weight[self._on_grid] = self.voxels_per_voxel
        return weight

    def affine(self) -> Float[np.ndarray, "2 3"]:
        """Where the grid's pixels lie in the file's slice; 0 is the centre of its first pixel."""
        step = np.divide(self.shape, self.resampled)
        # resampling aligns the borders of images, so that the centres of their first pixels lie half a step inside
        start = (0.5 - np.asarray(self.offset)) * step - 0.5
        return np.column_stack([np.diag(step), start]).astype(np.float32)

    def place_image(self, slices: Float[np.ndarray, "*n H W"], padding: float) -> Float[np.ndarray, "*n h w"]:
        """Brings images onto the grid: linear, with an antialiasing filter where they shrink."""
        return self._place(slices, padding, lambda x: resample(x, self.resampled))

    def place_labels(self, slices: Shaped[np.ndarray, "*n H W"], padding: int) -> Shaped[np.ndarray, "*n h w"]:
        """Brings labels onto the grid: each pixel takes the label of the nearest one."""
        return self._place(slices, padding, lambda x: nearest(x, self.resampled))

    def restore(self, probs: Float[np.ndarray, "K *n h w"]) -> Float[np.ndarray, "K *n H W"]:
        """Brings class probabilities back onto the file's slices; what the grid left out is background."""
        whole = np.zeros((*probs.shape[:-2], *self.resampled), np.float32)
        whole[0] = 1
        whole[(..., *self._on_slice)] = probs[(..., *self._on_grid)]
        return resample(whole, self.shape)

    def left_out(self, mask: Shaped[np.ndarray, "S H W"]) -> Float[np.ndarray, " S"]:
        """The share of each slice's mask that the grid does not hold; 0 for an empty mask."""
        held = np.zeros(self.shape, bool)
        steps = [n / r for n, r in zip(self.shape, self.resampled, strict=True)]
        held[
            tuple(
                slice(round(part.start * step), round(part.stop * step))
                for part, step in zip(self._on_slice, steps, strict=True)
            )
        ] = True
        total = mask.sum((1, 2))
        share: np.ndarray = (mask & ~held).sum((1, 2)) / np.maximum(total, 1)
        return share

    @cached_property
    def _on_grid(self) -> tuple[slice, slice]:
        first, second = (
            slice(max(o, 0), min(o + r, g)) for o, r, g in zip(self.offset, self.resampled, self.size, strict=True)
        )
        return first, second

    @cached_property
    def _on_slice(self) -> tuple[slice, slice]:
        first, second = (slice(s.start - o, s.stop - o) for s, o in zip(self._on_grid, self.offset, strict=True))
        return first, second

    def _place(
        self, slices: np.ndarray, padding: float, to_resampled: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        placed = np.full((*slices.shape[:-2], *self.size), padding, slices.dtype)
        placed[(..., *self._on_grid)] = to_resampled(slices)[(..., *self._on_slice)]
        return placed


@dataclass(frozen=True)
class PreparedCase:
    """One case on the grid; its arrays stay on disk until they are read.

    Attributes:
        case: Its name.
        placement: Where its slices lie on the grid.
        spacing_mm: The file's spacing: a slice's rows and columns, then between slices.
        images: ``[S, C, h, w]``, half precision unless intensities are raw.
        intensities: For each channel, what 0 and what a step of 1 are in the file's intensities.
        labels: For each label set that was asked for, ``[S, h, w]``, unsigned bytes.
    """

    case: str
    placement: Placement
    spacing_mm: tuple[float, float, float]
    images: Shaped[np.ndarray, "S C h w"]
    intensities: tuple[tuple[float, float], ...]
    labels: dict[str, Shaped[np.ndarray, "S h w"]]


def normalise(image: Float[np.ndarray, "C *space"], intensity: Intensity) -> Float[np.ndarray, "C *space"]:
    """Brings each channel of a volume to comparable intensities; a constant channel becomes 0."""
    if intensity == "none":
        return image
    centre, width = np.reshape(intensities_of(image, intensity), (len(image), 2, *([1] * (image.ndim - 1)))).swapaxes(
        0, 1
    )
    return np.asarray((image - centre) / width, np.float32)


def intensities_of(image: Float[np.ndarray, "C *space"], intensity: Intensity) -> tuple[tuple[float, float], ...]:
    """For each channel, what 0 and what a step of 1 of the normalised image are in the image's own intensities."""
    if intensity == "none":
        return ((0.0, 1.0),) * len(image)
    axes = tuple(range(1, image.ndim))
    if intensity == "zscore":
        # float64: the mean of a 512^3 volume drifts in float32
        centre, width = image.mean(axes, np.float64), image.std(axes, np.float64)
    else:
        centre = image.min(axes).astype(np.float64)
        width = image.max(axes) - centre
    return tuple(zip(centre.tolist(), np.where(width > 0, width, 1).tolist(), strict=True))


def prepare(
    dataset: Dataset,
    grid: Grid,
    wanted: Iterable[tuple[str, Sequence[str]]],
    report: Callable[[str], None] = lambda case: None,
) -> dict[str, PreparedCase]:
    """Prepares cases on a grid, or opens what was prepared before.

    The files lie in ``prepared/`` in the dataset folder, one folder per grid (and slice axis and ignore label) and
    case, and are made anew where the originals have changed. Training reads nothing else.

    Args:
        dataset: The opened dataset folder.
        grid: The grid.
        wanted: Pairs of a case and the label sets that are needed of it (``full`` or a weak set's name).
        report: Called with each case that is done.

    Raises:
        InputError: Volumes that are missing or do not fit; all of them are listed.
    """
    folder = dataset.folder / "prepared" / _key(grid, dataset)
    prepared: dict[str, PreparedCase] = {}
    problems: list[Problem] = []
    for case, label_sets in wanted:
        try:
            prepared[case] = _prepare_case(dataset, grid, case, label_sets, folder / case)
        except InputError as error:
            problems += error.problems
        report(case)
    if problems:
        raise DatasetError.of(problems)
    return prepared


def resample(image: Float[np.ndarray, "*n H W"], size: tuple[int, int]) -> Float[np.ndarray, "*n h w"]:
    """Linear interpolation of the last two axes, pixel centres aligned, antialiased where it shrinks."""
    if image.shape[-2:] == size:
        return image
    flat = torch.from_numpy(np.ascontiguousarray(image, np.float32)).reshape(-1, 1, *image.shape[-2:])
    resized = F.interpolate(flat, size, mode="bilinear", align_corners=False, antialias=True)
    return np.asarray(resized.reshape(*image.shape[:-2], *size))


def nearest(labels: Shaped[np.ndarray, "*n H W"], size: tuple[int, int]) -> Shaped[np.ndarray, "*n h w"]:
    """Nearest neighbour in the last two axes: output i reads input floor((i + ½) H / h)."""
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * old / new).astype(int)
        for old, new in zip(labels.shape[-2:], size, strict=True)
    )
    return labels[..., rows[:, None], columns[None, :]]


def _prepare_case(dataset: Dataset, grid: Grid, case: str, label_sets: Sequence[str], folder: Path) -> PreparedCase:
    image_state = _state(dataset.image_paths(case))
    label_states = {name: _state([dataset.label_path(case, name)]) for name in label_sets}
    known = _recorded(folder / "case.json")
    fresh = known.get("image") == image_state
    done: dict[str, Any] = known.get("labels", {}) if fresh else {}
    stale = [name for name in label_sets if done.get(name) != label_states[name]]
    if not fresh or stale:
        image, volume = dataset.read_image(case)
        slices = dataset.to_slices(image)
        spacing = dataset.slice_spacing_mm(volume)
        placement = Placement.of(_pair(slices.shape[-2:]), spacing[:2], grid)
        if grid.fit == "pad" and placement.cut:
            raise DatasetError(
                f"{case}: its slices of {placement.resampled[0]}x{placement.resampled[1]} do not fit the grid of "
                f"{grid.size[0]}x{grid.size[1]}.",
                str(dataset.folder),
                "Set data.fit to crop or resize, or data.size larger.",
            )
        for name in stale:
            labels = dataset.to_slices(dataset.read_labels(case, name, volume))
            _save(folder / f"labels_{name}.npy", placement.place_labels(labels, dataset.ignore))
        if not fresh:
            normal, intensities = normalise(slices, grid.intensity), intensities_of(slices, grid.intensity)
            placed = np.stack([placement.place_image(channel, float(channel.min())) for channel in normal], axis=1)
            _save(folder / "images.npy", placed.astype(grid.stored))
        else:
            intensities = known["intensities"]
        known = {
            "image": image_state,
            "labels": {**done, **{name: label_states[name] for name in stale}},
            "placement": asdict(placement),
            "spacing_mm": spacing,
            "intensities": intensities,
        }
        atomic.write_text(folder / "case.json", json.dumps(known))
    return PreparedCase(
        case,
        Placement(**{key: _pair(value) for key, value in known["placement"].items()}),
        tuple(known["spacing_mm"]),
        np.load(folder / "images.npy", mmap_mode="r"),
        tuple((centre, width) for centre, width in known["intensities"]),
        {name: np.load(folder / f"labels_{name}.npy", mmap_mode="r") for name in label_sets},
    )


def _save(path: Path, array: np.ndarray) -> None:
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def _recorded(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def _state(paths: Iterable[Path]) -> list[Any]:
    """Name, size and time of files: what tells that they have changed. A missing one is found on reading."""
    return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] if p.exists() else [p.name] for p in paths]


def _key(grid: Grid, dataset: Dataset) -> str:
    text = json.dumps([FORMAT, asdict(grid), dataset.slice_axis, dataset.ignore], sort_keys=True)
    size = "x".join(map(str, grid.size))
    return f"{size}-{grid.fit}-{sha256(text.encode()).hexdigest()[:8]}"


def _pair(values: Iterable[Any]) -> tuple[Any, Any]:
    first, second = values
    return first, second
