"""Numbers drawn for each sample of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Even:
    """A number drawn evenly between two, in a share of the samples; 0, which changes nothing, in the others.

    Attributes:
        least: The one end.
        most: The other.
        probability: The share of the samples in which it is drawn.
    """

    least: float
    most: float
    probability: float = 1.0

    def draw(self, samples: int, numbers: int, device: torch.device) -> Float[Tensor, "samples numbers"]:
        """So many numbers for each sample, all of them drawn or all 0."""
        drawn = self.least + (self.most - self.least) * torch.rand(samples, numbers, device=device)
        return torch.where(chosen(samples, self.probability, device).unsqueeze(1), drawn, 0)


def chosen(samples: int, probability: float, device: torch.device) -> Tensor:
    """Which samples something happens to."""
    return torch.rand(samples, device=device) < probability
