"""What a table leaves: its own page in Markdown, CSV, LaTeX; the head says on what, how and how far."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from boundseg import __version__
from boundseg.data import atomic
from boundseg.data.dataset import SPLITS, Dataset
from boundseg.evaluation.tables import markdown
from boundseg.paper import pictures, table
from boundseg.paper.rows import Preset, Scale, Table, differences
from boundseg.paper.table import Line
from boundseg.training.config import in_words as settings


@dataclass(frozen=True)
class Asked:
    """How a table was asked for.

    Attributes:
        preset: Whose reading.
        scale: Of the protocol.
        command: That gives it again.
        overrides: Keys of the configs that were changed.
        sources: Where the bounds came from.
    """

    preset: Preset
    scale: Scale
    command: str
    overrides: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)


def write(asked_for: Table, lines: Sequence[Line], asked: Asked, out: Path) -> dict[str, Path]:
    """Writes ``NAME.md``, ``.csv``, ``_volumes.csv``, ``_pairs.csv``, ``.tex``, ``.png``, rows not finished as well.

    Returns:
        The files by their kind: ``page``, ``csv``, ``volumes``, ``pairs``, ``latex``, ``picture``.
    """
    shown = [line.shown(asked.preset, asked_for.beside) for line in lines]
    tests = table.pairs(lines)
    found = {
        "csv": out / f"{asked_for.name}.csv",
        "volumes": out / f"{asked_for.name}_volumes.csv",
        "pairs": out / f"{asked_for.name}_pairs.csv",
        "latex": out / f"{asked_for.name}.tex",
    }
    atomic.write_text(found["csv"], table.csv([row for line in lines for row in line.digits()]))
    atomic.write_text(found["volumes"], table.csv([row for line in lines for row in line.digits_of_volumes()]))
    atomic.write_text(found["pairs"], table.csv(tests))
    short = [
        {
            key: value
            for key, value in row.items()
            if key not in ("judged epoch", "minutes", "absolute volume error [%]")
        }
        for row in shown
    ]
    atomic.write_text(found["latex"], table.latex(short, f"{asked_for.title}. {_scaled(asked)}"))
    picture = out / f"{asked_for.name}.png"
    if _draw(asked_for, lines, asked, picture):
        found["picture"] = picture
    else:
        picture.unlink(missing_ok=True)  # one of rows that are no longer what was asked for
    text = _page(asked_for, lines, asked, shown, tests, "picture" in found)
    found["page"] = out / f"{asked_for.name}.md"
    atomic.write_text(found["page"], text)
    return found


def _draw(asked_for: Table, lines: Sequence[Line], asked: Asked, path: Path) -> bool:
    footnote = _scaled(asked)
    if asked_for.picture == "slices":
        return pictures.draw_predictions(lines, path, footnote)
    if asked_for.picture == "over":
        pictures.draw_over(lines, path, footnote, asked_for.over)
    elif asked_for.picture == "curves":
        pictures.draw_curves(lines, path, footnote)
    else:
        pictures.draw_bars(lines, path, footnote)
    return True


def _scaled(asked: Asked) -> str:
    """One sentence that keeps a reduced scale from passing as the paper's protocol."""
    changed = f", changed: {', '.join(asked.overrides)}" if asked.overrides else ""
    if asked.scale == "full":
        return f"Scale full, preset {asked.preset}{changed}."
    return f"Scale {asked.scale} (reduced, not the paper's protocol), preset {asked.preset}{changed}."


def _page(
    asked_for: Table,
    lines: Sequence[Line],
    asked: Asked,
    shown: Sequence[Mapping[str, str]],
    tests: Sequence[Mapping[str, object]],
    drawn: bool,
) -> str:
    done = sum(line.state.startswith("done") for line in lines)
    parts = [f"# {asked_for.title}", ""]
    if asked_for.about:
        parts += [asked_for.about.strip(), ""]
    parts += [f"{_scaled(asked)} {done} of {len(lines)} rows are finished.", ""]
    parts += [markdown([{"": key, "what": value} for key, value in _facts(lines, asked).items()])]
    parts += ["", "## Ours beside the paper's" if asked_for.of_paper else "## Result", "", markdown(shown)]
    parts += [_reading(asked.preset, asked_for.of_paper), ""]
    if drawn:
        parts += [f"![{asked_for.title}]({asked_for.name}.png)", ""]
        if asked_for.picture == "slices":
            parts += ["Shown is the part of each slice about the reference; what is predicted elsewhere is not.", ""]
    if tests:
        parts += ["## Pairs of rows", ""]
        parts += [
            f"{lines[0].judged_on.capitalize()} DSC, phases and seeds of a patient averaged; mean difference with its "
            "95 % bootstrap interval over patients, Wilcoxon's signed-rank test, Holm's correction over these pairs.",
            "",
            markdown(table.pairs_shown(tests)),
        ]
    parts += ["## What each row is taught", "", markdown([_taught(line) for line in lines]), ""]
    parts += ["## What differs from the paper", ""]
    said = differences(asked.preset)
    parts += [*(f"- {text}" for text in said["chosen"])]
    if asked.scale != "full":
        parts += [
            "- The scale: grid, epochs, batch, learning rate and augmentation are those of the head, not the paper's."
        ]
    parts += ["", said["switch"], ""]
    if said["not expressed"]:
        parts += ["Not expressed by today's config:", "", *(f"- {text}" for text in said["not expressed"]), ""]
    parts += ["## Again", "", "```sh", asked.command, "```", ""]
    return "\n".join(parts)


def _taught(line: Line) -> dict[str, str]:
    config = line.results[0].planned.config
    return {
        "training": line.row.title,
        "labels": "; ".join(f"{', '.join(entry.names)}: {entry.labels}" for entry in config.supervision),
        "bounds and penalty": "; ".join(
            settings.constraint(constraint.asked) for entry in config.supervision for constraint in entry.constraints
        ),
        "method": settings.method(config),
        "config": f"{line.row.key}/seed{line.results[0].planned.seed}.yaml",
    }


def _reading(preset: Preset, of_paper: bool) -> str:
    own = (
        ""
        if preset == "honest"
        else "`validation DSC, the paper's way`: the best epoch by validation DSC, the mean over slices, "
        "an empty slice that is predicted empty counts as 1. "
    )
    theirs = "The paper's DSC is of its validation images, at the epoch that they chose. " if of_paper else ""
    return (
        theirs
        + own
        + "Of one seed, intervals are 95 % over patients and n counts volumes; of several, ± is the standard deviation "
        "over seeds. HD95 and DSC are left out where they are undefined. `validation DSC` is the mean over volumes on "
        "the training's grid; over the last epochs with its standard deviation: the paper's \"unstable\". Minutes are "
        "those of the epochs, validation included."
    )


def _facts(lines: Sequence[Line], asked: Asked) -> dict[str, str]:
    results = [result for line in lines for result in line.results]
    configs = [result.planned.config for result in results]
    facts: dict[str, str] = {"scale": asked.scale, "preset": asked.preset}
    facts["epochs"] = _all(str(config.training.epochs) for config in configs)
    facts["grid"] = _all(settings.grid(config) for config in configs)
    facts["network"] = _all(settings.network(config) for config in configs)
    facts["training"] = _all(settings.training(config) for config in configs)
    facts["seeds"] = ", ".join(map(str, sorted({result.planned.seed for result in results})))
    for dataset in {str(r.planned.dataset.folder): r.planned.dataset for r in results}.values():
        facts[f"dataset {dataset.folder.name}"] = _split(dataset)
    facts |= asked.sources
    begun = [result.environment for result in results if result.environment]
    facts["machine"] = (
        _all(f"{one['machine']}, accelerator: {one['accelerator']}" for one in begun) or platform.machine()
    )
    facts["versions"] = _all(
        f"boundseg {__version__} (commit {one['commit']}), torch {one['packages'].get('torch')}" for one in begun
    )
    if asked.overrides:
        facts["changed"] = ", ".join(asked.overrides)
    return {key: value for key, value in facts.items() if value}


def _all(texts: object) -> str:
    """Every different one once, the commonest first."""
    counts = pd.Series(list(texts)).value_counts()  # type: ignore[call-overload]
    if len(counts) == 1:
        return str(counts.index[0])
    return "; ".join(f"{text} ({count} trainings)" for text, count in counts.items())


def _split(dataset: Dataset) -> str:
    sides = [
        f"{name} {len({dataset.splits.patient_of(c) for c in dataset.cases_of(name)})} patients "
        f"({len(dataset.cases_of(name))} volumes)"
        for name in SPLITS
    ]
    return ", ".join(sides)
