"""What every penalty sees to first: enough precision, and divisors that are positive."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Half precision as float32, the rest as it is: a squared size overflows float16, and bf16 cannot count it."""
    return values if values.dtype == torch.float64 else values.float()


def require_positive(name: str, number: float | Tensor) -> None:
    """Refuses a number that is not positive. A tensor passes unseen: to look at it would wait for the device.

    Raises:
        ValueError: The number is zero, negative or NaN.
    """
    if not isinstance(number, Tensor) and not number > 0:
        raise ValueError(f"{name} = {number:g}: a penalty divides by it or takes its logarithm; give a number above 0")
