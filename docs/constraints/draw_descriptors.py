"""Draws what each descriptor moves in an image, and prints by how much boundaries are measured too long.

python docs/constraints/draw_descriptors.py [--out FOLDER] [--steps 400]

One row per constraint: the region, where the constraint pushes probabilities, where it pushes logits, and what becomes
of the region when nothing but the constraint moves the logits. Writes size.png, position-and-shape.png, intensity.png,
boundary.png and box.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from math import pi
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from boundseg.constraints import (
    BoundaryLength,
    Bounds,
    BoxSize,
    BoxTightness,
    Centroid,
    Compactness,
    Constraint,
    Distance,
    Elongation,
    Frame,
    Groups,
    Intensity,
    Leak,
    Moment,
    Ratio,
    Size,
    Spread,
    box_bands,
    box_bounds,
)

SIDE = 48
MORE, LESS = "#0072B2", "#D55E00"  # told apart without red-green vision (Okabe and Ito)
REGION = LinearSegmentedColormap.from_list("region", ["white", MORE])
PUSH = LinearSegmentedColormap.from_list("push", [LESS, "white", MORE])
COLUMNS = ("S, and its level ½", "push on S", "push on the logits", "after descent")
BOX = torch.tensor([[[12, 36], [10, 38]]])  # first line and the one after the last, along both axes
WIDTH, BANDS = 6, 4
PLAIN = Frame.plain(1, 2)

grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")).float()


@dataclass(frozen=True)
class Shown:
    """One row: a constraint, what holds, and how that and a value are written."""

    constraint: Constraint
    probs: Tensor
    bounds: Bounds
    asked: str
    written: Callable[[Tensor, Tensor], str]
    frame: Frame = PLAIN
    marks: Callable[[Axes], object] = lambda ax: None

    def value(self, probs: Tensor) -> str:
        return self.written(self.constraint.measure(probs, self.frame, Groups.each(1)), probs)


def ellipse(
    row: float, column: float, radius: float, stretch: float = 1.0, turn: float = 0.0, edge: float = 1.5
) -> Tensor:
    """Probabilities of a disc with a soft edge, stretched along an axis that is turned from the columns' by degrees."""
    angle = torch.tensor(turn * pi / 180)
    down, right = grid[0] - row, grid[1] - column
    long, short = right * angle.cos() + down * angle.sin(), down * angle.cos() - right * angle.sin()
    return ((radius - (short**2 + (long / stretch) ** 2).sqrt()) / edge).sigmoid()


def prediction(*regions: Tensor, faint: float = 0.02) -> Tensor:
    """``[1, K, SIDE, SIDE]``: the background and these regions, each of which is faintly everywhere."""
    over = torch.stack(regions) * (1 - 2 * faint) + faint
    return torch.cat([1 - over.sum(0, keepdim=True).clamp(max=1 - faint), over]).unsqueeze(0)


def constraint(name: str, descriptor: object, *, pair: bool = False, sharpness: float = 1.0) -> Constraint:
    regions = ((1,), (2,)) if pair else ((1,),)
    return Constraint(name, descriptor, regions, scale=1.0, sharpness=sharpness)  # type: ignore[arg-type]


def at_least(number: float) -> Bounds:
    return Bounds.at_least(torch.tensor([[number]]))


def at_most(number: float) -> Bounds:
    return Bounds.at_most(torch.tensor([[number]]))


def number(pattern: str) -> Callable[[Tensor, Tensor], str]:
    return lambda value, probs: pattern.format(float(value))


def rows_of_size() -> list[Shown]:
    def sizes(value: Tensor, probs: Tensor) -> str:
        region = probs[:, 1:2]
        hard, leak = int((region > 0.5).sum()), float(Leak()(region))
        return f"{float(value):.0f} px; hard {hard} px, leak {leak:.2f}"

    blob, most = prediction(ellipse(23, 23, 13)), at_most(300.0)
    wall = prediction(ellipse(23, 23, 9), ellipse(23, 23, 17) - ellipse(23, 23, 9))
    return [
        Shown(constraint("Size", Size()), blob, most, "at most 300 px", sizes),
        Shown(constraint("Size, sharpness = 2", Size(), sharpness=2.0), blob, most, "at most 300 px", sizes),
        Shown(constraint("Ratio of 1 to 2", Ratio(), pair=True), wall, at_least(0.8), "at least 0.8", number("{:.2f}")),
    ]


def rows_of_position_and_shape() -> list[Shown]:
    blob = prediction(ellipse(23, 18, 9, 1.4))
    two = prediction(ellipse(23, 15, 8), ellipse(23, 33, 6))
    tilted = prediction(ellipse(23, 23, 9, 1.7, turn=35))
    px = number("{:.1f} px")

    def goal(ax: Axes) -> None:
        ax.axvline(26, color="0.4", linewidth=0.8, linestyle=":")

    return [
        Shown(constraint("Centroid, axis 1", Centroid(axis=1)), blob, at_least(26.0), "at least 26 px", px, marks=goal),
        Shown(constraint("Distance of 1 and 2", Distance(), pair=True), two, at_most(12.0), "at most 12 px", px),
        Shown(constraint("Spread, axis 1", Spread(axis=1)), blob, at_most(6.5), "at most 6.5 px", px),
        Shown(constraint("Elongation", Elongation()), tilted, at_most(0.02), "at most 0.02", number("{:.3f}")),
        Shown(constraint("Moment (1, 1)", Moment((1, 1))), tilted, at_most(0.0), "at most 0", number("{:.3f}")),
    ]


def rows_of_intensity() -> list[Shown]:
    organ, neighbour = ((grid[0] - c).square() + (grid[1] - c).square() for c in (20, 36))
    clean = 40 + 100 * (organ < 81) + 60 * (neighbour < 64)
    noisy = clean + 5 * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    frame = replace(PLAIN, image=noisy.reshape(1, 1, SIDE, SIDE))
    blob = prediction(ellipse(26, 26, 11), faint=0.005)

    def edges(ax: Axes) -> None:
        ax.contour(clean, levels=[70, 120], colors="0.45", linewidths=0.8, linestyles=":")

    mean, variance = constraint("Intensity, mean", Intensity()), constraint("variance", Intensity("variance"))
    return [
        Shown(mean, blob, at_least(125.0), "at least 125", number("{:.0f}"), frame, edges),
        Shown(variance, blob, at_most(600.0), "at most 600", number("{:.0f}"), frame, edges),
    ]


def rows_of_boundary() -> list[Shown]:
    down, right = grid[0] - 23, grid[1] - 23
    petals = 13 + 3 * (6 * torch.atan2(down, right)).cos()
    flower = prediction((petals - (down**2 + right**2).sqrt()).sigmoid(), faint=0.001)
    longer = prediction(ellipse(23, 23, 7, 2.4, edge=0.7), faint=0.001)
    length, round_ = constraint("BoundaryLength", BoundaryLength()), constraint("Compactness", Compactness())
    return [
        Shown(length, flower, at_most(85.0), "at most 85 px", number("{:.0f} px")),
        Shown(round_, longer, at_least(0.9), "at least 0.9", number("{:.2f}")),
    ]


def rows_of_box() -> list[Shown]:
    frame = replace(PLAIN, bands=box_bands(BOX, (SIDE, SIDE), WIDTH))
    (top, bottom), (left, right) = BOX[0].tolist()

    def corners(ax: Axes) -> None:
        size = {"width": right - left, "height": bottom - top}
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), **size, fill=False, color="0.3", linewidth=0.8))

    def least(value: Tensor, probs: Tensor) -> str:
        return f"the least band holds {float(value.min()):.1f} px"

    small, off = prediction(ellipse(22, 20, 4), faint=0.005), prediction(ellipse(27, 32, 9), faint=0.005)
    crossed, outside = constraint("BoxTightness", BoxTightness(BANDS)), constraint("BoxSize, outside", BoxSize())
    filled = constraint("BoxSize, inside", BoxSize("inside", "fraction"))
    lines = box_bounds(BOX, WIDTH, BANDS)
    return [
        Shown(crossed, small, lines, "a pixel per line", least, frame, corners),
        Shown(outside, off, at_most(0.0), "at most 0 px", number("{:.0f} px"), frame, corners),
        Shown(filled, small, at_least(0.6), "at least 0.6 of it", number("{:.2f}"), frame, corners),
    ]


PICTURES = {
    "size": rows_of_size,
    "position-and-shape": rows_of_position_and_shape,
    "intensity": rows_of_intensity,
    "boundary": rows_of_boundary,
    "box": rows_of_box,
}


def push(row: Shown, *, logits: bool) -> Tensor:
    """Minus the gradient of the cost."""
    x = (row.probs.log() if logits else row.probs).clone().requires_grad_()
    cost = row.constraint(x.softmax(1) if logits else x, row.bounds, row.frame).mean
    return -torch.autograd.grad(cost, x)[0]


def descend(row: Shown, steps: int) -> Tensor:
    """Moves logits along the gradient of the constraint alone, the fastest by 0.1 a step, until it is kept."""
    logits = row.probs.log()
    for _ in range(steps):
        logits = logits.detach().requires_grad_()
        term = row.constraint(logits.softmax(1), row.bounds, row.frame)
        if bool(term.satisfied[term.bounds.known].all()):
            break
        (slope,) = torch.autograd.grad(term.mean, logits)
        logits = logits - 0.1 * slope / slope.abs().max()
    return logits.detach().softmax(1)


def draw(axes: Sequence[Axes], row: Shown, steps: int) -> None:
    """One row of a picture."""
    after = descend(row, steps)
    panels = [
        (row.probs[0, 1], row.probs, REGION),
        (push(row, logits=False)[0, 1], row.probs, PUSH),
        (push(row, logits=True)[0, 1], row.probs, PUSH),
        (after[0, 1], after, REGION),
    ]
    for ax, (shown, probs, colours) in zip(axes, panels, strict=True):
        low, high = (0.0, 1.0) if colours is REGION else (-float(shown.abs().max()), float(shown.abs().max()))
        ax.imshow(shown, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        for region, line in zip(probs[0, 1:], "-:", strict=False):
            ax.contour(region, levels=[0.5], colors="black", linewidths=1.0, linestyles={"-": "-", ":": "--"}[line])
        row.marks(ax)
        ax.set(xticks=[], yticks=[])
    axes[0].set_xlabel(row.value(row.probs), fontsize=8)
    axes[3].set_xlabel(row.value(after), fontsize=8)
    axes[0].set_ylabel(f"{row.constraint.name}\n{row.asked}", fontsize=8)


def picture(path: Path, rows: Sequence[Shown], steps: int) -> None:
    """All rows of a page, in 128 colours."""
    size = (7.8, 2 * len(rows) + 0.25)
    figure, axes = plt.subplots(len(rows), 4, figsize=size, layout="constrained", squeeze=False)
    for of_row, row in zip(axes, rows, strict=True):
        draw(of_row, row, steps)
    for ax, title in zip(axes[0], COLUMNS, strict=True):
        ax.set_title(title, fontsize=9)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=90)
    plt.close(figure)
    with Image.open(drawn) as full:
        full.convert("RGB").quantize(128).save(path, optimize=True)


def ball(radius: float, voxel: tuple[float, ...], edge: float, shift: Tensor) -> Tensor:
    """A disc or ball, its middle off the grid's by parts of a voxel; S falls from 1 to 0 over ``edge`` (all in mm)."""
    counts = [int((2 * radius + edge) / side) + 6 for side in voxel]
    lines = [(torch.arange(n) - n // 2 - s) * side for n, s, side in zip(counts, shift, voxel, strict=True)]
    distance = torch.stack(torch.meshgrid(*lines, indexing="ij")).square().sum(0).sqrt()
    return ((radius - distance) / edge + 0.5).clamp(0, 1) if edge else (distance <= radius).float()


def bias(voxel: tuple[float, ...], edge: float, radius: float, places: int = 8) -> tuple[Tensor, Tensor]:
    """Relative error of the length (area), and the compactness, over several places on the grid."""
    dims = len(voxel)
    frame = Frame(torch.ones(1, *[1] * dims), torch.tensor([voxel]))
    length, round_ = BoundaryLength("mm"), Compactness(dims, "mm")
    true = 2 * pi * radius if dims == 2 else 4 * pi * radius**2
    shifts = torch.rand(places, dims, generator=torch.Generator().manual_seed(0)) - 0.5
    regions = [ball(radius, voxel, edge, shift)[None, None] for shift in shifts]
    return (
        torch.cat([length(region, frame) for region in regions]) / true - 1,
        torch.cat([round_(region, frame) for region in regions]),
    )


def table() -> None:
    """How much longer than 2 π r (4 π r²) a boundary is measured."""
    radii = (4, 8, 16, 30)
    print(f"| voxel [mm] | edge [mm] | {' | '.join(f'r = {r} mm' for r in radii)} | compactness, r = 8 mm |")
    print(f"|---|---|{'---|' * (len(radii) + 1)}")
    for voxel in ((1.0, 1.0), (1.0, 2.0), (1.0, 4.0), (1.0, 1.0, 1.0), (1.0, 1.0, 2.0), (1.0, 1.0, 4.0)):
        for edge in sorted({0.0, 1.0, 2.0, max(voxel)}):
            found = [bias(voxel, edge, r, 8 if len(voxel) == 2 else 2) for r in radii]
            errors = " | ".join(f"{100 * float(error.mean()):+.1f} %" for error, _ in found)
            of = " × ".join(f"{side:g}" for side in voxel)
            print(f"| {of} | {f'{edge:g}' if edge else 'hard'} | {errors} | {float(found[1][1].mean()):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=400)
    asked = parser.parse_args()
    for name, rows in PICTURES.items():
        picture(asked.out / f"{name}.png", rows(), asked.steps)
    table()


if __name__ == "__main__":
    main()
