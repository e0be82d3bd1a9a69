"""What every penalty sees to first: divisors that are positive."""

from __future__ import annotations

from torch import Tensor


def require_positive(name: str, number: float | Tensor) -> None:
    """Refuses a number that is not positive. A tensor passes unseen: to look at it would wait for the device.

    Raises:
        ValueError: The number is zero, negative or NaN.
    """
    if not isinstance(number, Tensor) and not number > 0:
        raise ValueError(f"{name} = {number:g}: a penalty divides by it or takes its logarithm; give a number above 0")
