"""From probabilities on a training's grid to label maps on a volume's own."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from boundseg.data.placement import Placement


def restore(probs: Float[Tensor, "B K h w"], placement: Placement) -> Float[Tensor, "B K H W"]:
    """:meth:`Placement.restore` where the probabilities lie, batch first: the same values."""
    whole = probs[(..., *placement.on_grid)]
    if placement.cut:
        inside, whole = whole, probs.new_zeros(*probs.shape[:2], *placement.resampled)
        whole[:, 0] = 1
        whole[(..., *placement.of_resampled)] = inside
    if placement.resampled == placement.shape:
        return whole
    planes = whole.flatten(0, 1).unsqueeze(1).contiguous()
    planes = F.interpolate(planes, placement.shape, mode="bilinear", align_corners=False, antialias=True)
    return planes.reshape(*probs.shape[:2], *placement.shape)


def most_probable(probs: Float[Tensor, "B K *space"], classes: int | None = None) -> UInt8[Tensor, "B *space"]:
    """The most probable output of every voxel, the first of equals; beyond the classes they are spare and read as 0."""
    # class by class: a reduction over an axis that is not the last is ten times slower
    greatest = probs[:, 0].clone()
    labels = torch.zeros_like(greatest, dtype=torch.uint8)
    for k in range(1, probs.shape[1]):
        more = probs[:, k] > greatest
        labels.masked_fill_(more, k if classes is None or k < classes else 0)
        torch.maximum(greatest, probs[:, k], out=greatest)
    return labels


def label_map(probs: Float[np.ndarray, "K S H W"], classes: int | None = None) -> UInt8[np.ndarray, "S H W"]:
    """:func:`most_probable` of an array, classes first."""
    return np.asarray(most_probable(torch.from_numpy(np.require(probs, requirements="W")).movedim(0, 1), classes))


def label_volume(parts: Iterable[Float[Tensor, "B K H W"]], classes: int | None = None) -> UInt8[np.ndarray, "S H W"]:
    """:func:`most_probable` of a volume's slices, which come in parts."""
    return np.concatenate([most_probable(part, classes).cpu().numpy() for part in parts])
