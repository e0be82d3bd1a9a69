"""How hard each part of the loss pulls, for the choice of weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor


def pulls(logits: Float[Tensor, "B C *space"], parts: Mapping[str, Tensor]) -> dict[str, Float[Tensor, ""]]:
    """The norm of each part's gradient with respect to the logits: its weight and warm-up are in it.

    By the logits and not by the weights: that costs no pass through the network, and the rest of the way is the
    same for all parts.

    Args:
        logits: The network's output, whose graph is kept.
        parts: Weighted parts of the loss; one that does not depend on the logits pulls by 0.
    """
    found = {}
    for name, part in parts.items():
        if not part.requires_grad:
            found[name] = part.new_zeros(())
            continue
        (gradient,) = torch.autograd.grad(part, logits, retain_graph=True)
        found[name] = gradient.float().norm()
    return found
