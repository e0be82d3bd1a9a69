"""What the page's viewer shows: slices of judged cases and of a few that taught, with every layer and the bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from boundseg.data.dataset import Dataset
from boundseg.data.volume_io import Volume
from boundseg.errors import InputError
from boundseg.report import plots
from boundseg.report.collect import Judged
from boundseg.report.packing import grey_range, pack_image, pack_labels
from boundseg.report.panels import window
from boundseg.report.pictures import colour_of
from boundseg.report.slices import chosen, shown_slices, taught_cases, weak_sets

# Okabe and Ito's yellow, and white, which no run has; lines are drawn with a dark seam, so that they show on any grey
WEAK_COLOURS = ("#F0E442", "#ffb3e6", "#b3ffd9")
REFERENCE_COLOUR = "#ffffff"
# of outlines, so that layers keep apart where colours are those of the classes; lengths in pixels of the canvas
DASHES = {"solid": [], "dashed": [18, 14], "dotted": [4, 10], "dash-dotted": [22, 10, 4, 10], "long-dashed": [40, 16]}
RUN_LINES = ("solid", "dotted", "dash-dotted", "long-dashed")


@dataclass(frozen=True)
class Viewer:
    """What is written into the page.

    Attributes:
        index: Classes, layers, constraints and the names of the cases, as the script reads them.
        cases: For each case that is shown a JSON text: its slices, layers, measures and bounds.
        left_out: Cases for which there was no room.
    """

    index: dict[str, Any]
    cases: dict[str, str]
    left_out: list[str]


def address(case: str, index: int | None = None, run: str | None = None) -> str:
    """The link that opens a case in the viewer, at a slice (else at its middle), with a run's prediction."""
    parts = {"case": case, "slice": index, "run": run}
    return "#" + urlencode({key: value for key, value in parts.items() if value is not None})


def build(
    judged: Sequence[Judged],
    dataset: Dataset,
    limit_bytes: float,
    cases: Sequence[str] | None = None,
    told: Callable[[str], None] = lambda text: None,
) -> Viewer:
    """Reads images, labels and predictions, and packs them until the limit is reached.

    First come the cases of the slices that the page shows anyway (best, median, worst, most different), then the
    cases that taught, then all others from the lowest DSC to the highest.

    Args:
        judged: The runs.
        dataset: What they were judged on.
        limit_bytes: Of all cases together.
        cases: The only ones to be shown; None shows all.
        told: Told which case is being packed.

    Raises:
        VolumeError: An image or a label file cannot be read. A prediction that is not there is left out.
    """
    taught = taught_cases(judged, dataset)
    scores = _scores(judged)
    order = [case for _, case, _ in chosen(judged)] + taught + list(scores.sort_values(kind="stable").index)
    wanted = [case for case in dict.fromkeys(map(str, order)) if cases is None or case in cases]
    packed: dict[str, str] = {}
    left_out: list[str] = []
    used = 0
    for case in wanted:
        told(f"viewer: {case}")
        text = json.dumps(_case(case, judged, dataset), separators=(",", ":"), allow_nan=False)
        if used + len(text) > limit_bytes:
            left_out.append(case)
            continue
        used += len(text)
        packed[case] = text
    shown = [case for case in [*map(str, scores.index), *taught] if case in packed]
    index = {
        "classes": [{"name": n, "value": v, "colour": colour_of(v)} for n, v in dataset.classes.items()],
        "layers": _layers(judged, dataset),
        "runs": [one.name for one in judged],
        "constraints": _constraints(judged),
        "cases": [{"name": case, "taught": case not in scores.index} for case in dict.fromkeys(shown)],
        "left_out": left_out,
        "not_asked": [case for case in dict.fromkeys(map(str, order)) if case not in wanted],
    }
    return Viewer(index, {case: packed[case] for case in dict.fromkeys(shown)}, left_out)


def _scores(judged: Sequence[Judged]) -> pd.Series:
    """The DSC of each judged case, mean over classes and runs; in the order of the evaluation."""
    volumes = pd.concat([one.evaluation.volumes for one in judged])
    return volumes.groupby("case", sort=False)["dice"].mean()


def _layers(judged: Sequence[Judged], dataset: Dataset) -> list[dict[str, Any]]:
    weak = [
        _layer("weak", f"weak labels: {name}", WEAK_COLOURS[i % len(WEAK_COLOURS)], "solid")
        for i, name in enumerate(weak_sets(judged, dataset))
    ]
    runs = [_layer("run", one.name, plots.colour(i), RUN_LINES[i % len(RUN_LINES)]) for i, one in enumerate(judged)]
    return [*weak, _layer("reference", "reference", REFERENCE_COLOUR, "dashed"), *runs]


def _layer(kind: str, name: str, colour: str, line: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "colour": colour, "line": line, "dash": DASHES[line]}


def _constraints(judged: Sequence[Judged]) -> list[str]:
    names = [
        n for one in judged if not one.evaluation.constraints.empty for n in one.evaluation.constraints["constraint"]
    ]
    return [str(name) for name in dict.fromkeys(names)]


def _case(case: str, judged: Sequence[Judged], dataset: Dataset) -> dict[str, Any]:
    image, volume = dataset.read_image(case)
    slices = shown_slices(dataset, image)
    low, high = grey_range(slices)
    layers = _label_maps(case, judged, dataset, volume)
    values = list(dataset.classes.values())
    marked = np.zeros(slices.shape[1:3], bool)
    for labels in layers:
        if labels is not None:
            marked |= np.isin(labels, values).any(axis=0)
    rows, columns = window(marked)
    return {
        "shape": list(slices.shape[:3]),
        "spacing_mm": list(dataset.slice_spacing_mm(volume)),
        "window": [rows.start, rows.stop, columns.start, columns.stop],
        "images": [pack_image(one, low, high) for one in slices],
        "layers": [None if labels is None else [pack_labels(one) for one in labels] for labels in layers],
        "measures": [_measures(one, case) for one in judged],
        "bounds": [_bounds(one, case, _constraints(judged)) for one in judged],
    }


def _label_maps(case: str, judged: Sequence[Judged], dataset: Dataset, volume: Volume) -> list[np.ndarray | None]:
    """In the order of :func:`_layers`; None where a case has none."""
    paths = [dataset.label_path(case, name) for name in weak_sets(judged, dataset)]
    paths.append(dataset.label_path(case))
    maps = [dataset.to_slices(dataset.read_label_file(p, volume)) if p.is_file() else None for p in paths]
    for one in judged:
        path = one.run.folder / "predictions" / f"{case}{dataset.file_ending}"
        try:
            maps.append(dataset.to_slices(dataset.read_label_file(path, volume)))
        except InputError:
            maps.append(None)  # predictions may have been cleared away; the tables do not need them
    return maps


def _measures(one: Judged, case: str) -> list[list[Any]]:
    """Per class and slice (None: the volume): class, slice, DSC, predicted and true size in px."""
    evaluation = one.evaluation
    found = []
    for table in (evaluation.volumes, evaluation.slices):
        for row in table[table["case"] == case].to_dict("records"):
            index = int(row["slice"]) if "slice" in row else None
            sizes = [_number(row[key]) for key in ("predicted_px", "reference_px")]
            found.append([str(row["class"]), index, _number(row["dice"]), *sizes])
    return found


def _bounds(one: Judged, case: str, names: Sequence[str]) -> list[list[Any]]:
    """Known bounds of a case: constraint's number, slice, lower, upper, soft, hard, soft kept, hard kept, source."""
    table = one.evaluation.constraints
    if table.empty:
        return []
    found = []
    for row in table[(table["case"] == case) & table["known"]].to_dict("records"):
        numbers = [_number(row[key]) for key in ("lower", "upper", "soft", "hard")]
        kept = [bool(row["soft_kept"]), bool(row["hard_kept"])]
        source = row.get("source")
        where = None if pd.isna(row["slice"]) else int(row["slice"])
        told = source if isinstance(source, str) else ""
        found.append([names.index(str(row["constraint"])), where, *numbers, *kept, told])
    return found


def _number(value: Any) -> float | None:
    """To six digits, as the tables have it; None for what JSON has no number for (undefined, unknown)."""
    number = float(value)
    return float(f"{number:.6g}") if math.isfinite(number) else None


def case_rows(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """A row per judged case: its DSC and its broken bounds for each run, with texts and numbers to sort by."""
    first = judged[0].evaluation.volumes
    patients: Mapping[str, str] = dict(zip(first["case"], first["patient"], strict=True))
    dice = [one.evaluation.volumes.groupby("case")["dice"].mean() for one in judged]
    broken = [_broken(one) for one in judged]
    rows = []
    for case, patient in patients.items():
        cells = [_cell(float(means[case]), f"{means[case]:.3f}") for means in dice]
        cells += [
            _cell(table[case][0] / table[case][1], f"{table[case][0]} of {table[case][1]}")
            if case in table
            else _cell(math.nan, "")
            for table in broken
            if table
        ]
        rows.append({"case": case, "patient": patient, "address": address(case), "cells": cells})
    return rows


def case_columns(judged: Sequence[Judged]) -> list[str]:
    """The heads of the cells of :func:`case_rows`."""
    return [f"DSC, {one.name}" for one in judged] + [f"broken bounds, {one.name}" for one in judged if _broken(one)]


def _broken(one: Judged) -> dict[str, tuple[int, int]]:
    """For each case, how many of its known bounds the prediction breaks, and how many there are."""
    table = one.evaluation.constraints
    if table.empty:
        return {}
    known = table[table["known"]].groupby("case")["hard_kept"]
    return {str(case): (int((~kept.astype(bool)).sum()), len(kept)) for case, kept in known}


def _cell(value: float, text: str) -> dict[str, str]:
    undefined = math.isnan(value)
    return {"value": "" if undefined else f"{value:.6g}", "text": "-" if undefined else text}
