"""The projection onto bounds, solved to optimality for a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.frame import Frame
from boundseg.constraints.groups import Groups
from boundseg.constraints.projection.one import solve_one
from boundseg.constraints.projection.problem import Borders, Cells, Linear, blocks, softmax_
from boundseg.constraints.projection.proposal import Proposal, measured
from boundseg.constraints.projection.several import solve_several

MASK = 1e30  # as good as infinity in a softmax, and 0 times it is 0


@torch.no_grad()
def project(
    logits: Float[Tensor, "B K *space"],
    bounds: Bounds,
    regions: Sequence[Sequence[int]],
    *,
    frame: Frame | None = None,
    groups: Groups | None = None,
    labels: Integer[Tensor, "B *space"] | None = None,
    ignore: int = 255,
    potentials: Float[Tensor, "J B *space"] | None = None,
    per_voxel: Float[Tensor, "..."] | None = None,
    max_iterations: int = 100,
    tolerance: float | None = None,
) -> Proposal:
    r"""The distribution closest to a prediction among those that keep linear bounds.

    .. math::
        \min_Q \operatorname{KL}(Q \,\|\, S) = \sum_p \sum_k Q_{pk} \log \frac{Q_{pk}}{S_{pk}}
        \quad \text{with} \quad a_j \le V_j(Q) = \sum_p f_{jp} \sum_{k \in R_j} Q_{pk} \le b_j,
        \quad f_{jp} = u_j w_p \phi_{jp}

    over one distribution per voxel, with S the softmax of the logits and the labelled voxels held at their class.
    The problem of Pathak et al., ICCV 2015; :func:`~boundseg.constraints.projection.ascend` is their way to solve it.

    **Dual.** Let :math:`\alpha_j \ge 0` belong to the lower bounds and :math:`\beta_j \ge 0` to the upper ones. The
    Lagrangian :math:`\operatorname{KL}(Q \| S) + \sum_j \alpha_j (a_j - V_j) + \beta_j (V_j - b_j)` falls apart
    into voxels. With :math:`\nu = \alpha - \beta`, its derivative :math:`\log (Q_{pk} / S_{pk}) + 1 - \sum_j \nu_j
    f_{jp} [k \in R_j]` is the same for all k of a voxel at

    .. math::
        Q_{pk} = \frac{S_{pk}}{Z_p} \exp \sum_j \nu_j f_{jp} [k \in R_j], \qquad
        Z_p(\nu) = \sum_k S_{pk} \exp \sum_j \nu_j f_{jp} [k \in R_j]

    and its value there is :math:`-\sum_p \log Z_p + \sum_j \alpha_j a_j - \beta_j b_j`. One of the two multipliers
    of a constraint is 0 at the optimum, because :math:`a_j \le b_j`: lowering both alike changes no Q and costs
    nothing. So the dual has one free number per constraint,

    .. math:: g(\nu) = \sum_j \left( a_j \nu_j^+ - b_j \nu_j^- \right) - \sum_p \log Z_p(\nu)

    which is concave: log-sum-exp is convex, and the slope of the first part falls from b to a. The gradient of the
    smooth part is :math:`-V_j`, its Hessian minus the covariance of the f under Q. At the maximum,
    :math:`V_j = a_j` where :math:`\nu_j > 0`, :math:`V_j = b_j` where :math:`\nu_j < 0`, and within the bounds where
    :math:`\nu_j = 0`; the value is the smallest KL.

    **How.** One constraint is one increasing function of one number, V(ν): a bracketed Newton on log-odds of the
    size, :mod:`~boundseg.constraints.projection.one`. Several: a Newton with a safeguarded step on g,
    :mod:`~boundseg.constraints.projection.several`. Both treat all groups at once; groups that are done stand
    still.
    Sums are in float64 where the device has it. Nothing is read by the host except, for several regions, whether logits
    are so far apart that their exponentials cannot be kept, and every fourth iteration whether all groups are done (the
    CPU, for which it is free, looks more often, and leaves out what is not needed then); compiled code reads nothing
    and makes all ``max_iterations``.

    **Borders.** A bound at the end of what can be reached, such as [0, 0], has its solution at
    :math:`\nu = \pm\infty`: the class is masked out, exactly. One beyond it gets the closest that can be had and is
    reported. So is a set of bounds that exclude each other, once a direction d proves it by
    :math:`\sum_j a_j d_j^+ - b_j d_j^- > \max_Q \sum_j d_j V_j(Q)`.

    Args:
        logits: Finite; two classes or more. No gradient is passed on.
        bounds: [G, J], a row per group and a column per region; an infinite side is unknown.
        regions: J tuples of class indices; classes may be in several of them or in none.
        frame: Where the voxels lie in their case (w; 0 in padding and in the halo). Left out, each counts once.
        groups: What belongs together: with all slices of a volume in one group, its bounds are on the volume.
        labels: Seeds: class indices, and ``ignore`` at free voxels.
        ignore: The label that says so; every other value must be a class.
        potentials: φ of each constraint, of any sign, broadcastable to ``[J, B, *space]``; left out, 1: sums are sizes
            in px of the case. :func:`~boundseg.constraints.projection.fractional_form` makes those of a mean.
        per_voxel: u > 0, broadcastable to ``[B, J]``: mL per voxel of the case, or ``1 / |Ω|`` for fractions.
        max_iterations: Evaluations of all voxels at most. A group that needs more is returned as it is; its
            residual tells.
        tolerance: Residual at which a group is done; left out, 1e-8, or 2e-6 where there is no float64.

    Raises:
        ValueError: A region that is empty, holds every class, or names one that is not there; bounds of another shape.
    """
    dtype = torch.float32 if logits.device.type == "mps" else torch.float64
    if tolerance is None:
        tolerance = 1e-8 if dtype == torch.float64 else 2e-6
    with torch.autocast(logits.device.type, enabled=False):
        asked = Linear.of(logits, bounds, regions, frame, groups, labels, ignore, potentials, per_voxel, dtype)
        flat = logits.flatten(2)
        cells = Cells.of(flat, asked)
        borders = Borders.of(cells)
        solve = solve_one if len(asked.regions) == 1 else solve_several
        found = solve(cells, borders, max_iterations, tolerance)
        probs = assemble(flat, cells, borders.allowed if len(asked.regions) > 1 else None, found.multipliers)
        multipliers = torch.where(borders.limit != 0, borders.limit, found.multipliers)
        sizes = found.sizes + cells.seeded
        return Proposal(
            probs.reshape(logits.shape),
            multipliers,
            sizes,
            measured(sizes, multipliers, asked.bounds),
            borders.feasible & ~found.excluded,
            found.iterations,
            logits.detach(),
            asked,
        )


def assemble(logits: Tensor, cells: Cells, allowed: Tensor | None, multipliers: Tensor) -> Tensor:
    """Q of every class, in the logits' dtype or float32.

    Args:
        logits: [B, K, P].
        cells: Of these.
        allowed: As in :class:`Borders`. None: one region, whose multiplier itself may be infinite.
        multipliers: [G, J].
    """
    dtype = logits.dtype if logits.dtype == torch.float64 else torch.float32
    own = multipliers[cells.asked.groups.index]
    if cells.shared:
        shift = _shift_of_classes(cells, allowed, own).unsqueeze(2)
    else:
        shift = _shift_of_voxels(cells, allowed, own, logits.shape[1])
    probs = torch.empty_like(logits, dtype=dtype)
    for part in blocks(probs):
        # as exact as the sums were: a logit of -300 that is lifted by 298 has no digits left in float32
        some = logits[:, :, part].to(cells.factor.dtype)
        if cells.shared:
            factor = cells.factor if cells.factor.shape[2] == 1 else cells.factor[:, :, part]
            some = torch.addcmul(some, shift, factor)
        else:
            some = some + shift[:, :, part]
        softmax_(some)
        probs[:, :, part] = some
    labels = cells.asked.labels
    if labels is None:
        return probs
    seeded = labels.unsqueeze(1) == torch.arange(probs.shape[1], device=labels.device)[:, None]
    return torch.where((labels < 0).unsqueeze(1), probs, seeded.to(dtype))


def _shift_of_classes(cells: Cells, allowed: Tensor | None, own: Tensor) -> Float[Tensor, "B K"]:
    """What is added to the logits of each class, times the factor that all constraints have in common."""
    member = cells.membership()
    finite = own.where(own.isfinite(), 0)
    shift = ((finite * cells.gain).unsqueeze(1) @ member).squeeze(1)
    if allowed is None:
        # a softmax has no use for +inf: the other cell is masked out instead
        forbidden = torch.where(member[0] > 0, own == -torch.inf, own == torch.inf)
    else:
        forbidden = ~allowed[:, :, 0]
    shift = shift.masked_fill(forbidden, -MASK)
    cell_of = {k: number for number, cell in enumerate(cells.classes) for k in cell}
    return shift[:, [cell_of[k] for k in range(len(cell_of))]]


def _shift_of_voxels(cells: Cells, allowed: Tensor | None, own: Tensor, classes: int) -> Float[Tensor, "B K P"]:
    """What is added to each logit, where every constraint weighs the voxels in its own way."""
    shifts: list[Tensor] = [cells.factor[:, 0]] * classes
    weighted = (cells.factor != 0).any(1)
    for number, (cell, held) in enumerate(zip(cells.classes, zip(*cells.member, strict=True), strict=True)):
        shift = torch.zeros_like(cells.factor[:, 0])
        for j, inside in enumerate(held):
            if inside:
                factor = cells.constraint_factor(j)
                # 0 times infinity: voxels without weight stay as they are
                shift = shift + torch.where(factor == 0, 0, own[:, j, None] * factor)
        if allowed is not None:
            shift = shift.masked_fill(~allowed[:, number] & weighted, -torch.inf)
        elif not held[0]:
            factor = cells.constraint_factor(0)
            raised = own[:, 0, None] * factor == torch.inf
            shift = torch.where(raised, -torch.inf, shift)
        for k in cell:
            shifts[k] = shift.masked_fill(shift == torch.inf, 0)
    return torch.stack(shifts, 1)
