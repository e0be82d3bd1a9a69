"""What belongs together: the slices of a volume, of which other chunks and ranks may hold some."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Groups:
    """Which images of a batch are parts of one thing that a bound speaks of.

    Each image is in the batch once: a slice that was drawn twice would be added twice, and its volume be too large.
    (:class:`boundseg.accumulate.Streaming`, which knows the numbers of images, counts it once.)

    Attributes:
        index: The group of each image, ``0 <= index < G``.
        parts: How many images make up each group when all of them are there.
    """

    index: Int[Tensor, " B"]
    parts: Int[Tensor, " G"]

    @classmethod
    def each(cls, batch: int, device: torch.device | None = None) -> Groups:
        """Every image is a group by itself: bounds per slice (or per volume, for 3D predictions)."""
        return cls(torch.arange(batch, device=device), torch.ones(batch, dtype=torch.long, device=device))

    @classmethod
    def by_name(cls, names: Sequence[Hashable], parts: Mapping[Hashable, int]) -> Groups:
        """Images with the same name belong together; groups are numbered by first appearance.

        Args:
            names: The group's name of each image of the batch.
            parts: How many images each named group has in all; a group of which fewer are in the batch is
                seen in part.
        """
        order = {name: i for i, name in enumerate(dict.fromkeys(names))}
        return cls(
            torch.tensor([order[name] for name in names], dtype=torch.long),
            torch.tensor([parts[name] for name in order], dtype=torch.long),
        )

    def add(self, sums: Float[Tensor, "B *more"]) -> Float[Tensor, "G *more"]:
        """Adds the sums of the images of each group."""
        return sums.new_zeros(len(self.parts), *sums.shape[1:]).index_add(0, self.index, sums)

    def mean(self, numbers: Float[Tensor, " B"]) -> Float[Tensor, " G"]:
        """The mean over the images of each group."""
        return self.add(numbers) / self.add(torch.ones_like(numbers)).clamp(min=1)

    def whole(self, seen: Bool[Tensor, "B *more"]) -> Bool[Tensor, "G *more"]:
        """Where all of a group is seen: all its images are in the batch, and each of them is seen whole."""
        missing = self.add((~seen).to(torch.float32))
        present = self.add(torch.ones(len(self.index), device=seen.device)).to(self.parts.dtype)
        complete = (present >= self.parts).reshape(-1, *([1] * (seen.ndim - 1)))
        return (missing == 0) & complete

    def to(self, device: torch.device | str) -> Groups:
        """The same groups on another device."""
        return Groups(self.index.to(device, non_blocking=True), self.parts.to(device, non_blocking=True))
