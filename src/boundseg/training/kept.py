"""Whether a prediction keeps what is known of a case: a row for each slice or volume of which something is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from boundseg.asked.demands import Demand
from boundseg.constraints import Bounds, Frame, Groups, Term
from boundseg.evaluation.metrics import Row


def kept(
    demand: Demand,
    case: str,
    slices: int,
    numbers: Sequence[int],
    soft: Tensor,
    hard: Tensor,
    frame: Frame,
    pixels: int,
) -> list[Row]:
    """Whether a case's bounds are kept, to one predicted voxel; a row per slice or per volume.

    Args:
        demand: What is asked.
        case: Of whom.
        slices: How many the file has.
        numbers: Which of them were predicted.
        soft: The descriptor's sums of the probabilities, of each image that makes up the volume, or of each slice.
        hard: Those of the argmax.
        frame: Where these images (or slices) lie.
        pixels: Voxels of one of them.
    """
    constraint = demand.constraint
    per_volume = constraint.scope == "volume"
    count = len(soft)
    groups = Groups.by_name([case] * count, {case: count}) if per_volume else Groups.each(count)
    pairs = torch.from_numpy(demand.bounds(case, slices))
    if not per_volume:
        pairs = pairs[:, list(numbers)]
    bounds = Bounds(pairs[0].double(), pairs[1].double())
    of_soft, of_hard = (constraint.term(groups.add(s), bounds, frame, groups, pixels) for s in (soft, hard))
    return [
        {
            "case": case,
            "slice": "" if per_volume else numbers[g],
            "constraint": constraint.name,
            "known": bool(bounds.known[g].any()),
            "lower": float(bounds.lower[g].flatten()[worst]),
            "upper": float(bounds.upper[g].flatten()[worst]),
            "soft": _found(of_soft, g, worst),
            "hard": _found(of_hard, g, worst),
            "soft_kept": _all_kept(of_soft, bounds, g),
            "hard_kept": _all_kept(of_hard, bounds, g),
            "source": demand.source(case, None if per_volume else numbers[g]),
        }
        for g in range(len(bounds.lower))
        # of a value with components, such as the bands of a box, the row tells of the one that is missed most
        for worst in [int(of_hard.bounds.violation(of_hard.value)[g].abs().argmax())]
    ]


def _found(term: Term, g: int, component: int) -> float:
    """A value; NaN where it is undefined."""
    value = float(term.value[g].flatten()[component])
    return value if bool(term.defined[g].flatten()[component]) else math.nan


def _all_kept(term: Term, bounds: Bounds, g: int) -> bool:
    """Whether every known bound is kept; what is undefined keeps none."""
    return bool((term.satisfied[g] | ~bounds.known[g]).all() & bounds.known[g].any())
