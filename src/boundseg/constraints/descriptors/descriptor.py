"""The law that every descriptor keeps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from boundseg.constraints.frame import Frame


@runtime_checkable
class Descriptor(Protocol):
    """A function of sums over voxels.

    The law: wherever voxels are divided into parts, ``value(sums(part_1) + sums(part_2) + …)`` equals
    ``value(sums(all))``. So one descriptor serves slices, volumes, chunks and ranks: whoever knows what
    belongs together adds the sums and takes the value once.
    """

    @property
    def grows(self) -> bool:
        """Whether more voxels never lower the value, so that an upper bound holds for a part as well."""
        ...

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        """Adds up over the voxels of each image, for each region; float32, or float64 if given that."""
        ...

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R"]:
        """Turns sums into the value by a closed form."""
        ...

    def per_voxel(self, frame: Frame, voxels: int) -> Float[Tensor, " B"]:
        """What one predicted voxel adds to the value, by which violations are counted in voxels.

        Args:
            frame: Where the voxels lie.
            voxels: How many voxels a predicted image has, padding included.
        """
        ...
