"""Where predicted voxels lie in their case: bounds speak of the case, and the grid is what moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from boundseg.constraints.precision import at_least_float32
from boundseg.constraints.slices import Slices

LengthUnit = Literal["px", "mm"]


def require_length(unit: str, what: str) -> None:
    """Refuses a unit that is no length.

    Raises:
        ValueError: It is neither ``px`` nor ``mm``.
    """
    if unit not in get_args(LengthUnit):
        raise ValueError(f"a {what} has no unit {unit!r}: choose px (voxels of the case) or mm")


@dataclass(frozen=True)
class Frame:
    """What preparation and augmentation did to the case, for each image of a batch.

    A bound is a statement about the case as it lies on disk. Whatever resampled, padded, cropped, turned or
    stretched it on the way to the network is written here, so that a descriptor of the prediction is a
    descriptor of the case and no bound is ever rewritten.

    Attributes:
        weight: How many of the case's voxels each predicted voxel stands for (:math:`|\\det J|`); 0 in
            padding. Dimensions of size 1 broadcast, so that a batch without padding needs ``[B, 1, 1]``.
        spacing_mm: Size in mm of the case's voxels along the case's axes: for slices, the two axes of the slice
            and then its thickness. None where it is not known: then nothing can be measured in mm, mm2 or mL.
        whole: Per class, whether the prediction covers all of the class in this image. None means that it
            does. A centre crop covers a part, unless the part left out is declared to hold none of the class.
        affine: ``[A | b]``: the predicted voxel of index i lies at ``A i + b``, in voxels of the case, the centre
            of whose first voxel is 0. For a slice of a volume D = 3 and the last index is 0, so that the last
            column of A is one step to the next slice. None: predicted and case voxels are the same.
        image: The case's image at the predicted voxels, in the case's own intensities, before any augmentation
            of intensities; for descriptors that read it.
        bands: For each predicted axis, the number of the band of a bounding box in which a voxel lies, 0 outside; see
            :func:`~boundseg.constraints.box_bands`. Several boxes (of several classes) follow one another.
        halo: How many voxels at the end of each predicted axis belong to the next chunk of the case and are here
            as neighbours only; empty means none.
        centre: For each image and region, about what squares are summed. It changes no value, but float32 keeps
            its digits where it lies near the region's own centre; :meth:`Constraint.measure` fills it in.
        slices: Of 3D predictions, which slices of them are slices of the case. Given, a constraint of scope ``slice``
            measures each of these; left out, each prediction.
        piece: Which share of an image each one is, where images of three axes were cut into pieces that make them up;
            None: they are whole.
    """

    weight: Float[Tensor, "B *#space"]
    spacing_mm: Float[Tensor, "B axes"] | None = None
    whole: Bool[Tensor, "B K"] | None = None
    affine: Float[Tensor, "B D columns"] | None = None
    image: Float[Tensor, "B C *image"] | None = None
    bands: Integer[Tensor, "B directions *image"] | None = None
    halo: tuple[int, ...] = ()
    centre: Float[Tensor, "B R n"] | None = None
    slices: Slices | None = None
    piece: Float[Tensor, " B"] | None = None

    @classmethod
    def plain(cls, batch: int, space_dims: int, device: torch.device | None = None) -> Frame:
        """The case itself: every voxel counts once and everything is seen."""
        return cls(torch.ones(batch, *([1] * space_dims), device=device))

    @classmethod
    def at(
        cls,
        affine: Float[Tensor, "B D columns"],
        space_dims: int,
        spacing_mm: Float[Tensor, "B axes"] | None = None,
        inside: Bool[Tensor, "B *space"] | None = None,
    ) -> Frame:
        """A grid that was moved over the case by an affine map, as an augmentation does.

        Args:
            affine: See the attribute.
            space_dims: How many axes a prediction has.
            spacing_mm: See the attribute.
            inside: Which predicted voxels lie inside of the case; left out, all of them.
        """
        weight = torch.linalg.det(affine[:, :, :-1]).abs().reshape(-1, *([1] * space_dims))
        return cls(weight if inside is None else weight * inside, spacing_mm, affine=affine)

    def require_images(self, shape: Sequence[int]) -> None:
        """Refuses a frame of other images: what broadcasts by accident would mix them.

        Args:
            shape: Of the probabilities, ``[B, K, *space]``.

        Raises:
            ValueError: A tensor has another number of images, or the weight another grid.
        """
        batch, _, *space = shape
        weight = list(self.weight.shape)
        if len(weight) != 1 + len(space) or not all(n in (1, m) for n, m in zip(weight[1:], space, strict=True)):
            raise ValueError(
                f"the frame's weight of shape {weight} meets predictions of {batch} images of "
                f"{'x'.join(map(str, space))}: give [B, *space], where an axis of 1 stands for all"
            )
        for name in ("weight", "spacing_mm", "whole", "affine", "image", "bands", "centre", "piece"):
            tensor = getattr(self, name)
            if tensor is not None and len(tensor) != batch:
                raise ValueError(f"the frame's {name}: of {len(tensor)} images, and there are {batch} predictions")

    @property
    def voxels_per_voxel(self) -> Float[Tensor, " B"]:
        """How many of the case's voxels one predicted voxel stands for on average, padding left aside."""
        weight = self.weight.flatten(1)
        return weight.sum(1) / (weight > 0).sum(1).clamp(min=1)

    def in_plane(self) -> Frame:
        """The frame of slices as images of two axes: what a bound per slice speaks of."""
        if self.affine is None or self.affine.shape[1] == self.weight.ndim - 1:
            return self
        return replace(self, affine=self.affine[:, :-1, [0, 1, 3]])

    def of_slices(self) -> Frame:
        """The frame of the slices of 3D predictions, as that of slices which were predicted by themselves.

        Raises:
            ValueError: It does not say which slices there are.
        """
        if self.slices is None:
            raise ValueError("this frame does not say which slices of a 3D prediction are slices of the case")
        slices = self.slices
        affine = self.affine
        if affine is None:
            affine = torch.eye(3, 4, device=self.weight.device).expand(len(self.weight), -1, -1)
        affine = affine.index_select(0, slices.image)
        # the index of a slice seen by itself is 0: what it was goes into the offset
        offset = affine[..., 3:] + affine[..., 2:3] * slices.position.to(affine.dtype).reshape(-1, 1, 1)
        return Frame(
            slices.of(self.weight),
            None if self.spacing_mm is None else self.spacing_mm.index_select(0, slices.image),
            slices.whole,
            torch.cat([affine[..., :3], offset], dim=2),
            None if self.image is None else slices.of(self.image),
            None if self.bands is None else slices.of(self.bands),
            self.halo[:2],
        )

    def affine_in(self, unit: LengthUnit, space_dims: int, dtype: torch.dtype) -> Float[Tensor, "B D columns"]:
        """The affine map to positions in voxels (``px``) or mm of the case.

        Raises:
            ValueError: ``mm`` without a spacing.
        """
        affine = self.affine
        if affine is None:
            eye = torch.eye(space_dims, space_dims + 1, dtype=dtype, device=self.weight.device)
            affine = eye.expand(len(self.weight), -1, -1)
        affine = affine.to(dtype)
        return affine if unit == "px" else affine * self.spacing("mm", affine.shape[1]).to(dtype).unsqueeze(2)

    def spacing(self, unit: str, axes: int) -> Float[Tensor, "B n"]:
        """The case's spacing along its first axes, for a value in that unit.

        Raises:
            ValueError: It is not given, or of fewer axes.
        """
        if self.spacing_mm is None:
            raise ValueError(f"a value in {unit} needs the frame's spacing_mm, which is not given")
        if self.spacing_mm.shape[1] < axes:
            found = self.spacing_mm.shape[1]
            raise ValueError(f"a value in {unit} needs a spacing_mm of {axes} axes, and the frame's has {found}")
        return self.spacing_mm[:, :axes]

    def coordinates(self, space: torch.Size, unit: LengthUnit = "px") -> Float[Tensor, "B D *space"]:
        """Where each predicted voxel lies in the case; 0 is the centre of the case's first voxel.

        Args:
            space: The predicted axes' lengths.
            unit: Voxels of the case, or mm.
        """
        affine = self.affine_in(unit, len(space), self.weight.dtype)
        lines = [torch.arange(n, dtype=affine.dtype, device=affine.device) for n in space]
        index = torch.meshgrid(*lines, indexing="ij")
        columns = [column.reshape(*column.shape, *([1] * len(space))) for column in affine.unbind(-1)]
        # no matrix product: autocast would put it into half precision
        position = columns[-1].expand(*affine.shape[:2], *space)
        for axis, line in enumerate(index):
            position = position + columns[axis] * line
        return position

    def owned(self, voxels: Tensor) -> Tensor:
        """Leaves the halo out of a tensor whose last axes are the predicted ones."""
        for axis, width in enumerate(reversed(self.halo), 1):
            # a broadcast axis of length 1 stands for the owned voxels as well
            if width and voxels.shape[-axis] > 1:
                voxels = voxels.narrow(-axis, 0, voxels.shape[-axis] - width)
        return voxels

    def mass(self, probs: Float[Tensor, "B R *space"]) -> Float[Tensor, "B R *owned"]:
        """What each voxel adds to a region's size, in voxels of the case; without the halo, float32 at least."""
        probs = at_least_float32(probs)
        return self.owned(probs * self.weight.to(probs.dtype).unsqueeze(1))

    def to(self, device: torch.device | str) -> Frame:
        """The same frame on another device."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Tensor | Slices] = {
            name: x.to(device, non_blocking=True) for name, x in held.items() if isinstance(x, Tensor)
        }
        if self.slices is not None:
            moved["slices"] = self.slices.to(device)
        return Frame(**(held | moved))
