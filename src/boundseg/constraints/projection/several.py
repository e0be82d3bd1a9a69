"""Several constraints: Newton's method on the dual, safeguarded, for all groups at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.projection.one import Found
from boundseg.constraints.projection.problem import Borders, Cells
from boundseg.constraints.projection.proposal import measured

SAMPLE = 17  # every 17th voxel tells about where the multipliers lie; no divisor of usual image widths
WORTH_SAMPLING = 8192  # voxels per image


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
        logits: [B, C, P], -inf where a cell is not allowed; also in less than the working precision. Their exponentials
            where all voxels that count do so alike.
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

    def sampled(self) -> Dual:
        """Every so many voxels."""
        factor = self.factor if self.factor.shape[2] == 1 else self.factor[:, :, ::SAMPLE].contiguous()
        logits = self.logits[:, :, ::SAMPLE].contiguous()
        return replace(self, logits=logits, factor=factor, voxels=self.logits.shape[2] / logits.shape[2])

    def rough(self) -> Dual:
        """In float32."""
        return replace(self, logits=self.logits.float(), factor=self.factor.float(), member=self.member.float())

    def at(self, nu: Tensor) -> Point:
        """What Newton needs to know of a point, [G, J]."""
        cells, factor = self.cells, self.factor
        own = nu[cells.asked.groups.index].to(factor.dtype)
        if cells.shared:
            gains = cells.gain.to(factor.dtype)[:, :, None] * self.member
            shift = (own[:, None] @ gains).squeeze(1).where(self.possible, -torch.inf)
            total = factor[:, 0].sum(1) * (self.logits.shape[2] / factor.shape[2])
            support = torch.where(total > 0, total * shift.amax(1), 0)
            mass, products, smooth = self._alike(shift) if self.alike else self._weighed(shift)
            sizes = (gains @ mass[:, :, None]).squeeze(2)
            hessian = gains @ _laplacian(products) @ gains.mT
        else:
            shift = torch.einsum("jc,bjp->bcp", self.member, own[:, :, None] * factor)
            support = shift.masked_fill(self.logits == -torch.inf, -torch.inf).amax(1).sum(1)
            q, smooth = _softmax(self.logits + shift)
            sizes = torch.einsum("jc,bcp,bjp->bj", self.member, q, factor)
            hessian = torch.zeros(*sizes.shape, sizes.shape[1], dtype=q.dtype, device=q.device)
            for first in range(q.shape[1]):
                for second in range(first):
                    apart = (self.member[:, first] - self.member[:, second])[:, None] * factor
                    hessian = hessian + (apart * (q[:, first] * q[:, second])[:, None]) @ apart.mT
        smooth, sizes, hessian, support = (
            cells.add(x.to(nu.dtype)) * self.voxels for x in (smooth, sizes, hessian, support)
        )
        return Point(smooth, sizes, hessian, support)

    def _weighed(self, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of w Q, of its products, and of log Z, where weights vary from voxel to voxel."""
        shift = shift.masked_fill(shift == -torch.inf, 0)
        q, smooth = _softmax(torch.addcmul(self.logits, shift[:, :, None], self.factor))
        weighed = q.mul_(self.factor)
        return weighed.sum(2), weighed @ weighed.mT, smooth

    def _alike(self, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same where all voxels that count do so alike: exponentials are taken once, and rescaled here."""
        weight = self.factor.amax(2)
        shift = shift * weight.clamp(min=torch.finfo(weight.dtype).tiny)
        top = shift.amax(1, keepdim=True)
        # the square of 1 / scale must be finite, and its sum over an image
        scale = (shift - top).clamp(min=-0.4 * _largest(shift)).exp()
        total = scale[:, None] @ self.logits
        counts = self.factor > 0
        number = counts.sum((1, 2)) * (total.shape[2] / counts.shape[2])
        smooth = (total.log() * counts).sum((1, 2)) + top[:, 0] * number
        weighed = self.logits * (self.factor / total)
        products = (weighed @ weighed.mT) * scale[:, :, None] * scale[:, None]
        # shares add up to 1, so that the products of a cell with all of them are its weight times itself
        return products.sum(2) / weight.clamp(min=torch.finfo(weight.dtype).tiny), products, smooth


def solve_several(cells: Cells, borders: Borders, max_iterations: int, tolerance: float) -> Found:
    """Maximises the dual. On large images it starts from where a sample of the voxels has its maximum, and float32."""
    bounds = Bounds._like(borders.lower, borders.upper)
    start = torch.zeros_like(borders.lower)
    member = cells.membership()
    counts = (cells.factor != 0).any(1, keepdim=True)
    logits = torch.stack(cells.rows, 1).masked_fill_(~borders.allowed & counts, -torch.inf)
    alike = cells.shared and cells.asked.weight.shape[1] == 1
    if alike:
        forbidden = logits == -torch.inf
        logits = (
            logits.sub_(logits.amax(1, keepdim=True))
            .clamp_(min=-0.35 * _largest(logits))
            .exp_()
            .masked_fill_(forbidden, 0)
        )
    full = Dual(cells, logits, cells.factor, borders.allowed[:, :, 0], member, alike)
    if full.logits.shape[2] >= WORTH_SAMPLING:
        reach = _reach(cells)
        rough = full.rough()
        for dual, enough in ((rough.sampled(), 1e-3), (rough, 1e-4)):
            guess = _newton(dual, bounds, start, min(max_iterations, 12), enough).multipliers
            # a sample may have no maximum: not further than what float32 tells apart
            bounded = (guess * reach).clamp(-30, 30) / reach.clamp(min=torch.finfo(reach.dtype).tiny)
            start = bounded.where(bounded.isfinite(), start)
    return _newton(full, bounds, start, max_iterations, tolerance)


def _newton(dual: Dual, bounds: Bounds, start: Tensor, max_iterations: int, tolerance: float) -> Found:
    """Proximal Newton: a direction from the quadratic model, a length within a radius, a test of what was gained."""
    cells = dual.cells
    reach = _reach(cells)
    eye = torch.eye(start.shape[1], dtype=start.dtype, device=start.device)
    # float32 cannot tell smaller gains
    digits = 1e-14 if dual.logits.dtype == torch.float64 else 1e-6
    nu, here = start, dual.at(start)
    radius = torch.full_like(nu[:, 0], 4.0)
    proved = torch.zeros_like(radius, dtype=torch.bool)
    done = _residual(here, nu, bounds, cells) <= tolerance
    iterations = torch.ones_like(done, dtype=torch.long)
    every = 1 if nu.device.type == "cpu" else 4
    for i in range(max_iterations - 1):
        if i % every == 0 and not torch.compiler.is_compiling() and bool(done.all()):
            break
        direction, promised = _direction(here, nu, bounds, eye)
        length = (direction.abs() * reach).sum(1)
        step = (radius / length).clamp(max=1).where(length > 0, 1)
        trial = nu + step[:, None] * direction
        there = dual.at(trial)
        iterations = iterations + (~done).long()
        before, after = here.smooth + _price(nu, bounds), there.smooth + _price(trial, bounds)
        noise = digits * (before.abs() + here.smooth.abs() + 1)
        better = (after <= before + 1e-4 * step * promised + noise) & ~done
        # still downhill at the end of the step: it could have been longer
        downhill = (there.sizes * direction).sum(1) + _price_slope(trial, direction, bounds) <= 0
        grown = torch.where(downhill, 4 * step * length, step * length / 2)
        radius = torch.where(better, torch.where(step < 1, grown, radius), step * length / 4)
        nu = torch.where(better[:, None], trial, nu)
        here = there.where(better, here)
        gained = -_price(nu, bounds) - here.support
        proved = proved | (gained > 1e5 * digits * (1 + here.support.abs()))
        done = done | proved | (_residual(here, nu, bounds, cells) <= tolerance)
    largest = nu.abs().amax(1, keepdim=True)
    excluded = proved[:, None] & (nu.abs() > 1e-3 * largest)
    return Found(nu, here.sizes, excluded, iterations)


def _laplacian(products: Tensor) -> Tensor:
    """Covariance of shares that add up to 1, from their products: never indefinite, exact where it almost vanishes."""
    apart = products - torch.diag_embed(products.diagonal(dim1=1, dim2=2))
    return torch.diag_embed(apart.sum(2)) - apart


def _direction(here: Point, nu: Tensor, bounds: Bounds, eye: Tensor) -> tuple[Tensor, Tensor]:
    """To the minimum of the quadratic model, and what the model without its curvature promises (negative).

    An active set finds which multipliers are above, below or at 0 there. Each round solves for those that are not at
    0 and goes there, or to where the first of them becomes 0; when none does, the one that is pulled away from 0
    most is let go. The model falls in every round, so that the last one leaves a descent, converged or not.
    Should rounding have left none, each coordinate moves by itself, in a model that lies above the true one.
    """
    diagonal = here.hessian.diagonal(dim1=1, dim2=2)
    tiny = torch.finfo(nu.dtype).tiny
    floor = (1e-10 * diagonal.amax(1, keepdim=True)).clamp(min=tiny**0.5)
    curved = here.hessian + floor[:, :, None] * eye
    side = torch.where(nu == 0, _pull(here.sizes, bounds).sign(), nu.sign())
    at = nu
    for _ in range(len(eye) + 4):
        free = side != 0
        goal = torch.where(side > 0, bounds.lower, bounds.upper).where(free, 0)
        fixed = (-nu).where(~free, 0)
        right = torch.where(free, goal - here.sizes - (curved @ fixed[:, :, None]).squeeze(2), 0)
        both = free[:, :, None] & free[:, None, :]
        system = torch.where(both, curved, floor[:, :, None] * eye)
        end = torch.where(free, nu + torch.linalg.solve_ex(system, right)[0], 0)
        share = torch.where(end * side < 0, at / (at - end), 1)
        least = share.amin(1, keepdim=True)
        blocked = free & (share <= least) & (least < 1)
        at = torch.where(blocked, 0, torch.lerp(at, end, least))
        pull = _pull(here.sizes + (curved @ (at - nu)[:, :, None]).squeeze(2), bounds).masked_fill(free, 0)
        strength = pull.abs()
        let_go = (least == 1) & (strength > 0) & (strength >= strength.amax(1, keepdim=True))
        settled = (least == 1) & ~let_go.any(1, keepdim=True)
        side = torch.where(let_go, pull.sign(), side.masked_fill(blocked, 0))
        if nu.device.type == "cpu" and not torch.compiler.is_compiling() and bool(settled.all()):
            break
    newton = at - nu
    rows = here.hessian.abs().sum(2).clamp(min=tiny**0.5) + floor
    up, down = nu - (here.sizes - bounds.lower) / rows, nu - (here.sizes - bounds.upper) / rows
    single = torch.where(up > 0, up, torch.where(down < 0, down, 0)) - nu
    promised = _promised(here, nu, newton, bounds)
    fallback = _promised(here, nu, single, bounds)
    good = (promised < 0) & newton.isfinite().all(1)
    return torch.where(good[:, None], newton, single), torch.where(good, promised, fallback)


def _promised(here: Point, nu: Tensor, move: Tensor, bounds: Bounds) -> Tensor:
    return (here.sizes * move).sum(1) + _price(nu + move, bounds) - _price(nu, bounds)


def _pull(sizes: Tensor, bounds: Bounds) -> Tensor:
    """How a multiplier of 0 is pulled: up where a size is too small, down where it is too large."""
    return (bounds.lower - sizes).relu() - (sizes - bounds.upper).relu()


def _price(nu: Tensor, bounds: Bounds) -> Tensor:
    """The part of the dual that is no sum over voxels, negated: -a ν⁺ + b ν⁻."""
    up, down = nu.clamp(min=0), (-nu).clamp(min=0)
    lower, upper = bounds.lower * up, bounds.upper * down
    return (upper.where(down > 0, 0) - lower.where(up > 0, 0)).sum(1)


def _price_slope(nu: Tensor, direction: Tensor, bounds: Bounds) -> Tensor:
    """Its derivative along a direction."""
    side = torch.where(nu == 0, direction, nu)
    slope = torch.where(side > 0, -bounds.lower * direction, -bounds.upper * direction)
    return slope.where(direction != 0, 0).sum(1)


def _residual(here: Point, nu: Tensor, bounds: Bounds, cells: Cells) -> Tensor:
    whole = Bounds._like(bounds.lower + cells.seeded, bounds.upper + cells.seeded)
    return measured(here.sizes + cells.seeded, nu, whole)


def _reach(cells: Cells) -> Tensor:
    """The largest factor of each group and constraint: how far a unit of its multiplier moves a logit."""
    largest = cells.factor.abs().amax(2) * cells.gain.abs()
    start = torch.zeros_like(cells.lower)
    return start.scatter_reduce(0, cells.asked.groups.index[:, None].expand_as(largest), largest, "amax")


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax, and the sum over the voxels of log-sum-exp, without a second exponential."""
    q = logits.softmax(1)
    return q, (logits.amax(1) - q.amax(1).log()).sum(1)


def _largest(x: Tensor) -> float:
    """Of which number the exponential is just finite."""
    return math.log(torch.finfo(x.dtype).max)
