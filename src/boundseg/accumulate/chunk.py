"""A part of a batch that fits into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from boundseg.constraints import Bounds, Frame, Groups
from boundseg.losses import Rows


@runtime_checkable
class Chunk(Protocol):
    """Some images of a step and what is known about them; :class:`boundseg.data.batches.Batch` is one.

    A volume may be spread over several chunks. Each of them gives in ``rows["volume"]`` the number by which all chunks
    (and all processes) know it, and the bounds of that volume, or unknown ones: a side that one chunk knows holds for
    all, and those that know it must agree. An image is in one chunk as a whole, and once.
    """

    @property
    def images(self) -> Float[Tensor, "B C *space"]:
        """What the network sees."""
        ...

    @property
    def labels(self) -> Integer[Tensor, "B *space"]:
        """Class indices and the ignore label."""
        ...

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        """For each constraint's name, a row per image or per volume."""
        ...

    @property
    def frame(self) -> Frame | None:
        """Where the predicted voxels lie in their cases."""
        ...

    @property
    def volumes(self) -> Groups | None:
        """Which images are of one volume, and of how many each volume consists in all."""
        ...

    @property
    def rows(self) -> Rows | None:
        """Which of all slices and of all volumes they are."""
        ...


C = TypeVar("C", bound=Chunk)


def nothing_of(chunk: C, ignore: int = 255) -> C:
    """A chunk of the same shapes that adds nothing: no labels, no bounds, no voxels, of no volume.

    For a process that has nothing in a step and must take part in it: an odd number of cases on two ranks.

    Args:
        chunk: Any, of a class that :func:`dataclasses.replace` takes.
        ignore: The label of pixels about which nothing is known, the objective's.
    """
    frame = chunk.frame or Frame.plain(len(chunk.images), chunk.images.ndim - 2, chunk.images.device)
    return cast(
        C,
        replace(
            cast(Any, chunk),
            labels=torch.full_like(chunk.labels, ignore),
            bounds={name: Bounds.unknown(*b.lower.shape, device=b.lower.device) for name, b in chunk.bounds.items()},
            frame=replace(frame, weight=torch.zeros_like(frame.weight)),
            rows={scope: torch.full_like(rows, -1) for scope, rows in (chunk.rows or {}).items()},
        ),
    )
