"""A table or a figure of the paper in one call: derived what is missing, trained, judged, written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from boundseg.data.dataset import SPLITS, Dataset
from boundseg.errors import ConfigError, DatasetError
from boundseg.nearest import did_you_mean
from boundseg.paper import needs as what_is_needed
from boundseg.paper import page, runs
from boundseg.paper.bounds import sources as where_from
from boundseg.paper.by_volume import by_volume
from boundseg.paper.needs import Needs
from boundseg.paper.page import Asked
from boundseg.paper.rows import PRESETS, SCALES, Base, Preset, Row, Scale, Table, tables
from boundseg.paper.runs import Planned, Result
from boundseg.paper.standalone import STANDALONE
from boundseg.paper.table import Line, lines_of
from boundseg.training.several import Interrupted, Outcome, train_several

Report = Callable[[str], None]
Split = Literal["patients", "volumes"]
# columns of the page that a terminal has no room for
LONG = (
    "published elsewhere",
    "test DSC, slices",
    "validation DSC, slices",
    "HD95 [mm]",
    "absolute volume error [%]",
    "validation DSC, judged epoch",
    "judged epoch",
    "validation DSC, last epochs",
)


@dataclass(frozen=True)
class Reproduced:
    """What was written.

    Attributes:
        files: By their kind: ``page``, ``csv``, ``volumes``, ``pairs``, ``latex``, ``picture``; what there is of them.
        rows: The table, to read.
        outcomes: How each training ended that was asked for; empty where none was.
        interrupted: Whether a signal ended the trainings; what is there was written all the same.
    """

    files: dict[str, Path]
    rows: list[dict[str, str]]
    outcomes: list[Outcome]
    interrupted: bool = False

    def short(self) -> list[dict[str, str]]:
        """The same in the columns that a terminal has room for."""
        return [{key: value for key, value in row.items() if key not in LONG} for row in self.rows]

    @property
    def unfinished(self) -> list[str]:
        """Rows that are not finished."""
        return [row["training"] for row in self.rows if not row.get("state", "done").startswith("done")]


def known() -> tuple[str, ...]:
    """Everything that can be asked for: the paper's tables, its figures, and what is beyond it."""
    names = [*tables(), *STANDALONE]
    of_paper = sorted(name for name in names if name in STANDALONE or tables()[name].of_paper)
    figures = [name for name in of_paper if name.startswith("figure")]
    return (*(name for name in of_paper if name not in figures), *figures, *(n for n in names if n not in of_paper))


def reproduce(
    what: str,
    data: Sequence[Path] = (),
    *,
    scale: Scale = "full",
    preset: Preset = "honest",
    out: Path | None = None,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    jobs: int | None = None,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    patient: str | None = None,
    split: Split = "patients",
    device: str = "auto",
    train: bool = True,
    quiet: bool = False,
    report: Report = lambda text: None,
) -> Reproduced:
    """Runs what is missing of a table or figure, goes on with what was begun, skips what is finished, writes it.

    Run folders lie in ``out/TABLE/ROW/seedN`` with their configs beside them; ``out/NAME.md``, ``.csv``,
    ``_volumes.csv``, ``_pairs.csv``, ``.tex`` and ``.png`` are written whether all rows are finished or not.

    Args:
        what: ``table1`` to ``table5``, ``figure1`` to ``figure7``, or one of :func:`known` beyond the paper.
        data: Dataset folders; each is told by its class. None for ``table5`` and ``figure1``.
        scale: ``full`` is the paper's protocol, ``half`` and ``quick`` are reductions for a CPU.
        preset: ``honest``, ``published`` or ``text``; see ``docs/reproduce.md``.
        out: Left out, ``reproduced/PRESET-SCALE``.
        only: Names of rows; the others are not run, and are not in the table.
        seeds: A training for each.
        jobs: How many trainings run side by side; see :func:`boundseg.training.several.train_several`.
        threads: CPU threads of each.
        overrides: As for :meth:`boundseg.training.config.Config.load`, for all rows.
        patient: The annotated patient of the common bounds, where they are not in ``priors.csv`` yet.
        split: ``patients``: as the dataset folder says. ``volumes``: as the paper's, see
            :func:`boundseg.paper.by_volume.by_volume`; the folder is ``out/by-volume/NAME``.
        device: As for :func:`boundseg.train`.
        train: False trains and derives nothing: what is there is judged and written, also while it trains elsewhere.
        quiet: Show no progress.
        report: Told of what is derived and judged.

    Raises:
        InputError: Names that are not known, a dataset folder of another kind, configs that changed since a run began.
    """
    _require_known(what, scale, preset, seeds)
    out = out or Path("reproduced") / f"{preset}-{scale}"
    if what in STANDALONE:
        _require_no_rows(what, only, seeds, overrides, patient, split)
        files, shown = STANDALONE[what](
            data=data, scale=scale, out=out, device=device, threads=threads, quiet=quiet, report=report
        )
        return Reproduced(files, shown, [])
    asked_for = _chosen(tables()[what], only)
    datasets = _datasets(tables()[what], asked_for, data, SPLITS if split == "patients" else ())
    if split == "volumes":
        held_back = {row.base.name: row.base.held_back for row in asked_for.rows}
        datasets = {name: _by_volume(one, out, held_back[name]) for name, one in datasets.items()}
    rows = [row for row in asked_for.rows if row.base.name in datasets]
    planned, sources = _provided(rows, datasets, seeds, preset, scale, out, overrides, patient, train, report)
    outcomes: list[Outcome] = []
    interrupted = False
    if train:
        try:
            outcomes = _trained(planned, out, jobs, threads, device, quiet)
        except Interrupted as signal:
            outcomes, interrupted = signal.outcomes, True
    for one in () if interrupted else planned:
        if runs.ready(one):
            runs.judge(one, preset, device, report)
    failed = {o.name: f"{o.state}: {o.message.splitlines()[0]}" for o in outcomes if o.message}
    results: list[Result] = [runs.result(one, preset, failed.get(one.name, "")) for one in planned]
    command = _command(what, data, scale, preset, out, only, seeds, overrides, patient, split)
    if left := sorted({row.base.dataset for row in asked_for.rows if row.base.name not in datasets}):
        sources["left out"] = f"rows of {', '.join(left)}: no dataset folder was given"
    if split == "volumes":
        sources["split"] = (
            "by volume, as the paper's: patients on both sides, no test set; each volume counts as a patient"
        )
    asked = Asked(preset, scale, command, tuple(overrides), sources)
    lines: list[Line] = lines_of(results)
    files = page.write(asked_for, lines, asked, out)
    return Reproduced(files, [line.shown(preset, asked_for.beside) for line in lines], outcomes, interrupted)


def _require_known(what: str, scale: str, preset: str, seeds: Sequence[int]) -> None:
    for word, name, names in (
        ("table or figure", what, known()),
        ("scale", scale, SCALES),
        ("preset", preset, PRESETS),
    ):
        if name not in names:
            raise ConfigError(
                f"there is no {word} {name!r}{did_you_mean(name, names)}", remedy=f"Use {', '.join(names)}."
            )
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"{list(seeds)} are no seeds.", remedy="Give numbers from 0 on, each once.")


def _require_no_rows(
    what: str, only: Sequence[str], seeds: Sequence[int], overrides: Sequence[str], patient: str | None, split: Split
) -> None:
    """Raises ConfigError for what is asked of trainings where there are none."""
    asked = {
        "--row": bool(only),
        "--seed": tuple(seeds) != (0,),
        "--set": bool(overrides),
        "--patient": patient is not None,
        "--split": split != "patients",
    }
    if named := [option for option, given in asked.items() if given]:
        raise ConfigError(f"{what} trains nothing, and has no use for {', '.join(named)}.", remedy="Leave it out.")


def _chosen(asked_for: Table, only: Sequence[str]) -> Table:
    names = [row.name for row in asked_for.rows]
    if unknown := [name for name in only if name not in names]:
        raise ConfigError(
            f"{asked_for.name} has no row {unknown[0]!r}{did_you_mean(unknown[0], names)}",
            "--row",
            f"The rows are: {', '.join(names)}.",
        )
    rows = tuple(row for row in asked_for.rows if not only or row.name in only)
    return replace(asked_for, rows=rows)


def _datasets(whole: Table, asked_for: Table, data: Sequence[Path], sides: Sequence[str]) -> dict[str, Dataset]:
    """For each base of the rows the folder that has its classes; a base without a folder is left out, but not all.

    A folder of another base of the whole table may be given as well.
    """
    bases: dict[str, Base] = {row.base.name: row.base for row in (*asked_for.rows, *whole.rows)}
    wanted = {row.base.name for row in asked_for.rows}
    if not data:
        commands = " or ".join(base.command for base in bases.values())
        raise DatasetError(f"{asked_for.name} needs a dataset folder.", "--data", f"Make one: {commands}")
    opened = [Dataset.open(folder) for folder in data]
    found: dict[str, Dataset] = {}
    for dataset in opened:
        fitting = [b for b in bases.values() if set(b.targets) == set(dataset.classes) and b.name not in found]
        if not fitting:
            first = next(iter(bases.values()))
            what_is_needed.require_kind(dataset, first, sides)
            raise DatasetError(
                f"{dataset.folder} is the second folder with {' and '.join(first.targets)}.", "--data", "Give one."
            )
        if fitting[0].name in wanted:
            what_is_needed.require_kind(dataset, fitting[0], sides)
        found[fitting[0].name] = dataset
    if not wanted & set(found):
        what_is_needed.require_kind(opened[0], next(iter(bases.values())), sides)
    return {name: dataset for name, dataset in found.items() if name in wanted}


def _by_volume(dataset: Dataset, out: Path, held_back: float) -> Dataset:
    """The same volumes in the paper's split, below the output folder."""
    return by_volume(dataset, out / "by-volume" / dataset.folder.resolve().name, held_back)


def _provided(
    rows: Sequence[Row],
    datasets: dict[str, Dataset],
    seeds: Sequence[int],
    preset: Preset,
    scale: Scale,
    out: Path,
    overrides: Sequence[str],
    patient: str | None,
    train: bool,
    report: Report,
) -> tuple[list[Planned], dict[str, str]]:
    """The trainings with all that they need in their dataset folders, and where bounds came from."""
    planned = runs.plan([(row, datasets[row.base.name]) for row in rows], seeds, preset, scale, out, overrides)
    if train:
        runs.write_configs(planned, preset, scale)
    sources: dict[str, str] = {}
    for dataset in datasets.values():
        ones = [one for one in planned if one.dataset is dataset]
        wanted, base = Needs.of((one.row, one.seed, one.config) for one in ones), ones[0].row.base
        if train:
            what_is_needed.provide(dataset, wanted, base, patient, report)
        if (dataset.folder / "priors.csv").is_file():
            found = where_from(dataset, wanted.bounds, base)
            of_one = "" if len(datasets) == 1 else f", {' and '.join(base.targets)}"
            sources |= {f"{name}{of_one}": source for name, source in found.items()}
    return planned, sources


def _trained(
    planned: Sequence[Planned], out: Path, jobs: int | None, threads: int | None, device: str, quiet: bool
) -> list[Outcome]:
    """Trains what is not finished, side by side."""
    configs = {one.name: one.path for one in planned}
    return train_several(configs, out, jobs=jobs, threads=threads, resume=True, device=device, quiet=quiet)


def _command(
    what: str,
    data: Sequence[Path],
    scale: Scale,
    preset: Preset,
    out: Path,
    only: Sequence[str],
    seeds: Sequence[int],
    overrides: Sequence[str],
    patient: str | None,
    split: Split,
) -> str:
    words = ["boundseg", "reproduce", what]
    words += [word for folder in data for word in ("--data", str(folder))]
    words += ["--scale", scale, "--preset", preset, "--out", str(out)]
    words += [word for name in only for word in ("--row", name)]
    words += [word for seed in seeds if list(seeds) != [0] for word in ("--seed", str(seed))]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--patient", patient] if patient else []
    words += ["--split", split] if split != "patients" else []
    return shlex.join(words)
