"""Mirrors and transposes: voxels change places, and nothing is interpolated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.data.batches import Batch


def mirror(batch: Batch) -> Batch:
    """Reverses the rows, the columns (and the slices of volumes) of each sample with probability ½ each; nothing is
    interpolated."""
    axes = batch.images.ndim - 2
    for axis in range(axes):
        # index i of the mirrored grid is index n - 1 - i of the grid before
        index = torch.eye(4)
        index[axis, axis], index[axis, 3] = -1, batch.images.shape[axis + 2] - 1
        chosen = _coins(batch)
        batch = _follow(batch, chosen, lambda x, axis=axis: x.flip(axis - axes), index)  # type: ignore[misc]
        slices = batch.frame.slices
        if axis == 2 and slices is not None:
            batch = replace(batch, frame=replace(batch.frame, slices=slices.mirrored(chosen)))
    return batch


def transpose(batch: Batch) -> Batch:
    """Exchanges rows and columns of each sample with probability ½; with :func:`mirror`, all quarter turns.

    Raises:
        ValueError: The grid is not square.
    """
    rows, columns = batch.images.shape[2:4]
    first, second = (axis - batch.images.ndim for axis in (2, 3))
    if rows != columns:
        raise ValueError(f"rows and columns of a grid of {rows}x{columns} cannot be exchanged: use a square one")
    return _follow(batch, _coins(batch), lambda x: x.transpose(first, second), torch.eye(4)[[1, 0, 2, 3]])


AUGMENTATIONS: dict[str, Callable[[Batch], Batch]] = {"mirror": mirror, "transpose": transpose}


def _after(affine: Float[Tensor, "B D columns"], index: Float[Tensor, "4 4"]) -> Float[Tensor, "B D columns"]:
    # no matrix product, which TF32 would round to a tenth of a pixel
    return (affine.unsqueeze(-1) * index.to(affine)).sum(-2)


def _coins(batch: Batch) -> Tensor:
    return torch.rand(len(batch.images), device=batch.images.device) < 0.5


def _follow(batch: Batch, chosen: Tensor, move: Callable[[Tensor], Tensor], index: Float[Tensor, "4 4"]) -> Batch:
    """Moves whatever lies on the grid alike, in the chosen samples, and says in the frame where it lies now.

    Args:
        move: What happens to the axes of the grid, the last two or three.
        index: Which index before, homogeneous and with that of the slice, an index afterwards stands for.
    """

    def moved(x: Tensor, to: Tensor) -> Tensor:
        return torch.where(chosen.reshape(-1, *([1] * (x.ndim - 1))), to, x)

    def on_grid(x: Tensor) -> Tensor:
        return moved(x, move(x))

    frame = batch.frame
    return replace(
        batch,
        images=on_grid(batch.images),
        labels=on_grid(batch.labels),
        frame=replace(
            frame,
            weight=on_grid(frame.weight),
            affine=None if frame.affine is None else moved(frame.affine, _after(frame.affine, index)),
            image=None if frame.image is None else on_grid(frame.image),
            bands=None if frame.bands is None else on_grid(frame.bands),
        ),
    )
