"""The runs of a table: their configs written, trained side by side, judged, and read back from their folders."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from boundseg.data import atomic
from boundseg.data.dataset import Dataset
from boundseg.errors import InputError, Problem, RunError
from boundseg.evaluation.tables import Evaluation
from boundseg.paper.rows import Preset, Row, Scale
from boundseg.training.config import Config
from boundseg.training.evaluate import evaluate
from boundseg.training.run import Run, Which
from boundseg.training.state import ending
from boundseg.training.state.resume import differing, require_same

ON_VALIDATION = "evaluation_validation"  # beside the run's evaluation/, which is of the test cases


@dataclass(frozen=True)
class Planned:
    """One training of a table.

    Attributes:
        row: Of which row.
        seed: With which seed.
        dataset: On what.
        path: Its config.
        config: The same, read.
        folder: Its run folder.
        longer: How many times the scale's epochs it has: more than once in a row of equal updates.
    """

    row: Row
    seed: int
    dataset: Dataset
    path: Path
    config: Config
    folder: Path
    longer: float = 1.0

    @property
    def name(self) -> str:
        """``TABLE/ROW/seedN``, as its folder lies below the output folder."""
        return f"{self.row.key}/seed{self.seed}"

    @property
    def judged_on(self) -> str:
        """The list of cases that the table is about: ``test``; ``validation`` where there is no test set."""
        return "test" if self.dataset.splits.lists.get("test") else "validation"


@dataclass(frozen=True)
class Result:
    """What a run folder says.

    Attributes:
        planned: Which training.
        state: ``done``, ``12/20 epochs``, ``not begun``, or why there is none.
        rows: Of ``metrics.csv``.
        environment: Of the run; empty where it was not begun.
        test: How it was judged on the test cases (without a test set, on the validation cases); None where it was not.
        validation: The same on the validation cases, empty slices counted as 1: the paper's way.
    """

    planned: Planned
    state: str
    rows: list[dict[str, float]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    test: Evaluation | None = None
    validation: Evaluation | None = None

    @property
    def minutes(self) -> float:
        """That its epochs took, validation included."""
        return sum(row["seconds"] for row in self.rows) / 60

    @property
    def validation_dice(self) -> list[tuple[int, float]]:
        """For every epoch, the mean DSC of the validation volumes on the prepared grid, over all classes."""
        names = [f"validation dice: {target}" for target in self.planned.row.base.targets]
        found = [(int(row["epoch"]), fmean(row.get(name, math.nan) for name in names)) for row in self.rows]
        return [(epoch, value) for epoch, value in found if not math.isnan(value)]

    @property
    def judged_epoch(self) -> int | None:
        """The epoch whose weights were judged, from 0."""
        return None if self.test is None else int(self.test.about["epoch"])

    def volumes(self) -> pd.DataFrame:
        """A row per test volume; of several classes their means."""
        return _of_targets(self.test, "volumes", self.planned.row.base.targets)

    def volumes_of(self, target: str) -> pd.DataFrame:
        """The same of one class."""
        return _of_targets(self.test, "volumes", [target])

    def slices(self) -> pd.DataFrame:
        """The same, a row per slice."""
        return _of_targets(self.test, "slices", self.planned.row.base.targets)

    def validation_slices(self) -> pd.DataFrame:
        """Slices of the validation cases; empty where the preset does not judge them."""
        return _of_targets(self.validation, "slices", self.planned.row.base.targets)


def plan(
    rows: Sequence[tuple[Row, Dataset]],
    seeds: Sequence[int],
    preset: Preset,
    scale: Scale,
    out: Path,
    overrides: Sequence[str] = (),
) -> list[Planned]:
    """The training of every row and seed; writes nothing.

    Raises:
        ConfigError: An override that is none, or a config that it makes wrong.
    """
    planned = []
    for row, dataset in rows:
        for seed in seeds:
            config = row.resolve(dataset.folder.resolve(), preset, scale, seed, overrides).absolute
            longer = _longer(row, dataset)
            if row.full_updates:
                config = lengthened(config, longer, f"{row.key}, with as many updates as on all")
            folder = out / row.key / f"seed{seed}"
            planned.append(Planned(row, seed, dataset, folder.with_name(f"seed{seed}.yaml"), config, folder, longer))
    return planned


def write_configs(planned: Sequence[Planned], preset: Preset, scale: Scale) -> None:
    """Writes what is to be trained, each config as it trains, so that a training by hand is the same.

    Raises:
        RunError: Runs that began with another config; then nothing is written, and theirs stay beside them.
    """
    problems = [problem for one in planned for problem in _differing(one)]
    if problems:
        raise RunError.of(problems)
    for one in planned:
        atomic.write_text(one.path, f"# {one.row.key}: preset {preset}, scale {scale}\n{one.config.dump()}")


def _differing(one: Planned) -> tuple[Problem, ...]:
    """What keeps a run that was begun from going on."""
    if not (one.folder / "environment.json").is_file():
        return ()
    try:
        require_same(one.config, Run.open(one.folder))
    except InputError as error:
        return error.problems
    return ()


def _longer(row: Row, dataset: Dataset) -> float:
    """As many times the epochs as there are fewer who teach, where a row is to have the updates of all."""
    if not (row.full_updates and row.drawn):
        return 1.0
    of = len(dataset.cases_of("train") if row.drawn.of == "volumes" else dataset.splits.lists["train"])
    return max(1.0, of / row.drawn.count)


def lengthened(config: Config, longer: float, name: str) -> Config:
    """A training of so many times the epochs; what counts epochs counts as many more."""
    content = config.model_dump(mode="json", by_alias=True)
    training, selection = content["training"], content["selection"]
    counting = [(training, "epochs"), (training, "stop_after"), (training, "warm_up"), (selection, "every")]
    if training["schedule"]["name"].startswith("plateau"):
        counting.append((training["schedule"], "patience"))
    for section, key in counting:
        if section[key] is not None:
            section[key] = round(section[key] * longer)
    return Config.parse(content, name)


def finished(one: Planned) -> bool:
    """Whether nothing is left to train: all its epochs are done, or ``stop_after`` has ended them."""
    return ending.finished(ending.last_state(one.folder), one.config)


def ready(one: Planned) -> bool:
    """Whether it can be judged: trained to the end, with the config that is planned."""
    return finished(one) and not differing(one.config, Run.open(one.folder))


def judge(one: Planned, preset: Preset, device: str, report: Callable[[str], None]) -> None:
    """Judges a finished run on the test cases where there are any, by the paper's presets on the validation cases too.

    What was judged before stays, as long as the weights are the same.

    Raises:
        InputError: See :func:`boundseg.training.evaluate.evaluate`.
    """
    run, which = Run.open(one.folder), weights(preset)
    if preset != "honest" and _judged(one, ON_VALIDATION, "validation", which) is None:
        report(f"judging {one.name} on the validation cases")
        found = evaluate(run, "validation", which=which, device=device, empty="one")
        for name, text in found.texts().items():
            atomic.write_text(one.folder / ON_VALIDATION / name, text)
    if _judged(one, "evaluation", one.judged_on, which) is None:
        report(f"judging {one.name} on the {one.judged_on} cases")
        evaluate(run, one.judged_on, which=which, device=device)


def weights(preset: Preset) -> Which:
    """Which epoch's weights are judged: the last one's, or the best one's by masks as in the paper."""
    return "last" if preset == "honest" else "best"


def result(one: Planned, preset: Preset, failed: str = "") -> Result:
    """Reads what there is of a training."""
    try:
        run = Run.open(one.folder)
    except InputError:
        return Result(one, failed or "not begun")
    rows, which = run.metrics(), weights(preset)
    if differing(one.config, run):
        return Result(one, failed or "begun with another config")
    if not finished(one):
        return Result(one, failed or f"{len(rows)}/{one.config.training.epochs} epochs", rows, run.environment)
    test = _judged(one, "evaluation", one.judged_on, which)
    validation = _judged(one, ON_VALIDATION, "validation", which)
    return Result(one, "done" if test is not None else "not judged", rows, run.environment, test, validation)


def _judged(one: Planned, folder: str, cases: str, which: Which) -> Evaluation | None:
    """An evaluation that is of these cases, these weights and this dataset; None where there is none."""
    try:
        found = Evaluation.read(one.folder / folder)
    except (FileNotFoundError, ValueError, KeyError):
        return None
    epoch = _state(one.folder / "checkpoints" / which).get("epoch")
    # without a test set the validation cases are judged in both ways
    empty = "one" if folder == ON_VALIDATION else "nan"
    wanted = {
        "cases": cases,
        "weights": which,
        "epoch": epoch,
        "empty": empty,
        "dataset": str(one.dataset.folder.resolve()),
    }
    return found if all(found.about.get(key) == value for key, value in wanted.items()) else None


def _state(checkpoint: Path) -> dict[str, Any]:
    try:
        found = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_targets(evaluation: Evaluation | None, table: str, targets: Sequence[str]) -> pd.DataFrame:
    if evaluation is None:
        return pd.DataFrame()
    rows: pd.DataFrame = getattr(evaluation, table)
    rows = rows[rows["class"].isin(targets)]
    if "relative_volume_error" in rows:
        rows = rows.assign(absolute_volume_error=rows["relative_volume_error"].abs())
    if len(targets) == 1 or rows.empty:
        return rows
    by = [name for name in ("patient", "case", "slice") if name in rows]
    return rows.groupby(by, sort=False).mean(numeric_only=True).reset_index()
