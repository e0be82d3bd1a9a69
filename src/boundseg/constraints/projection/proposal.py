"""What a projection returns, and how it becomes a label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.projection.problem import Linear

Hardening = Literal["argmax", "best"]


@dataclass(frozen=True)
class Proposal:
    """The distribution closest to a prediction among those that keep the bounds, and how well it is known.

    Attributes:
        probs: The proposal, in the logits' dtype (float32 at least); 1 for the class of each seed. No gradient.
        multipliers: One for each group and constraint: positive pushes a sum up to its lower bound, negative down to
            its upper one, 0 where nothing pushes; in 1 / (unit of the bound). ``-inf`` and ``inf``: the bound
            is at (or beyond) an end of what can be reached, and voxels are all or nothing.
        sizes: The constraints' sums, seeds included, in the unit of the bounds; of ``probs`` before these are rounded
            to their dtype.
        residual: The largest over the constraints of |violation| / max(1, |bound|) and, where a multiplier is not 0,
            of the distance to the bound that it belongs to, in the same measure.
        feasible: False where a bound cannot be kept, by itself or, as was proved, together with others. Then the
            proposal comes as close to that bound as can be, or, where several cannot be kept together, is
            where the solver stopped: such groups are better left out of training.
        iterations: Evaluations of all voxels that a group took.
        logits: What was projected, without gradient.
        asked: The bounds, and what they speak of.
    """

    probs: Float[Tensor, "B K *space"]
    multipliers: Float[Tensor, "G J"]
    sizes: Float[Tensor, "G J"]
    residual: Float[Tensor, " G"]
    feasible: Bool[Tensor, "G J"]
    iterations: Int[Tensor, " G"]
    logits: Float[Tensor, "B K *space"]
    asked: Linear

    @property
    def value(self) -> Float[Tensor, " G"]:
        r"""KL(Q ‖ S) in nats, summed over the voxels of each group that are no seeds: what was minimised.

        A pass over all voxels, made when it is asked for.
        """
        exact = self.asked.weight.dtype
        probs = self.probs.flatten(2).to(exact)
        log_probs = self.logits.flatten(2).to(exact).log_softmax(1)
        nats = (torch.special.xlogy(probs, probs) - probs * log_probs).sum(1)
        if self.asked.labels is not None:
            nats = nats * (self.asked.labels < 0)
        return self.asked.groups.add(nats.sum(1))

    def harden(self, how: Hardening = "argmax") -> Int[Tensor, "B *space"]:
        """A label map.

        ``argmax`` takes the most probable class of each voxel, as published; the bounds, kept by sums of
        probabilities, can be lost: a region of 100 voxels at 0.4 vanishes.

        ``best`` keeps the sizes. The classes that no region tells apart form a cell; its size in the proposal,
        rounded to voxels, is given to the voxels that prefer it most (by log-odds against the best cell that is left).
        For one region that is the most probable label map of that size: the V best voxels, of the whole volume where
        the bounds speak of volumes. For several it is greedy: the smallest cell chooses first, the largest
        gets what is left. A cell that is a region of its own is rounded to a size within its bounds, where one
        exists; a region of n cells can be n / 2 voxels off. Voxels of uneven weight are taken while that brings the
        sum closer. Within a cell each voxel takes its most probable class. Voxels without weight (padding) and seeds
        are left alone.

        Raises:
            ValueError: ``best`` with potentials: their sums are no sizes.
        """
        if how == "argmax":
            return self.probs.max(1).indices  # argmax along a middle axis takes ten times as long
        if self.asked.potentials is not None:
            raise ValueError("the best voxels are chosen by size, and constraints with potentials are none: use argmax")
        return _best(self.probs.flatten(2), self.asked).reshape(self.probs.shape[:1] + self.probs.shape[2:])


def measured(sizes: Tensor, multipliers: Tensor, bounds: Bounds) -> Float[Tensor, " G"]:
    """The residual: see :class:`Proposal`."""
    finite = multipliers.isfinite()
    by_lower, by_upper = (multipliers > 0) & finite, (multipliers < 0) & finite
    off_lower = _relative(sizes - bounds.lower, bounds.lower)
    off_upper = _relative(sizes - bounds.upper, bounds.upper)
    below = torch.where(by_lower, off_lower.abs(), (-off_lower).relu())
    above = torch.where(by_upper, off_upper.abs(), off_upper.relu())
    return torch.maximum(below, above).amax(1)


def _relative(difference: Tensor, bound: Tensor) -> Tensor:
    known = bound.isfinite()
    return (difference / bound.abs().clamp(min=1)).where(known, 0)


def _best(probs: Tensor, asked: Linear) -> Tensor:
    cells = asked.cells(probs.shape[1])
    tiny = torch.finfo(probs.dtype).tiny
    mass = torch.stack([probs[:, list(cell)].sum(1) for cell in cells], 1)
    # float64: a volume has more voxels than float32 can count
    exact = torch.float32 if probs.device.type == "mps" else torch.float64
    weight = asked.weight.to(exact).expand(-1, mass.shape[2])
    if asked.labels is not None:
        weight = weight * (asked.labels < 0)
    groups, index = asked.groups, asked.groups.index
    targets = groups.add((mass.to(exact) * weight.unsqueeze(1)).sum(2))
    targets = _within_bounds(
        targets, cells, asked, groups.add((weight > 0).to(exact).sum(1)), groups.add(weight.sum(1))
    )
    log_mass = mass.clamp(min=tiny).log()
    left = torch.ones_like(mass, dtype=torch.bool)
    chosen = mass.max(1).indices.where(weight <= 0, -1)
    order = targets.argsort(1)
    for rank in range(len(cells)):
        cell = order[:, rank]
        here = cell[index]
        own = log_mass.gather(1, here[:, None, None].expand(-1, 1, mass.shape[2]))[:, 0]
        left = left & (torch.arange(len(cells), device=here.device) != here[:, None])[:, :, None]
        others = log_mass.masked_fill(~left, -torch.inf).amax(1)
        waiting = chosen < 0
        take = waiting
        if rank < len(cells) - 1:
            target = targets.gather(1, cell[:, None])[:, 0]
            take = waiting & _first(own - others, weight * waiting, target, asked)
        chosen = torch.where(take, here[:, None], chosen)
    # within the chosen cell, its most probable class
    names = torch.empty_like(chosen)
    for number, cell_classes in enumerate(cells):
        within = probs[:, list(cell_classes)].max(1).indices
        classes = torch.tensor(cell_classes).to(chosen.device, non_blocking=True)
        names = torch.where(chosen == number, classes[within], names)
    # among voxels without weight, and at seeds, the plain argmax of the classes
    return torch.where(weight > 0, names, probs.max(1).indices)


def _first(score: Tensor, weight: Tensor, target: Tensor, asked: Linear) -> Tensor:
    """The voxels of the highest score whose weights add up to each group's target, to the nearest."""
    index = asked.groups.index
    group = index[:, None].expand_as(score).flatten()
    # weightless voxels last in their group, so that ties among real ones are theirs alone
    ranked = score.masked_fill(weight <= 0, -torch.inf).flatten()
    order = ranked.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    total = weight.flatten()[order].cumsum(0)
    per_group = asked.groups.add(weight.sum(1))
    before = (per_group.cumsum(0) - per_group)[group[order]]
    middle = total - before - weight.flatten()[order] / 2
    taken = torch.zeros_like(ranked, dtype=torch.bool)
    taken[order] = middle < target[group[order]]
    return taken.reshape(score.shape) & (weight > 0)


def _within_bounds(
    targets: Tensor, cells: tuple[tuple[int, ...], ...], asked: Linear, voxels: Tensor, total: Tensor
) -> Tensor:
    """Rounds the size of a cell that is a region by itself to whole voxels within its bounds, where there are any."""
    groups, index = asked.groups, asked.groups.index
    # where all voxels of a group weigh the same, sizes are whole multiples of that
    each = total / voxels.clamp(min=1)
    odd = (asked.weight > 0) & ((asked.weight - each[index, None]).abs() > 1e-6 * each[index, None])
    columns = list(targets.unbind(1))
    for j, region in enumerate(asked.regions):
        if tuple(sorted(region)) not in cells:
            continue
        c = cells.index(tuple(sorted(region)))
        gain = groups.mean(asked.per_voxel[:, j])
        uneven = odd.any(1) | ((asked.per_voxel[:, j] - gain[index]).abs() > 1e-6 * gain[index])
        even = groups.add(uneven.to(each.dtype)) == 0
        seeds = torch.zeros_like(each)
        if asked.labels is not None:
            inside = torch.stack([asked.labels == k for k in region]).any(0)
            seeds = groups.add((asked.weight * inside).sum(1))
        # a bound in float32 may lie a little beside a whole number
        lower = ((asked.bounds.lower[:, j] / gain - seeds) / each - 1e-4).ceil()
        upper = ((asked.bounds.upper[:, j] / gain - seeds) / each + 1e-4).floor()
        count = (columns[c] / each).round()
        whole = torch.minimum(torch.maximum(count, lower), upper) * each
        columns[c] = torch.where(even & (lower <= upper) & (voxels > 0), whole, columns[c])
    return torch.stack(columns, 1)
