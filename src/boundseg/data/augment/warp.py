"""Turning, zooming, shifting and bending by one sampling grid, so that an image is interpolated once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints import Frame
from boundseg.data.augment.draw import Even
from boundseg.data.augment.elastic import Elastic
from boundseg.data.augment.intensity import NONE
from boundseg.data.batches import Batch

SLACK = 0.01  # of a voxel: rounding moves no border


@dataclass(frozen=True)
class Warp:
    r"""A voxel o of the new grid shows what lay at :math:`i = c + A\,(o + u(o) - c - s)` of the old one.

    :math:`A = D^{-1} R(\theta) D / z` turns about the grid's centre c, in mm (D holds the voxel's sides), and zooms; s
    shifts, and u bends. Images are interpolated linearly, and beyond the grid continued by the least value of each
    sample's channel, as preparation pads. Labels and bands go to the nearest voxel, and are unknown (bands: outside)
    beyond the grid. The frame follows, so that bounds stay what they are: its weight is the old one, interpolated,
    times :math:`|\det \partial i / \partial o|`, 0 beyond the grid; its affine map is composed with the new one,
    without u; its image is interpolated as the network's.

    **What is seen.** A class is whole afterwards where it was whole before, and either nothing of the case has left
    the grid (no voxel of positive weight), or the class is declared to keep clear of what has: ``complete``. That is
    the rule of a centre crop. Elsewhere upper bounds on what grows with more voxels still hold, and nothing else.

    Attributes:
        ignore: The label of voxels of which nothing is known.
        complete: For each class, whether what leaves the grid holds none of it.
        turn: In degrees.
        zoom: The logarithm of the factor by which everything becomes larger.
        shift: In voxels of the grid, along both axes.
        elastic: The bending.
    """

    ignore: int
    complete: tuple[bool, ...]
    turn: Even = NONE
    zoom: Even = NONE
    shift: Even = NONE
    elastic: Elastic | None = None

    def __call__(self, batch: Batch) -> Batch:
        """The batch on its new grid; samples of which nothing was drawn are left bit by bit as they were."""
        space, device, count = batch.images.shape[2:], batch.images.device, len(batch.images)
        # float32 throughout: half precision would round positions to half a voxel
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            angle, zoom, shift = (
                even.draw(count, numbers, device) for even, numbers in ((self.turn, 1), (self.zoom, 1), (self.shift, 2))
            )
            index = index_map(angle[:, 0], zoom[:, 0].exp(), shift, sides(batch.frame), space)
            moved = (index != torch.eye(3, device=device)).flatten(1).any(1)
            lines = _lines(space, device)
            larger = (index[:, 0, 0] * index[:, 1, 1] - index[:, 0, 1] * index[:, 1, 0]).abs().reshape(-1, 1, 1)
            at: Tensor = lines
            if self.elastic is not None:
                control = self.elastic.draw(count, space, device)
                displacement, bent = self.elastic.bend(control, space)
                moved = moved | (control != 0).flatten(1).any(1)
                at, larger = lines + displacement, larger * bent
            lost = (batch.frame.weight > 0) & outside(index, lines, space, voxels=True)
            return self._follow(batch, moved, _apply(index, at), larger, index, lost.flatten(1).any(1))

    def _follow(
        self,
        batch: Batch,
        moved: Bool[Tensor, " B"],
        position: Float[Tensor, "B 2 h w"],
        larger: Float[Tensor, "B *#space"],
        index: Float[Tensor, "B 3 3"],
        cut: Bool[Tensor, " B"],
    ) -> Batch:
        frame, space = batch.frame, batch.images.shape[2:]

        def where_moved(to: Tensor, x: Tensor) -> Tensor:
            return torch.where(moved.reshape(-1, *([1] * (to.ndim - 1))), to.to(x.dtype), x)

        share = _share_inside(position, space)
        fields = [batch.images, *([] if frame.image is None else [frame.image]), _on_grid(frame.weight, space)]
        channels = [x.shape[1] for x in fields]
        image, *original, weight = torch.split(
            _linear(torch.cat([x.float() for x in fields], 1), position), channels, 1
        )
        least = batch.images.amin((2, 3), keepdim=True)
        image = least + (image - least) * share.unsqueeze(1)
        whole = frame.whole
        if whole is None:
            whole = torch.ones(len(cut), len(self.complete), dtype=torch.bool, device=cut.device)
        complete = torch.tensor(self.complete).to(cut.device, non_blocking=True)
        affine = _affine(frame)
        return replace(
            batch,
            images=where_moved(image, batch.images),
            labels=where_moved(_nearest(batch.labels.unsqueeze(1), position, self.ignore)[:, 0], batch.labels),
            frame=replace(
                frame,
                weight=where_moved(weight[:, 0] * share * larger, frame.weight),
                affine=where_moved(_composed(affine, index), affine),
                whole=whole & (complete | ~cut.unsqueeze(1)),
                image=where_moved(original[0], frame.image) if frame.image is not None else None,
                bands=None if frame.bands is None else where_moved(_nearest(frame.bands, position, 0), frame.bands),
            ),
        )


def index_map(
    degrees: Float[Tensor, " B"],
    zoom: Float[Tensor, " B"],
    shift: Float[Tensor, "B 2"],
    sides: Float[Tensor, "B 2"],
    space: torch.Size,
) -> Float[Tensor, "B 3 3"]:
    """Which index before an index afterwards stands for, without bending; homogeneous.

    Args:
        degrees: By which things turn about the grid's centre.
        zoom: The factor by which they become larger.
        shift: By how many voxels they move, after that.
        sides: Of a voxel, in any unit of length.
        space: Rows and columns.
    """
    turn = degrees.deg2rad()
    cosine, sine = turn.cos() / zoom, turn.sin() / zoom
    flat = sides[:, 1] / sides[:, 0]
    linear = torch.stack([cosine, sine * flat, -sine / flat, cosine], 1).reshape(-1, 2, 2)
    centre = _of_axes([(n - 1) / 2 for n in space], shift)
    index = torch.eye(3, device=turn.device).repeat(len(turn), 1, 1)
    index[:, :2, :2] = linear
    # no matrix product, which TF32 would round to a tenth of a pixel
    index[:, :2, 2] = centre - (linear * (centre + shift).unsqueeze(1)).sum(2)
    return index


def outside(
    index: Float[Tensor, "B 3 3"], points: Float[Tensor, "#B 2 *n"], space: torch.Size, *, voxels: bool = False
) -> Bool[Tensor, "B *n"]:
    """Which points of the old grid the new one does not hold, or which voxels it does not hold in full.

    Bending changes nothing of that: it maps the grid onto itself.

    Args:
        index: See :func:`index_map`.
        points: Indices of the old grid.
        space: Rows and columns of both.
        voxels: Whether the points stand for their voxels.
    """
    (a, b), (c, d) = (row.unbind(1) for row in index[:, :2, :2].unbind(1))
    back = torch.stack([d, -b, -c, a], 1).reshape(-1, 2, 2) / (a * d - b * c).reshape(-1, 1, 1)
    inverse = torch.cat([back, -(back * index[:, :2, 2].unsqueeze(1)).sum(2, keepdim=True)], 2)
    found = _apply(inverse, points)
    half = back.abs().sum(2) / 2 if voxels else torch.zeros_like(back[:, 0])
    reach = half.reshape(len(index), 2, *([1] * (points.ndim - 2)))
    last = _of_axes([n - 0.5 for n in space], index).reshape(2, *([1] * (points.ndim - 2)))
    return ((found - reach < -0.5 - SLACK) | (found + reach > last + SLACK)).any(1)


def sides(frame: Frame) -> Float[Tensor, "B 2"]:
    """The sides of a grid's voxels, in mm where the spacing is known and else in voxels of the case."""
    linear = _affine(frame)[:, :2, :2]
    if frame.spacing_mm is not None:
        linear = linear * frame.spacing_mm[:, :2].unsqueeze(2)
    return linear.square().sum(1).sqrt()


def _affine(frame: Frame) -> Float[Tensor, "B D columns"]:
    eye = torch.eye(2, 3, device=frame.weight.device).expand(len(frame.weight), -1, -1)
    return eye if frame.affine is None else frame.affine


def _composed(affine: Float[Tensor, "B D columns"], index: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B D columns"]:
    """The affine map after the indices of its first two axes; the step to the next slice stays."""
    in_plane = torch.cat([affine[..., :2], affine[..., -1:]], -1)
    found = (in_plane.unsqueeze(-1) * index.unsqueeze(1)).sum(-2)
    return torch.cat([found[..., :2], affine[..., 2:-1], found[..., 2:]], -1)


def _of_axes(numbers: list[float], like: Tensor) -> Float[Tensor, " 2"]:
    # not on the device at once, which would wait for it
    return torch.tensor(numbers, dtype=like.dtype).to(like.device, non_blocking=True)


def _lines(space: torch.Size, device: torch.device) -> Float[Tensor, "1 2 h w"]:
    lines = [torch.arange(n, dtype=torch.float32, device=device) for n in space]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")).unsqueeze(0)


def _apply(index: Float[Tensor, "B rows 3"], points: Float[Tensor, "#B 2 *n"]) -> Float[Tensor, "B 2 *n"]:
    first, second, last = (x.reshape(*x.shape, *([1] * (points.ndim - 2))) for x in index[:, :2].unbind(2))
    return first * points[:, :1] + second * points[:, 1:] + last


def _on_grid(weight: Float[Tensor, "B *#space"], space: torch.Size) -> Float[Tensor, "B 1 h w"]:
    return weight.expand(-1, *space).unsqueeze(1)


def _share_inside(position: Float[Tensor, "B 2 h w"], space: torch.Size) -> Float[Tensor, "B h w"]:
    """How much of each interpolated value comes from inside of the grid: 1, but for a voxel at its border."""
    rows, columns = (torch.minimum(at + 1, n - at).clamp(0, 1) for at, n in zip(position.unbind(1), space, strict=True))
    return rows * columns


def _linear(fields: Float[Tensor, "B C h w"], position: Float[Tensor, "B 2 h w"]) -> Float[Tensor, "B C h w"]:
    """Linear interpolation; beyond the grid, the value at its border."""
    height, width = fields.shape[2:]
    row, column = position.unbind(1)
    grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)
    return F.grid_sample(fields, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _nearest(fields: Tensor, position: Float[Tensor, "B 2 h w"], beyond: int) -> Tensor:
    """The value of the nearest voxel, whatever it stands for; beyond the grid, another one."""
    height, width = fields.shape[2:]
    row, column = (position + 0.5).floor().long().unbind(1)
    within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    flat = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1).unsqueeze(1)
    found = fields.flatten(2).gather(2, flat.expand(-1, fields.shape[1], -1)).reshape(fields.shape)
    return torch.where(within.unsqueeze(1), found, beyond)
