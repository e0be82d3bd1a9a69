"""Several constraints: Newton's method on the dual, safeguarded, for all groups at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.projection.one import Found
from boundseg.constraints.projection.problem import Borders, Cells, blocks, softmax_

SAMPLE = 17  # every 17th voxel tells about where the multipliers lie; no divisor of usual image widths
WORTH_SAMPLING = 8192  # voxels per image
ROUGH = 2e-2  # residual to which a sample is solved; it is no better than that itself
NEAR = 1e-3  # residual from which a Hessian serves two steps


@dataclass(frozen=True)
class Point:
    """The dual at some multipliers, of each group: minus its smooth part, gradient (the sizes), Hessian, support.

    ``support`` is the largest that :math:`\\sum_j \\nu_j V_j` can be for any Q.
    """

    smooth: Tensor
    sizes: Tensor
    hessian: Tensor
    support: Tensor

    def where(self, condition: Tensor, other: Point) -> Point:
        """This one where it holds, else the other."""
        return Point(
            torch.where(condition, self.smooth, other.smooth),
            torch.where(condition[:, None], self.sizes, other.sizes),
            torch.where(condition[:, None, None], self.hessian, other.hessian),
            torch.where(condition, self.support, other.support),
        )


@dataclass(frozen=True)
class Dual:
    """The smooth part of the dual, over all voxels, or over some of them that stand for all.

    Attributes:
        cells: What is asked.
        logits: [B, C, P], -inf where a cell is not allowed. Their exponentials, of all cells, where all voxels that
            count do so alike.
        factor: As in :class:`Cells`, of these voxels.
        possible: [B, C], cells that are allowed where all voxels are alike.
        member: [J, C].
        alike: Whether they do.
        voxels: How many voxels each of these stands for.
    """

    cells: Cells
    logits: Tensor
    factor: Tensor
    possible: Tensor
    member: Tensor
    alike: bool
    voxels: float = 1.0

    @classmethod
    def of(cls, cells: Cells, borders: Borders) -> Dual:
        """Over all voxels."""
        alike = cells.shared and cells.asked.weight.shape[1] == 1
        logits = _exponentials(cells.logits, cells.factor.dtype) if alike else None
        if logits is None:
            alike = False
            counts = (cells.factor != 0).any(1, keepdim=True)
            logits = cells.logits.to(cells.factor.dtype).masked_fill(~borders.allowed & counts, -torch.inf)
        return cls(cells, logits, cells.factor, borders.allowed[:, :, 0], cells.membership(), alike)

    def sampled(self) -> Dual:
        """Every so many voxels."""
        factor = self.factor if self.factor.shape[2] == 1 else self.factor[:, :, ::SAMPLE].contiguous()
        logits = self.logits[:, :, ::SAMPLE].contiguous()
        return replace(self, logits=logits, factor=factor, voxels=self.logits.shape[2] / logits.shape[2])

    def at(self, nu: Tensor, hessian: Tensor | None = None) -> Point:
        """What Newton needs to know of a point, [G, J]; its Hessian too, unless one from nearby is given instead."""
        own = nu[self.cells.asked.groups.index]
        measure = self._shared if self.cells.shared else self._apart
        *sums, curvature = measure(own, hessian is None)
        smooth, sizes, support = (self._total(x) for x in sums)
        return Point(smooth, sizes, self._total(curvature) if hessian is None else hessian, support)

    def _total(self, sums: Tensor) -> Tensor:
        return self.cells.add(sums) * self.voxels

    def _shared(self, own: Tensor, curved: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Smooth part, sizes, support and, where wanted, Hessian of each image; every constraint weighs alike."""
        gains = self.cells.gain[:, :, None] * self.member
        shift = (own[:, None] @ gains).squeeze(1).where(self.possible, -torch.inf)
        total = self.factor[:, 0].sum(1) * (self.logits.shape[2] / self.factor.shape[2])
        support = (total * shift.amax(1)).masked_fill(total == 0, 0)
        mass, products, smooth = self._alike(shift, curved) if self.alike else self._weighed(shift, curved)
        sizes = (gains @ mass).squeeze(2)
        return smooth, sizes, support, gains @ _laplacian(products) @ gains.mT if curved else sizes

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and factor of some of the voxels at a time."""
        for part in blocks(self.logits):
            yield self.logits[:, :, part], self.factor if self.factor.shape[2] == 1 else self.factor[:, :, part]

    def _weighed(self, shift: Tensor, curved: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of w Q, of its products, and of log Z, where weights vary from voxel to voxel."""
        shift = shift.masked_fill(shift == -torch.inf, 0)[:, :, None]
        mass, products = torch.zeros_like(shift), torch.zeros_like(shift * shift.mT)
        smooth = torch.zeros_like(shift[:, 0, 0])
        for logits, factor in self._parts():
            q = torch.addcmul(logits, shift, factor)
            smooth = smooth + softmax_(q).sum((1, 2))
            weighed = q.mul_(factor)
            mass = mass + weighed.sum(2, keepdim=True)
            if curved:
                products = products + weighed @ weighed.mT
        return mass, products, smooth

    def _alike(self, shift: Tensor, curved: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The same where all voxels that count do so alike: exponentials are taken once, and rescaled here."""
        shift = shift * self.factor.amax(2).clamp(min=torch.finfo(shift.dtype).tiny)
        top = shift.amax(1, keepdim=True)
        # the square of 1 / scale must be finite, and its sum over an image
        scale = (shift - top).clamp(min=-0.4 * _largest(shift)).exp().masked_fill(~self.possible, 0)[:, :, None]
        mass, products = torch.zeros_like(scale), torch.zeros_like(scale * scale.mT)
        number = (self.factor > 0).sum((1, 2)) * (self.logits.shape[2] / self.factor.shape[2])
        smooth = top[:, 0] * number
        for shares, factor in self._parts():
            total = scale.mT @ shares
            smooth = smooth + (total.log() * (factor > 0)).sum((1, 2))
            ratio = factor / total
            mass = mass + shares @ ratio.mT
            if curved:
                weighed = shares * ratio
                products = products + weighed @ weighed.mT
        return mass * scale, products * scale * scale.mT, smooth

    def _apart(self, own: Tensor, curved: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same, where every constraint weighs the voxels in its own way."""
        factor = self.factor
        shift = torch.einsum("jc,bjp->bcp", self.member, own[:, :, None] * factor)
        support = shift.masked_fill(self.logits == -torch.inf, -torch.inf).amax(1).sum(1)
        q = self.logits + shift
        smooth = softmax_(q).sum((1, 2))
        sizes = torch.einsum("jc,bcp,bjp->bj", self.member, q, factor)
        hessian = torch.zeros(*sizes.shape, sizes.shape[1], dtype=q.dtype, device=q.device)
        for first in range(q.shape[1] if curved else 0):
            for second in range(first):
                apart = (self.member[:, first] - self.member[:, second])[:, None] * factor
                hessian = hessian + (apart * (q[:, first] * q[:, second])[:, None]) @ apart.mT
        return smooth, sizes, support, hessian


def solve_several(cells: Cells, borders: Borders, max_iterations: int, tolerance: float) -> Found:
    """Maximises the dual. On large images it starts from where a sample of the voxels has its maximum."""
    bounds = Bounds._like(borders.lower, borders.upper)
    full = Dual.of(cells, borders)
    start, hessian = torch.zeros_like(borders.lower), None
    if full.logits.shape[2] >= WORTH_SAMPLING:
        guess = _newton(full.sampled(), bounds, start, None, min(max_iterations, 12), ROUGH)
        if _may_look(start) and bool((guess.residual <= ROUGH).all()):
            hessian = guess.here.hessian
        # a sample may have no maximum, or one far away
        reach = _reach(cells)
        bounded = (guess.nu * reach).clamp(-30, 30) / reach.clamp(min=torch.finfo(reach.dtype).tiny)
        start = bounded.where(bounded.isfinite(), start)
    found = _newton(full, bounds, start, hessian, max_iterations, tolerance)
    largest = found.nu.abs().amax(1, keepdim=True)
    excluded = found.proved[:, None] & (found.nu.abs() > 1e-3 * largest)
    return Found(found.nu, found.here.sizes, excluded, found.iterations)


@dataclass(frozen=True)
class Sides:
    """What the free voxels are to add up to, and how much it counts to be off, [G, J]."""

    bounds: Bounds
    per_lower: Tensor
    per_upper: Tensor

    @classmethod
    def of(cls, bounds: Bounds, seeded: Tensor) -> Sides:
        """Of bounds less what seeds add; distances are relative to the bounds with it."""
        lower, upper = (1 / (side + seeded).abs().clamp(min=1) for side in (bounds.lower, bounds.upper))
        return cls(bounds, lower.masked_fill(lower == 0, 1), upper.masked_fill(upper == 0, 1))

    def residual(self, sizes: Tensor, nu: Tensor) -> Tensor:
        """Of a proposal: see :class:`~boundseg.constraints.projection.Proposal`."""
        low = (self.bounds.lower - sizes) * self.per_lower
        high = (sizes - self.bounds.upper) * self.per_upper
        low, high = torch.where(nu > 0, low.abs(), low), torch.where(nu < 0, high.abs(), high)
        return torch.maximum(low, high).amax(1).clamp(min=0)


@dataclass(frozen=True)
class State:
    """Where Newton's method came to: multipliers, the dual there, its residual, exclusion proved, evaluations."""

    nu: Tensor
    here: Point
    residual: Tensor
    proved: Tensor
    iterations: Tensor


def _newton(
    dual: Dual, bounds: Bounds, start: Tensor, hessian: Tensor | None, max_iterations: int, tolerance: float
) -> State:
    """Proximal Newton: a direction from the quadratic model, a length within a radius, a test of what was gained.

    Near the end the Hessian of one point serves the next as well, where most often no step is needed any more. The host
    decides that, so that it is left out where the host does not look.
    """
    cells = dual.cells
    reach = _reach(cells)
    eye = torch.eye(start.shape[1], dtype=start.dtype, device=start.device)
    # float32, on devices that have no more, cannot tell smaller gains
    digits = 1e-14 if start.dtype == torch.float64 else 1e-6
    sides = Sides.of(bounds, cells.seeded)
    nu, here, price = start, dual.at(start, hessian), _price(start, bounds)
    radius = torch.full_like(nu[:, 0], 4.0)
    proved = torch.zeros_like(radius, dtype=torch.bool)
    residual = sides.residual(here.sizes, nu)
    done = residual <= tolerance
    iterations = torch.ones_like(done, dtype=torch.long)
    every = 1 if nu.device.type == "cpu" else 4
    for i in range(max_iterations - 1):
        if i % every == 0 and not torch.compiler.is_compiling() and bool(done.all()):
            break
        direction, promised = _direction(here, nu, price, bounds, eye)
        length = (direction.abs() * reach).sum(1)
        step = (radius / length).clamp(max=1).where(length > 0, 1)
        trial = nu + step[:, None] * direction
        near = hessian is None and _may_look(nu) and bool((done | (residual <= NEAR)).all())
        hessian = here.hessian if near else None
        there = dual.at(trial, hessian)
        iterations = iterations + (~done).long()
        priced = _price(trial, bounds)
        before, after = here.smooth + price, there.smooth + priced
        noise = digits * (before.abs() + here.smooth.abs() + 1)
        better = (after <= before + 1e-4 * step * promised + noise) & ~done
        # still downhill at the end of the step: it could have been longer
        downhill = (there.sizes * direction).sum(1) + _price_slope(trial, direction, bounds) <= 0
        grown = torch.where(downhill, 4 * step * length, step * length / 2)
        radius = torch.where(better, torch.where(step < 1, grown, radius), step * length / 4)
        nu, price = torch.where(better[:, None], trial, nu), torch.where(better, priced, price)
        here = there.where(better, here)
        gained = -price - here.support
        proved = proved | (gained > 1e5 * digits * (1 + here.support.abs()))
        residual = sides.residual(here.sizes, nu)
        done = done | proved | (residual <= tolerance)
    return State(nu, here, residual, proved, iterations)


def _may_look(x: Tensor) -> bool:
    """Whether the host may look at numbers: on the CPU they are there already."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _laplacian(products: Tensor) -> Tensor:
    """Covariance of shares that add up to 1, from their products: never indefinite, exact where it almost vanishes."""
    apart = products - torch.diag_embed(products.diagonal(dim1=1, dim2=2))
    return torch.diag_embed(apart.sum(2)) - apart


def _direction(here: Point, nu: Tensor, price: Tensor, bounds: Bounds, eye: Tensor) -> tuple[Tensor, Tensor]:
    """To the minimum of the quadratic model, and what the model without its curvature promises (negative).

    An active set finds which multipliers are above, below or at 0 there. Each round solves for those that are not at
    0 and goes there, or to where the first of them becomes 0; when none does, the one that is pulled away from 0
    most is let go. The model falls in every round, so that the last one leaves a descent, converged or not.
    Should rounding have left none, each coordinate moves by itself, in a model that lies above the true one.
    """
    diagonal = here.hessian.diagonal(dim1=1, dim2=2)
    tiny = torch.finfo(nu.dtype).tiny
    floor = (1e-10 * diagonal.amax(1, keepdim=True)).clamp(min=tiny**0.5)
    alone = floor[:, :, None] * eye
    curved, whole = here.hessian + alone, torch.ones_like(nu)
    side = torch.where(nu == 0, _pull(here.sizes, bounds).sign(), nu.sign())
    at = nu
    for _ in range(len(eye) + 4):
        fixed = side == 0
        goal = torch.where(side > 0, bounds.lower, bounds.upper)
        # those that are fixed go to 0
        from_fixed = (curved @ nu.masked_fill(~fixed, 0)[:, :, None]).squeeze(2)
        right = (goal - here.sizes + from_fixed).masked_fill(fixed, 0)
        system = torch.where(fixed[:, :, None] | fixed[:, None, :], alone, curved)
        end = (nu + torch.linalg.solve_ex(system, right)[0]).masked_fill(fixed, 0)
        share = torch.where(end * side < 0, at / (at - end), whole)
        least = share.amin(1, keepdim=True)
        reached = least == 1
        blocked = ~(fixed | reached) & (share <= least)
        at = torch.lerp(at, end, least).masked_fill(blocked, 0)
        pull = _pull(here.sizes + (curved @ (at - nu)[:, :, None]).squeeze(2), bounds).masked_fill(~fixed, 0)
        strength = pull.abs()
        let_go = reached & (strength > 0) & (strength >= strength.amax(1, keepdim=True))
        settled = reached & ~let_go.any(1, keepdim=True)
        side = torch.where(let_go, pull.sign(), side.masked_fill(blocked, 0))
        if _may_look(nu) and bool(settled.all()):
            break
    newton = at - nu
    promised = _promised(here, nu, newton, price, bounds)
    good = (promised < 0) & newton.isfinite().all(1)
    if _may_look(nu) and bool(good.all()):
        return newton, promised
    rows = here.hessian.abs().sum(2).clamp(min=tiny**0.5) + floor
    up, down = nu - (here.sizes - bounds.lower) / rows, nu - (here.sizes - bounds.upper) / rows
    single = torch.where(up > 0, up, torch.where(down < 0, down, 0)) - nu
    fallback = _promised(here, nu, single, price, bounds)
    return torch.where(good[:, None], newton, single), torch.where(good, promised, fallback)


def _promised(here: Point, nu: Tensor, move: Tensor, price: Tensor, bounds: Bounds) -> Tensor:
    return (here.sizes * move).sum(1) + _price(nu + move, bounds) - price


def _pull(sizes: Tensor, bounds: Bounds) -> Tensor:
    """How a multiplier of 0 is pulled: up where a size is too small, down where it is too large."""
    return (bounds.lower - sizes).relu() - (sizes - bounds.upper).relu()


def _price(nu: Tensor, bounds: Bounds) -> Tensor:
    """The part of the dual that is no sum over voxels, negated: -a ν⁺ + b ν⁻."""
    # 0 times an unknown side, which is infinite, is no number
    return -(torch.where(nu > 0, bounds.lower, bounds.upper) * nu).nansum(1)


def _price_slope(nu: Tensor, direction: Tensor, bounds: Bounds) -> Tensor:
    """Its derivative along a direction."""
    side = torch.where(nu == 0, direction, nu)
    return -(torch.where(side > 0, bounds.lower, bounds.upper) * direction).nansum(1)


def _reach(cells: Cells) -> Tensor:
    """The largest factor of each group and constraint: how far a unit of its multiplier moves a logit."""
    largest = cells.factor.abs().amax(2) * cells.gain.abs()
    start = torch.zeros_like(cells.lower)
    return start.scatter_reduce(0, cells.asked.groups.index[:, None].expand_as(largest), largest, "amax")


def _exponentials(logits: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Of logits less the largest of each voxel; None where one is so small that a product would leave what is finite,
    and in compiled code, which cannot look."""
    if torch.compiler.is_compiling():
        return None
    found = torch.empty_like(logits, dtype=dtype)
    for part in blocks(logits):
        of_part, some = found[:, :, part], logits[:, :, part]
        of_part.copy_(some).sub_(some.amax(1, keepdim=True))
        if bool((of_part < -0.35 * _largest(found)).any()):
            return None
        of_part.exp_()
    return found


def _largest(x: Tensor) -> float:
    """Of which number the exponential is just finite."""
    return math.log(torch.finfo(x.dtype).max)
