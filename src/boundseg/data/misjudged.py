"""Measurements that are wrong, to find out how wrong they may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from boundseg.data.weaken import case_generator
from boundseg.errors import PriorsError


@dataclass(frozen=True)
class Misjudged:
    r"""What somebody measures instead of the true values.

    .. math:: \tau' = \tau (1 + e u), \quad u \sim U(-1, 1)

    u is drawn anew for every value: a slice, or a whole volume. What is absent stays absent.

    Attributes:
        error: e, the largest relative error: 0 or more, below 1.
        seed: Of u. Each case and region draws its own numbers, whatever the order; the same seed draws the same u for
            every e, so that a larger error is the same one, larger.

    Raises:
        PriorsError: The error is no such share.
    """

    error: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.error < 1:
            raise PriorsError(f"an error of {self.error:g} is no share.", remedy="Give 0 or more, and less than 1.")

    def of(self, values: Float[np.ndarray, " N"], case: str, region: str) -> Float[np.ndarray, " N"]:
        """What is measured in place of these values of a region in a case."""
        u = case_generator(self.seed, f"{case} {region}").uniform(-1, 1, len(values))
        return np.asarray(values * (1 + self.error * u))

    def __str__(self) -> str:
        return f", wrong by up to {self.error:.0%} (seed {self.seed})" if self.error else ""


EXACT = Misjudged(0.0)
