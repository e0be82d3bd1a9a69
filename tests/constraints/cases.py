"""Predictions with a known answer: what the tests of constraints draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import (
    BoundaryLength,
    Bounds,
    BoxSize,
    BoxTightness,
    Centroid,
    Compactness,
    Descriptor,
    Distance,
    Elongation,
    Fractional,
    Frame,
    Groups,
    Intensity,
    Leak,
    Moment,
    Ratio,
    Size,
    Spread,
)

BANDS = 3


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Hard predictions, 2D or 3D, made of one block per class, and the size of every class."""
    dims = draw(st.sampled_from([2, 3]))
    batch, classes = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    space = [draw(st.integers(2, 7)) for _ in range(dims)]
    labels = torch.zeros(batch, *space, dtype=torch.long)
    for image in labels:
        for value in range(1, classes):
            corner = [draw(st.integers(0, n - 1)) for n in space]
            block = tuple(slice(c, draw(st.integers(c, n))) for c, n in zip(corner, space, strict=True))
            image[block] = value
    probs = torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()
    sizes = torch.tensor([[(image == value).sum() for value in range(classes)] for image in labels]).float()
    return probs, sizes


@st.composite
def soft(draw: st.DrawFn, batch: int | None = None, classes: int | None = None) -> Tensor:
    """Soft predictions from random logits, float64."""
    batch = batch or draw(st.integers(1, 4))
    classes = classes or draw(st.integers(2, 4))
    space = [draw(st.integers(2, 6)) for _ in range(draw(st.sampled_from([2, 3])))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randn(batch, classes, *space, generator=generator, dtype=torch.float64).softmax(1)


@st.composite
def values_and_bounds(draw: st.DrawFn, least: float = -1e4) -> tuple[Tensor, Bounds]:
    """Values of at least ``least``, and bounds that are two-sided, one-sided, equal or unknown."""
    settings = {"min_value": least, "max_value": 1e4, "allow_nan": False, "width": 32}
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        low, high = sorted([draw(st.floats(**settings)), draw(st.floats(**settings))])
        kind = draw(st.sampled_from(["both", "lower", "upper", "equal", "unknown"]))
        lower = {"upper": -torch.inf, "unknown": -torch.inf}.get(kind, low)
        upper = {"lower": torch.inf, "unknown": torch.inf, "equal": low}.get(kind, high)
        rows.append((draw(st.floats(**settings)), lower, upper))
    value, lower, upper = torch.tensor(rows, dtype=torch.float64).T
    return value, Bounds(lower, upper)


def random_frame(probs: Tensor, seed: int) -> Frame:
    """A frame with weights that vary over the image and padding on one side."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(len(probs), *probs.shape[2:], generator=generator) + 0.5
    weight[..., 0] = 0
    return Frame(weight, torch.rand(len(probs), 3, generator=generator) + 0.5)


@dataclass(frozen=True)
class Row:
    """A descriptor in the table of all, and to which laws it is an exception.

    Attributes:
        make: The descriptor for a case of so many axes.
        needs: Which parts of a frame it reads beside ``weight`` and ``affine``.
        unit: In which it is measured: ``px`` or ``mm`` of the case, ``grid``, or none, so that neither matters.
        surface: It measures surfaces: slices of a volume do not show theirs, and on a finer grid a staircase has
            finer steps.
        moves: Its value says where a region is.
        by_axes: Its value depends on how many axes there are.
        flat: It speaks of the axes of an image, of which a slice has two and its volume three.
    """

    make: Callable[[int], Descriptor]
    needs: tuple[str, ...] = ()
    unit: str = ""
    surface: bool = False
    moves: bool = False
    by_axes: bool = False
    flat: bool = False


def depth(frame: Frame, space: torch.Size) -> Tensor:
    """A potential that is a function of the case: a slope along its first two axes."""
    along = frame.coordinates(space)
    return along[:, 0] / 2 + along[:, 1]


def powers(*first: int) -> Callable[[int], tuple[int, ...]]:
    """Powers of the first axes, 0 for those that are left."""
    return lambda axes: first + (0,) * (axes - len(first))


DESCRIPTORS: dict[str, Row] = {
    "size in px": Row(lambda _: Size(), unit="px"),
    "size in grid_px": Row(lambda _: Size("grid_px"), unit="grid"),
    "size in mm2": Row(lambda _: Size("mm2"), ("spacing_mm",), "mm"),
    "size in mL": Row(lambda _: Size("mL"), ("spacing_mm",), "mm"),
    "size as a fraction": Row(lambda _: Size("fraction")),
    "ratio": Row(lambda _: Ratio()),
    "leak": Row(lambda _: Leak()),
    "centroid": Row(lambda _: Centroid(), unit="px", moves=True, by_axes=True),
    "centroid in mm": Row(lambda _: Centroid("mm"), ("spacing_mm",), "mm", moves=True, by_axes=True),
    "centroid along axis 1": Row(lambda _: Centroid("mm", 1), ("spacing_mm",), "mm", moves=True),
    "distance": Row(lambda _: Distance(), unit="px"),
    "distance in mm": Row(lambda _: Distance("mm"), ("spacing_mm",), "mm"),
    "spread": Row(lambda _: Spread(), unit="px", by_axes=True),
    "spread in mm": Row(lambda _: Spread("mm"), ("spacing_mm",), "mm", by_axes=True),
    "spread along axis 0": Row(lambda _: Spread("mm", 0), ("spacing_mm",), "mm"),
    "elongation": Row(lambda _: Elongation(), unit="px", by_axes=True),
    "elongation in mm": Row(lambda _: Elongation("mm"), ("spacing_mm",), "mm", by_axes=True),
    "moment 2": Row(lambda axes: Moment(powers(1, 1)(axes)), unit="px", by_axes=True),
    "moment 3": Row(lambda axes: Moment(powers(2, 1)(axes)), unit="px", by_axes=True),
    "moment 3 in mm": Row(lambda axes: Moment(powers(0, 3)(axes), "mm"), ("spacing_mm",), "mm", by_axes=True),
    "moment 4": Row(lambda axes: Moment((3, 1) if axes == 2 else (1, 1, 2)), unit="px", by_axes=True),
    "moment 4 in mm": Row(lambda axes: Moment(powers(4, 0)(axes), "mm"), ("spacing_mm",), "mm", by_axes=True),
    "mean intensity": Row(lambda _: Intensity(), ("image",)),
    "variance of intensity": Row(lambda _: Intensity("variance", 1), ("image",)),
    "boundary": Row(lambda _: BoundaryLength(), unit="px", surface=True),
    "boundary in mm": Row(lambda _: BoundaryLength("mm"), ("spacing_mm",), "mm", surface=True),
    "compactness": Row(Compactness, unit="px", surface=True),
    "compactness in mm": Row(lambda axes: Compactness(axes, "mm"), ("spacing_mm",), "mm", surface=True),
    "box tightness": Row(lambda _: BoxTightness(BANDS), ("bands",), "px", by_axes=True, flat=True),
    "size outside of a box": Row(lambda _: BoxSize(), ("bands",), "px"),
    "size inside of a box": Row(lambda _: BoxSize("inside"), ("bands",), "px"),
    "filled share of a box": Row(lambda _: BoxSize("inside", "fraction"), ("bands",)),
    "share outside of a box": Row(lambda _: BoxSize("outside", "fraction"), ("bands",)),
    "size inside of a second box": Row(lambda _: BoxSize("inside", box=1), ("bands",), "px", by_axes=True, flat=True),
    "mean of a potential": Row(lambda _: Fractional(depth), unit="px", moves=True),
}


@dataclass(frozen=True)
class Situation:
    """A soft prediction, float64, and a frame in which everything is given."""

    probs: Tensor
    frame: Frame

    @property
    def dims(self) -> int:
        return self.probs.ndim - 2

    def plain(self) -> Situation:
        """The same where predicted and case voxels are the same."""
        weight = self.frame.weight.new_ones(len(self.probs), *([1] * self.dims))
        return Situation(self.probs, replace(self.frame, weight=weight, affine=None))

    def images(self, order: Tensor) -> Situation:
        """Some of the images, in that order."""
        f = self.frame
        assert f.spacing_mm is not None and f.image is not None and f.bands is not None
        affine = None if f.affine is None else f.affine[order]
        moved = Frame(f.weight[order], f.spacing_mm[order], None, affine, f.image[order], f.bands[order], f.halo)
        return Situation(self.probs[order], moved)

    def regridded(
        self,
        change: Callable[[Tensor], Tensor],
        steps: Tensor,
        start: Tensor,
        halo: tuple[int, ...] = (),
    ) -> Situation:
        """Prediction and frame on another grid, of which index i lies at ``steps i + start`` of this one.

        Args:
            change: What happens to the last axes of every tensor that lies on the grid.
            steps: A matrix, [dims, dims].
            start: A vector, [dims].
            halo: Of the new frame.
        """
        f, dims = self.frame, self.dims
        assert f.affine is not None and f.image is not None and f.bands is not None
        ours = f.affine[:, :, :dims]
        offset = f.affine[:, :, -1] + ours @ start
        affine = torch.cat([ours @ steps, f.affine[:, :, dims:-1], offset.unsqueeze(2)], 2)
        uniform = f.weight[0].numel() == 1
        weight = (f.weight if uniform else change(f.weight)) * torch.linalg.det(steps).abs()
        moved = replace(f, weight=weight, affine=affine, image=change(f.image), bands=change(f.bands), halo=halo)
        return Situation(change(self.probs), moved)


def situation(space: tuple[int, ...], batch: int = 2, weights: str = "varying", seed: int = 0) -> Situation:
    """Four regions of each image in a frame of its own: turned, sheared, stretched, far from the origin.

    Weights are one for all voxels (``uniform``), or vary and are 0 in padding.
    """
    dims = len(space)
    generator = torch.Generator().manual_seed(seed)

    def uniformly(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low

    turn, _ = torch.linalg.qr(uniformly(-1, 1, batch, dims, dims))
    stretched = torch.eye(dims).double() + uniformly(-0.3, 0.3, batch, dims, dims).triu(1)
    steps = turn @ stretched * uniformly(0.5, 2, batch, 1, dims)
    frame = Frame.at(torch.cat([steps, uniformly(-9, 9, batch, dims, 1)], 2), dims, uniformly(0.5, 2, batch, 3))
    weight = frame.weight
    if weights == "varying":
        weight = weight * uniformly(0.5, 1.5, batch, *space)
        weight[..., -1] = 0
    image = 1000 + 10 * uniformly(-1, 1, batch, 2, *space)
    bands = torch.randint(BANDS + 1, (batch, 2 * dims, *space), generator=generator)
    probs = (2 * uniformly(-1, 1, batch, 4, *space)).softmax(1)
    return Situation(probs, replace(frame, weight=weight, image=image, bands=bands))


def slices(volume: Situation) -> tuple[Situation, Groups]:
    """The slices of volumes along their last axis, and what belongs together."""
    f, (batch, depth) = volume.frame, (len(volume.probs), volume.probs.shape[-1])
    assert f.spacing_mm is not None and f.affine is not None and f.image is not None and f.bands is not None
    number = torch.arange(depth, dtype=f.affine.dtype).repeat(batch)
    affine = f.affine.repeat_interleave(depth, 0)
    offset = affine[:, :, 3] + affine[:, :, 2] * number.unsqueeze(1)

    def unstacked(voxels: Tensor) -> Tensor:
        return voxels.movedim(-1, 1).flatten(0, 1)

    weight = unstacked(f.weight.expand(-1, -1, -1, depth))
    frame = Frame(
        weight,
        f.spacing_mm.repeat_interleave(depth, 0),
        None,
        torch.cat([affine[:, :, :3], offset.unsqueeze(2)], 2),
        unstacked(f.image),
        unstacked(f.bands),
    )
    groups = Groups(torch.arange(batch).repeat_interleave(depth), torch.full((batch,), depth))
    return Situation(unstacked(volume.probs), frame), groups
