"""What of a constraint adds up: over the slices of a volume, over chunks of it, over processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from boundseg.constraints.groups import Groups


@dataclass(frozen=True)
class Totals:
    """All that a constraint needs of what was predicted to price it, a row per image or per group of images.

    Totals of parts add up to those of the whole: a group may be spread over chunks, batches or processes, and its
    term is taken from the sum (:meth:`~boundseg.constraints.Constraint.price`). To be added, all must have their
    squares about the same point; see :meth:`~boundseg.constraints.Constraint.totals`.

    Attributes:
        sums: The descriptor's.
        images: How many images there are.
        uncut: Likewise, where of an image that was cut into pieces each counts as its share.
        holding: How many of them hold any of the case, and not padding alone.
        voxels: Of all of them, padding included.
        cut: For each value, how many images do not show all of its regions.
        amount: What all images say of how much one voxel adds to the value: added up where values grow; of a share
            the inverses, for in a bigger whole a voxel is less. 0 where voxels do not count.
    """

    sums: Float[Tensor, "G R S"]
    images: Float[Tensor, " G"]
    uncut: Float[Tensor, " G"]
    holding: Float[Tensor, " G"]
    voxels: Float[Tensor, " G"]
    cut: Float[Tensor, "G values"]
    amount: Float[Tensor, " G"]

    def __add__(self, other: Totals) -> Totals:
        return self._with(lambda ours, theirs: ours + theirs, other)

    def __sub__(self, other: Totals) -> Totals:
        return self._with(lambda ours, theirs: ours - theirs, other)

    def detach(self) -> Totals:
        """The same numbers as constants."""
        return self._with(Tensor.detach)

    def rows(self, index: Int[Tensor, " N"]) -> Totals:
        """Some of the rows, in that order."""
        return self._with(lambda column: column[index])

    def only(self, where: Bool[Tensor, " G"]) -> Totals:
        """The same rows there, and nothing elsewhere."""
        return self._with(lambda column: column.where(where.reshape(-1, *([1] * (column.ndim - 1))), 0))

    def grouped(self, groups: Groups) -> Totals:
        """Totals of images as those of their groups."""
        return self._with(groups.add)

    def whole(self, parts: Int[Tensor, " G"]) -> Bool[Tensor, "G values"]:
        """Where all of a group is seen: all its images are there, and each shows all of the regions.

        Args:
            parts: How many images make up each group.
        """
        return (self.cut == 0) & (self.images >= parts).unsqueeze(1)

    def pulling(self, gain: Float[Tensor, " G"]) -> Totals:
        """The same numbers, with sums whose gradient is multiplied: see :class:`~boundseg.losses.Elsewhere`."""
        constant = self.sums.detach()
        moved = constant + gain[:, None, None] * (self.sums - constant)
        return replace(self, sums=moved)

    def packed(self) -> Float[Tensor, "G width"]:
        """All columns side by side."""
        return torch.cat([column.flatten(1) if column.ndim > 1 else column.unsqueeze(1) for column in self._columns], 1)

    def unpacked(self, packed: Float[Tensor, "N width"]) -> Totals:
        """What was packed from totals like these."""
        widths = [column[0:1].numel() if len(column) else column.shape[1:].numel() for column in self._columns]
        split = torch.split(packed, widths, dim=1)
        return Totals(
            *(new.reshape(len(packed), *old.shape[1:]) for new, old in zip(split, self._columns, strict=True))
        )

    @property
    def _columns(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def _with(self, change: Callable[..., Tensor], *others: Totals) -> Totals:
        columns = zip(self._columns, *(other._columns for other in others), strict=True)
        return Totals(*(change(*column) for column in columns))
