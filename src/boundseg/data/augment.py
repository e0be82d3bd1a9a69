"""Augmentation of whole batches, on the device: each sample drawn for itself, labels and frame following."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from boundseg.data.batches import Batch


def mirror(batch: Batch) -> Batch:
    """Reverses the rows, and the columns, of each sample with probability ½; nothing is interpolated."""
    for axis in (-2, -1):
        chosen = _coins(batch)
        batch = _follow(batch, chosen, lambda x, axis=axis: x.flip(axis))  # type: ignore[misc]
    return batch


def transpose(batch: Batch) -> Batch:
    """Exchanges rows and columns of each sample with probability ½; with :func:`mirror`, all quarter turns.

    Raises:
        ValueError: The grid is not square.
    """
    rows, columns = batch.images.shape[-2:]
    if rows != columns:
        raise ValueError(f"rows and columns of a grid of {rows}x{columns} cannot be exchanged: use a square one")
    chosen = _coins(batch)
    turned = _follow(batch, chosen, lambda x: x.transpose(-1, -2))
    spacing = batch.frame.spacing_mm
    if spacing is None:
        return turned
    exchanged = torch.where(chosen[:, None], spacing[:, [1, 0, *range(2, spacing.shape[1])]], spacing)
    return replace(turned, frame=replace(turned.frame, spacing_mm=exchanged))


AUGMENTATIONS: dict[str, Callable[[Batch], Batch]] = {"mirror": mirror, "transpose": transpose}


def _coins(batch: Batch) -> Tensor:
    return torch.rand(len(batch.images), device=batch.images.device) < 0.5


def _follow(batch: Batch, chosen: Tensor, move: Callable[[Tensor], Tensor]) -> Batch:
    """Moves images, labels and weights of the chosen samples alike."""

    def moved(x: Tensor) -> Tensor:
        return torch.where(chosen.reshape(-1, *([1] * (x.ndim - 1))), move(x), x)

    return replace(
        batch,
        images=moved(batch.images),
        labels=moved(batch.labels),
        frame=replace(batch.frame, weight=moved(batch.frame.weight)),
    )
