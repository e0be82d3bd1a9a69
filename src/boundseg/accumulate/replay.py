"""What a second pass over the same chunks needs in order to be the first one again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Randomness:
    """The state of torch's generators: the CPU's, and the device's own."""

    device: torch.device
    cpu: Tensor
    own: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> Randomness:
        """As it is; waits for nothing."""
        own = None if device.type == "cpu" else _module(device).get_rng_state()
        return cls(device, torch.get_rng_state(), own)

    def restore(self) -> None:
        """What is drawn from now on was drawn before."""
        torch.set_rng_state(self.cpu)
        if self.own is not None:
            _module(self.device).set_rng_state(self.own)


def copied(buffers: Iterable[Tensor]) -> list[Tensor]:
    """Copies of a network's buffers, such as the running statistics of batch-norm."""
    return [buffer.detach().clone() for buffer in buffers]


@torch.no_grad()
def put_back(buffers: Iterable[Tensor], copies: Iterable[Tensor]) -> None:
    """Sets buffers to what they were."""
    for buffer, copy in zip(buffers, copies, strict=True):
        buffer.copy_(copy)


def _module(device: torch.device):  # type: ignore[no-untyped-def]
    return torch.get_device_module(device)
