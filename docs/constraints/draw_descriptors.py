"""Draws what each descriptor moves in an image, and prints by how much boundaries are measured too long.

python docs/constraints/draw_descriptors.py [--out FOLDER]

One row per constraint: the region, where the constraint pushes probabilities, where it pushes logits, and what becomes
of the region when nothing but the constraint moves the logits. Writes size.png, position-and-shape.png, intensity.png,
boundary.png and box.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import pi
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
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
STEPS, RATE = 200, 0.05
BOX = torch.tensor([[[12, 36], [10, 38]]])  # first line and the one after the last, along both axes
WIDTH = 6

grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")).float()


@dataclass(frozen=True)
class Shown:
    """One row: a constraint, what holds, and how that is written."""

    constraint: Constraint
    probs: Tensor
    bounds: Bounds
    title: str
    frame: Frame = Frame.plain(1, 2)
    marks: Callable[[Axes], object] = lambda ax: None
    value: Callable[[Tensor], str] = lambda found: f"{float(found):.3g}"


def disc(row: float, column: float, radius: float, stretch: float = 1.0, edge: float = 1.5) -> Tensor:
    """Probabilities of a disc (an ellipse, stretched along the columns) with a soft edge."""
    distance = ((grid[0] - row) ** 2 + ((grid[1] - column) / stretch) ** 2).sqrt()
    return ((radius - distance) / edge).sigmoid()


def image(*regions: Tensor, faint: float = 0.02) -> Tensor:
    """``[1, K, SIDE, SIDE]``: the background and these regions, each of which is faintly everywhere."""
    over = torch.stack(regions) * (1 - 2 * faint) + faint
    return torch.cat([1 - over.sum(0, keepdim=True).clamp(max=1 - faint), over]).unsqueeze(0)


def asked(name: str, descriptor: object, **options: object) -> Constraint:
    regions = options.pop("regions", ((1,),))
    return Constraint(name, descriptor, regions, scale=1.0, **options)  # type: ignore[arg-type]


def only(number: float) -> Tensor:
    return torch.tensor([[number]])


def rows_of_size() -> list[Shown]:
    blob = image(disc(23, 23, 13))
    most = Bounds.at_most(only(300.0))
    size = asked("Size", Size())
    sharp = replace(size, name="Size, sharpness = 2", sharpness=2.0)
    wall = image(disc(23, 23, 9), disc(23, 23, 17) - disc(23, 23, 9))
    ratio = asked("Ratio of 1 to 2", Ratio(), regions=((1,), (2,)))
    return [
        Shown(size, blob, most, "at most 300 px", value=lambda v: f"{float(v):.0f} px"),
        Shown(sharp, blob, most, "at most 300 px", value=lambda v: f"{float(v):.0f} px"),
        Shown(ratio, wall, Bounds.at_least(only(0.8)), "at least 0.8", value=lambda v: f"{float(v):.2f}"),
    ]


def rows_of_position_and_shape() -> list[Shown]:
    blob = image(disc(23, 18, 9, 1.4))
    px = lambda v: f"{float(v):.1f} px"  # noqa: E731
    two = image(disc(23, 15, 8), disc(23, 33, 6))
    tilted = image(torch.maximum(disc(18, 18, 8), disc(29, 29, 8)))
    return [
        Shown(
            asked("Centroid, axis 1", Centroid(axis=1)),
            blob,
            Bounds.at_least(only(26.0)),
            "at least 26 px",
            marks=lambda ax: ax.axvline(26, color="0.4", linewidth=0.8, linestyle=":"),
            value=px,
        ),
        Shown(
            asked("Distance of 1 and 2", Distance(), regions=((1,), (2,))),
            two,
            Bounds.at_most(only(10.0)),
            "at most 10 px",
            value=px,
        ),
        Shown(asked("Spread, axis 1", Spread(axis=1)), blob, Bounds.at_most(only(6.0)), "at most 6 px", value=px),
        Shown(asked("Elongation", Elongation()), tilted, Bounds.at_most(only(0.02)), "at most 0.02"),
        Shown(asked("Moment, powers (1, 1)", Moment((1, 1))), tilted, Bounds.at_most(only(0.01)), "at most 0.01"),
    ]


def rows_of_intensity() -> list[Shown]:
    generator = torch.Generator().manual_seed(0)
    bright = disc(20, 20, 9, edge=0.5)
    noise = 10 * torch.randn(SIDE, SIDE, generator=generator)
    picture = 40 + 100 * bright + 50 * disc(36, 36, 8, edge=0.5) + noise
    frame = replace(Frame.plain(1, 2), image=picture.reshape(1, 1, SIDE, SIDE))
    blob = image(disc(26, 26, 11), faint=0.005)
    show = lambda ax: ax.contour(picture, levels=[65, 115], colors="0.55", linewidths=0.6)  # noqa: E731
    return [
        Shown(asked("Intensity, mean", Intensity()), blob, Bounds.at_least(only(125.0)), "at least 125", frame, show),
        Shown(
            asked("Intensity, variance", Intensity("variance")),
            blob,
            Bounds.at_most(only(400.0)),
            "at most 400",
            frame,
            show,
            value=lambda v: f"{float(v):.0f}",
        ),
    ]


def rows_of_boundary() -> list[Shown]:
    angle = torch.atan2(grid[0] - 23, grid[1] - 23)
    distance = ((grid[0] - 23) ** 2 + (grid[1] - 23) ** 2).sqrt()
    flower = image(((13 + 3 * (6 * angle).cos() - distance) / 1.0).sigmoid(), faint=0.001)
    return [
        Shown(
            asked("BoundaryLength", BoundaryLength()),
            flower,
            Bounds.at_most(only(85.0)),
            "at most 85 px",
            value=lambda v: f"{float(v):.0f} px",
        ),
        Shown(
            asked("Compactness", Compactness()),
            flower,
            Bounds.at_least(only(0.95)),
            "at least 0.95",
            value=lambda v: f"{float(v):.2f}",
        ),
    ]


def rows_of_box() -> list[Shown]:
    frame = replace(Frame.plain(1, 2), bands=box_bands(BOX, (SIDE, SIDE), WIDTH))
    bands = 5
    (top, bottom), (left, right) = BOX[0].tolist()

    def corners(ax: Axes) -> None:
        box = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color="0.3", linewidth=0.8)
        ax.add_patch(box)

    small = image(disc(22, 21, 7), faint=0.005)
    off = image(disc(27, 32, 9), faint=0.005)
    return [
        Shown(
            asked("BoxTightness", BoxTightness(bands)),
            small,
            box_bounds(BOX, WIDTH, bands),
            f"{WIDTH} px or more per band",
            frame,
            corners,
            value=lambda v: "least " + f"{float(v[v > 0].min()):.1f} px",
        ),
        Shown(
            asked("BoxSize outside", BoxSize()),
            off,
            Bounds.at_most(only(0.0)),
            "at most 0 px",
            frame,
            corners,
            value=lambda v: f"{float(v):.0f} px",
        ),
        Shown(
            asked("BoxSize inside, fraction", BoxSize("inside", "fraction")),
            small,
            Bounds(only(0.6), only(0.9)),
            "0.6 to 0.9",
            frame,
            corners,
            value=lambda v: f"{float(v):.2f}",
        ),
    ]


PICTURES = {
    "size": rows_of_size,
    "position-and-shape": rows_of_position_and_shape,
    "intensity": rows_of_intensity,
    "boundary": rows_of_boundary,
    "box": rows_of_box,
}


def descend(row: Shown) -> Tensor:
    """Moves logits by the constraint alone until it is kept, 200 steps at most; Adam has no say in where."""
    logits = row.probs.log().clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=RATE)
    for _ in range(STEPS):
        term = row.constraint(logits.softmax(1), row.bounds, row.frame)
        if bool(term.satisfied[term.bounds.known].all()):
            break
        optimizer.zero_grad()
        term.mean.backward()
        optimizer.step()
    return logits.detach().softmax(1)


def draw(axes: Sequence[Axes], row: Shown) -> None:
    """One row of a picture."""
    probs = row.probs.clone().requires_grad_()
    logits = row.probs.log().clone().requires_grad_()
    (on_probs,) = torch.autograd.grad(row.constraint(probs, row.bounds, row.frame).mean, probs)
    (on_logits,) = torch.autograd.grad(row.constraint(logits.softmax(1), row.bounds, row.frame).mean, logits)
    after = descend(row)
    panels = [
        (row.probs[0, 1], row.probs, REGION, 1.0),
        (-on_probs[0, 1], row.probs, PUSH, None),
        (-on_logits[0, 1], row.probs, PUSH, None),
        (after[0, 1], after, REGION, 1.0),
    ]
    for ax, (picture, of, colours, most) in zip(axes, panels, strict=True):
        limit = most or float(picture.abs().max()) or 1.0
        ax.imshow(picture, cmap=colours, vmin=0 if most else -limit, vmax=limit, interpolation="nearest")
        for region in range(1, of.shape[1]):
            ax.contour(of[0, region], levels=[0.5], colors="black", linewidths=0.9, linestyles="-" if region == 1 else "--")
        row.marks(ax)
        ax.set(xticks=[], yticks=[])
    for ax, of in ((axes[0], row.probs), (axes[3], after)):
        found = row.constraint.measure(of, row.frame, _each())
        ax.set_xlabel(row.value(found), fontsize=8)
    axes[0].set_ylabel(f"{row.constraint.name}\n{row.title}", fontsize=8)


def _each():  # noqa: ANN202
    from boundseg.constraints import Groups

    return Groups.each(1)


def picture(path: Path, rows: Sequence[Shown]) -> None:
    """All rows of a page."""
    figure, axes = plt.subplots(len(rows), 4, figsize=(7.6, 1.95 * len(rows) + 0.25), layout="constrained", squeeze=False)
    for of_row, row in zip(axes, rows, strict=True):
        draw(of_row, row)
    for ax, title in zip(axes[0], COLUMNS, strict=True):
        ax.set_title(title, fontsize=9)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    for name, rows in PICTURES.items():
        picture(out / f"{name}.png", rows())


if __name__ == "__main__":
    main()
