"""Costs relative to what is asked for: of shares of a whole, and of amounts."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.penalties.arguments import require_positive
from boundseg.constraints.precision import at_least_float32


def size_divergence(
    value: Float[Tensor, "*n"], bounds: Bounds, softening: float | Float[Tensor, "*#n"] = 1e-4
) -> Float[Tensor, "*n"]:
    r"""Divergence of predicted shares from the nearest shares within the bounds.

    .. math:: C(v) = (c + s) \log\frac{c + s}{v + s} - c + v, \qquad c = \min(\max(v, a), b)

    The term of one class in a generalised Kullback-Leibler divergence. Over all classes of a partition, with exact
    shares (a = b) that add up to 1, the terms add up to :math:`KL(v^* \| v)` as s goes to 0: the forward,
    zero-avoiding divergence between a distribution of sizes and the mean prediction of Fan, Zhang and Boykov
    2025 (arXiv:2503.06954). With bounds it is the least divergence from any shares that they allow, class by class.

    The gradient is :math:`(v - c) / (v + s)`: below the bounds it grows to :math:`a / s` as a class vanishes, which
    makes up for what the softmax loses there; above it stays below 1. Zero value (to rounding not negative
    elsewhere) and zero gradient exactly when ``a <= v <= b``; an unknown side never costs. A class that is absent,
    a = b = 0, costs about its share v. A negative bound is one of 0.

    Args:
        value: Shares of a whole, 0 to 1, such as sizes as a fraction of the image.
        bounds: Lower and upper bounds of the same shares and of the same shape.
        softening: s > 0, a share, added to both sides of the logarithm. Less of it leads back from smaller
            remainders and asks for smaller classes, with gradients up to a / s. The default is 7 pixels of an image
            of 256 x 256, of the order of :func:`log_hinge`'s 10; in volumes, give 10 voxels as a share.

    Returns:
        Cost, without a unit (nats); float32 for values of half precision.

    Raises:
        ValueError: The softening is a number that is not positive.
    """
    require_positive("softening", softening)
    value = at_least_float32(value)
    nearest = _nearest(value, bounds)
    # a difference of logarithms, not the logarithm of a quotient: where c is v, its gradient cancels exactly
    logarithm = (nearest + softening).log() - (value + softening).log()
    return (nearest + softening) * logarithm + (value - nearest)


def relative_band(
    value: Float[Tensor, "*n"],
    bounds: Bounds,
    softening: float | Float[Tensor, "*#n"] = 10.0,
    tolerance: float = 0.0,
) -> Float[Tensor, "*n"]:
    r"""Symmetric relative error to the nearest value within the bounds, beyond a tolerance.

    .. math:: C(v) = \max\left(0, \frac{|v - c|}{v + c + s} - \tau\right), \qquad c = \min(\max(v, a), b)

    Twice too large and half as large as asked cost the same, 1/3 where s is small. It is below 1 whatever the
    value, so that a value far off its bounds weighs little more than one off by half; the gradient,
    :math:`\pm (2 c + s) / (v + c + s)^2`, fades accordingly above, and below it stays finite and does not lead back
    from nothing. Zero value and zero gradient wherever the error is within the tolerance, in particular when
    ``a <= v <= b``; an unknown side never costs. A negative bound is one of 0.

    Args:
        value: The values, >= 0.
        bounds: Lower and upper bounds in the same unit and of the same shape.
        softening: s > 0, in the unit of the value: it makes a bound of 0 finite.
        tolerance: τ, the relative error that is free, 0 <= τ < 1.

    Returns:
        Cost, without a unit, 0 to 1; float32 for values of half precision.

    Raises:
        ValueError: The softening is a number that is not positive, or the tolerance lies outside of [0, 1).
    """
    require_positive("softening", softening)
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance = {tolerance:g}: a relative error lies between 0 and 1; give 0 <= tolerance < 1")
    value = at_least_float32(value)
    nearest = _nearest(value, bounds)
    return ((value - nearest).abs() / (value + nearest + softening) - tolerance).relu()


def _nearest(value: Tensor, bounds: Bounds) -> Tensor:
    """The nearest value >= 0 within the bounds, a constant to the gradient."""
    return value.detach().clamp(bounds.lower, bounds.upper).clamp(min=0)
