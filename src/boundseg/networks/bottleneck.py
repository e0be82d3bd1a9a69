"""ENet's building block: a main path, and beside it a branch of few channels that corrects it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

Middle = Callable[[int], list[nn.Module]]
"""Makes the convolutions in the middle of a branch, which keep so many channels."""


@dataclass(frozen=True)
class Recipe:
    """What all blocks of one half of an ENet share.

    Attributes:
        activation: Makes the activation of so many channels.
        dropout: Makes the dropout of such a rate.
        activated_branch: The branch ends with an activation of its own, before it is added.
    """

    activation: Callable[[int], nn.Module]
    dropout: Callable[[float], nn.Module]
    activated_branch: bool


def dilated(dilation: int) -> Middle:
    """One 3x3 convolution whose taps lie ``dilation`` pixels apart (1: an ordinary one)."""
    return lambda width: [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)]


def asymmetric(size: int) -> Middle:
    """A ``size`` x ``size`` convolution as a column and a row, with nothing in between."""
    half = size // 2
    return lambda width: [
        nn.Conv2d(width, width, (size, 1), padding=(half, 0), bias=False),
        nn.Conv2d(width, width, (1, size), padding=(0, half), bias=False),
    ]


def doubling(width: int) -> list[nn.Module]:
    """One transposed 3x3 convolution that doubles the grid; a :data:`Middle`."""
    return [nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1, bias=False)]


def branch(into: nn.Conv2d, middle: Middle, channels_out: int, rate: float, recipe: Recipe) -> nn.Sequential:
    """Project to few channels, convolve, expand to ``channels_out``, drop out; batch-norms throughout.

    No convolution of a branch has a bias, since the batch-norm behind it would take it away again.

    Args:
        into: The projection; its output channels are the branch's width.
        middle: What is done at that width.
    """
    width = into.out_channels
    last = [recipe.activation(channels_out)] if recipe.activated_branch else []
    return nn.Sequential(
        *(into, nn.BatchNorm2d(width), recipe.activation(width)),
        *(*middle(width), nn.BatchNorm2d(width), recipe.activation(width)),
        *(nn.Conv2d(width, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out), *last),
        recipe.dropout(rate),
    )


class Bottleneck(nn.Module):
    """``activation(main(x) + branch(x))`` on an unchanged grid (Paszke et al. 2016, figure 2b).

    The branch is 4 times narrower than the input. ``main`` is the identity if none is given, and must
    otherwise map to ``channels_out``.
    """

    def __init__(
        self,
        channels: int,
        middle: Middle,
        rate: float,
        recipe: Recipe,
        *,
        channels_out: int | None = None,
        main: nn.Module | None = None,
    ) -> None:
        super().__init__()
        channels_out = channels if channels_out is None else channels_out
        self.main = nn.Identity() if main is None else main
        into = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.branch = branch(into, middle, channels_out, rate, recipe)
        self.activation = recipe.activation(channels_out)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        y: Tensor = self.activation(self.main(x) + self.branch(x))
        return y


class DownBottleneck(nn.Module):
    """Halves the grid: 2x2 max-pooling as main path, a 2x2 convolution of stride 2 into the branch.

    The pooled channels are filled up with zeros to ``channels_out``. Beside the result come the pooling's
    indices, by which :func:`unpool` finds the way back.
    """

    def __init__(self, channels: int, channels_out: int, rate: float, recipe: Recipe, *, width: int) -> None:
        super().__init__()
        into = nn.Conv2d(channels, width, 2, stride=2, bias=False)
        self.branch = branch(into, dilated(1), channels_out, rate, recipe)
        self.activation = recipe.activation(channels_out)
        self.more_channels = channels_out - channels

    def forward(self, x: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C2 H2 W2"], Int64[Tensor, "B C H2 W2"]]:
        pooled, indices = F.max_pool2d_with_indices(x, (2, 2))
        main = F.pad(pooled, (0, 0, 0, 0, 0, self.more_channels))
        return self.activation(main + self.branch(x)), indices


class UpBottleneck(nn.Module):
    """Doubles the grid: 1x1 projection and max-unpooling as main path, a transposed convolution beside it."""

    def __init__(self, channels: int, channels_out: int, rate: float, recipe: Recipe) -> None:
        super().__init__()
        project = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.main = nn.Sequential(project, nn.BatchNorm2d(channels_out))
        into = nn.Conv2d(channels, channels_out // 4, 1, bias=False)
        self.branch = branch(into, doubling, channels_out, rate, recipe)
        self.activation = recipe.activation(channels_out)

    def forward(self, x: Float[Tensor, "B C H2 W2"], indices: Int64[Tensor, "B C2 H2 W2"]) -> Float[Tensor, "B C2 H W"]:
        y: Tensor = self.activation(unpool(self.main(x), indices) + self.branch(x))
        return y


def unpool(x: Float[Tensor, "B C H2 W2"], indices: Int64[Tensor, "B C H2 W2"]) -> Float[Tensor, "B C H W"]:
    """Put every value back where 2x2 max-pooling took its maximum from, and 0 elsewhere.

    Args:
        x: Values on the halved grid.
        indices: Of the pooling: positions in each channel's flattened full grid.

    Returns:
        Values on the full grid, (H, W) = (2 H2, 2 W2).
    """
    # each place is taken once, so that nothing is left to chance; torch's max_unpool2d promises that of no place
    height, width = 2 * x.shape[2], 2 * x.shape[3]
    full = x.new_zeros(*x.shape[:2], height * width).scatter(2, indices.flatten(2), x.flatten(2))
    return full.reshape(*x.shape[:2], height, width)
