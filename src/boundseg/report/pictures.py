"""Slices side by side: image, weak labels, predictions, reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from jaxtyping import Float, Integer

from boundseg.data.atomic import replacing

# distinguishable without red-green vision, and on grey: Okabe and Ito's palette; then those that are farthest from all
# before them (CIELAB, not near black, grey or white)
COLOURS = (
    *("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00"),
    *("#6600FF", "#00FF00", "#FF00CC", "#FF0066", "#0066FF", "#666600", "#00FF99", "#339900"),
)


@dataclass(frozen=True)
class Row:
    """One slice: the image, and what is drawn over it in each column.

    Attributes:
        title: Beside it.
        image: The slice.
        labels: For each column a label map.
        spacing_mm: Of its rows and columns, so that it is drawn as it is.
    """

    title: str
    image: Float[np.ndarray, "H W"]
    labels: Mapping[str, Integer[np.ndarray, "H W"]]
    spacing_mm: tuple[float, float] = (1.0, 1.0)

    @property
    def height(self) -> float:
        """Over its width."""
        rows, columns = self.image.shape
        return float(rows * self.spacing_mm[0] / (columns * self.spacing_mm[1]))


def draw_slices(
    rows: Sequence[Row], classes: Mapping[str, int], path: Path, ignore: int | None = None, footnote: str = ""
) -> None:
    """Writes a PNG: a row per slice, its image first, then a column for each label map.

    Regions are filled half transparently under their outline; ignored pixels stay plain.

    Args:
        rows: Slices; all have the same columns.
        classes: Names and values of what is drawn.
        path: The file to be written.
        ignore: The value of pixels about which nothing is known.
        footnote: Below the slices.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.lines import Line2D

    columns = ["image", *rows[0].labels]
    heights = [row.height for row in rows]
    figure = Figure(figsize=(1.7 * len(columns), 1.7 * sum(heights) + 0.55), dpi=130, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    for i, row in enumerate(rows):
        low, high = np.percentile(row.image, (1, 99.5))
        for j, column in enumerate(columns):
            ax = axes[i, j]
            ax.imshow(row.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
            ax.set_aspect(row.spacing_mm[0] / row.spacing_mm[1])
            ax.set_xticks([])
            ax.set_yticks([])
            if j:
                _draw_labels(ax, row.labels[column], classes, ignore)
            if i == 0:
                ax.set_title(column, fontsize=8, parse_math=False)
        axes[i, 0].set_ylabel(row.title, fontsize=6, parse_math=False)
    handles = [Line2D([], [], color=colour_of(value)) for value in classes.values()]
    names = ["name"] * len(handles)  # matplotlib leaves out what begins with an underscore
    legend = figure.legend(
        handles, names, loc="outside lower center", ncols=min(len(handles), 8), fontsize=7, frameon=False
    )
    for text, name in zip(legend.get_texts(), classes, strict=True):
        text.set_text(name)
        text.set_parse_math(False)
    if footnote:  # as the legend's title, since labels of the figure would lie under a legend outside
        legend.get_title().set_parse_math(False)
        lines = fill(footnote, round(17 * figure.get_figwidth()))  # letters of that size on an inch
        legend.set_title(lines, FontProperties(size=6.5))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_labels(ax: object, labels: np.ndarray, classes: Mapping[str, int], ignore: int | None) -> None:
    from matplotlib.colors import to_rgba

    overlay = np.zeros((*labels.shape, 4))
    for value in classes.values():
        mask = (labels == value) & (labels != ignore)
        if mask.any():
            overlay[mask] = to_rgba(colour_of(value), 0.45)
            ax.contour(mask, [0.5], colors=[colour_of(value)], linewidths=0.8)  # type: ignore[attr-defined]
    # the aspect is the image's, which imshow would set back
    ax.imshow(overlay, interpolation="nearest", aspect=ax.get_aspect())  # type: ignore[attr-defined]


def colour_of(value: int) -> str:
    """The colour in which a class's value is drawn everywhere."""
    return COLOURS[(value - 1) % len(COLOURS)]
