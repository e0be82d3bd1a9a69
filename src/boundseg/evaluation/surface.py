"""Distances between the surfaces of two masks, in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool


@dataclass(frozen=True)
class SurfaceDistances:
    """HD95 and ASSD of one pair of masks; NaN where one of them is empty."""

    hd95_mm: float
    assd_mm: float


UNDEFINED = SurfaceDistances(math.nan, math.nan)


def surface_distances(
    prediction: Bool[np.ndarray, "*space"], target: Bool[np.ndarray, "*space"], spacing_mm: Sequence[float]
) -> SurfaceDistances:
    r"""The 95th percentile Hausdorff distance and the average symmetric surface distance.

    With :math:`d(p, T)` the distance of a surface voxel p of one mask to the nearest surface voxel of the other,

    .. math:: HD_{95} = \max(P_{95}\{d(p, T)\}, P_{95}\{d(t, P)\}), \qquad
              ASSD = \operatorname{mean}(\{d(p, T)\} \cup \{d(t, P)\})

    as MONAI computes them: a surface voxel is one that an erosion by the neighbours along the axes takes away,
    distances run between centres of voxels, percentiles interpolate linearly. Where a mask is empty both are
    undefined, NaN (MONAI: NaN or infinite).

    Args:
        prediction: 2D or 3D.
        target: On the same grid.
        spacing_mm: Size of a voxel along each axis of the arrays.
    """
    if not prediction.any() or not target.any():
        return UNDEFINED
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    box = _around(prediction | target)
    edges = get_mask_edges(prediction[box], target[box])
    there, back = (
        np.asarray(get_surface_distance(one, other, spacing=list(spacing_mm)), np.float64)
        for one, other in (edges, edges[::-1])
    )
    return SurfaceDistances(
        float(max(np.percentile(there, 95), np.percentile(back, 95))), float(np.concatenate([there, back]).mean())
    )


def _around(mask: Bool[np.ndarray, "*space"]) -> tuple[slice, ...]:
    """The box of a mask: all surfaces lie in it, and a distance transform costs what its box costs."""
    spans = [np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)]
    return tuple(slice(int(s[0]), int(s[-1]) + 1) for s in spans)
