"""Predictions with a known answer: what the tests of constraints draw."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import Bounds, Frame


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Hard predictions, 2D or 3D, made of one block per class, and the size of every class."""
    dims = draw(st.sampled_from([2, 3]))
    batch, classes = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    space = [draw(st.integers(2, 7)) for _ in range(dims)]
    labels = torch.zeros(batch, *space, dtype=torch.long)
    for image in labels:
        for value in range(1, classes):
            corner = [draw(st.integers(0, n - 1)) for n in space]
            block = tuple(slice(c, draw(st.integers(c, n))) for c, n in zip(corner, space, strict=True))
            image[block] = value
    probs = torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()
    sizes = torch.tensor([[(image == value).sum() for value in range(classes)] for image in labels]).float()
    return probs, sizes


@st.composite
def soft(draw: st.DrawFn, batch: int | None = None, classes: int | None = None) -> Tensor:
    """Soft predictions from random logits, float64."""
    batch = batch or draw(st.integers(1, 4))
    classes = classes or draw(st.integers(2, 4))
    space = [draw(st.integers(2, 6)) for _ in range(draw(st.sampled_from([2, 3])))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randn(batch, classes, *space, generator=generator, dtype=torch.float64).softmax(1)


@st.composite
def values_and_bounds(draw: st.DrawFn, least: float = -1e4) -> tuple[Tensor, Bounds]:
    """Values of at least ``least``, and bounds that are two-sided, one-sided, equal or unknown."""
    settings = {"min_value": least, "max_value": 1e4, "allow_nan": False, "width": 32}
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        low, high = sorted([draw(st.floats(**settings)), draw(st.floats(**settings))])
        kind = draw(st.sampled_from(["both", "lower", "upper", "equal", "unknown"]))
        lower = {"upper": -torch.inf, "unknown": -torch.inf}.get(kind, low)
        upper = {"lower": torch.inf, "unknown": torch.inf, "equal": low}.get(kind, high)
        rows.append((draw(st.floats(**settings)), lower, upper))
    value, lower, upper = torch.tensor(rows, dtype=torch.float64).T
    return value, Bounds(lower, upper)


def random_frame(probs: Tensor, seed: int) -> Frame:
    """A frame with weights that vary over the image and padding on one side."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(len(probs), *probs.shape[2:], generator=generator) + 0.5
    weight[..., 0] = 0
    return Frame(weight, torch.rand(len(probs), 3, generator=generator) + 0.5)
