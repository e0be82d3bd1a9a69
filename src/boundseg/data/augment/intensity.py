"""Changes of what the network sees; the frame's image, and so every bound on intensities, stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from boundseg.data.augment.draw import Even, chosen
from boundseg.data.batches import Batch

NONE = Even(0, 0, 0)


@dataclass(frozen=True)
class IntensityChange:
    r"""Contrast and brightness of every sample and channel: :math:`(1 + g)\, I_\gamma + s`.

    :math:`I_\gamma` raises the intensities, brought to 0 … 1 between the least and the largest of the sample's channel,
    to the power :math:`e^\gamma`, and brings them back.

    Attributes:
        gain: Of g.
        shift: Of s, in units of the prepared intensity.
        gamma: Of the logarithm of the power.
    """

    gain: Even = NONE
    shift: Even = NONE
    gamma: Even = NONE

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other images."""
        images = batch.images
        count, channels = images.shape[:2]
        space = tuple(range(2, images.ndim))
        gain, shift, gamma = (
            even.draw(count, channels, images.device).reshape(count, channels, *([1] * len(space)))
            for even in (self.gain, self.shift, self.gamma)
        )
        with torch.no_grad():
            changed = images
            if self.gamma != NONE:
                least = images.amin(space, keepdim=True)
                reach = (images.amax(space, keepdim=True) - least).clamp(min=torch.finfo(images.dtype).tiny)
                raised = least + reach * ((images - least) / reach).pow(gamma.exp())
                changed = torch.where(gamma == 0, images, raised)
            return replace(batch, images=((1 + gain) * changed + shift).to(images.dtype))


@dataclass(frozen=True)
class Noise:
    """Independent normal noise in every voxel of the case; padding stays as it is.

    Attributes:
        std: Its standard deviation, in units of the prepared intensity.
        probability: The share of the samples that get it.
    """

    std: float
    probability: float = 1.0

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other images."""
        images = batch.images
        std = self.std * chosen(len(images), self.probability, images.device)
        there = (batch.frame.weight > 0).unsqueeze(1)
        noise = std.reshape(-1, *([1] * (images.ndim - 1))) * torch.randn_like(images)
        return replace(batch, images=torch.where(there, images + noise, images).to(images.dtype))
