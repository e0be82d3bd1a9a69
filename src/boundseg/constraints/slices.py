"""Slices within 3D images: what bounds per slice speak of where a network predicts volumes or patches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Slices:
    """Which slices of 3D images (along the last axis) are slices of the case.

    Attributes:
        index: Of each such slice, ``b * length + z``: image b of the batch, position z along its last axis. Slices of
            padding, and those that belong to the next chunk, are left out.
        length: How many slices each image has.
        whole: Per class, whether the image holds all of the class in that slice; None means that it does.
    """

    index: Int[Tensor, " N"]
    length: int
    whole: Bool[Tensor, "N K"] | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def image(self) -> Int[Tensor, " N"]:
        """The image of the batch in which each slice lies."""
        return self.index // self.length

    @property
    def position(self) -> Int[Tensor, " N"]:
        """Where each slice lies along the image's last axis."""
        return self.index % self.length

    def of(self, voxels: Shaped[Tensor, "B *channels_and_space"]) -> Shaped[Tensor, "N *channels_and_plane"]:
        """The slices as images of their own; a last axis of length 1 stands for all slices."""
        if voxels.shape[-1] == 1:
            return voxels[..., 0].index_select(0, self.image)
        return voxels.movedim(-1, 1).flatten(0, 1).index_select(0, self.index)

    def mirrored(self, chosen: Bool[Tensor, " B"]) -> Slices:
        """Where the same slices lie after the slice axis of the chosen images was reversed."""
        turned = chosen[self.image]
        position = torch.where(turned, self.length - 1 - self.position, self.position)
        return replace(self, index=self.image * self.length + position)

    def to(self, device: torch.device | str) -> Slices:
        """The same slices on another device."""
        whole = None if self.whole is None else self.whole.to(device, non_blocking=True)
        return replace(self, index=self.index.to(device, non_blocking=True), whole=whole)
