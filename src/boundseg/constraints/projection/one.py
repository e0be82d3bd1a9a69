"""One bounded region: one number per group, found by a bracketed Newton."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from boundseg.constraints.projection.problem import Borders, Cells


@dataclass(frozen=True)
class Found:
    """What a solver hands back: multipliers and what the free voxels add to each sum, [G, J], and passes made, [G].

    ``excluded`` [G, J] marks constraints that were proved to exclude one another.
    """

    multipliers: Tensor
    sizes: Tensor
    excluded: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class Margin:
    r"""The region against all else: :math:`V(\nu) = \sum_p f_p \sigma(x_p + \nu f_p)`, all f >= 0.

    A voxel of negative factor is turned around, :math:`f \sigma(x + \nu f) = f + |f| \sigma(-x + \nu |f|)`, so that V
    rises from 0 to :math:`\sum f` and its log-odds exist.
    """

    log_odds: Tensor
    factor: Tensor
    offset: Tensor
    total: Tensor
    cells: Cells

    @classmethod
    def of(cls, cells: Cells) -> Margin:
        """Of cells that are two: in the region, and out of it."""
        factor = cells.constraint_factor(0)
        region = int(not cells.member[0][0])
        x = cells.logits[:, region].to(factor.dtype) - cells.logits[:, 1 - region]
        offset = torch.zeros_like(cells.lower[:, 0])
        if not cells.shared:
            offset = cells.add(factor.clamp(max=0).sum(1))
            x, factor = torch.where(factor < 0, -x, x), factor.abs()
        total = cells.add(factor.sum(1) * (x.shape[1] / factor.shape[1]))
        return cls(x, factor, offset, total, cells)

    def shifted(self, nu: Tensor) -> Tensor:
        """x + ν f, of every voxel."""
        return torch.addcmul(self.log_odds, nu[self.cells.asked.groups.index][:, None], self.factor)

    def sizes(self, nu: Tensor) -> tuple[Tensor, Tensor]:
        """V and its derivative, [G]."""
        q = self.shifted(nu).sigmoid_()
        if self.factor.shape[1] == 1:
            f = self.factor[:, 0]
            size, square = f * q.sum(1), f.square() * _dot(q, q)
            slope = f * size - square
        else:
            weighed = q.mul_(self.factor)
            size = weighed.sum(1)
            slope = _dot(weighed, self.factor) - _dot(weighed, weighed)
        return self.cells.add(size), self.cells.add(slope.clamp(min=0))


def solve_one(cells: Cells, borders: Borders, max_iterations: int, tolerance: float) -> Found:
    r"""Finds ν with :math:`V(\nu) = t`, t the bound that the prediction itself breaks; 0 where it breaks none.

    Newton works on log-odds, :math:`\log V / (\sum f - V)`: with one weight for all voxels and one prediction they
    are linear in ν, and far below or above, where V itself is exponential, they still are. The root lies between the
    least and the greatest :math:`(\operatorname{logit}(t / \sum f) - x_p) / f_p`. Each evaluation narrows that
    bracket, and where Newton would leave it, or was slower than halving, it is halved.
    """
    margin = Margin.of(cells)
    lower, upper = borders.lower[:, 0], borders.upper[:, 0]
    limit = borders.limit[:, 0]
    size, slope = margin.sizes(torch.zeros_like(lower))
    wanted = size + margin.offset
    target = torch.where(wanted < lower, lower, torch.where(wanted > upper, upper, wanted)) - margin.offset
    aim = torch.logit(target / margin.total)
    scale = tolerance * (target + margin.offset + cells.seeded[:, 0]).abs().clamp(min=1)
    done = ((size - target).abs() <= scale) | ~aim.isfinite()
    low, high = _bracket(margin, aim)
    nu = torch.zeros_like(aim)
    gap = torch.full_like(aim, torch.inf)
    iterations = torch.ones_like(done, dtype=torch.long)
    every = 1 if nu.device.type == "cpu" else 4
    for i in range(max_iterations - 1):
        if i % every == 0 and not torch.compiler.is_compiling() and bool(done.all()):
            break
        odds = torch.logit(size / margin.total)
        missing = aim - odds
        low, high = torch.where(missing > 0, nu, low), torch.where(missing < 0, nu, high)
        steepness = slope * margin.total / (size * (margin.total - size))
        step = nu + missing / steepness
        slow = missing.abs() > gap / 2
        gap = missing.abs()
        # a NaN fails both comparisons
        newton = (step > low) & (step < high) & ~slow
        step = torch.where(newton, step, (low + high) / 2)
        gap = torch.where(newton, gap, torch.inf)
        nu = torch.where(done, nu, step)
        iterations = iterations + (~done).long()
        new_size, new_slope = margin.sizes(nu)
        size, slope = torch.where(done, size, new_size), torch.where(done, slope, new_slope)
        done = done | ((size - target).abs() <= scale) | (high <= low)
    reached = torch.where(limit > 0, margin.total, torch.where(limit < 0, 0, size))
    return Found(
        torch.where(limit != 0, limit, nu).unsqueeze(1),
        (reached + margin.offset).unsqueeze(1),
        torch.zeros_like(borders.feasible),
        iterations,
    )


def _bracket(margin: Margin, aim: Tensor) -> tuple[Tensor, Tensor]:
    """Between which numbers the root lies: there, every voxel is beyond the share that is wanted on average."""
    index, groups = margin.cells.asked.groups.index, len(aim)
    if margin.factor.shape[1] == 1:
        # one factor for all voxels: the outermost log-odds decide
        ends = torch.stack([margin.log_odds.amax(1), margin.log_odds.amin(1)], 1)
        reach = (aim[index][:, None] - ends) / margin.factor
    else:
        reach = (aim[index][:, None] - margin.log_odds) / margin.factor
    counts = margin.factor > 0
    least = reach.masked_fill(~counts, torch.inf).amin(1)
    most = reach.masked_fill(~counts, -torch.inf).amax(1)
    start = torch.full((groups,), torch.inf, dtype=aim.dtype, device=aim.device)
    low = start.scatter_reduce(0, index, least, "amin")
    high = (-start).scatter_reduce(0, index, most, "amax")
    # one step of the rounding error to each side, and the prediction itself is one end
    room = 1e-9 * (1 + low.abs().where(low.isfinite(), 0) + high.abs().where(high.isfinite(), 0))
    return low - room, high + room


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Of the last axis, without a product of the full size."""
    return (left[:, None] @ right[:, :, None]).flatten()
