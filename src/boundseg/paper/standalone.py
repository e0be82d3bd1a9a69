"""What needs no training: table 5 (times of a step), figure 1 (the penalty), figure 2 (masks and weak labels)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from boundseg.benchmark.step_time import PAPER_PLAIN_MS, ROWS, step_time
from boundseg.constraints import PENALTIES, Bounds
from boundseg.data import atomic
from boundseg.data.dataset import Dataset
from boundseg.errors import DatasetError
from boundseg.evaluation.tables import markdown
from boundseg.paper import needs, pictures, table
from boundseg.paper.rows import Scale, base

Written = tuple[dict[str, Path], list[dict[str, str]]]
# the rounds in which every step is timed; six are the fewest that give an interval
ROUNDS: dict[Scale, int] = {"full": 20, "half": 12, "quick": 6}
BOUNDS_PX = (900.0, 1100.0)  # the individual bounds of a slice with 1000 px


def table5(
    *,
    scale: Scale,
    out: Path,
    device: str = "auto",
    threads: int | None = None,
    report: Callable[[str], None] = lambda text: None,
    size: tuple[int, int] = (256, 256),
    rows: Sequence[str] = (),
    **_: Any,
) -> Written:
    """How long a training step takes by each method, as ``boundseg benchmark step-time`` measures it.

    The scale changes the number of rounds alone: the step is the paper's, ENet on one image of 256 x 256.
    """
    on = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    times = step_time("enet", (1,), size, rows, rounds=ROUNDS[scale], device=on, threads=threads, report=report)
    ((title, shown),) = times.tables().items()
    files = _files("table5", out)
    picture = [(ROWS[t.row], t) for t in times.rows]
    pictures.draw_times(
        [row.name for row, _ in picture],
        [t.ratio.value for _, t in picture],
        [None if row.paper_ms is None else row.paper_ms / PAPER_PLAIN_MS for row, _ in picture],
        files["picture"],
        f"{title}. The paper: GTX 1080 Ti.",
    )
    atomic.write_text(files["csv"], times.csv())
    atomic.write_text(files["latex"], table.latex(shown, f"Table 5: times of a training step. {title}."))
    text = [
        "# Table 5: times of a training step",
        "",
        f"Scale {scale}: {title}.",
        "The paper's figures are of a GTX 1080 Ti; its ratios compare, its milliseconds do not.",
        "",
        markdown(shown),
        "![Times](table5.png)",
        "",
    ]
    atomic.write_text(files["page"], "\n".join(text))
    return files, shown


def figure1(*, out: Path, **_: Any) -> Written:
    """The penalty over the size, and what pulls back where a region has vanished: our log hinge beside it."""
    files = _files("figure1", out)
    sizes = np.arange(0.0, 2501.0)
    values = torch.from_numpy(sizes)
    lower, upper = BOUNDS_PX
    bounds = Bounds(torch.full_like(values, lower), torch.full_like(values, upper))
    costs = {
        "quadratic (the paper's)": PENALTIES["quadratic"](values, bounds, 256.0 * 256).numpy(),
        "log hinge (ours)": PENALTIES["log_hinge"](values, bounds, 10.0).numpy(),
    }
    pictures.draw_penalty(sizes, costs, BOUNDS_PX, files["picture"])
    rows = [{"size_px": i} | {name: float(cost[i]) for name, cost in costs.items()} for i in range(0, len(sizes), 5)]
    atomic.write_text(files["csv"], table.csv(rows))
    places = (0, 10, 100, 899, 900, 1100, 1101, 2000, 2500)
    shown = [
        {"size [px]": str(place)} | {name: f"{cost[place]:.4g}" for name, cost in costs.items()} for place in places
    ]
    atomic.write_text(files["latex"], table.latex(shown, "Figure 1: the penalty over the size."))
    text = [
        "# Figure 1: the penalty over the size",
        "",
        f"Between a = {lower:g} and b = {upper:g} px (individual bounds of a slice with 1000 px) a size costs nothing. "
        "The quadratic penalty is the paper's (eq. 3), divided by the 256×256 pixels of an image as in its published "
        "code; the log hinge is ours, with a softening of 10 px.",
        "",
        markdown(shown),
        "![The penalty](figure1.png)",
        "",
    ]
    atomic.write_text(files["page"], "\n".join(text))
    return files, shown


def figure2(*, data: Sequence[Path], out: Path, report: Callable[[str], None] = lambda text: None, **_: Any) -> Written:
    """Masks and weak labels of the dataset that is given, with how much of all pixels they label."""
    if len(data) != 1:
        raise DatasetError("figure2 shows one dataset folder.", "--data", "Give one.")
    dataset = Dataset.open(data[0])
    bases = [base(name) for name in ("acdc", "vertebrae", "prostate")]
    own = next((one for one in bases if set(one.targets) == set(dataset.classes)), bases[0])
    needs.require_kind(dataset, own)
    sets = list(dict.fromkeys(str(words["SEEDS"]) for words in own.words.values()))
    dataset = needs.provide(dataset, needs.Needs(tuple(sets)), own, report=report)
    files = _files("figure2", out)
    titles = pictures.draw_labels(dataset, own, sets, files["picture"])
    shown = [_share(dataset, name, own.targets[0]) for name in ("full", *sets)]
    atomic.write_text(files["csv"], table.csv(shown))
    atomic.write_text(files["latex"], table.latex(shown, "Figure 2: masks and weak labels."))
    text = [
        f"# Figure 2: masks and weak labels, {own.dataset}",
        "",
        f"Slices of the training cases: {'; '.join(titles)}. Shares are of all pixels of the training cases; "
        "pixels are those of the files.",
        "",
        markdown(shown),
        "![Masks and weak labels](figure2.png)",
        "",
    ]
    atomic.write_text(files["page"], "\n".join(text))
    return files, shown


def _share(dataset: Dataset, label_set: str, target: str) -> dict[str, str]:
    labelled = pixels = slices = 0
    for case in dataset.cases_of("train"):
        _, volume = dataset.read_image(case)
        mask = dataset.to_slices(dataset.read_labels(case, label_set, volume)) == dataset.classes[target]
        labelled, pixels, slices = labelled + int(mask.sum()), pixels + mask.size, slices + int(mask.any((1, 2)).sum())
    return {
        "labels": "full mask" if label_set == "full" else label_set,
        f"pixels of {target}": str(labelled),
        "share of all pixels": f"{labelled / pixels:.3%}",
        "slices with such a pixel": str(slices),
    }


def _files(name: str, out: Path) -> dict[str, Path]:
    out.mkdir(parents=True, exist_ok=True)
    endings = {"page": "md", "csv": "csv", "latex": "tex", "picture": "png"}
    return {kind: out / f"{name}.{ending}" for kind, ending in endings.items()}


STANDALONE: dict[str, Callable[..., Written]] = {"table5": table5, "figure1": figure1, "figure2": figure2}
