"""ENet, as its authors drew it and as the constrained-CNN paper's published code changed it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from boundseg.errors import ConfigError
from boundseg.networks.bottleneck import (
    Bottleneck,
    DownBottleneck,
    Recipe,
    UpBottleneck,
    asymmetric,
    branch,
    dilated,
    unpool,
)
from boundseg.networks.initialise import initialise
from boundseg.networks.padding import pad_to_multiple
from boundseg.networks.prelu import PReLU

FIRST = 16  # channels of the initial block
LIGHT, FULL = 0.01, 0.1  # rates of dropout


class Skips(NamedTuple):
    """What the encoder leaves for the decoder: features before each pooling, and the pooling's indices."""

    initial: Tensor
    initial_indices: Tensor
    stage1: Tensor
    stage1_indices: Tensor


class ENet(nn.Module):
    r"""ENet (Paszke et al. 2016, arXiv:1606.02147): a small, quick 2D network; logits at full resolution.

    An initial block (strided 3x3 convolution beside max-pooling), stage 1 of 5 bottlenecks at a quarter of
    the resolution, stages 2 and 3 of 8 each at an eighth, with dilations 2, 4, 8, 16 and asymmetric 5x1,
    1x5 convolutions; then one of two decoders:

    ``"concatenate"``, the default, is the variant of the constrained-CNN paper's published code, which
    printed its figures. Encoder features are concatenated in the decoder, as a U-Net's skips; two
    max-unpoolings, then nearest upsampling and two convolutions. Every PReLU has one slope, branches end
    in one, the initial block has neither norm nor activation, the last bottleneck of stage 3 narrows to
    64 channels, and dropout is 0.01 also in the dilated, halving and doubling bottlenecks of later
    stages. **454,151 parameters** for 1 channel and 2 classes. Left out are two heads that the published
    code never runs, and biases that a batch-norm takes away again.

    ``"original"`` is the article's: upsampling bottlenecks with max-unpooling and transposed convolutions,
    no skips, PReLU with a slope per channel in the encoder and ReLU in the decoder, batch-norm and PReLU
    after the initial block, dropout 0.01 in stage 1 and 0.1 afterwards, a transposed 2x2 convolution as
    head. **362,297 parameters** for 1 channel and 2 classes.

    Weights come from :func:`~boundseg.networks.initialise.initialise`. Images of any size: the last row
    and column are repeated up to a multiple of 8, and the logits cropped back. In training mode, batch-norm
    needs more than one pixel at an eighth of the resolution.

    Args:
        in_channels: Image channels, at most 15: the initial block has 16, of which max-pooling fills these.
        classes: Output channels, background included.
        decoder: ``"concatenate"`` or ``"original"``, see above.
        dropout: ``"element"`` drops single values, as the published code; ``"channel"`` drops whole feature
            maps, as the article (its spatial dropout).
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        decoder: str = "concatenate",
        dropout: str = "element",
    ) -> None:
        super().__init__()
        _check(in_channels, decoder, dropout)
        drop = nn.Dropout if dropout == "element" else nn.Dropout2d
        published = decoder == "concatenate"
        recipe = Recipe(_one_slope if published else PReLU, drop, activated_branch=published)
        light = LIGHT if published else FULL

        self.initial = InitialBlock(in_channels, None if published else recipe)
        # a halving branch is 4 times narrower than its input there, than its output in the article
        self.halve1 = DownBottleneck(16, 64, LIGHT, recipe, width=4 if published else 16)
        self.stage1 = nn.Sequential(*(Bottleneck(64, dilated(1), LIGHT, recipe) for _ in range(4)))
        self.halve2 = DownBottleneck(64, 128, light, recipe, width=16 if published else 32)
        rows = [
            *((dilated(1), FULL), (dilated(2), light), (asymmetric(5), FULL), (dilated(4), light)),
            *((dilated(1), FULL), (dilated(8), light), (asymmetric(5), FULL), (dilated(16), light)),
        ] * 2
        stages = [Bottleneck(128, middle, rate, recipe) for middle, rate in rows]
        if published:
            narrow = nn.Conv2d(128, 64, 3, padding=1)
            stages[-1] = Bottleneck(128, dilated(16), LIGHT, recipe, channels_out=64, main=narrow)
        self.stages23 = nn.Sequential(*stages)
        self.decoder = (
            ConcatenatingDecoder(classes, recipe)
            if published
            else OriginalDecoder(classes, Recipe(lambda _: nn.ReLU(inplace=True), drop, False))
        )
        initialise(self)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        height, width = image.shape[-2:]
        initial = self.initial(pad_to_multiple(image, 8))
        x, initial_indices = self.halve1(initial)
        stage1 = self.stage1(x)
        x, stage1_indices = self.halve2(stage1)
        x = self.stages23(x)
        logits: Tensor = self.decoder(x, Skips(initial, initial_indices, stage1, stage1_indices))
        return logits[..., :height, :width]


class InitialBlock(nn.Module):
    """Halves the image: a strided 3x3 convolution, and beside it the max-pooled image (figure 2a)."""

    def __init__(self, in_channels: int, recipe: Recipe | None) -> None:
        super().__init__()
        channels = FIRST - in_channels
        self.conv = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=recipe is None)
        self.after = nn.Identity() if recipe is None else nn.Sequential(nn.BatchNorm2d(FIRST), recipe.activation(FIRST))

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 16 H2 W2"]:
        y: Tensor = self.after(torch.cat((self.conv(image), F.max_pool2d(image, 2)), dim=1))
        return y


class ConcatenatingDecoder(nn.Module):
    """The published code's decoder: each unpooled grid is corrected by what the encoder had there."""

    def __init__(self, classes: int, recipe: Recipe) -> None:
        super().__init__()
        self.correct1 = branch(nn.Conv2d(64 + 64, 32, 3, padding=1, bias=False), dilated(1), 64, LIGHT, recipe)
        self.activation1 = recipe.activation(64)
        narrow = nn.Sequential(nn.Conv2d(64, FIRST, 1, bias=False), nn.BatchNorm2d(FIRST), recipe.activation(FIRST))
        self.refine = nn.Sequential(
            Bottleneck(64, dilated(1), FULL, recipe),
            Bottleneck(64, dilated(1), FULL, recipe, channels_out=FIRST, main=narrow),
        )
        self.correct2 = nn.Sequential(
            branch(nn.Conv2d(FIRST + FIRST, 8, 3, padding=1, bias=False), dilated(1), FIRST, LIGHT, recipe),
            Bottleneck(FIRST, dilated(1), FULL, recipe),
        )
        self.activation2 = recipe.activation(FIRST)
        self.full = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            *(nn.Conv2d(FIRST, FIRST, 3, padding=1, bias=False), nn.BatchNorm2d(FIRST)),
            recipe.activation(FIRST),
            *(nn.Conv2d(FIRST, FIRST, 3, padding=1, bias=False), nn.BatchNorm2d(FIRST)),
            recipe.activation(FIRST),
        )
        self.head = nn.Conv2d(FIRST, classes, 1)

    def forward(self, x: Float[Tensor, "B 64 H W"], skips: Skips) -> Float[Tensor, "B K H8 W8"]:
        x = unpool(x, skips.stage1_indices)
        x = self.activation1(x + self.correct1(torch.cat((x, skips.stage1), dim=1)))
        x = unpool(self.refine(x), skips.initial_indices)
        x = self.activation2(x + self.correct2(torch.cat((x, skips.initial), dim=1)))
        logits: Tensor = self.head(self.full(x))
        return logits


class OriginalDecoder(nn.Module):
    """The article's stages 4 and 5; of the encoder's features it sees only the pooling's indices."""

    def __init__(self, classes: int, recipe: Recipe) -> None:
        super().__init__()
        self.double1 = UpBottleneck(128, 64, FULL, recipe)
        self.stage4 = nn.Sequential(*(Bottleneck(64, dilated(1), FULL, recipe) for _ in range(2)))
        self.double2 = UpBottleneck(64, FIRST, FULL, recipe)
        self.stage5 = Bottleneck(FIRST, dilated(1), FULL, recipe)
        self.head = nn.ConvTranspose2d(FIRST, classes, 2, stride=2)

    def forward(self, x: Float[Tensor, "B 128 H W"], skips: Skips) -> Float[Tensor, "B K H8 W8"]:
        x = self.stage4(self.double1(x, skips.stage1_indices))
        x = self.stage5(self.double2(x, skips.initial_indices))
        logits: Tensor = self.head(x)
        return logits


def _one_slope(_channels: int) -> nn.Module:
    return PReLU()


def _check(in_channels: int, decoder: str, dropout: str) -> None:
    if not 1 <= in_channels < FIRST:
        raise ConfigError(
            f"ENet takes 1 to {FIRST - 1} image channels, not {in_channels}.",
            remedy="Use another network for more channels, for example residual_unet.",
        )
    for option, value, known in (
        ("decoder", decoder, ("concatenate", "original")),
        ("dropout", dropout, ("element", "channel")),
    ):
        if value not in known:
            raise ConfigError(f"ENet has no {option} {value!r}.", remedy=f"Choose {' or '.join(map(repr, known))}.")
