"""Bounding boxes as constraints: nothing outside, every side touched, the inside filled to a share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.descriptors.descriptor import Traits
from boundseg.constraints.descriptors.fractional import NOTHING
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.frame import Frame


@dataclass(frozen=True)
class BoxTightness:
    r"""The size of a region within each band of its bounding box.

    .. math:: V_s = \sum_{p \in s} w_p S_p \geq |s|

    A box is tight: every line of voxels that crosses it from side to side meets the region at least once, and so a
    band of n such lines holds at least n voxels of it (Kervadec, Dolz, Wang, Granger, Ben Ayed, MIDL 2020, eq. 3).
    Bands of several lines are easier to keep for a soft region than single lines, and forgive a box that is drawn a
    little too large. The bands are in the frame, :func:`box_bands` makes them, :func:`box_bounds` their bounds.

    Args:
        bands: How many bands a direction has at most, as given to both.
        box: Which of the frame's boxes, where there are several.

    Raises:
        ValueError: The frame's boxes have more bands (told on the CPU; a GPU stops with an assertion).
    """

    bands: int
    box: int = 0

    @property
    def traits(self) -> Traits:
        return Traits(domain="amount", grows=True, counts=True, partial=True)

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R bands"]:
        """Sizes in each band, those of the first direction first."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        mass, bands = frame.mass(probs), _bands(frame, self.box)
        index = frame.owned(bands).flatten(2).long().unsqueeze(1)
        shape = (*mass.shape[:2], index.shape[2], -1)
        sums = mass.new_zeros(*shape[:3], self.bands + 1)
        try:
            within = sums.scatter_add(3, index.expand(shape), mass.flatten(2).unsqueeze(2).expand(shape))
        except RuntimeError as error:
            if "out of bounds" not in str(error):
                raise
            raise ValueError(
                f"the frame's boxes have more bands than BoxTightness({self.bands}) is of ({error}): give it and "
                "box_bounds the most that a side of a box has, its length over the width"
            ) from error
        area = frame.mass(torch.ones_like(probs[:, :1])).expand_as(mass)
        held = sums.scatter_add(3, index.expand(shape), area.flatten(2).unsqueeze(2).expand(shape))
        return torch.cat([within[..., 1:].flatten(2), held[..., 1:].flatten(2)], dim=2)

    def value(self, sums: Float[Tensor, "G R S"]) -> Float[Tensor, "G R bands"]:
        return sums.chunk(2, dim=-1)[0]

    def defined(self, sums: Float[Tensor, "G R S"]) -> Bool[Tensor, "G R bands"]:
        # on a grid of wider steps than a band, some bands hold no voxel
        return sums.chunk(2, dim=-1)[1] > 0

    def per_voxel(self, frame: Frame, voxels: int) -> Float[Tensor, " B"]:
        return frame.voxels_per_voxel


@dataclass(frozen=True)
class BoxSize:
    """The size of a region inside, or outside, of its bounding box.

    With an upper bound of 0 outside it says that elsewhere is empty. Inside, a box is filled to a share that is
    roughly known of most organs: an ellipse fills π / 4 of its box.

    Args:
        part: ``inside`` or ``outside`` of the box.
        unit: ``px``, voxels of the case, or ``fraction`` of that part.
        box: Which of the frame's boxes, where there are several.
    """

    part: Literal["inside", "outside"] = "outside"
    unit: Literal["px", "fraction"] = "px"
    box: int = 0

    def __post_init__(self) -> None:
        if self.part not in ("inside", "outside") or self.unit not in ("px", "fraction"):
            raise ValueError(
                f"BoxSize({self.part!r}, {self.unit!r}): the part is inside or outside, the unit px or fraction"
            )

    @property
    def traits(self) -> Traits:
        return Traits(domain="amount", grows=self.unit == "px", counts=True)

    def __call__(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R"]:
        """Sizes of every region of every image on its own."""
        return measure(self, probs, frame)

    def sums(self, probs: Float[Tensor, "B R *space"], frame: Frame) -> Float[Tensor, "B R 2"]:
        mass = frame.mass(probs)
        size = torch.where(self._part(frame), mass, 0).flatten(2).sum(2)
        return torch.stack([size, self._area(frame).to(size.dtype).expand_as(size)], dim=2)

    def value(self, sums: Float[Tensor, "G R 2"]) -> Float[Tensor, "G R"]:
        if self.unit == "px":
            return sums[..., 0]
        return sums[..., 0] / sums[..., 1].clamp(min=torch.finfo(sums.dtype).tiny)

    def per_voxel(self, frame: Frame, voxels: int) -> Float[Tensor, " B"]:
        # an image without a box has an area of 0, and no bounds to be priced
        return frame.voxels_per_voxel / (1 if self.unit == "px" else self._area(frame)[:, 0].clamp(min=NOTHING))

    def _part(self, frame: Frame) -> Bool[Tensor, "B 1 *space"]:
        inside = frame.owned(_bands(frame, self.box)[:, :1] > 0)
        return inside if self.part == "inside" else ~inside

    def _area(self, frame: Frame) -> Float[Tensor, "B 1"]:
        return (frame.owned(frame.weight.unsqueeze(1)) * self._part(frame)).flatten(2).sum(2)


def box_bands(
    box: Integer[Tensor, "B D 2"], space: tuple[int, ...], width: int, lines: Tensor | None = None
) -> Integer[Tensor, "B D *space"]:
    """Numbers the bands of bounding boxes, direction by direction; 0 is outside.

    The last band takes the lines that are left over, so that none is narrower than ``width`` unless the box is. The
    map goes with the image like a label: cropped, flipped, turned, resampled to the nearest voxel.

    Args:
        box: First line and the one after the last, along each axis; an empty box (0, 0) has no bands.
        space: Lengths of the axes.
        width: Lines of a band, in voxels.
        lines: Left out, the axes' own; else ``[B, D, *space]``, where each voxel lies in the grid of the box.
    """
    if lines is None:
        axes = [torch.arange(n, device=box.device) for n in space]
        lines = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(box), -1, *space)
    first, after = (box[..., side].reshape(*box.shape[:2], *([1] * len(space))) for side in (0, 1))
    nearest = (lines + 0.5).floor().long() if lines.is_floating_point() else lines
    inside = ((nearest >= first) & (nearest < after)).all(1, keepdim=True)
    last = ((after - first) // width).clamp(min=1)
    return torch.where(inside, torch.minimum((nearest - first) // width, last - 1) + 1, 0)


def box_bounds(box: Integer[Tensor, "B D 2"], width: int, bands: int) -> Bounds:
    """At least as many voxels in each band as it has lines; unknown for bands that a box does not have.

    Args:
        box: As given to :func:`box_bands`.
        width: Lines of a band.
        bands: How many bands a direction has at most.

    Returns:
        ``[B, 1, D * bands]``, for :class:`BoxTightness` of one region.
    """
    length = box[..., 1] - box[..., 0]
    count = (length // width).clamp(min=1)
    number = torch.arange(bands, device=box.device)
    lines = torch.where(
        number < count.unsqueeze(-1) - 1, width, length.unsqueeze(-1) - width * (count.unsqueeze(-1) - 1)
    )
    exists = (number < count.unsqueeze(-1)) & (length.unsqueeze(-1) > 0)
    lower = torch.where(exists, lines.float(), -torch.inf).flatten(1).unsqueeze(1)
    return Bounds(lower, torch.full_like(lower, torch.inf))


def _bands(frame: Frame, box: int) -> Tensor:
    if frame.bands is None:
        raise ValueError("a box needs the frame's bands, which are not given: make them with box_bands")
    directions = frame.bands.ndim - 2
    bands = frame.bands[:, box * directions : (box + 1) * directions]
    if not bands.shape[1]:
        raise ValueError(f"box {box} is not among the frame's bands, which have {frame.bands.shape[1]} directions")
    return bands
