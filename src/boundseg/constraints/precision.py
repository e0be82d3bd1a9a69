"""The precision in which sums and costs are computed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Half precision as float32, the rest as it is.

    A foreground of 256 x 256 pixels overflows float16 (max 65504), as does a squared size, and bf16 cannot count it.
    """
    return values if values.dtype == torch.float64 else values.float()


def best_precision(device: torch.device) -> torch.dtype:
    """float64, in which partial sums of big volumes are merged, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
