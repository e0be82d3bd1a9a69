"""What resampling would make of a case, refused before it is done where that cannot be meant."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from boundseg.data import volume_io
from boundseg.data.picture_io import PICTURE_ENDINGS
from boundseg.data.placement import Grid, Placement
from boundseg.errors import VolumeError

BLURRED = 256  # pixels that resampling makes of one, 16 along each side: more shows nothing that a network knows


def require_size(
    case: str,
    path: Path | None,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    grid: Grid,
    planes: int,
) -> None:
    """Refuses a case of which resampling would make far more pixels than it holds, or more than memory does.

    Args:
        case: Its name.
        path: The first of its files; None for an array.
        shape: Slices, rows and columns.
        spacing_mm: Between rows, columns and slices.
        grid: What the network sees.
        planes: Channels, and classes where it is predicted.

    Raises:
        VolumeError: The case's spacing or the training's is wrong; or a machine with more memory is needed.
    """
    slices, rows, columns = shape
    # a 2D network takes slices as they are
    flat = grid.axes == 2
    own, own_mm = ((rows, columns), spacing_mm[:2]) if flat else ((rows, columns, slices), spacing_mm)
    placement = Placement.of(own, own_mm, grid, enlarge=True)
    becomes, pixels = placement.resampled, "pixels" if flat else "voxels"
    # at the least: one slice or the volume, and what it becomes, in float32
    needed_gb = 4 * planes * max(map(math.prod, (becomes, placement.size))) / 1e9
    enlarged = math.prod(becomes) / math.prod(own)
    blurred = enlarged > BLURRED and math.prod(becomes) > math.prod(grid.size)
    if not blurred and needed_gb < _memory_gb():
        return
    where = str(path.parent) if path else ""
    if enlarged > 1 and grid.spacing_mm:
        wanted_mm = [s if t is None else t for s, t in zip(own_mm, grid.spacing_mm, strict=True)]
        fact = f"{case} has {pixels} of {by(own_mm)} mm, the training's are {by(wanted_mm)} mm: "
        remedy = "Mend the spacing in its header." if path else "Mend the spacing."
        if path and volume_io.ending(path) in PICTURE_ENDINGS:
            remedy = "Write its resolution into the file; predict is also told by --spacing 0.5um."
        raise VolumeError(f"{fact}it would become {by(becomes)} {pixels}.", where, remedy)
    raise VolumeError(
        f"{case} has {by(own)} {pixels}, which need {needed_gb:.3g} GB of memory at the least.",
        where,
        f"This machine has {_memory_gb():.3g} GB: cut it into parts, or take a larger one.",
    )


def by(lengths: Sequence[float]) -> str:
    """Lengths as a size: ``1.5 x 1.5``."""
    return " x ".join(f"{length:.4g}" if isinstance(length, float) else str(length) for length in lengths)


def _memory_gb() -> float:
    """Of this machine; without a limit where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return math.inf
