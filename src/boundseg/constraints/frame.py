"""Where predicted voxels lie in their case: bounds speak of the case, and the grid is what moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """What preparation and augmentation did to the case, for each image of a batch.

    A bound is a statement about the case as it lies on disk. Whatever resampled, padded, cropped or stretched
    it on the way to the network is written here, so that a descriptor of the prediction is a descriptor of
    the case and no bound is ever rewritten.

    Attributes:
        weight: How many of the case's voxels each predicted voxel stands for (:math:`|\\det J|`); 0 in
            padding. Dimensions of size 1 broadcast, so that a batch without padding needs ``[B, 1, 1]``.
        spacing_mm: Size in mm of the case's voxels, the predicted axes first; a slice's thickness comes last.
            None where it is not known: then sizes cannot be measured in mm2 or mL.
        whole: Per class, whether the prediction covers all of the class in this image. None means that it
            does. A centre crop covers a part, unless the part left out is declared to hold none of the class.
    """

    weight: Float[Tensor, "B *#space"]
    spacing_mm: Float[Tensor, "B axes"] | None = None
    whole: Bool[Tensor, "B K"] | None = None

    @classmethod
    def plain(cls, batch: int, space_dims: int, device: torch.device | None = None) -> Frame:
        """The case itself: every voxel counts once and everything is seen."""
        return cls(torch.ones(batch, *([1] * space_dims), device=device))

    @property
    def voxels_per_voxel(self) -> Float[Tensor, " B"]:
        """How many of the case's voxels one predicted voxel stands for on average, padding left aside."""
        weight = self.weight.flatten(1)
        return weight.sum(1) / (weight > 0).sum(1).clamp(min=1)

    def to(self, device: torch.device | str) -> Frame:
        """The same frame on another device."""
        spacing, whole = self.spacing_mm, self.whole
        return Frame(
            self.weight.to(device, non_blocking=True),
            None if spacing is None else spacing.to(device, non_blocking=True),
            None if whole is None else whole.to(device, non_blocking=True),
        )
