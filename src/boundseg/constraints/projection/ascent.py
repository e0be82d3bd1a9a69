"""Proposals by projected gradient ascent, as Pathak et al. 2015 and the paper's authors computed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.frame import Frame
from boundseg.constraints.groups import Groups
from boundseg.constraints.projection.exact import assemble
from boundseg.constraints.projection.one import Margin
from boundseg.constraints.projection.problem import Borders, Cells, Linear
from boundseg.constraints.projection.proposal import Proposal, measured

Stop = Literal["never", "published", "both"]

PUBLISHED_STEP = 5e-5 * 256**2  # η times the pixels of the paper's grid


@torch.no_grad()
def ascend(
    logits: Float[Tensor, "B K *space"],
    bounds: Bounds,
    region: Sequence[int],
    *,
    frame: Frame | None = None,
    groups: Groups | None = None,
    labels: Integer[Tensor, "B *space"] | None = None,
    ignore: int = 255,
    stop: Stop = "never",
    absent_below_zero: bool = True,
    step: float | None = None,
    iterations: int = 500,
    moved: float = 1e-3,
) -> Proposal:
    r"""Gradient ascent on the dual of one bounded region, with a fixed step and a fixed number of iterations.

    :func:`~boundseg.constraints.projection.project` states the problem and derives its dual; here the two multipliers
    of the region are kept apart. With :math:`Q_{pR} = \sigma(x_p + (\beta_2 - \beta_1) w_p)`, x the log-odds of the
    region against all else, the derivatives of the dual are :math:`V_Q - b` and :math:`a - V_Q`:

    .. math::
        \beta_1 \leftarrow \max(0, \beta_1 + \eta (V_Q - b)), \qquad
        \beta_2 \leftarrow \max(0, \beta_2 + \eta (a - V_Q))

    Pathak et al., ICCV 2015, as Kervadec et al. 2019 ran it: η = 5e-5 and 500 iterations, from 0, with V in pixels of
    their 256 × 256 grid. Here too V and η count predicted voxels, whatever the bounds count. The dual's curvature is at
    most a quarter of their number, so that η may be ``8 / |Ω|`` at most (1.2e-4 at 256 × 256; less for a volume, over
    whose slices V is summed), and the way to a small V is long because the curvature vanishes there: for [0, 0] about
    1 / (η t) of V is left after t iterations. It is kept for comparison.

    The published early stop looks at :math:`\beta_1` alone: a group ends once that moves by no more than 0.1 %.
    Where V <= b at the start it stays 0, the group ends in the first iteration, and its lower bound is not enforced.
    ``both`` waits for both multipliers.

    The published code asks for -1 <= V <= 0 instead of 0 <= V <= 0 (``absent_below_zero``). As V > 0, neither lower
    bound ever pushes: the multipliers are the same.

    All groups are treated at once, in the logits' dtype (float32 at least); one that has ended stands still. Whether
    all have is read every tenth iteration. ``harden()`` of the result is the label map that training used.

    Args:
        logits: Two classes or more.
        bounds: [G, 1].
        region: The bounded class, or several as one.
        frame: As in :func:`~boundseg.constraints.projection.project`, as are ``groups``, ``labels``, ``ignore``.
        stop: ``never``, ``published`` (the first multiplier alone) or ``both``.
        absent_below_zero: See above.
        step: η, in 1 / px² of the predicted grid; None: the published one at 256 × 256, and as large a part of what
            η may be on other grids, ``3.28 / |Ω|``.
        iterations: At most.
        moved: Share of itself by which a multiplier that still moves does move.

    Returns:
        The multiplier of the proposal is :math:`\beta_2 - \beta_1`. A bound that cannot be reached is reported by
        ``feasible`` here too.
    """
    if stop not in get_args(Stop):
        raise ValueError(f"stop = {stop!r}: choose one of {', '.join(get_args(Stop))}")
    dtype = logits.dtype if logits.dtype == torch.float64 else torch.float32
    with torch.autocast(logits.device.type, enabled=False):
        if absent_below_zero:
            absent = (bounds.lower == 0) & (bounds.upper == 0)
            bounds = Bounds._like(bounds.lower.masked_fill(absent, -1.0), bounds.upper)
        asked = Linear.of(logits, bounds, [region], frame, groups, labels, ignore, None, None, dtype)
        flat = logits.flatten(2)
        cells = Cells.of(flat, asked)
        margin = Margin.of(cells)
        lower, upper = cells.lower[:, 0], cells.upper[:, 0]
        above, below = torch.zeros_like(lower), torch.zeros_like(lower)
        done = torch.zeros_like(lower, dtype=torch.bool)
        taken = torch.zeros_like(done, dtype=torch.long)
        size, _ = margin.sizes(below - above)
        rate = _rate(step, logits, frame, groups).to(dtype)
        for i in range(iterations):
            # an unknown side has an infinite slope away from it, and stays 0
            new_above = (above + rate * (size - upper)).clamp(min=0)
            new_below = (below + rate * (lower - size)).clamp(min=0)
            new_above, new_below = torch.where(done, above, new_above), torch.where(done, below, new_below)
            taken = taken + (~done).long()
            still = (new_above - above).abs() <= moved * above
            if stop == "both":
                still = still & ((new_below - below).abs() <= moved * below)
            above, below = new_above, new_below
            size, _ = margin.sizes(below - above)
            if stop != "never":
                done = done | still
                if i % 10 == 0 and not torch.compiler.is_compiling() and bool(done.all()):
                    break
        multipliers = (below - above).unsqueeze(1)
        sizes = (size + margin.offset).unsqueeze(1) + cells.seeded
        return Proposal(
            assemble(flat, cells, None, multipliers).reshape(logits.shape),
            multipliers,
            sizes,
            measured(sizes, multipliers, asked.bounds),
            Borders.of(cells).feasible,
            taken,
            logits.detach(),
            asked,
        )


def _rate(
    step: float | None, logits: Float[Tensor, "B K *space"], frame: Frame | None, groups: Groups | None
) -> Float[Tensor, " G"]:
    """η of each group, for sizes in voxels of the case: a multiplier is the larger, and a size the smaller, the fewer
    of these a predicted voxel is."""
    batch, _, *space = logits.shape
    frame = frame or Frame.plain(batch, len(space), logits.device)
    groups = groups or Groups.each(batch, logits.device)
    pixels = groups.add(logits.new_full((batch,), torch.Size(space).numel()))
    of_grid = PUBLISHED_STEP / pixels if step is None else torch.full_like(pixels, step)
    return of_grid / groups.mean(frame.voxels_per_voxel) ** 2
