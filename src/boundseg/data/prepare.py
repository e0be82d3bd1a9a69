"""Volumes to memory-mapped slices, or volumes, on one grid, with what it takes to go back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from boundseg.data import atomic
from boundseg.data.dataset import Dataset
from boundseg.data.enlarged import require_size
from boundseg.data.placement import Fit, Grid, Intensity, Lengths, Placement, Spacing, nearest, resample
from boundseg.errors import DatasetError, InputError, Problem

__all__ = [
    "Fit",
    "Grid",
    "Intensity",
    "Lengths",
    "Placement",
    "PreparedCase",
    "as_seen",
    "intensities_of",
    "nearest",
    "normalise",
    "prepare",
    "resample",
]

FORMAT = 2  # of the prepared files; another number and they are made again


@dataclass(frozen=True)
class PreparedCase:
    """One case on the grid; its arrays stay on disk until they are read.

    Attributes:
        case: Its name.
        placement: Where its slices, or all of it, lie on the grid.
        spacing_mm: The file's spacing: a slice's rows and columns, then between slices.
        images: ``[S, C, h, w]``, or ``[1, C, h, w, s]`` of a volume, half precision unless intensities are raw.
        intensities: For each channel, what 0 and what a step of 1 are in the file's intensities.
        labels: For each label set that was asked for, ``[S, h, w]`` or ``[1, h, w, s]``, unsigned bytes.
    """

    case: str
    placement: Placement
    spacing_mm: tuple[float, float, float]
    images: Shaped[np.ndarray, "N C *grid"]
    intensities: tuple[tuple[float, float], ...]
    labels: dict[str, Shaped[np.ndarray, "N *grid"]]


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


def as_seen(slices: Shaped[np.ndarray, "*C S H W"], grid: Grid) -> Shaped[np.ndarray, "*C N *space"]:
    """A volume as the images that a network sees: its slices ``[…, S, H, W]``, or one volume ``[…, 1, H, W, S]``."""
    return slices if grid.axes == 2 else np.expand_dims(np.moveaxis(slices, -3, -1), -4)


def _prepare_case(dataset: Dataset, grid: Grid, case: str, label_sets: Sequence[str], folder: Path) -> PreparedCase:
    image_state = _state(dataset.image_paths(case))
    label_states = {name: _state([dataset.label_path(case, name)]) for name in label_sets}
    known = _recorded(folder / "case.json")
    fresh = known.get("image") == image_state
    done: dict[str, Any] = known.get("labels", {}) if fresh else {}
    stale = [name for name in label_sets if done.get(name) != label_states[name]]
    if not fresh or stale:
        image, volume = dataset.read_image(case)
        on_file, spacing = dataset.to_slices(image), dataset.slice_spacing_mm(volume)
        require_size(case, dataset.image_paths(case)[0], on_file.shape[1:], spacing, grid, len(image))
        parts = as_seen(on_file, grid)
        space: Lengths = parts.shape[2:]
        along: Spacing = spacing[:2] if grid.axes == 2 else spacing
        placement = Placement.of(space, along, grid)
        if grid.fit == "pad" and placement.cut:
            raise DatasetError(
                f"{case}: its {'slices' if grid.axes == 2 else 'volume'} of {_times(placement.resampled)} "
                f"{'do' if grid.axes == 2 else 'does'} not fit the grid of {_times(grid.size)}.",
                str(dataset.folder),
                "Set data.fit to crop or resize, or data.size larger"
                + ("." if grid.axes == 2 else ", or learn from patches (data.batch: patches)."),
            )
        for name in stale:
            labels = as_seen(dataset.to_slices(dataset.read_labels(case, name, volume)), grid)
            _save(folder / f"labels_{name}.npy", placement.place_labels(labels, dataset.ignore))
        if not fresh:
            normal, intensities = normalise(parts, grid.intensity), intensities_of(parts, grid.intensity)
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
        Placement(**{key: tuple(value) for key, value in known["placement"].items()}),
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
    fit = "patches" if grid.patches else grid.fit
    return f"{_times(grid.size)}-{fit}-{sha256(text.encode()).hexdigest()[:8]}"


def _times(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
