"""Where training starts: the classes' expected shares of an image, from what is known about them.

A fresh network gives every class the same share. On 128 x 128 pixels the soft size of one foreground class is then
8,192 px, and the quadratic penalty of a bound of 700 px is fifty times the cross-entropy: training begins with a
push towards the background from which it recovers slowly. A network that starts at the expected share begins
near its bounds instead. (The same remedy as for rare objects in detection: Lin et al., ICCV 2017, section 4.1.)
"""

from __future__ import annotations

import numpy as np
import torch

from boundseg.constraints import Constraint, Frame, Size
from boundseg.data.batches import TaughtCase, frame_of
from boundseg.data.patches import CORNER, frame_of_patches, grid_of
from boundseg.training.supervision import Teaching

SMALLEST_SHARE = 1e-4  # a class that is nearly never there still has to be reachable


def expected_shares(teaching: Teaching, classes: int, ignore: int) -> list[float] | None:
    """Each class's expected share of a grid pixel, or None where nothing is known of any foreground class.

    A fully labelled case tells its shares. Elsewhere a bounded size stands for the geometric mean of its bounds: of
    [0.9 τ, 1.1 τ] that is τ, and of a tag's [1, |Ω|] the square root of |Ω|, small but not nothing. A class of which
    nothing is known takes the mean share of the known ones.
    """
    shares: list[list[float]] = [[] for _ in range(classes)]
    by_name = {constraint.name: constraint for constraint in teaching.constraints}
    for case in teaching.train:
        # a volume may be mostly padding between slices, of which nothing is known
        there = case.labels[(..., *case.prepared.placement.on_grid)] if case.is_volume else case.labels
        if (there != ignore).mean() > 0.5:
            for value in range(1, classes):
                shares[value].append(float((case.labels == value).mean()))
            continue
        for name, bounds in case.bounds.items():
            constraint = by_name[name]
            (region, *others), size = constraint.regions, constraint.descriptor
            if others or len(region) > 1 or not isinstance(size, Size) or not np.isfinite(bounds).all():
                continue
            frame, pixels = _image(case, constraint)
            expected = float(np.sqrt(bounds[0] * bounds[1]).mean()) / float(size.per_voxel(frame, pixels)[0]) / pixels
            # a fraction is one of the whole volume already
            of_slices = constraint.scope == "volume" and size.unit != "fraction"
            expected = expected / len(case.labels) if of_slices else expected
            if case.is_volume and constraint.scope == "slice":
                expected *= min(len(case) / case.labels.shape[-1], 1)  # padding holds nothing
            shares[region[0]].append(expected)
    known = [float(np.mean(s)) for s in shares[1:] if s]
    if not known:
        return None
    foreground = [float(np.mean(s)) if s else float(np.mean(known)) for s in shares[1:]]
    foreground = [min(max(share, SMALLEST_SHARE), 0.9 / (classes - 1)) for share in foreground]
    return [1 - sum(foreground), *foreground]


def _image(case: TaughtCase, constraint: Constraint) -> tuple[Frame, int]:
    """An image of which a constraint speaks and its voxels: a slice, or a volume where that is one image."""
    if not case.is_volume:
        return frame_of([case], [0]), int(np.prod(case.labels.shape[1:]))
    size = grid_of(case)
    frame = frame_of_patches([case], [CORNER], size)
    if constraint.scope == "slice":
        return frame.of_slices(), size[0] * size[1]
    return frame, size[0] * size[1] * size[2]


def start_at(bias: torch.nn.Parameter, shares: list[float]) -> None:
    """Sets the bias of the layer that makes the logits, so that zero features give these shares.

    Spare outputs, which stand for further kinds of background, divide the background's share with it.
    """
    spare = max(len(bias) - len(shares), 0)
    background = shares[0] / (1 + spare)
    shares = [background, *shares[1:], *[background] * spare]
    with torch.no_grad():
        logits = torch.tensor(shares, dtype=bias.dtype, device=bias.device).log()
        bias.copy_(logits[1:] - logits[0] if len(bias) == 1 else logits)
