"""The fully residual U-Net of the constrained-CNN paper's prostate experiments."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from boundseg.networks.padding import pad_to_multiple

LEVELS = 4


class ResidualUNet(nn.Module):
    r"""A U-Net of residual blocks whose skips are averages; logits at full resolution, 2D.

    Four levels of 1, 2, 4, 8 times ``width`` channels and a bridge of 16 times, one :class:`ResidualBlock`
    each. Down by 2x2 max-pooling; up by transposed 3x3 convolutions with batch-norm and ReLU; the
    upsampled features u and the encoder's s enter the decoder's block as :math:`(u + s) / 2`. LeakyReLU of
    slope 0.2 on the way down and in the bridge, ReLU on the way up; a 3x3 convolution to the classes.
    **19,637,410 parameters** for 1 channel, 2 classes and a width of 32.

    Kervadec et al. 2019, as its published code builds it (after Quan et al. 2016, FusionNet,
    arXiv:1612.05360), but without the biases that a batch-norm takes away again. Convolutions start from
    :math:`N(0, 2 / (k^2 n_{out}))` with kernel size k, transposed ones from PyTorch's default.

    Images of any size: the last row and column are repeated up to a multiple of 16, and the logits cropped
    back. In training mode, batch-norm needs more than one pixel at a sixteenth of the resolution.

    Args:
        in_channels: Image channels.
        classes: Output channels, background included.
        width: Channels of the first level.
    """

    def __init__(self, in_channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS + 1)]
        self.down = nn.ModuleList(
            ResidualBlock(before, after, _leaky) for before, after in pairwise([in_channels, *widths[:-1]])
        )
        self.bridge = ResidualBlock(widths[-2], widths[-1], _leaky)
        upwards = widths[::-1]
        self.enlarge = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=False),
                nn.BatchNorm2d(after),
                _relu(),
            )
            for before, after in pairwise(upwards)
        )
        self.up = nn.ModuleList(ResidualBlock(after, after, _relu) for after in upwards[1:])
        self.head = nn.Conv2d(width, classes, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        height, width = image.shape[-2:]
        x = pad_to_multiple(image, 2**LEVELS)
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bridge(x)
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            x = block((enlarge(x) + skips.pop()) / 2)
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]


class ResidualBlock(nn.Module):
    """A convolution; three more, added to what they were given; and one more. All 3x3, on one grid."""

    def __init__(self, channels: int, channels_out: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Sequential(*_conv(channels, channels_out), activation())
        self.residual = nn.Sequential(
            *(*_conv(channels_out, channels_out), activation()),
            *(*_conv(channels_out, channels_out), activation()),
            *_conv(channels_out, channels_out),
        )
        self.last = nn.Sequential(*_conv(channels_out, channels_out), activation())

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        x = self.first(x)
        y: Tensor = self.last(x + self.residual(x))
        return y


def _conv(channels: int, channels_out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out)


# in place: batch-norm keeps its input, not its output, so nothing that a gradient needs is overwritten
def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)
