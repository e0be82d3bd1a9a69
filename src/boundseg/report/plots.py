"""The report's figures, as SVG that takes its text colour from the page, light or dark."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd

# distinguishable without red-green vision (Okabe and Ito), and on white and on near-black
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8c8c8c", "#b3a100")
Links = Mapping[str, Sequence[str | None]]  # for each run an address per point, or None for a point without
STYLES = ("-", "--", ":")
_INK = "#010203"  # stands for the page's text colour until the SVG is written
BAND = {"color": "#888888", "alpha": 0.35, "linewidth": 0, "step": "post"}  # between bounds
LETTERS_ABOVE, LETTERS_BESIDE = 60, 26  # of a name in a legend, and beside a box: more would leave no room for the plot
SIZE = (4.4, 2.7)  # inches: a figure of a telephone's width keeps readable letters


def curves(series: Mapping[str, Sequence[tuple[float, float]]], label: str, *, log: bool = False) -> str:
    """A line per run over the epochs.

    Args:
        series: For each run's name, pairs of an epoch and a value; a run without any is not drawn, and the others
            keep their colours.
        label: Of the vertical axis.
        log: Whether the vertical axis is logarithmic.
    """
    figure, ax = _figure()
    lines: dict[str, Any] = {}
    for i, (name, points) in enumerate(series.items()):
        if not points:
            continue
        epochs, values = np.asarray(points, float).T
        style = STYLES[i // len(COLOURS) % len(STYLES)]
        marker = "o" if len(points) == 1 else None
        (lines[name],) = ax.plot(epochs, values, style, color=colour(i), linewidth=1.4, marker=marker, markersize=3)
    if log and any(value > 0 for points in series.values() for _, value in points):
        ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel(label)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, lines)


def boxes(values: Mapping[str, Sequence[float]], label: str, links: Links | None = None) -> str:
    """A box per run: median, quartiles, whiskers to the farthest value within 1.5 quartile distances; every value
    as a dot beside it, which is a link where ``links`` has one for each value."""
    figure, ax = _figure(height=0.7 + 0.34 * len(values))
    jitter = np.random.default_rng(0)
    titles = shortened(list(values), LETTERS_BESIDE)
    for i, (name, all_values) in enumerate(values.items()):
        defined = np.asarray(all_values, float)
        known = ~np.isnan(defined)
        defined = defined[known]
        y = len(values) - 1 - i
        if len(defined):
            low, median, high = np.quantile(defined, (0.25, 0.5, 0.75))
            reach = defined[(defined >= low - 1.5 * (high - low)) & (defined <= high + 1.5 * (high - low))]
            ax.plot([reach.min(), reach.max()], [y, y], color=_INK, linewidth=0.8, zorder=1)
            ax.barh(y, high - low, left=low, height=0.5, color=colour(i), alpha=0.55, zorder=2)
            ax.plot([median, median], [y - 0.25, y + 0.25], color=_INK, linewidth=1.6, zorder=4)
            spread = y + jitter.uniform(-0.16, 0.16, len(defined))
            dots = ax.scatter(defined, spread, s=9, color=_INK, alpha=0.55, linewidths=0, zorder=3)
            if links:
                _link(dots, [link for link, there in zip(links[name], known, strict=True) if there])
        beside = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center", "fontsize": 8, "color": _INK}
        ax.text(-0.01, y, titles[i], **beside)
    ax.set_yticks([])
    ax.set_ylim(-0.6, len(values) - 0.4)
    ax.set_xlabel(label)
    return _svg(figure)


def against_bounds(rows: pd.DataFrame, unit: str, run: int = 0, links: Sequence[str | None] | None = None) -> str:
    """Soft values of slices or volumes over their bounds, in the order of the bounds.

    Args:
        rows: Known rows of an evaluation's ``constraints`` of one constraint.
        unit: Of the values.
        run: Its number among the runs.
        links: One for each row.
    """
    figure, ax = _figure()
    sides = rows[["lower", "upper"]].replace([np.inf, -np.inf], np.nan)
    placed = rows.assign(middle=sides.mean(axis=1), place=np.arange(len(rows)))
    order = placed.sort_values(["middle", "soft"])
    x = np.arange(len(order))
    bottom, top = _range(np.concatenate([order["soft"].to_numpy(float), sides.to_numpy(float).ravel()]))
    lower = order["lower"].to_numpy(float).clip(min=bottom)
    upper = order["upper"].to_numpy(float).clip(max=top)
    # steps from edge to edge: each bound is as wide as the others, the first and the last one too
    edges = np.append(x - 0.5, len(x) - 0.5)
    band = ax.fill_between(edges, np.append(lower, lower[-1]), np.append(upper, upper[-1]), **BAND)
    dots = ax.scatter(x, order["soft"], s=9, color=colour(run), linewidths=0)
    if links:
        _link(dots, [links[place] for place in order["place"]])
    ax.set_ylim(bottom, top)
    ax.set_xlabel(f"{len(order)} bounds, in their order")
    ax.set_ylabel(unit)
    return _svg(figure, {"within bounds": band, "soft value": dots})


def against_truth(points: Mapping[str, Sequence[tuple[float, float]]], unit: str, links: Links | None = None) -> str:
    """Predicted over true sizes, a dot per case and run, and the line on which they are equal.

    Args:
        points: For each run's name, pairs of a true and a predicted size.
        unit: Of both.
        links: For each run's name, one for each pair.
    """
    figure, ax = _figure()
    drawn: dict[str, Any] = {}
    for i, (name, pairs) in enumerate(points.items()):
        true, predicted = np.asarray(pairs, float).reshape(-1, 2).T
        drawn[name] = ax.scatter(true, predicted, s=14, color=colour(i), alpha=0.8, linewidths=0)
        if links:
            _link(drawn[name], links[name])
    low, high = ax.get_xlim()
    ax.plot([low, high], [low, high], color=_INK, linewidth=0.8, zorder=1)
    ax.set_xlabel(f"true [{unit}]")
    ax.set_ylabel(f"predicted [{unit}]")
    return _svg(figure, drawn)


def _range(values: np.ndarray) -> tuple[float, float]:
    """What an axis shows: from 0 where values come near it (sizes), else around them (positions)."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    bottom = 0.0 if 0 <= low < high / 2 or low == high == 0 else low - margin
    return bottom, high + margin


def _figure(height: float = SIZE[1]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    ax = figure.subplots()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    return figure, ax


def _svg(figure: Any, legend: Mapping[str, Any] | None = None) -> str:
    """The figure as text; ``legend`` has what was drawn for each name."""
    from matplotlib import rc_context

    (ax,) = figure.axes
    ax.tick_params(which="both", colors=_INK, labelsize=8)  # both: a logarithmic axis has numbers at its minor ticks
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_color(_INK)
        axis.label.set_fontsize(8.5)
        axis.get_offset_text().set_color(_INK)
    for spine in ax.spines.values():
        spine.set_color(_INK)
    words = [ax.xaxis.label, ax.yaxis.label, *ax.texts]
    if legend:
        widest = max(map(_letters, legend))
        columns = 1 if widest > LETTERS_BESIDE else 2 if widest > 14 else 3
        drawn = figure.legend(
            list(legend.values()),
            ["name"] * len(legend),  # matplotlib leaves out what begins with an underscore
            loc="outside upper left",
            ncols=min(columns, len(legend)),
            fontsize=8,
            frameon=False,
            labelcolor=_INK,
        )
        for text, name in zip(drawn.get_texts(), shortened(list(legend), LETTERS_ABOVE), strict=True):
            text.set_text(name)
        words += drawn.get_texts()
    for text in words:
        text.set_parse_math(False)  # a name may hold dollars
    written = StringIO()
    # text stays text, in the page's font; a fixed salt gives the same bytes for the same figure
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "boundseg", "font.family": "sans-serif"}
    with rc_context(settings), warnings.catch_warnings():
        # of matplotlib's own font, by which it measures; the page's fonts draw the letters
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = written.getvalue()
    # matplotlib's links open another window; these stay on their page
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor").replace(' target="_blank"', "")
    return _own_names(re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)))


def _link(dots: Any, links: Sequence[str | None]) -> None:
    """A link for every dot, and one more: matplotlib 3.8 draws a single dot with a single link without it."""
    dots.set_urls([*links, *links[:1]])


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Names of at most so many letters, beginning and end; numbered where that makes them alike."""
    cut = [name if _letters(name) <= most else _cut(name, most) for name in names]
    return cut if len(set(cut)) == len(cut) else [f"{number}: {name}" for number, name in enumerate(cut, 1)]


def _cut(name: str, most: int) -> str:
    head, tail = "", ""
    while _letters(head + tail) < most - 2:
        head, tail = name[: len(head) + 1], name[len(name) - len(tail) - 1 :]
    return f"{head}…{tail}"


def _letters(text: str) -> int:
    """How wide a text is, in letters; Chinese and its like take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _own_names(svg: str) -> str:
    """Gives clip paths and markers of a figure names that no other figure of the page has; links stay."""
    from hashlib import sha256

    key = sha256(svg.encode()).hexdigest()[:8]
    return re.sub(r'(id="|url\(#|href="#(?!case=))', rf"\g<1>{key}-", svg)


def colour(index: int) -> str:
    """The colour of a run, by its place among the runs, on the whole page."""
    return COLOURS[index % len(COLOURS)]
