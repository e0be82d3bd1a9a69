from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from boundseg.networks.bottleneck import (
    Bottleneck,
    DownBottleneck,
    Middle,
    Recipe,
    UpBottleneck,
    asymmetric,
    branch,
    dilated,
    doubling,
    unpool,
)

RECIPE = Recipe(lambda _: nn.ReLU(), nn.Dropout, activated_branch=False)


def silence(block: nn.Sequential) -> None:
    """Make a branch give 0: the scale and shift of its last batch-norm are 0."""
    norm = [module for module in block if isinstance(module, nn.BatchNorm2d)][-1]
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)


def test_unpooling_puts_the_maxima_back_where_they_came_from() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 10)
    pooled, indices = F.max_pool2d_with_indices(x, (2, 2))
    is_maximum = x == F.interpolate(pooled, scale_factor=2.0, mode="nearest")
    assert int(is_maximum.sum()) == pooled.numel()
    assert torch.equal(unpool(pooled, indices), torch.where(is_maximum, x, 0.0))
    assert torch.equal(unpool(7 * torch.ones_like(pooled), indices), 7 * is_maximum.to(x.dtype))


def test_a_silent_branch_leaves_the_main_path() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 4, 6)
    block = Bottleneck(16, dilated(2), 0.1, RECIPE)
    silence(block.branch)
    assert torch.equal(block(x), x.relu())


def test_halving_pools_and_fills_up_with_empty_channels() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 4, 6)
    block = DownBottleneck(16, 20, 0.1, RECIPE, width=4)
    silence(block.branch)
    y, indices = block(x)
    assert torch.equal(y[:, :16], F.max_pool2d(x, 2).relu())
    assert not y[:, 16:].any()
    assert torch.equal(x.flatten(2).gather(2, indices.flatten(2)), F.max_pool2d(x, 2).flatten(2))


def test_doubling_unpools_its_main_path() -> None:
    torch.manual_seed(0)
    full = torch.randn(2, 8, 4, 6)
    pooled, indices = F.max_pool2d_with_indices(full, (2, 2))
    block = UpBottleneck(16, 8, 0.1, RECIPE).eval()
    silence(block.branch)
    block.main = nn.Conv2d(16, 8, 1)
    nn.init.zeros_(block.main.weight)
    nn.init.ones_(block.main.bias)
    came_from = full == F.interpolate(pooled, scale_factor=2.0, mode="nearest")
    assert torch.equal(block(torch.randn(2, 16, 2, 3), indices), came_from.to(full.dtype))


@pytest.mark.parametrize(
    ("middle", "rows", "columns"),
    [
        (dilated(1), [-1, 0, 1], [-1, 0, 1]),
        (dilated(4), [-4, 0, 4], [-4, 0, 4]),
        (asymmetric(5), [-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2]),
    ],
)
def test_the_middle_sees_these_neighbours(middle: Middle, rows: list[int], columns: list[int]) -> None:
    convolutions = nn.Sequential(*middle(1))
    for module in convolutions:
        nn.init.ones_(module.weight)
    impulse = torch.zeros(1, 1, 21, 21)
    impulse[0, 0, 10, 10] = 1
    seen = {(int(row) - 10, int(column) - 10) for *_, row, column in convolutions(impulse).nonzero()}
    assert seen == {(row, column) for row in rows for column in columns}


def test_doubling_doubles_the_grid() -> None:
    assert nn.Sequential(*doubling(2))(torch.randn(1, 2, 3, 5)).shape == (1, 2, 6, 10)


def test_a_branch_may_end_with_its_own_activation() -> None:
    into = nn.Conv2d(4, 2, 1, bias=False)
    plain = branch(into, dilated(1), 8, 0.0, RECIPE)
    activated = branch(into, dilated(1), 8, 0.0, Recipe(RECIPE.activation, nn.Dropout, True))
    x = torch.randn(2, 4, 5, 5)
    assert (plain(x) < 0).any()
    assert (activated(x) >= 0).all()
