"""How hard each part of the loss pulls, for the choice of weights."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.losses import Loss
from boundseg.training.processes import Processes


class Pulls:
    """The norm of each part's gradient with respect to the logits of a step: its weight and warm-up are in it.

    By the logits and not by the weights: that costs no pass through the network, and the rest of the way is the
    same for all parts. Chunks of a step are added up by their squares.
    """

    def __init__(self) -> None:
        self._squares: dict[str, Tensor] = {}

    def add(self, logits: Float[Tensor, "B C *space"], loss: Loss) -> None:
        """Adds a chunk.

        Args:
            logits: The network's output, whose graph is kept.
            loss: Theirs; a part that does not depend on the logits pulls by 0.
        """
        for name, part in loss.parts.items():
            square = part.new_zeros(())
            if part.requires_grad:
                (gradient,) = torch.autograd.grad(part, logits, retain_graph=True)
                square = gradient.float().square().sum()
            self._squares[name] = self._squares.get(name, 0) + square

    def norms(self, processes: Processes) -> dict[str, Float[Tensor, ""]]:
        """Of each part, of the images that all processes bring."""
        if not self._squares:
            return {}
        squares = processes.add(torch.stack([*self._squares.values()]))
        return dict(zip(self._squares, squares.sqrt().unbind(), strict=True))
