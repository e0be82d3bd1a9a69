"""The law that every descriptor keeps."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.frame import Frame
from boundseg.constraints.penalties import Domain


@dataclass(frozen=True)
class Traits:
    """What others must know of a descriptor; the defaults promise nothing.

    Attributes:
        domain: What its values may be: ``any`` number, an ``amount`` (never negative), a ``share`` (0 to 1) of
            something that all regions together make up. Penalties declare what they can price.
        grows: More voxels never lower the value, so that an upper bound holds for a part as well.
        counts: Every voxel adds a known amount, so that violations can be counted in voxels; then it has
            :meth:`Counting.per_voxel`.
        partial: The value may be undefined (the centroid of nothing); then it has :meth:`Partial.defined`.
        arity: How many regions make one value: 2 for a ratio or a distance.
        about: The descriptor whose value, measured before, serves as the frame's ``centre``.
        neighbours: Reads what lies beside a voxel, so that images of one volume which are cut apart need a halo.
        shared: Descriptors for which this is equal (and not None) have the same sums.
    """

    domain: Domain = "any"
    grows: bool = False
    counts: bool = False
    partial: bool = False
    arity: int = 1
    about: Descriptor | None = None
    neighbours: bool = False
    shared: Hashable = None


@runtime_checkable
class Descriptor(Protocol):
    """A function of sums over voxels.

    The law: wherever voxels are divided into parts, ``value(sums(part_1) + sums(part_2) + …)`` equals
    ``value(sums(all))``. So one descriptor serves slices, volumes, chunks and ranks: whoever knows what
    belongs together adds the sums and takes the value once.
    """

    @property
    def traits(self) -> Traits:
        """What others must know of it."""
        ...

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        """Adds up over the voxels of each image, for each region; float32, or float64 if given that."""
        ...

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G values *components"]:
        """Turns sums into values by a closed form; finite, with zero gradient, where undefined.

        One per region (or per ``traits.arity`` regions), or several in a further dimension, such as the
        coordinates of a centroid.
        """
        ...


class Counting(Protocol):
    """A descriptor to which every voxel adds a known amount."""

    def per_voxel(self, frame: Frame, voxels: int) -> Float[Tensor, " B"]:
        """What one predicted voxel adds to the value.

        Args:
            frame: Where the voxels lie.
            voxels: How many voxels a predicted image has, padding included.
        """
        ...


class Partial(Protocol):
    """A descriptor whose value may be undefined."""

    def defined(self, sums: Float[Tensor, "G R S"]) -> Bool[Tensor, "G values *#components"]:
        """Where the value means something."""
        ...
