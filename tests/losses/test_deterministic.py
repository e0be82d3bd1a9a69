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


@pytest.mark.parametrize("exact", [False, True])
def test_a_class_that_is_masked_out_costs_nothing_where_nothing_is_labelled(exact: bool) -> None:
    logits = torch.randn(1, 3, 4, 4)
    labels = torch.full((1, 4, 4), 255)
    labels[0, 0, 0] = 1
    masked = logits.clone()
    masked[:, 0, 2, 2] = -torch.inf
    with deterministic(exact):
        found = partial_cross_entropy(masked, labels)
    torch.testing.assert_close(found, -logits.log_softmax(1)[0, 1, 0, 0])


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("label", [-2, 3, 254])
def test_a_label_that_is_no_class_is_named(exact: bool, label: int) -> None:
    labels = torch.full((1, 4, 4), 255)
    labels[0, 0, 0] = label
    message = (
        rf"{label} is out of bounds.*\. Labels are 0 to 2, and 255 where nothing is known: ignore=… says otherwise"
    )
    with deterministic(exact), pytest.raises(IndexError, match=message):
        partial_cross_entropy(torch.randn(1, 3, 4, 4), labels)
