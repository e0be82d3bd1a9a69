"""What the image looks like inside of a region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.descriptors.descriptor import Traits
from boundseg.constraints.descriptors.fractional import NOTHING, fraction
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.frame import Frame


@dataclass(frozen=True)
class Intensity:
    r"""The mean, or the variance, of the image inside of a region.

    .. math:: \mu = \frac{\sum w I S}{\sum w S}, \qquad \sigma^2 = \frac{\sum w (I - \mu)^2 S}{\sum w S}

    Kervadec et al. 2019, eq. 8 with the image as the potential. It reads the frame's ``image``, in the case's own
    intensities: blood at 40 to 60 HU stays so, whatever normalisation the network sees. Undefined where there is next
    to nothing of the region.

    Args:
        of: ``mean``, in the image's unit, or ``variance``, in the unit squared.
        channel: Which channel of the image.

    Raises:
        ValueError: The frame has no image, or no such channel.
    """

    of: Literal["mean", "variance"] = "mean"
    channel: int = 0

    def __post_init__(self) -> None:
        if self.of not in ("mean", "variance"):
            raise ValueError(f"an intensity has no {self.of!r}: choose mean or variance")

    @property
    def traits(self) -> Traits:
        if self.of == "mean":
            return Traits(partial=True, shared=("intensity", self.channel))
        return Traits(domain="amount", partial=True, about=Intensity("mean", self.channel))

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R"]:
        """Of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        mass = frame.mass(probs)
        intensity = frame.owned(self._channel(frame).to(mass.dtype))
        if self.of == "mean":
            return torch.stack([_sum(mass), _sum(mass * intensity)], dim=2)
        if frame.centre is not None:
            intensity = intensity - frame.centre.to(mass.dtype).reshape(*mass.shape[:2], *([1] * (mass.ndim - 2)))
        first = mass * intensity
        return torch.stack([_sum(mass), _sum(first), _sum(first * intensity)], dim=2)

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R"]:
        mean = fraction(sums[..., 1], sums[..., 0])
        return mean if self.of == "mean" else fraction(sums[..., 2], sums[..., 0]) - mean.square()

    def defined(self, sums: Float[Tensor, "G R S"]) -> Bool[Tensor, "G R"]:
        return sums[..., 0] > NOTHING

    def _channel(self, frame: Frame) -> Tensor:
        if frame.image is None:
            raise ValueError("an intensity needs the frame's image, which is not given")
        if not 0 <= self.channel < frame.image.shape[1]:
            raise ValueError(f"channel {self.channel} is not in an image of {frame.image.shape[1]}; count from 0")
        return frame.image[:, self.channel].unsqueeze(1)


def _sum(voxels: Tensor) -> Tensor:
    return voxels.flatten(2).sum(2)
