"""Runs to one self-contained HTML page: tables, curves, boxes, bounds, slices, configs, and how to run each again."""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from boundseg import __version__
from boundseg.data import atomic
from boundseg.data.dataset import Dataset
from boundseg.errors import InputError, RunError
from boundseg.evaluation.statistics import Steadiness
from boundseg.evaluation.tables import paired_tests
from boundseg.report import plots
from boundseg.report.collect import Judged, collect
from boundseg.report.pictures import colour_of
from boundseg.report.slices import Strip, judged_slices, taught_slices
from boundseg.report.viewer import address, build, case_columns, case_rows
from boundseg.training.run import require_folder

MEGABYTES = 15.0  # of a page, unless told otherwise; base64 included
SCRIPTS = ("decode", "draw", "facts", "sort", "theme", "points", "gestures", "start")
VIEWER_FRAME = 50_000  # bytes, about: of the viewer without its cases
STRIP_FRAME = 400  # bytes, about: of a picture without what it shows
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Figure:
    """An SVG and what it shows."""

    caption: str
    svg: str


@dataclass(frozen=True)
class Again:
    """What it takes to run something again."""

    name: str
    lines: list[str]
    facts: dict[str, str]
    config: str


def report(
    folders: Sequence[Path],
    path: Path,
    told: Callable[[str], None] = lambda text: None,
    *,
    megabytes: float = MEGABYTES,
    cases: str | None = None,
) -> Path:
    """Writes a page about one run, or about several side by side; nothing is read but their folders and dataset.

    Args:
        folders: Run folders that have been evaluated on the same cases.
        path: The HTML file, replaced if it exists.
        told: Told what is being drawn.
        megabytes: Of the whole page: what the viewer's slices may take is this less all the rest. Cases for which
            there is no room are left out of the viewer, and pictures of slices where even they have none; the page
            says so. Tables and plots are always there. 0 leaves the viewer out, and nothing else.
        cases: A list, patient or case of the dataset: only these are in the viewer. Tables and plots are of all.

    Raises:
        InputError: See :func:`boundseg.report.collect.collect`; ``megabytes`` is negative, ``cases`` unknown, or
            ``path`` no place for a file.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    if not 0 <= megabytes < math.inf:
        raise InputError(f"--megabytes {megabytes:g} is no size.", remedy="Give 0 (no viewer) or more.")

    _require_page(path)
    judged = collect(folders)
    dataset, note = _opened(judged)
    only = dataset.cases_of(cases) if dataset and cases is not None else None
    environment = Environment(
        loader=PackageLoader("boundseg.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "bracket": bracket,
        "address": address,
        "in_script": lambda text: Markup(text.replace("<", "\\u003c")),  # a name cannot end the element
    }
    told("slices")
    strips, taught, note = _pictures(judged, dataset) if dataset else ([], [], note)
    told("figures")
    judged_cases = [str(case) for case in judged[0].evaluation.volumes["case"].unique()]
    shown: Collection[str] = judged_cases if megabytes and dataset and not note else ()
    about = judged[0].evaluation.about
    classes = [str(name) for name in judged[0].evaluation.volumes["class"].unique()]
    parts: dict[str, Any] = {
        "title": ", ".join(one.name for one in judged[:4]) + (" …" if len(judged) > 4 else ""),
        "cases": about.get("cases", ""),
        "dataset": Path(str(about.get("dataset", ""))).name,
        "counts": _counts(judged),
        "empty": judged[0].evaluation.empty,
        "results": [(name, results(judged, name)) for name in classes],
        "tests": paired_tests({one.name: one.evaluation for one in judged}) if len(judged) > 1 else [],
        "kept": [row for one in judged for row in _kept(one)],
        "steadiness": steadiness(judged),
        "curves": _curves(judged),
        "by_size": [{"run": one.name} | row for one in judged for row in one.evaluation.by_size()],
        "colours": {name: colour_of(value) for name, value in judged[0].run.labels.items() if value},
        "differences": differences({one.name: one.run.config.model_dump(mode="json", by_alias=True) for one in judged}),
        "again": [_again(one) for one in judged],
        "case_rows": case_rows(judged),
        "case_columns": case_columns(judged),
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
        "style": Markup(_template("style.css")),
        "script": _script(),
    }
    template = environment.get_template("report.html")
    parts |= {"viewer": None, "viewer_note": "", "pictures_note": note} | _linked(judged, classes, shown)
    limit = 1e6 * megabytes if megabytes else math.inf
    room = limit - len(template.render(parts, strips=[], taught=[]).encode())
    fitting = _fitting([*strips, *taught], room)
    parts |= {"strips": [one for one in strips if one in fitting], "taught": [one for one in taught if one in fitting]}
    if len(fitting) < len(strips) + len(taught):
        parts["pictures_note"] = f"{len(fitting)} of {len(strips) + len(taught)} slices have room: {_limit(megabytes)}."
    if shown and dataset:
        viewer = build(judged, dataset, limit - len(template.render(parts).encode()) - VIEWER_FRAME, only, told)
        if viewer.cases:
            parts["viewer"] = viewer
        else:
            why = f"no case has room: {_limit(megabytes)}" if viewer.left_out else f"{cases} was not judged here"
            parts["viewer_note"] = f"There is no viewer, since {why}."
        missing = not viewer.cases.keys() >= set(shown)
        parts |= _linked(judged, classes, viewer.cases) if missing else {"shown": viewer.cases}
    with _writing(path):
        atomic.write_text(path, template.render(parts))
    return path


def results(judged: Sequence[Judged], class_name: str) -> Rows:
    """One row per run: the measures of a class, means with intervals over patients."""
    rows = []
    for one in judged:
        (summary,) = [row for row in one.evaluation.summary() if row["class"] == class_name]
        about = one.evaluation.about
        weights = f"{about['weights']} (epoch {about['epoch']})" if "weights" in about else ""
        del summary["class"], summary["cases (patients)"]
        rows.append({"run": one.name} | summary | {"weights": weights})
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, "") for key in keys} for row in rows]


def bracket(text: str) -> tuple[str, str]:
    """A mean, and what stands in brackets behind it without the number of rows, which the page says once.

    What is no mean stays whole: a name may hold brackets, too.
    """
    if weights := re.fullmatch(r"(best|last) \((epoch \d+)\)", text):
        return weights[1], weights[2]
    found = re.fullmatch(r"(\S+) \((.+ to [^;]+)?(?:; )?(?:n = \d+)?(?:, )?(\d+ undefined)?\)", text)
    if not found or not re.fullmatch(r"[+-]?(\d.*|nan)", found[1], re.IGNORECASE):
        return text, ""
    return found[1], "; ".join(part for part in (found[2], found[3]) if part)


def steadiness(judged: Sequence[Judged]) -> Rows:
    """Validation DSC over the last epochs, mean and standard deviation: how steady a training ends."""
    rows = []
    for one in judged:
        found = Steadiness.of(_validation_dice(one), len(one.metrics))
        if found.values:
            rows.append(
                {
                    "run": one.name,
                    "epochs": f"last {found.epochs} of {len(one.metrics)}",
                    "validation DSC": f"{found.mean:.3f}",
                    "standard deviation": "-" if math.isnan(found.deviation) else f"{found.deviation:.3f}",
                    "lowest": f"{min(found.values):.3f}",
                    "highest": f"{max(found.values):.3f}",
                }
            )
    return rows


def differences(configs: Mapping[str, Any]) -> Rows:
    """One row per key whose value differs between the runs' configs."""
    flat = {name: _flat(config) for name, config in configs.items()}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    return [
        {"key": key} | {name: str(values.get(key, "-")) for name, values in flat.items()}
        for key in keys
        if len({str(values.get(key, "-")) for values in flat.values()}) > 1
    ]


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        items = {str(i): v for i, v in enumerate(value)}.items()
    else:
        return {} if value is None else {key: value}
    return {k: v for name, inner in items for k, v in _flat(inner, f"{key}.{name}" if key else str(name)).items()}


def _counts(judged: Sequence[Judged]) -> str:
    volumes = judged[0].evaluation.volumes
    return f"{volumes['case'].nunique()} cases of {volumes['patient'].nunique()} patients"


def _validation_dice(one: Judged) -> list[tuple[float, float]]:
    found = []
    for row in one.metrics:
        values = [v for k, v in row.items() if k.startswith("validation dice: ") and not math.isnan(v)]
        if values:
            found.append((row["epoch"], float(np.mean(values))))
    return found


def _curves(judged: Sequence[Judged]) -> list[Figure]:
    def series(of: Callable[[dict[str, float]], list[float]]) -> dict[str, list[tuple[float, float]]]:
        return {
            one.name: [(row["epoch"], float(np.mean(v))) for row in one.metrics if (v := of(row))] for one in judged
        }

    def starting(prefix: str) -> Callable[[dict[str, float]], list[float]]:
        return lambda row: [v for k, v in row.items() if k.startswith(prefix) and not math.isnan(v)]

    wanted = [
        ("Validation DSC, mean over classes and volumes", "DSC", starting("validation dice: "), False),
        ("Cross-entropy of the training's labelled pixels", "nats", starting("cross_entropy"), True),
        ("Penalty before its weight, mean over known bounds", "penalty", starting("penalty: "), True),
        ("Bounds that the soft value keeps, training", "share", starting("satisfied: "), False),
    ]
    drawn = [(caption, series(of), label, log) for caption, label, of, log in wanted]
    return [
        Figure(caption, plots.curves(points, label, log=log))
        for caption, points, label, log in drawn
        if any(points.values())
    ]


def _script() -> Any:
    from markupsafe import Markup

    modules = "\n".join(_template(f"viewer/{name}.js") for name in SCRIPTS)
    return Markup(f'(() => {{\n"use strict";\n{modules}}})();\n')  # a function around them: nothing becomes global


def _template(name: str) -> str:
    """A file of the page that is no template: braces in it are its own."""
    return resources.files("boundseg.report").joinpath("templates", name).read_text(encoding="utf-8")


def _spread(judged: Sequence[Judged], class_name: str, shown: Collection[str]) -> list[Figure]:
    dice, sizes, links = {}, {}, {}
    for one in judged:
        volumes = one.evaluation.volumes
        volumes = volumes[volumes["class"] == class_name]
        dice[one.name] = volumes["dice"].tolist()
        sizes[one.name] = list(zip(volumes["reference_ml"], volumes["predicted_ml"], strict=True))
        links[one.name] = [address(case, run=one.name) if case in shown else None for case in volumes["case"]]
    return [
        Figure(f"DSC of volumes, {class_name}", plots.boxes(dice, "DSC", links)),
        Figure(f"Volumes, {class_name}", plots.against_truth(sizes, "mL", links)),
    ]


def _kept(one: Judged) -> list[dict[str, str]]:
    sources = one.evaluation.sources()
    told = [
        {"bounds from": sources.get(row["constraint"], "")} if sources else {} for row in one.evaluation.satisfaction()
    ]
    return [{"run": one.name} | row | source for row, source in zip(one.evaluation.satisfaction(), told, strict=True)]


def _against(judged: Sequence[Judged], shown: Collection[str]) -> list[Figure]:
    figures = []
    for i, one in enumerate(judged):
        rows = one.evaluation.constraints
        if rows.empty:
            continue
        for name, of_constraint in rows[rows["known"]].groupby("constraint", sort=False):
            unit = str(name).rpartition(" in ")[2]
            places = zip(of_constraint["case"], of_constraint["slice"], strict=True)
            links = [
                address(case, None if math.isnan(index) else int(index), one.name) if case in shown else None
                for case, index in places
            ]
            figure = plots.against_bounds(of_constraint, unit, i, links)
            figures.append(Figure(f"{one.name}: {name}", figure))
    return figures


def _linked(judged: Sequence[Judged], classes: Sequence[str], shown: Collection[str]) -> dict[str, Any]:
    """What has links into the viewer, to the cases that it shows."""
    return {
        "shown": shown,
        "boxes": [figure for name in classes for figure in _spread(judged, name, shown)],
        "against": _against(judged, shown),
    }


def _require_page(path: Path) -> None:
    require_folder(path.parent)
    with _writing(path):
        is_folder = path.is_dir()
    if is_folder:
        raise RunError(f"--out {path} is a folder, and the page is a file.", remedy=f"Name it: {path / 'report.html'}.")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fact = f"--out {path} cannot be written: {error.strerror or error}."
        raise RunError(fact, remedy="Make room, or choose another --out.") from error


def _opened(judged: Sequence[Judged]) -> tuple[Dataset | None, str]:
    """The dataset, or why there is none."""
    try:
        return Dataset.open(str(judged[0].evaluation.about.get("dataset", ""))), ""
    except InputError as error:
        return None, _unreadable(error)


def _pictures(judged: Sequence[Judged], dataset: Dataset) -> tuple[list[Strip], list[Strip], str]:
    try:
        return judged_slices(judged, dataset), taught_slices(judged, dataset), ""
    except InputError as error:
        return [], [], _unreadable(error)


def _unreadable(error: InputError) -> str:
    return f"No slices are shown, since the dataset cannot be read: {error.problems[0].what}"


def _fitting(strips: Sequence[Strip], room: float) -> list[Strip]:
    """As many strips as there is room for, in their order."""
    ends = accumulate(strip.size_bytes + STRIP_FRAME * len(strip.panels) for strip in strips)
    return [strip for strip, end in zip(strips, ends, strict=True) if end <= room]


def _limit(megabytes: float) -> str:
    return f"the page is limited by --megabytes {megabytes:g}"


def _again(one: Judged) -> Again:
    environment, config = one.run.environment, one.run.config
    minutes = sum(row["seconds"] for row in one.metrics) / 60
    folder = shlex.quote(str(one.run.folder))
    cases = one.evaluation.about.get("cases", "test")
    facts = {
        "trained": f"{len(one.metrics)} of {config.training.epochs} epochs in {minutes:.1f} min",
        "seed": str(environment["seed"]),
        "machine": f"{environment['machine']}; accelerator: {environment['accelerator']}",
        "versions": ", ".join(f"{name} {number}" for name, number in environment["packages"].items()),
        "commit": str(environment["commit"]),
        "data": f"{config.data.folder} ({environment['data']})",
        "begun with": shlex.join(map(str, environment["command"])),
    }
    lines = [f"boundseg train {folder}/config.yaml --out NEW_FOLDER", f"boundseg evaluate NEW_FOLDER --cases {cases}"]
    return Again(one.name, lines, facts, config.dump())
