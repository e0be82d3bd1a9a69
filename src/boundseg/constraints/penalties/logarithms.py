"""Costs made of logarithms: of the factor by which a bound is missed, and of the room left before it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.penalties.arguments import require_positive
from boundseg.constraints.precision import at_least_float32


def log_hinge(
    value: Float[Tensor, "*n"], bounds: Bounds, softening: float | Float[Tensor, "*#n"] = 10.0
) -> Float[Tensor, "*n"]:
    r"""Squared hinge on the logarithm of a value: what counts is by which factor a bound is missed.

    .. math:: C(v) = \max\left(0, \log\frac{a + s}{v + s}\right)^2 + \max\left(0, \log\frac{v + s}{b + s}\right)^2

    A size that is twice too large costs the same for a small organ, a large one and a whole volume, so that one
    weight serves all of them. And it leads back from nothing: where a region has all but vanished, the softmax
    passes on a gradient in proportion to what is left of it, :math:`\partial V/\partial z = \sum S (1 - S)
    \approx V`; the quadratic penalty's :math:`2 (a - v)` does not make up for that, the logarithm's
    :math:`1 / (v + s)` does, down to :math:`v \approx s`. Zero value and zero gradient exactly when
    ``a <= v <= b``; an unknown side never costs. For values that cannot be negative, such as sizes; a negative
    bound is one of 0.

    Args:
        value: The values, >= 0.
        bounds: Lower and upper bounds in the same unit and of the same shape.
        softening: s > 0, in the unit of the value: differences below it count little, and it makes a bound of 0
            finite.

    Returns:
        Cost, without a unit; float32 for values of half precision.

    Raises:
        ValueError: The softening is a number that is not positive.
    """
    require_positive("softening", softening)
    log_value = (at_least_float32(value) + softening).log()
    below = (at_least_float32(bounds.lower).clamp(min=0) + softening).log() - log_value
    above = log_value - (at_least_float32(bounds.upper).clamp(min=0) + softening).log()
    return below.relu().square() + above.relu().square()


def log_barrier(
    value: Float[Tensor, "*n"],
    bounds: Bounds,
    scale: float | Float[Tensor, "*#n"] = 1.0,
    t: float | Float[Tensor, ""] = 5.0,
) -> Float[Tensor, "*n"]:
    r"""The log-barrier, continued outside the bounds by its tangent: it pushes before a bound is reached.

    .. math::
        C(v) = \psi_t\!\left(\frac{a - v}{s}\right) + \psi_t\!\left(\frac{v - b}{s}\right), \qquad
        \psi_t(z) = \begin{cases}
            -\frac{1}{t} \log(-z) & z \le -1/t^2 \\
            t z - \frac{1}{t} \log\frac{1}{t^2} + \frac{1}{t} & \text{otherwise}
        \end{cases}

    Kervadec et al., arXiv:1904.04205, the log-barrier extension; value and slope agree where the two parts meet. As
    t grows, the cost tends to 0 inside and to infinity outside: a schedule multiplies t by a little more than 1
    after every epoch. For a convex loss, a minimum that keeps its n known sides, each of weight 1, is within n / t of
    the constrained one, their result on the duality gap.

    Unlike the other penalties it has a gradient inside: each side pushes by :math:`-1 / (t z s)` away from its bound.
    A side is negative where it leaves more than one scale of room (z < -1), and so may be the sum, even just outside
    the other bound. The gradient outside is :math:`t / s` per side and does not grow. Where the bounds are closer
    than 2 s / t², as for a = b, the two slopes cancel from b - s / t² to a + s / t²: nothing pushes there. An unknown
    side costs nothing, which is more than a far bound costs: to move a bound away never raises the cost, but to
    make it unknown may.

    Args:
        value: Any descriptor's values, in the descriptor's unit.
        bounds: Lower and upper bounds in the same unit and of the same shape.
        scale: What counts as one, > 0, in the unit.
        t: How hard the barrier is, > 0. As a tensor without axes it may change between the calls of compiled code
            at no cost; it is read nowhere.

    Returns:
        Cost, without a unit, of either sign; float32 for values of half precision. Value and gradient are finite
        for every value, at a bound and on either side of it.

    Raises:
        ValueError: The scale or t is a number that is not positive.
    """
    require_positive("scale", scale)
    require_positive("t", t)
    value = at_least_float32(value)
    knows_lower, knows_upper = bounds.lower.isfinite(), bounds.upper.isfinite()
    # an unknown bound is replaced before the division: the scale's gradient would be 0 times infinity, NaN
    below = (bounds.lower.where(knows_lower, 0) - value) / scale
    above = (value - bounds.upper.where(knows_upper, 0)) / scale
    return _extended_log(below, t).where(knows_lower, 0) + _extended_log(above, t).where(knows_upper, 0)


def _extended_log(z: Tensor, t: float | Tensor) -> Tensor:
    log_t = t.log() if isinstance(t, Tensor) else math.log(t)
    # z <= -1 / t² as a product: a quotient is 0 where t² overflows, and the logarithm would be taken of z = 0
    inside = t * (t * z) <= -1
    # the logarithm is not taken where the line holds: its slope there would be infinite or NaN
    logarithm = -(-z).where(inside, 1).log() / t
    line = t * z + (1 + 2 * log_t) / t
    return torch.where(inside, logarithm, line)
