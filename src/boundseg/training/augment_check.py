"""Whether every bound still says the truth of what an augmentation makes of a case; else it is refused, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import ceil, exp

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.asked.demands import Demand
from boundseg.constraints import BoxSize, BoxTightness, Constraint, Intensity, Ratio, Size
from boundseg.data.augment import Warp
from boundseg.data.augment.warp import index_map, outside
from boundseg.data.dataset import Dataset
from boundseg.data.prepare import Placement, PreparedCase
from boundseg.errors import ConfigError, DatasetError, Problem
from boundseg.training.config import Config
from boundseg.training.config.augment import AugmentationConfig, of_name, warp

BENDS_WITH = (Size, Ratio, Intensity, BoxSize, BoxTightness)  # sums over voxels that need not know where they lie
ANGLES = 91
WHERE = "training.augment"


def require_followed(steps: Sequence[AugmentationConfig], constraints: Sequence[Constraint]) -> None:
    """Refuses constraints that read what an augmentation changes and no frame can follow.

    Raises:
        ConfigError: Positions or outlines of what is bent, or pixels of a grid that is zoomed; all are listed.
    """
    problems = []
    stretching = [name for name in ("scale", "elastic") if of_name(steps, name)]
    for constraint in constraints:
        measured = constraint.descriptor
        if "elastic" in stretching and not isinstance(measured, BENDS_WITH):
            problems.append(
                Problem(
                    f"elastic bends positions and outlines, and {constraint.name!r} measures them in the case.",
                    WHERE,
                    "Take out elastic, or that constraint: bounds on sizes, ratios, intensities and boxes go with it.",
                )
            )
        if stretching and isinstance(measured, Size) and measured.unit == "grid_px":
            problems.append(
                Problem(
                    f"{' and '.join(stretching)} changes how many pixels of the grid a region covers, and "
                    f"{constraint.name!r} counts them.",
                    WHERE,
                    f"Give these bounds in px, mm2 or mL, or take out {' and '.join(stretching)}.",
                )
            )
    if problems:
        raise ConfigError.of(problems)


def require_seen(
    config: Config, dataset: Dataset, demands_of: Sequence[Sequence[Demand]], prepared: Mapping[str, PreparedCase]
) -> None:
    """Refuses augmentations that may move a bounded class out of the grid, unless it is declared to stay.

    Of a class of which a part may be lost, only upper bounds would be left. Rather than to drop the others in silence,
    ask: a class in ``data.complete`` is declared to keep clear of the grid's border, which is tested against every
    full mask there is; or the grid is large enough to lose nothing.

    Args:
        config: The whole of it.
        dataset: Where the masks are.
        demands_of: What every entry asks.
        prepared: The cases that teach.

    Raises:
        ConfigError: A bound needs to see all of a class that may leave the grid; all are listed.
        DatasetError: A mask shows that a declared class does leave; all cases are listed.
    """
    steps, classes = config.training.augment, list(dataset.labels)
    moves = warp(steps, dataset.ignore, [name in config.data.complete for name in classes])
    if moves is None:
        return
    losing = {case: on_grid for case, on_grid in prepared.items() if _size_needed(moves, on_grid) is not None}
    if not losing:
        return
    problems, named = [], " and ".join(n for n in ("rotate", "scale", "shift") if of_name(steps, n))
    enlarge = _advice(config, moves, losing.values())
    fact = f"{named} can move a part of {len(losing)} of {len(prepared)} cases out of the grid, and"
    for demand in (demand for of_entry in demands_of for demand in of_entry if _speaks_of_all(demand)):
        constraint = demand.constraint
        wanted = sorted({classes[index] for region in constraint.regions for index in region})
        hidden = [name for name in wanted if name not in config.data.complete]
        if hidden:
            problems.append(
                Problem(
                    f"{fact} {constraint.name!r} needs to see all of {' and '.join(wanted)}.",
                    WHERE,
                    f"Name {' and '.join(hidden)} in data.complete if it keeps clear of the corners (every full mask "
                    f"is tested){enlarge}, or take out {named}.",
                )
            )
        elif isinstance(constraint.descriptor, Size) and constraint.descriptor.unit == "fraction":
            problems.append(
                Problem(
                    f"{fact} {constraint.name!r} is a fraction of all of it.",
                    WHERE,
                    f"Give these bounds in px, mm2 or mL{enlarge}, or take out {named}.",
                )
            )
    if problems:
        raise ConfigError.of(problems)
    _require_masks_inside(config, dataset, moves, losing)


def _speaks_of_all(demand: Demand) -> bool:
    """Whether it says more than an upper bound on what grows with more voxels."""
    grows = demand.constraint.descriptor.traits.grows
    pairs = [demand.elsewhere, *(pair for of_case in demand.known.values() for pair in of_case.values())]
    return any(
        (np.isfinite(lower) & (lower > 0)).any() if grows else np.isfinite((lower, upper)).any()
        for lower, upper in (map(np.asarray, pair) for pair in pairs)
    )


def _extremes(moves: Warp, on_grid: PreparedCase) -> Float[Tensor, "N 3 3"]:
    """The draws that move most out of the grid: the largest zoom and shifts, at many angles."""
    turn, zoom, shift = moves.turn, moves.zoom, moves.shift
    angles = torch.linspace(turn.least, turn.most, ANGLES) if turn.most else torch.zeros(1)
    ends = sorted({shift.least, shift.most})
    drawn = torch.tensor([(angle, *by) for angle, by in product(angles.tolist(), product(ends, ends))])
    largest = exp(zoom.most if zoom.probability == 1 else max(zoom.most, 0.0))
    steps = np.diag(on_grid.placement.affine()[:, :2]) * on_grid.spacing_mm[:2]
    size = torch.Size(on_grid.placement.size)
    count = len(drawn)
    sides = torch.tensor(steps, dtype=torch.float32).expand(count, 2)
    return index_map(drawn[:, 0], torch.full((count,), largest), drawn[:, 1:], sides, size)


def _size_needed(moves: Warp, on_grid: PreparedCase) -> tuple[int, int] | None:
    """The grid that would hold all of a case whatever is drawn; None where the present one does."""
    placement, index = on_grid.placement, _extremes(moves, on_grid)
    corners = torch.tensor(list(product(*_extent(placement)))).T
    if not outside(index, corners.unsqueeze(0), torch.Size(placement.size)).any():
        return None
    centre = (torch.tensor(placement.size) - 1.0) / 2
    inverse = torch.linalg.inv(index)
    found = (inverse[:, :2, :2] @ corners + inverse[:, :2, 2:]).sub(centre.reshape(1, 2, 1))
    rows, columns = (8 * ceil((2 * float(reach) - 0.02) / 8) for reach in found.abs().amax((0, 2)))
    return rows, columns


def _extent(placement: Placement) -> list[tuple[float, float]]:
    """First and last border of what the grid holds of a slice, along both axes."""
    return [
        (max(start, 0) - 0.5, min(start + length, size) - 0.5)
        for start, length, size in zip(placement.offset, placement.resampled, placement.size, strict=True)
    ]


def _advice(config: Config, moves: Warp, cases: Iterable[PreparedCase]) -> str:
    """The size that loses nothing, where a larger grid helps."""
    needed = [size for case in cases if (size := _size_needed(moves, case)) is not None]
    if config.data.fit != "pad" or not needed:
        return ""
    largest = [max(size[axis] for size in needed) for axis in (0, 1)]
    if of_name(config.training.augment, "transpose"):
        largest = [max(largest)] * 2
    return f", or set data.size: {largest}, which loses nothing"


def _require_masks_inside(config: Config, dataset: Dataset, moves: Warp, cases: Mapping[str, PreparedCase]) -> None:
    problems = []
    for case, on_grid in cases.items():
        if not dataset.label_path(case).is_file():
            continue
        _, image = dataset.read_image(case)
        target = dataset.to_slices(dataset.read_labels(case, "full", image))
        index, placement = _extremes(moves, on_grid), on_grid.placement
        for name, allowed in config.data.complete.items():
            most = max((_lost(m, index, placement), s) for s, m in enumerate(target == dataset.labels[name]))
            if most[0] > allowed:
                fact = f"{case}, slice {most[1]}: up to {most[0]:.1%} of {name} leaves the grid, over {allowed:.1%}."
                problems.append(
                    Problem(fact, WHERE, "Enlarge data.size, allow more in data.complete, or turn, zoom or shift less.")
                )
    if problems:
        raise DatasetError.of(problems)


def _lost(mask: np.ndarray, index: Float[Tensor, "N 3 3"], placement: Placement) -> float:
    """The largest share of a mask that the grid holds no more."""
    pixels = np.argwhere(mask)
    if not len(pixels):
        return 0.0
    affine = placement.affine()
    points = torch.tensor(((pixels - affine[:, 2]) / np.diag(affine[:, :2])).T, dtype=torch.float32).unsqueeze(0)
    size = torch.Size(placement.size)
    cropped = outside(torch.eye(3).unsqueeze(0), points, size)
    return float((outside(index, points, size) | cropped).float().mean(1).max())
