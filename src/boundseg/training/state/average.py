"""A moving average of a network's weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


class WeightAverage:
    r"""An exponential moving average of weights and running statistics, which begins at the first update.

    .. math:: \bar\theta \leftarrow d \, \bar\theta + (1 - d) \, \theta

    As torch's ``AveragedModel`` with ``get_ema_multi_avg_fn``, which reads a counter from the device at every step.

    Args:
        network: What is averaged.
        decay: d, per update.

    Attributes:
        module: A network with the averages; what cannot be averaged (counts) is the last.
        begun: Whether there was an update.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.module = deepcopy(network)
        self.begun = False
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes in the network's present weights; waits for nothing."""
        ours, theirs = ([*n.parameters(), *n.buffers()] for n in (self.module, network))
        pairs = list(zip(ours, theirs, strict=True))
        averaged = [pair for pair in pairs if self.begun and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (self.begun and pair[0].is_floating_point())]
        if averaged:
            own, new = ([pair[side] for pair in averaged] for side in (0, 1))
            torch._foreach_lerp_(own, new, 1 - self._decay)
        for own_one, new_one in copied:
            own_one.copy_(new_one)
        self.begun = True
