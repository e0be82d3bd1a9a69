"""From the config's ``supervision`` to taught cases: who is taught by which labels and bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from boundseg.constraints import PENALTIES, Constraint, Relative, Size, Voxels
from boundseg.data import priors
from boundseg.data.batches import TaughtCase
from boundseg.data.dataset import Dataset
from boundseg.data.prepare import PreparedCase, prepare
from boundseg.data.priors import Facts, Prior
from boundseg.errors import ConfigError, DatasetError, PriorsError, Problem
from boundseg.nearest import did_you_mean
from boundseg.training.config import Config, DataConfig, SizeConfig, SupervisionConfig

Pair = tuple[float, float]
UNKNOWN: Pair = (-math.inf, math.inf)


@dataclass(frozen=True)
class Demand:
    """A constraint, and what is known for it of each case.

    Attributes:
        constraint: What is asked.
        known: ``known[case][slice]``, lower and upper; the slice is None for volumes.
        elsewhere: What holds of everything that ``known`` does not name.
    """

    constraint: Constraint
    known: Mapping[str, Mapping[int | None, Pair]]
    elsewhere: Pair = UNKNOWN

    def bounds(self, case: str, slices: int) -> Float[np.ndarray, "2 rows 1"]:
        """Lower and upper bounds of a case's slices (or of the volume, one row)."""
        of_case = self.known.get(case, {})
        keys = [None] if self.constraint.scope == "volume" else range(slices)
        pairs = [of_case.get(key, self.elsewhere) for key in keys]
        return np.asarray(pairs, np.float32).T[:, :, None]

    def knows(self, case: str) -> bool:
        """Whether anything is known of a case."""
        return self.elsewhere != UNKNOWN or case in self.known


@dataclass(frozen=True)
class Teaching:
    """What a training learns from.

    Attributes:
        train: The cases that teach.
        validation: The held-out cases, taught as the last entry of the config says (nobody learns from them).
        demands: Everything that is asked, of whomever.
        entry_of: For each case, the entry of the config that it belongs to.
    """

    train: list[TaughtCase]
    validation: list[TaughtCase]
    demands: list[Demand]
    entry_of: dict[str, int] = field(default_factory=dict)

    @property
    def constraints(self) -> list[Constraint]:
        """The constraints of all demands."""
        return [demand.constraint for demand in self.demands]

    def patients(self, dataset: Dataset) -> dict[str, list[str]]:
        """The patients who teach (``train``) and who are held out (``validation``)."""
        sides = {"train": self.train, "validation": self.validation}
        of_side = {name: [dataset.splits.patient_of(c.prepared.case) for c in cases] for name, cases in sides.items()}
        return {name: sorted(set(patients)) for name, patients in of_side.items()}

    @property
    def volume_constraints(self) -> frozenset[str]:
        """Names of those that speak of volumes."""
        return frozenset(c.name for c in self.constraints if c.scope == "volume")


def teach(config: Config, dataset: Dataset, report: Callable[[str], None] = lambda case: None) -> Teaching:
    """Prepares the cases that a config names and gathers what is known of each.

    Raises:
        InputError: Names that are nowhere, volumes that do not fit, a declared class that the crop cuts,
            nothing to learn from.
    """
    _require_label_sets(config, dataset)
    entry_of = entries_of(config, dataset)
    held_out = dataset.cases_of(config.selection.cases)
    _require_apart(dataset, entry_of, held_out, config)
    _require_something_to_select_by(config, dataset, held_out)
    demands_of = _named_apart([demands(entry, dataset) for entry in config.supervision])
    last = len(config.supervision) - 1
    entries = entry_of | dict.fromkeys(held_out, last)
    wanted = [(case, _label_sets(config, dataset, case, index, case in held_out)) for case, index in entries.items()]
    prepared = prepare(dataset, config.data.grid, wanted, report)
    complete = declared_complete(config.data, dataset, prepared)

    def taught(case: str) -> TaughtCase:
        index, on_grid = entries[case], prepared[case]
        labels = config.supervision[index].labels
        count, space = len(on_grid.images), on_grid.images.shape[2:]
        silent = np.full((2, 1, 1), UNKNOWN[0], np.float32)
        silent[1] = UNKNOWN[1]
        return TaughtCase(
            on_grid,
            on_grid.labels[labels] if labels in on_grid.labels else np.full((count, *space), dataset.ignore, np.uint8),
            {
                d.constraint.name: d.bounds(case, count)
                if i == index
                else np.broadcast_to(silent, (2, 1 if d.constraint.scope == "volume" else count, 1))
                for i, of_entry in enumerate(demands_of)
                for d in of_entry
            },
            tuple(not on_grid.placement.cut or name in complete for name in dataset.labels),
        )

    teaching = Teaching(
        [taught(case) for case in entry_of],
        [taught(case) for case in held_out],
        [demand for of_entry in demands_of for demand in of_entry],
        entries,
    )
    _require_something_labelled(teaching.train, dataset)
    return teaching


def entries_of(config: Config, dataset: Dataset) -> dict[str, int]:
    """The entry of ``supervision`` that each training case belongs to: the first that names it."""
    found: dict[str, int] = {}
    for index, entry in enumerate(config.supervision):
        for name in entry.names:
            for case in dataset.cases_of(name):
                found.setdefault(case, index)
    if not found:
        raise ConfigError("supervision names no case at all.", remedy="Name a list of splits.json, such as train.")
    return found


def demands(entry: SupervisionConfig, dataset: Dataset) -> list[Demand]:
    """What an entry of the config asks, one demand for each unit and scope in which something is known.

    Raises:
        InputError: An unknown class or set, or a priors.csv that cannot be read.
    """
    found: list[Demand] = []
    for constraint in entry.constraints:
        size = constraint.size
        try:
            region = dataset.region(size.class_)
        except KeyError as error:
            raise ConfigError(str(error.args[0]), "supervision.constraints.size.class") from None
        for facts, elsewhere in _facts(size, dataset):
            built = Constraint(
                name=_name(size, facts),
                descriptor=Size(facts.unit),  # type: ignore[arg-type]  # priors.read has checked it
                regions=(region,),
                scope="volume" if facts.of_volume else "slice",
                penalty=PENALTIES[size.penalty],
                scale=_scale(size),
                weight=size.weight,
                sharpness=size.sharpness,
            )
            found.append(Demand(built, facts.bounds, elsewhere))
    return found


def _scale(size: SizeConfig) -> Literal["image"] | Relative | Voxels | float:
    if size.softening is not None:
        return Voxels(size.softening)
    if size.floor is not None:
        return Relative(size.floor)
    assert size.scale is not None and size.scale != "relative", "the config has checked what goes with what"
    return size.scale


def _named_apart(demands_of: Sequence[Sequence[Demand]]) -> list[list[Demand]]:
    """Gives demands of several entries that have one name (but perhaps other weights) names of their own."""
    seen: set[str] = set()
    apart: list[list[Demand]] = []
    for index, of_entry in enumerate(demands_of):
        apart.append([])
        for demand in of_entry:
            name = demand.constraint.name
            name = f"{name} (entry {index})" if name in seen else name
            seen.add(name)
            apart[-1].append(replace(demand, constraint=replace(demand.constraint, name=name)))
    return apart


def _facts(size: SizeConfig, dataset: Dataset) -> list[tuple[Facts, Pair]]:
    if size.between is not None:
        return [(Facts(size.unit, size.per == "volume"), _pair(size.between))]
    path = dataset.folder / size.from_
    rows = priors.read(path)
    if size.set is not None:
        return [(facts, UNKNOWN) for facts in _look_up(rows, size, size.set, str(path))]
    tags = _look_up(rows, size, size.tags, str(path))
    bounds: dict[str, dict[int | None, Pair]] = {}
    for facts in tags:
        for case, of_case in facts.bounds.items():
            for index, (lower, upper) in of_case.items():
                known = size.present if lower > 0 else size.absent if upper == 0 else None
                bounds.setdefault(case, {})[index] = _pair(known or (None, None))
    return [(Facts(size.unit, tags[0].of_volume, bounds), UNKNOWN)]


def _look_up(rows: Sequence[Prior], size: SizeConfig, name: str, path: str) -> list[Facts]:
    facts = priors.look_up(rows, set=name, quantity="size", region=size.class_)
    if not facts:
        known = sorted({row.set for row in rows if row.region == size.class_ and row.quantity == "size"})
        raise PriorsError(
            f"there is no row of the set {name!r} on the size of {size.class_}{did_you_mean(name, known)}",
            path,
            f"The sets there are: {', '.join(known) or 'none'}. boundseg priors derives more.",
        )
    return facts


def _name(size: SizeConfig, facts: Facts) -> str:
    origin = size.set or (size.tags if size.between is None else "everywhere")
    return f"size {size.class_} {origin} per {'volume' if facts.of_volume else 'slice'} in {facts.unit}"


def _pair(pair: tuple[float | None, float | None]) -> Pair:
    lower, upper = pair
    return (-math.inf if lower is None else lower, math.inf if upper is None else upper)


def _label_sets(config: Config, dataset: Dataset, case: str, index: int, held_out: bool) -> list[str]:
    """The label sets that are needed of a case; full masks of held-out cases for the DSC, where there are any."""
    labels = config.supervision[index].labels
    for_dice = held_out and labels != "full" and dataset.label_path(case).is_file()
    return [labels] * (labels != "none") + ["full"] * for_dice


def declared_complete(data: DataConfig, dataset: Dataset, prepared: Mapping[str, PreparedCase]) -> set[str]:
    """The classes that the grid is declared to hold whole, tested against every full mask there is.

    Raises:
        ConfigError: A class is unknown.
        DatasetError: The grid leaves out more of a class than was declared; all cases are listed.
    """
    problems = []
    for name, allowed in data.complete.items():
        if name not in dataset.labels:
            near = did_you_mean(name, dataset.labels)
            raise ConfigError(f"data.complete names {name!r}, which is no class of {dataset.folder}{near}")
        for case, on_grid in prepared.items():
            if not on_grid.placement.cut or not dataset.label_path(case).is_file():
                continue
            _, image = dataset.read_image(case)
            mask = dataset.to_slices(dataset.read_labels(case, "full", image)) == dataset.labels[name]
            lost = on_grid.placement.left_out(mask)
            most = lost.max(initial=0)
            if most > allowed:
                fact = f"{case}, slice {lost.argmax()}: the grid leaves out {most:.1%} of {name}, over {allowed:.1%}."
                problems.append(Problem(fact, "data.complete", "Enlarge data.size, or allow more."))
    if problems:
        raise DatasetError.of(problems)
    return set(data.complete)


def _require_label_sets(config: Config, dataset: Dataset) -> None:
    known = ["full", "none", *dataset.label_sets]
    problems = [
        Problem(
            f"there is no label set {entry.labels!r}{did_you_mean(entry.labels, known)}",
            f"supervision.{index}.labels",
            f"The sets are: {', '.join(known)}.",
        )
        for index, entry in enumerate(config.supervision)
        if entry.labels not in known
    ]
    if problems:
        raise ConfigError.of(problems)


def _require_something_to_select_by(config: Config, dataset: Dataset, held_out: Sequence[str]) -> None:
    if config.selection.by == "dice" and not any(dataset.label_path(case).is_file() for case in held_out):
        raise ConfigError(
            f"selection.by: dice needs held-out cases with full masks, and {config.selection.cases!r} holds none.",
            str(dataset.folder / "splits.json"),
            "Name other selection.cases, or select by weak or last.",
        )


def _require_apart(dataset: Dataset, trained: Mapping[str, int], held_out: Sequence[str], config: Config) -> None:
    patients = {dataset.splits.patient_of(case) for case in trained}
    both = sorted({dataset.splits.patient_of(case) for case in held_out} & patients)
    if both:
        raise DatasetError(
            f"{', '.join(both[:5])} would both teach and be held out ({config.selection.cases}).",
            str(dataset.folder / "splits.json"),
            "Take the patient out of one of the lists.",
        )


def _require_something_labelled(cases: Sequence[TaughtCase], dataset: Dataset) -> None:
    if not any((case.labels != dataset.ignore).any() for case in cases):
        raise DatasetError(
            f"no voxel of the {len(cases)} training cases is labelled: there is nothing to learn from.",
            str(dataset.folder),
            "Check supervision.labels, or draw labels (boundseg weaken makes them from masks).",
        )
