"""The soft size of a region: the paper's descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.descriptors.descriptor import Traits
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.frame import Frame
from boundseg.constraints.precision import at_least_float32

SizeUnit = Literal["px", "grid_px", "mm2", "mL", "fraction"]
SIZE_UNITS: tuple[SizeUnit, ...] = get_args(SizeUnit)


def converted(bounds: Bounds, of: SizeUnit, to: SizeUnit, frame: Frame, space: tuple[int, ...]) -> Bounds:
    """Bounds on sizes in another unit, by each image's own spacing and grid.

    Args:
        bounds: A row per image, of the unit ``of``.
        of: Their unit.
        to: The unit that is wanted.
        frame: Where the images' voxels lie.
        space: Lengths of the predicted axes.

    Raises:
        ValueError: A unit that needs the frame's spacing, which is not given.
    """
    voxels = torch.Size(space).numel()
    factor = Size(to).per_voxel(frame, voxels) / Size(of).per_voxel(frame, voxels)
    return bounds.times(factor.reshape(-1, *([1] * (bounds.lower.ndim - 1))))


@dataclass(frozen=True)
class Size:
    r"""The soft size of each region, :math:`V = \sum_p w_p S_p` (Kervadec et al. 2019, below eq. 1).

    Args:
        unit: ``px``, the case's own pixels or voxels (:math:`w` from the frame); ``grid_px``, pixels of the
            predicted grid, padding included, each counted once, in which the paper gives its figures;
            ``mm2`` and ``mL``, from the frame's spacing; ``fraction`` of the image,
            :math:`\sum w S / \sum w`.
    """

    unit: SizeUnit = "px"

    def __post_init__(self) -> None:
        if self.unit not in SIZE_UNITS:
            raise ValueError(f"a size has no unit {self.unit!r}: choose one of {', '.join(SIZE_UNITS)}")

    @property
    def traits(self) -> Traits:
        share = self.unit == "fraction"
        return Traits("share" if share else "amount", grows=not share, counts=True, shared=("size", self.unit))

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame | None = None) -> Float[Tensor, "B R"]:
        """Sizes of every region of every image on its own, ``[B, R]``.

        Args:
            probs: Probabilities after softmax (or any soft or hard region), 2D or 3D.
            frame: Where the voxels lie in their cases; left out, each counts once.
        """
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        probs = at_least_float32(probs)
        if self.unit == "grid_px":
            return frame.owned(probs).flatten(2).sum(2, keepdim=True)
        weight = frame.weight.to(probs.dtype).unsqueeze(1)
        uniform = weight.shape[1:].numel() == 1
        size = (
            frame.owned(probs).flatten(2).sum(2) * weight.flatten(1)
            if uniform
            else frame.owned(probs * weight).flatten(2).sum(2)
        ).unsqueeze(2)
        if self.unit == "fraction":
            image = frame.owned(weight.expand(-1, 1, *probs.shape[2:])).flatten(2).sum(2, keepdim=True)
            return torch.cat([size, image.expand_as(size)], dim=2)
        return size * self._per_case_voxel(frame).to(probs.dtype)[:, None, None]

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R"]:
        if self.unit == "fraction":
            return sums[..., 0] / sums[..., 1].clamp(min=torch.finfo(sums.dtype).tiny)
        return sums[..., 0]

    def per_voxel(self, frame: Frame, voxels: int) -> Float[Tensor, " B"]:
        if self.unit == "grid_px":
            return torch.ones_like(frame.voxels_per_voxel)
        if self.unit == "fraction":
            # an axis of 1 stands for all of it: the mean weight is the image's, the sum is not
            return frame.voxels_per_voxel / (frame.owned(frame.weight).flatten(1).mean(1) * voxels)
        return frame.voxels_per_voxel * self._per_case_voxel(frame)

    def _per_case_voxel(self, frame: Frame) -> Tensor:
        """The size of one of the case's voxels in this unit, [B]."""
        if self.unit == "px":
            return frame.weight.new_ones(len(frame.weight))
        if self.unit == "mm2":
            return frame.spacing("mm2", 2).prod(1)
        return frame.spacing("mL", 3).prod(1) / 1000
