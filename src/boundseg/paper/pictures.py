"""The pictures of tables and figures: the paper's figures beside ours, curves, predictions, weak labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boundseg.data.atomic import replacing
from boundseg.data.dataset import Dataset
from boundseg.errors import DatasetError, InputError
from boundseg.paper.rows import Base
from boundseg.paper.table import Line
from boundseg.report.pictures import Row as Slice
from boundseg.report.pictures import draw_slices
from boundseg.report.plots import COLOURS

GREY = "#8c8c8c"
LEAST_SIDE_PX = 96  # of the part of a slice that is shown
SHARES = (0.1, 0.5, 0.85)  # of the slices in the order of their size: a large one, a middle one, a small one


def draw_bars(lines: Sequence[Line], path: Path, footnote: str) -> None:
    """For every row the paper's DSC and ours, with the interval over patients, and every seed as a point."""
    figure, ax = _figure(8.2, 1.5 + 0.3 * len(lines))
    ours, theirs = COLOURS[0], COLOURS[5]
    for i, line in enumerate(lines):
        y = len(lines) - 1 - i
        low, high = line.interval()
        if not math.isnan(low):
            ax.plot([low, high], [y, y], color=ours, linewidth=1.6, alpha=0.6, zorder=2)
        dice = line.dice()
        ax.scatter(dice, [y] * len(dice), s=26, color=ours, zorder=3)
        own_way = line.paper_dice()
        ax.scatter(own_way, [y] * len(own_way), s=26, facecolors="none", edgecolors=ours, zorder=3)
        if line.row.paper is not None:
            ax.scatter([line.row.paper], [y], s=32, facecolors="none", edgecolors=theirs, marker="D", zorder=3)
        if not dice:
            ax.text(0.01, y, line.state, fontsize=7, va="center", color=GREY)
    ax.set_yticks(range(len(lines)), [line.row.title for line in reversed(lines)], fontsize=8)
    ax.set_ylim(-0.7, len(lines) - 0.3)
    ax.set_xlim(0, 1)
    ax.set_xlabel("DSC", fontsize=9)
    handles = [_handle("o", ours, f"ours: volumes of the {lines[0].judged_on} cases, 95 % over patients")]
    if any(line.row.paper is not None for line in lines):
        handles.append(_handle("D", theirs, "the paper: its validation images", hollow=True))
    if any(line.paper_dice() for line in lines):
        handles.append(_handle("o", ours, "ours: slices of the validation cases", hollow=True))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=8, frameon=False)
    _save(figure, path, footnote)


def draw_curves(lines: Sequence[Line], path: Path, footnote: str) -> None:
    """Validation DSC over the epochs: a panel for each kind of knowledge, the two ends of the scale in all of them."""
    ends = [line for line in lines if line.row.name in ("partial", "full")]
    groups: dict[str, list[Line]] = {}
    for line in lines:
        if line not in ends:
            groups.setdefault(line.row.name.split("_")[0], []).append(line)
    groups = groups or {"": []}
    columns = min(2, len(groups))
    figure, axes = _figure(4.6 * columns, 3.1 * math.ceil(len(groups) / columns), len(groups), columns)
    axes = np.atleast_1d(axes)
    for ax, (name, members) in zip(axes, groups.items(), strict=False):
        for line in ends:
            _curve(ax, line, GREY, "-" if line.row.name == "full" else ":")
        for i, line in enumerate(members):
            _curve(ax, line, COLOURS[i % len(COLOURS)], "-")
        ax.set_ylim(0, 1)
        ax.set_title(f"{name} bounds" if name not in ("tags", "") else name, fontsize=9)
        ax.set_xlabel("epoch", fontsize=8)
        ax.set_ylabel("validation DSC, volumes", fontsize=8)
        ax.set_xlim(0, max([1, *(result.planned.config.training.epochs for line in lines for result in line.results)]))
        ax.xaxis.get_major_locator().set_params(integer=True)
        if ax.lines:
            ax.legend(fontsize=6.5, frameon=False, loc="lower right")
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    _save(figure, path, footnote)


def _curve(ax: Any, line: Line, colour: str, style: str) -> None:
    """The mean over the seeds that have come so far, and their range."""
    by_epoch: dict[int, list[float]] = {}
    for result in line.results:
        for epoch, value in result.validation_dice:
            by_epoch.setdefault(epoch + 1, []).append(value)
    if not by_epoch:
        return
    epochs = sorted(by_epoch)
    middle = [float(np.mean(by_epoch[epoch])) for epoch in epochs]
    unfinished = "" if line.state.startswith("done") else f" ({line.state})"
    marker = "o" if len(epochs) == 1 else None
    ax.plot(
        epochs, middle, style, color=colour, linewidth=1.3, marker=marker, markersize=3, label=_name(line, unfinished)
    )
    if len(line.results) > 1:
        low, high = ([bound(by_epoch[epoch]) for epoch in epochs] for bound in (min, max))
        ax.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)


def _name(line: Line, more: str) -> str:
    return line.row.name.replace("_", " ") + more


def draw_over(lines: Sequence[Line], path: Path, footnote: str, over: str) -> None:
    """DSC over something, a line for each series; rows that have no place on the axis as horizontal lines."""
    figure, ax = _figure(6.8, 4.0)
    series: dict[str, list[Line]] = {}
    for line in lines:
        if line.row.at is not None:
            series.setdefault(line.row.series, []).append(line)
    hollow: dict[str, Any] = {"marker": "D", "markersize": 5, "markerfacecolor": "none", "linewidth": 0.9}
    for i, (label, members) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        points = [(line.row.at, float(np.mean(line.dice()))) for line in members if line.dice()]
        theirs = [(line.row.at, line.row.paper) for line in members if line.row.paper is not None]
        if points:
            ax.plot(*zip(*points, strict=True), "o-", color=colour, linewidth=1.4, markersize=4, label=f"ours: {label}")
        if theirs:
            ax.plot(*zip(*theirs, strict=True), "--", color=colour, label=f"the paper: {label}", **hollow)
    for i, line in enumerate(line for line in lines if line.row.at is None):
        style = ("-", ":", "--", "-.")[i % 4]
        if line.dice():
            ax.axhline(
                float(np.mean(line.dice())), linestyle=style, color=GREY, linewidth=1.4, label=f"ours: {line.row.title}"
            )
        if line.row.paper is not None:
            ax.axhline(
                line.row.paper, linestyle=style, color=COLOURS[5], linewidth=0.9, label=f"the paper: {line.row.title}"
            )
    places = sorted({line.row.at for line in lines if line.row.at is not None})
    ax.set_xticks(places)
    ax.set_xlim(0, max([1, *places]) * 1.1)
    ax.set_ylim(0, 1)
    ax.set_xlabel(over, fontsize=9)
    ax.set_ylabel("DSC", fontsize=9)
    figure.legend(loc="outside right center", fontsize=7, frameon=False)
    _save(figure, path, footnote)


def draw_predictions(lines: Sequence[Line], path: Path, footnote: str) -> bool:
    """A large, a middle and a small slice: what each finished row predicts (its first seed), and the reference.

    Returns:
        Whether there was anything to draw.
    """
    done = [line for line in lines if line.judged]
    if not done:
        return False
    first = done[-1].judged[0]
    dataset, slices = first.planned.dataset, first.slices()
    there = slices[slices["reference_px"] > 0].sort_values("reference_px", ascending=False, kind="stable")
    if there.empty:
        return False
    rows = []
    for share in SHARES:
        chosen = there.iloc[int(share * (len(there) - 1))]
        case, index = str(chosen["case"]), int(chosen["slice"])
        image, volume = dataset.read_image(case)
        maps = {}
        for line in done:
            predicted = line.judged[0].planned.folder / "predictions" / f"{case}{dataset.file_ending}"
            try:
                maps[_name(line, "")] = dataset.to_slices(dataset.read_label_file(predicted, volume))[index]
            except InputError as error:
                raise DatasetError(
                    f"the predictions of {line.judged[0].planned.name} are not there.",
                    str(predicted.parent),
                    f"Run: boundseg evaluate {line.judged[0].planned.folder} --cases test",
                ) from error
        maps["reference"] = dataset.to_slices(dataset.read_labels(case, "full", volume))[index]
        spacing_mm = dataset.slice_spacing_mm(volume)[:2]
        there_px = np.isin(maps["reference"], [dataset.classes[target] for target in done[0].row.base.targets])
        rows.append(_slice(f"{case}, slice {index}", dataset.to_slices(image)[0, index], maps, there_px, spacing_mm))
    draw_slices(rows, dataset.classes, path, dataset.ignore, footnote)
    return True


def _slice(
    title: str,
    image: np.ndarray,
    maps: dict[str, np.ndarray],
    region: np.ndarray,
    spacing_mm: tuple[float, float],
) -> Slice:
    """The part of a slice about a region, three times as large as it."""
    parts = []
    for places, length in zip(np.nonzero(region), region.shape, strict=True):
        side = max(LEAST_SIDE_PX, 3 * int(max(map(np.ptp, np.nonzero(region))) + 1))
        start = int(np.clip((places.min() + places.max() - side) // 2, 0, max(length - side, 0)))
        parts.append(slice(start, start + side))
    part = tuple(parts)
    return Slice(title, image[part], {name: labels[part] for name, labels in maps.items()}, spacing_mm)


def draw_labels(dataset: Dataset, base: Base, label_sets: Sequence[str], path: Path) -> list[str]:
    """Figure 2: masks and weak labels of a large, a middle and a small slice of the training cases.

    Returns:
        The slices that are shown.
    """
    sizes: list[tuple[int, str, int]] = []
    for case in dataset.cases_of("train")[::4]:
        _, volume = dataset.read_image(case)
        target = dataset.to_slices(dataset.read_labels(case, "full", volume)) == dataset.classes[base.targets[0]]
        sizes += [(int(px), case, index) for index, px in enumerate(target.sum((1, 2))) if px]
    sizes.sort(reverse=True)
    rows = []
    for share in SHARES:
        _, case, index = sizes[int(share * (len(sizes) - 1))]
        image, volume = dataset.read_image(case)
        maps = {
            {"full": "full mask"}.get(name, name): dataset.to_slices(dataset.read_labels(case, name, volume))[index]
            for name in ("full", *label_sets)
        }
        spacing_mm = dataset.slice_spacing_mm(volume)[:2]
        there = maps["full mask"] == dataset.classes[base.targets[0]]
        rows.append(_slice(f"{case}, slice {index}", dataset.to_slices(image)[0, index], maps, there, spacing_mm))
    draw_slices(rows, dataset.classes, path, dataset.ignore)
    return [row.title for row in rows]


def draw_penalty(sizes: np.ndarray, costs: dict[str, np.ndarray], bounds: tuple[float, float], path: Path) -> None:
    """Figure 1: what a size costs, a panel for each penalty."""
    figure, axes = _figure(8.4, 3.2, len(costs), len(costs))
    for i, (ax, (name, cost)) in enumerate(zip(axes, costs.items(), strict=True)):
        ax.plot(sizes, cost, color=COLOURS[i], linewidth=1.6)
        ax.axvspan(*bounds, color=GREY, alpha=0.2, linewidth=0)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("size V [px]", fontsize=9)
        ax.set_ylabel("cost", fontsize=9)
    _save(figure, path, f"Shaded: between the bounds a = {bounds[0]:g} and b = {bounds[1]:g} px.")


def draw_times(
    names: Sequence[str], ours: Sequence[float], theirs: Sequence[float | None], path: Path, note: str
) -> None:
    """Table 5: a step's time over that with partial cross-entropy, ours and the paper's."""
    figure, ax = _figure(8.2, 1.5 + 0.3 * len(names))
    y = np.arange(len(names))[::-1]
    ax.barh(y, ours, height=0.5, color=COLOURS[0], alpha=0.8)
    known = [(ratio, place) for ratio, place in zip(theirs, y, strict=True) if ratio is not None]
    if known:
        ax.scatter(*np.transpose(known), s=32, facecolors="none", edgecolors=COLOURS[5], marker="D", zorder=3)
    ax.set_yticks(y, names, fontsize=8)
    ax.set_xlabel("time of a training step / that with partial cross-entropy", fontsize=9)
    handles = [_handle("s", COLOURS[0], "ours"), _handle("D", COLOURS[5], "the paper", hollow=True)]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=8, frameon=False)
    _save(figure, path, note)


def _handle(marker: str, colour: str, label: str, hollow: bool = False) -> Any:
    from matplotlib.lines import Line2D

    face = "none" if hollow else colour
    return Line2D([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, label=label)


def _figure(width: float, height: float, count: int = 1, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    axes = figure.subplots(math.ceil(count / columns), columns, squeeze=False).ravel()
    for ax in axes:
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=8)
    return figure, axes[0] if count == 1 else axes


def _save(figure: Any, path: Path, footnote: str) -> None:
    figure.supxlabel(footnote, fontsize=6.5, x=0.01, ha="left", color="#555555")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
