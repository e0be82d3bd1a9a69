"""The cross-entropy of deterministic trainings is the same one."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from boundseg.losses import partial_cross_entropy
from boundseg.training.deterministic import deterministic


@pytest.mark.parametrize("average", ["image", "batch", "sum"])
def test_value_and_gradient_are_those_of_torchs_loss(average: Literal["image", "batch", "sum"]) -> None:
    logits = torch.randn(3, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (3, 6, 5), dtype=torch.uint8)
    labels[0] = labels[1, :3] = 255
    wanted = partial_cross_entropy(logits, labels, average=average)
    (gradient,) = torch.autograd.grad(wanted, logits)
    with deterministic(True):
        found = partial_cross_entropy(logits, labels, average=average)
        (ours,) = torch.autograd.grad(found, logits)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(ours, gradient)
