"""The projection as its solvers see it: classes gathered into cells, seeds taken out, bounds in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.frame import Frame
from boundseg.constraints.groups import Groups

Regions = tuple[tuple[int, ...], ...]

CACHED = 2**18  # numbers: 2 MiB in float64; in smaller parts, calls cost more than they save


def fractional_form(
    potential: Float[Tensor, "B *space"], bounds: Bounds, groups: Groups | None = None
) -> tuple[Float[Tensor, "2 B *space"], Bounds]:
    r"""Bounds on the mean of a potential over a region, as two linear constraints on that region.

    .. math::
        a \le \frac{\sum_p w_p f_p Q_p}{\sum_p w_p Q_p} \le b \quad\Leftrightarrow\quad
        \sum_p w_p (f_p - a) Q_p \ge 0, \quad \sum_p w_p (f_p - b) Q_p \le 0

    They hold for an empty region too, which has no mean: bound its size from below as well where that matters.

    Args:
        potential: f, in any unit.
        bounds: Of the mean, [G], in the unit of the potential; an unknown side stays unknown.
        groups: What belongs together; left out, every image is by itself.

    Returns:
        Potentials of two constraints, and their bounds [G, 2]; both are of the same region, to be named twice.
    """
    sides = []
    for bound in (bounds.lower, bounds.upper):
        each = bound if groups is None else bound[groups.index]
        offset = each.reshape(-1, *([1] * (potential.ndim - 1)))
        sides.append((potential - offset).where(offset.isfinite(), 0))
    zero, infinite = torch.zeros_like(bounds.lower), torch.full_like(bounds.lower, torch.inf)
    lower = torch.stack([torch.where(bounds.lower.isfinite(), zero, -infinite), -infinite], 1)
    upper = torch.stack([infinite, torch.where(bounds.upper.isfinite(), zero, infinite)], 1)
    return torch.stack(sides), Bounds(lower, upper)


@dataclass(frozen=True)
class Linear:
    """What a projection is asked for: linear bounds, and what the voxels count.

    Attributes:
        regions: The bounded regions, one for each of the J constraints, each a tuple of class indices. They may
            share classes, hold one another, or be the same.
        bounds: [G, J].
        weight: [B, P] or [B, 1]: what a voxel counts; 0 in padding and in the halo.
        groups: What belongs together.
        labels: [B, P], class indices where seeds fix a voxel and -1 elsewhere; None without seeds.
        potentials: [B, J, P]; None where all are 1.
        per_voxel: [B, J]: a factor on each constraint's sum, such as mL per voxel.
    """

    regions: Regions
    bounds: Bounds
    weight: Tensor
    groups: Groups
    labels: Tensor | None
    potentials: Tensor | None
    per_voxel: Tensor

    @classmethod
    def of(
        cls,
        logits: Float[Tensor, "B K *space"],
        bounds: Bounds,
        regions: Sequence[Sequence[int]],
        frame: Frame | None,
        groups: Groups | None,
        labels: Integer[Tensor, "B *space"] | None,
        ignore: int,
        potentials: Float[Tensor, "J B *space"] | None,
        per_voxel: Float[Tensor, "..."] | None,
        dtype: torch.dtype,
    ) -> Linear:
        """Checks and flattens what callers give; sums will be formed in ``dtype``.

        Raises:
            ValueError: A region that is empty, is everything, repeats a class or names one that is not there; or
                bounds of another shape than groups and regions.
        """
        batch, classes, *space = logits.shape
        for region in regions:
            if len(set(region)) != len(region) or not 0 < len(region) < classes or not set(region) <= {*range(classes)}:
                raise ValueError(
                    f"the region {tuple(region)} of {classes} classes: name some of 0 to {classes - 1}, each once, "
                    "and not all of them"
                )
        groups = groups or Groups.each(batch, logits.device)
        expected = (len(groups.parts), len(regions))
        if tuple(bounds.lower.shape) != expected:
            found = list(bounds.lower.shape)
            raise ValueError(f"bounds of shape {found} for {expected[0]} groups and {expected[1]} regions")
        frame = frame or Frame.plain(batch, len(space), logits.device)
        weight = frame.weight.to(dtype)
        if any(frame.halo):
            owned = torch.zeros(1, *space, dtype=dtype, device=logits.device)
            frame.owned(owned).fill_(1)  # a view of what is not halo
            weight = weight * owned
        uniform = weight.shape[1:].numel() == 1
        weight = weight.reshape(-1, 1) if uniform else weight.expand(-1, *space).reshape(len(weight), -1)
        if labels is not None:
            labels = labels.reshape(batch, -1).long()
            labels = labels.where(labels != ignore, -1)
        if potentials is not None:
            potentials = potentials.to(dtype).expand(len(regions), batch, *space).flatten(2).transpose(0, 1)
        per_voxel = weight.new_ones(1, 1) if per_voxel is None else per_voxel.to(dtype)
        return cls(
            tuple(tuple(region) for region in regions),
            Bounds._like(bounds.lower.to(dtype), bounds.upper.to(dtype)),
            weight.expand(batch, -1),
            groups,
            labels,
            potentials,
            per_voxel.expand(batch, len(regions)),
        )

    def cells(self, classes: int) -> Regions:
        """Classes that lie in the same regions, together: no constraint tells them apart."""
        found: dict[tuple[bool, ...], list[int]] = {}
        for k in range(classes):
            found.setdefault(tuple(k in region for region in self.regions), []).append(k)
        return tuple(tuple(cell) for cell in found.values())


@dataclass(frozen=True)
class Cells:
    """The projection between cells instead of classes, seeds taken out.

    Attributes:
        asked: What it came from.
        classes: The classes of each of the C cells.
        member: [J][C]: whether a region holds a cell.
        logits: [B, C, P], of each cell; as they came where every class is a cell, else in the dtype of ``factor``.
        factor: [B, 1, P or 1] where every constraint weighs the voxels alike and none negatively, else [B, J, P];
            0 at seeds and in padding. The factor of a constraint is this times ``gain``.
        gain: [B, J].
        seeded: [G, J], what the seeds add to each sum.
        lower: [G, J], bounds on what the free voxels add.
        upper: [G, J].
    """

    asked: Linear
    classes: Regions
    member: tuple[tuple[bool, ...], ...]
    logits: Tensor
    factor: Tensor
    gain: Tensor
    seeded: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, logits: Float[Tensor, "B K P"], asked: Linear) -> Cells:
        """Gathers the classes of each cell by log-sum-exp, in the dtype of ``asked.weight``."""
        classes = asked.cells(logits.shape[1])
        factor, gain = asked.weight.unsqueeze(1), asked.per_voxel
        if asked.potentials is not None:
            factor, gain = factor * asked.potentials * gain.unsqueeze(2), torch.ones_like(gain)
        seeded = torch.zeros_like(asked.bounds.lower)
        if asked.labels is not None:
            of_class = _of_classes(asked.labels, factor, logits.shape[1])
            sums = [
                of_class[:, 0 if asked.potentials is None else j, list(r)].sum(1) for j, r in enumerate(asked.regions)
            ]
            seeded = asked.groups.add(torch.stack(sums, 1) * gain)
            factor = factor * (asked.labels < 0).unsqueeze(1)
        return cls(
            asked,
            classes,
            tuple(tuple(cell[0] in region for cell in classes) for region in asked.regions),
            _gathered(logits, classes, asked.weight.dtype),
            factor,
            gain,
            seeded,
            asked.bounds.lower - seeded,
            asked.bounds.upper - seeded,
        )

    @property
    def shared(self) -> bool:
        """Whether every constraint weighs the voxels alike."""
        return self.asked.potentials is None

    def constraint_factor(self, j: int) -> Float[Tensor, "B P"]:
        """What each free voxel adds to constraint j, in its region."""
        return self.factor[:, 0 if self.shared else j] * self.gain[:, j, None]

    def membership(self) -> Float[Tensor, "J C"]:
        """1 where a region holds a cell."""
        return torch.tensor(self.member, dtype=self.factor.dtype).to(self.factor.device, non_blocking=True)

    def add(self, sums: Tensor) -> Tensor:
        """Adds what the images of each group have."""
        return self.asked.groups.add(sums)


def _gathered(logits: Tensor, classes: Regions, dtype: torch.dtype) -> Tensor:
    if len(classes) == logits.shape[1]:  # numbered by first appearance: each class is the cell of its own number
        return logits
    gathered = logits.new_empty(len(logits), len(classes), logits.shape[2], dtype=dtype)
    for number, cell in enumerate(classes):
        gathered[:, number] = logits[:, cell[0]] if len(cell) == 1 else logits[:, list(cell)].to(dtype).logsumexp(1)
    return gathered


def blocks(x: Float[Tensor, "B C P"]) -> list[slice]:
    """Voxels in parts, so that what is made of them stays small; on other devices than a CPU all at once.

    A large temporary's memory, given back to the system and asked for anew, costs a CPU more than the arithmetic.
    """
    batch, classes, voxels = x.shape
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(0, voxels)]
    step = max(CACHED // max(batch * classes, 1), 2048)
    return [slice(first, first + step) for first in range(0, voxels, step)]


def softmax_(x: Float[Tensor, "B C P"]) -> Float[Tensor, "B 1 P"]:
    """Softmax of the second axis, in place; returns its log-sum-exp."""
    top = x.amax(1, keepdim=True)
    total = x.sub_(top).exp_().sum(1, keepdim=True)
    x.div_(total)
    return total.log_().add_(top)


def _of_classes(
    labels: Integer[Tensor, "B P"], factor: Float[Tensor, "B J #P"], classes: int
) -> Float[Tensor, "B J K"]:
    """What the seeds of each class add up to, by each constraint's factor."""
    seeds = labels.clamp(min=0).unsqueeze(1).expand(-1, factor.shape[1], -1)
    weight = (factor * (labels >= 0).unsqueeze(1)).expand_as(seeds)
    return factor.new_zeros(*seeds.shape[:2], classes).scatter_add(2, seeds, weight)


@dataclass(frozen=True)
class Borders:
    """What the bounds leave open, before anything is solved.

    Attributes:
        limit: [G, J]: -inf or inf where a bound lies on the border of what can be reached, or beyond; else 0.
        feasible: [G, J]: whether the bound can be reached at all, by itself and with the borders already met.
        allowed: [B, C, P or 1], cells left to the free voxels; at least one for each.
        lower: [G, J], bounds that are left to be solved for; unknown where ``limit`` says all.
        upper: [G, J].
    """

    limit: Tensor
    feasible: Tensor
    allowed: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, cells: Cells) -> Borders:
        r"""Looks at each constraint's range :math:`[\sum_p \min_c f_{pc}, \sum_p \max_c f_{pc}]` over the cells left.

        A bound at an end of its range is met by exactly the voxels that are all at that end: the other cells are
        forbidden there, and the ranges of the other constraints shrink. Two rounds are made; a border that shows only
        after them, or only for several constraints together, is approached by finite multipliers.
        """
        # without potentials all factors are >= 0, so that voxels can be added up first
        shared = cells.shared
        totals = cells.factor.sum(2, keepdim=True) * (cells.logits.shape[2] / cells.factor.shape[2])
        regions = len(cells.member)
        allowed = torch.ones_like(totals if shared else cells.factor[:, :1], dtype=torch.bool)
        allowed = allowed.expand(-1, len(cells.classes), -1)
        index = cells.asked.groups.index
        tolerance = 1e-12 if cells.factor.dtype == torch.float64 else 1e-6
        inside_of_all = Borders(
            torch.zeros_like(cells.lower),
            torch.ones_like(cells.lower, dtype=torch.bool),
            allowed,
            cells.lower,
            cells.upper,
        )
        if cells.lower.device.type == "cpu" and shared and not torch.compiler.is_compiling():
            # the usual case, and free to look at here
            most = cells.add(totals[:, :, 0] * cells.gain)
            slack = tolerance * (1 + most + cells.seeded.abs())
            if not bool(((cells.upper <= slack) | (cells.lower >= most - slack)).any()):
                return inside_of_all
        limits = list(torch.zeros_like(cells.lower).unbind(1))
        feasible = list(torch.ones_like(cells.lower, dtype=torch.bool).unbind(1))
        for _ in range(min(regions, 2)):
            for j, inside in enumerate(cells.member):
                factor = totals[:, 0] * cells.gain[:, j, None] if shared else cells.constraint_factor(j)
                within = [c for c, held in enumerate(inside) if held]
                without = [c for c, held in enumerate(inside) if not held]
                can_be_in, can_be_out = allowed[:, within].any(1), allowed[:, without].any(1)
                free = can_be_in & can_be_out
                fixed = factor.where(~can_be_out, 0)
                least = cells.add(torch.where(free, factor.clamp(max=0), fixed).sum(1))
                most = cells.add(torch.where(free, factor.clamp(min=0), fixed).sum(1))
                lower, upper = cells.lower[:, j], cells.upper[:, j]
                slack = tolerance * (1 + least.abs() + most.abs() + cells.seeded[:, j].abs())
                open_ = most - least > slack
                down, up = open_ & (upper <= least + slack), open_ & (lower >= most - slack)
                feasible[j] = feasible[j] & (lower <= most + slack) & (upper >= least - slack)
                limits[j] = limits[j].masked_fill(down, -torch.inf).masked_fill(up & ~down, torch.inf)
                down_here, up_here = down[index, None], (up & ~down)[index, None]
                positive, negative = factor > 0, factor < 0
                out = free & ((down_here & positive) | (up_here & negative))
                in_ = free & ((up_here & positive) | (down_here & negative))
                held = torch.tensor(inside).to(allowed.device, non_blocking=True).reshape(1, -1, 1)
                allowed = allowed & ~torch.where(held, out.unsqueeze(1), in_.unsqueeze(1))
        limit, reachable = torch.stack(limits, 1), torch.stack(feasible, 1)
        solve = (limit == 0) & reachable
        return cls(
            limit,
            reachable,
            allowed,
            cells.lower.where(solve, -torch.inf),
            cells.upper.where(solve, torch.inf),
        )
