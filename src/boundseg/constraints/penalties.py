"""What a violation costs: plain functions of a value and its bounds, and the table of their names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.constraints.bounds import Bounds


def quadratic(
    value: Float[Tensor, "*n"], bounds: Bounds, scale: float | Float[Tensor, "*#n"] = 1.0
) -> Float[Tensor, "*n"]:
    r"""Squared distance of a value from its bounds, over a scale; the paper's penalty.

    .. math:: C(v) = \frac{\max(0, a - v)^2 + \max(0, v - b)^2}{s}

    Kervadec et al. 2019, eq. 3, with :math:`s = 1`. The authors' code divides by the number of pixels of one
    image, :math:`s = |\Omega|`, also where the value belongs to a whole volume; their weight
    :math:`\lambda = 10^{-2}` goes with that scale. For a cost relative to the bound see
    :func:`relative_scale`. Zero value and zero gradient exactly when ``a <= v <= b``; an unknown side
    (infinite) never costs.

    Args:
        value: Any descriptor's values, in the descriptor's unit.
        bounds: Lower and upper bounds in the same unit and of the same shape.
        scale: What the cost is divided by, in the unit squared.

    Returns:
        Cost in the unit squared over that of ``scale``.
    """
    return bounds.violation(value).square() / scale


def relative_scale(value: Float[Tensor, "*n"], bounds: Bounds, floor: float) -> Float[Tensor, "*n"]:
    r"""The scale that makes :func:`quadratic` relative to the bound that is violated.

    .. math:: s = \max(|a|, f)^2 \text{ below } a, \qquad s = \max(|b|, f)^2 \text{ above } b

    A size 10 % too large then costs the same for a small organ and for a large one. The floor takes over
    where the bound is smaller, and so defines what an absent class costs, whose upper bound is 0.

    Args:
        value: The values, as given to :func:`quadratic`.
        bounds: Their bounds.
        floor: The smallest magnitude that counts as a bound, > 0, in the descriptor's unit.

    Returns:
        Scale in the unit squared; finite also where a side is unknown.

    Raises:
        ValueError: The floor is not positive.
    """
    if not floor > 0:
        raise ValueError(f"floor = {floor:g}: a relative cost needs a positive floor, or bounds of 0 divide by 0")
    nearest = torch.where(value < bounds.lower, bounds.lower, bounds.upper).abs()
    # a value with an unknown side there violates nothing: any finite scale serves, and inf * 0 would be NaN
    return nearest.where(nearest.isfinite(), floor).clamp(min=floor).square()


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
    lower bound is one of 0.

    Args:
        value: The values, >= 0.
        bounds: Lower and upper bounds in the same unit and of the same shape.
        softening: s > 0, in the unit of the value: differences below it count little, and it makes a bound of 0
            finite.

    Returns:
        Cost, without a unit.
    """
    log_value = (value + softening).log()
    below = (bounds.lower.clamp(min=0) + softening).log() - log_value
    above = log_value - (bounds.upper + softening).log()
    return below.relu().square() + above.relu().square()


Penalty = Callable[[Tensor, Bounds, "float | Tensor"], Tensor]

PENALTIES: dict[str, Penalty] = {"quadratic": quadratic, "log_hinge": log_hinge}
