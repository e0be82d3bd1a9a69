"""Costs that grow with the distance from the bounds: a square, a line, and a square that turns into a line."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.penalties.arguments import require_positive
from boundseg.constraints.precision import at_least_float32


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
        scale: What the cost is divided by, > 0, in the unit squared.

    Returns:
        Cost in the unit squared over that of ``scale``; float32 for values of half precision.

    Raises:
        ValueError: The scale is a number that is not positive.
    """
    require_positive("scale", scale)
    return bounds.violation(at_least_float32(value)).square() / scale


def linear(
    value: Float[Tensor, "*n"], bounds: Bounds, scale: float | Float[Tensor, "*#n"] = 1.0
) -> Float[Tensor, "*n"]:
    r"""Distance of a value from its bounds, over a scale.

    .. math:: C(v) = \frac{\max(0, a - v) + \max(0, v - b)}{s}

    The gradient is :math:`-1/s` below, :math:`1/s` above and zero from ``a`` to ``b``, the bounds included. It
    does not grow with the violation, so that one wrong bound moves a training no more than another; and it does
    not fade towards the bound, where the steps of an optimiser overshoot. With a weight above the constraint's
    Lagrange multiplier its minimum keeps the bounds exactly, which that of a square never does (the exact
    penalty: Nocedal and Wright 2006, section 17.2). An unknown side never costs.

    Args:
        value: Any descriptor's values, in the descriptor's unit.
        bounds: Lower and upper bounds in the same unit and of the same shape.
        scale: What the cost is divided by, > 0, in the unit.

    Returns:
        Cost in the unit over that of ``scale``; float32 for values of half precision.

    Raises:
        ValueError: The scale is a number that is not positive.
    """
    require_positive("scale", scale)
    return bounds.violation(at_least_float32(value)).abs() / scale


def huber(value: Float[Tensor, "*n"], bounds: Bounds, scale: float | Float[Tensor, "*#n"] = 1.0) -> Float[Tensor, "*n"]:
    r"""A square near the bounds and a line beyond: Huber's function of the violation.

    .. math::
        C(v) = h\!\left(\frac{\max(0, a - v) + \max(0, v - b)}{s}\right), \qquad
        h(z) = \begin{cases} z^2 / 2 & z \le 1 \\ z - 1/2 & z > 1 \end{cases}

    Huber 1964. The gradient is :math:`z / s` up to a violation of one scale and :math:`1 / s` from there
    on: it fades at the bound as the square's does, and is bounded as the line's is. Zero value and zero gradient
    exactly when ``a <= v <= b``; an unknown side never costs.

    Args:
        value: Any descriptor's values, in the descriptor's unit.
        bounds: Lower and upper bounds in the same unit and of the same shape.
        scale: The violation at which the square turns into a line, > 0, in the unit.

    Returns:
        Cost, without a unit; float32 for values of half precision.

    Raises:
        ValueError: The scale is a number that is not positive.
    """
    require_positive("scale", scale)
    z = bounds.violation(at_least_float32(value)).abs() / scale
    return torch.where(z <= 1, z.square() / 2, z - 0.5)


def relative_scale(value: Float[Tensor, "*n"], bounds: Bounds, floor: float) -> Float[Tensor, "*n"]:
    r"""The scale that makes :func:`quadratic` relative to the bound that is violated.

    .. math:: s = \max(|a|, f)^2 \text{ below } a, \qquad s = \max(|b|, f)^2 \text{ above } b

    A size 10 % too large then costs the same for a small organ and for a large one. The floor takes over
    where the bound is smaller, and so defines what an absent class costs, whose upper bound is 0. The square
    root of it does the same for :func:`linear` and :func:`huber`, whose scale is in the unit.

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
    nearest = at_least_float32(torch.where(value < bounds.lower, bounds.lower, bounds.upper).abs())
    # a value with an unknown side there violates nothing: any finite scale serves, and inf * 0 would be NaN
    return nearest.where(nearest.isfinite(), floor).clamp(min=floor).square()
