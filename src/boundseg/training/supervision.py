"""From the config's ``supervision`` to taught cases: who is taught by which labels and bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count as numbers

import numpy as np

from boundseg.asked.demands import Boxes, Demand, demands
from boundseg.constraints import BoxSize, BoxTightness, Constraint
from boundseg.data.batches import TaughtCase
from boundseg.data.dataset import Dataset
from boundseg.data.placement import Lengths
from boundseg.data.prepare import PreparedCase, as_seen, prepare
from boundseg.errors import ConfigError, DatasetError, Problem
from boundseg.nearest import did_you_mean
from boundseg.training.augment_check import require_followed, require_seen
from boundseg.training.config import Config, DataConfig
from boundseg.training.schedules import constraint_strength


@dataclass(frozen=True)
class Teaching:
    """What a training learns from.

    Attributes:
        train: The cases that teach.
        validation: The held-out cases, taught as the last entry of the config says (nobody learns from them).
        demands: Everything that is asked, of whomever.
        window: What a 3D network sees at once, of volumes that may be larger; None where it sees slices.
    """

    train: list[TaughtCase]
    validation: list[TaughtCase]
    demands: list[Demand]
    window: Lengths | None = None

    @property
    def constraints(self) -> list[Constraint]:
        """The constraints of all demands."""
        return [demand.constraint for demand in self.demands]

    def strengths(self, warm_up: int, epochs_done: float) -> dict[str, float]:
        """The factor on each constraint's weight, by its own warm-up or the training's."""
        return {
            d.constraint.name: constraint_strength(warm_up if d.warm_up is None else d.warm_up, epochs_done)
            for d in self.demands
        }

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
            bounds of slices that a 3D grid does not have, nothing to learn from.
    """
    _require_label_sets(config, dataset)
    taught_by = entries_of(config, dataset)
    trained = list(dict.fromkeys(case for case, _ in taught_by))
    held_out = dataset.cases_of(config.selection.cases)
    _require_apart(dataset, trained, held_out, config)
    _require_something_to_select_by(config, dataset, held_out)
    demands_of, boxes = demands_of_entries(config, dataset)
    config.method.require([demand.constraint for of_entry in demands_of for demand in of_entry])
    if config.data.grid.axes == 3:
        _require_methods_for_volumes(config, [demand.constraint for of_entry in demands_of for demand in of_entry])
    require_followed(config.training.augment, [demand.constraint for of_entry in demands_of for demand in of_entry])
    last = len(config.supervision) - 1
    wanted: dict[str, list[str]] = {}
    for case, index in [*taught_by, *((case, last) for case in held_out)]:
        sets = wanted.setdefault(case, [])
        sets += [name for name in _label_sets(config, dataset, case, index, case in held_out) if name not in sets]
    prepared = prepare(dataset, config.data.grid, list(wanted.items()), report)
    _require_slices([d.constraint for of_entry in demands_of for d in of_entry], prepared)
    if config.data.batch == "patches":
        _require_patches_that_tell([d for of_entry in demands_of for d in of_entry], config.data.size, prepared)
    complete = declared_complete(config.data, dataset, prepared)
    require_seen(config, dataset, demands_of, {case: prepared[case] for case in trained})

    def taught(case: str, index: int, twice: bool = False) -> TaughtCase:
        on_grid = prepared[case]
        labels = config.supervision[index].labels
        images, _, *space = on_grid.images.shape
        count = images if len(space) == 2 else on_grid.placement.shape[-1]
        return TaughtCase(
            on_grid,
            on_grid.labels[labels] if labels in on_grid.labels else np.full((images, *space), dataset.ignore, np.uint8),
            {
                d.constraint.name: d.bounds(case, count) if i == index else d.silence(count)
                for i, of_entry in enumerate(demands_of)
                for d in of_entry
            },
            tuple(not on_grid.placement.cut or name in complete for name in dataset.labels),
            # of all, for every case carries bounds for all, and those of others' constraints say nothing
            any(d.reads_image for of_entry in demands_of for d in of_entry),
            tuple((b.lines(case, count), b.width) for b in boxes),
            f"{case} (entry {index})" if twice else "",
        )

    times = Counter(case for case, _ in taught_by)
    teaching = Teaching(
        [taught(case, index, twice=times[case] > 1) for case, index in taught_by],
        [taught(case, last) for case in held_out],
        [demand for of_entry in demands_of for demand in of_entry],
        config.data.window,
    )
    _require_something_labelled(teaching.train, dataset)
    return teaching


def demands_of_entries(config: Config, dataset: Dataset) -> tuple[list[list[Demand]], list[Boxes]]:
    """What every entry asks, under names of their own, and the boxes that they look for.

    Raises:
        InputError: See :func:`boundseg.asked.demands.demands`.
    """
    return _numbered(_named_apart([demands(entry.constraints, dataset) for entry in config.supervision]))


def entries_of(config: Config, dataset: Dataset) -> list[tuple[str, int]]:
    """Every training case with the entry of ``supervision`` that teaches it: the first that names it.

    After an entry with ``again`` the next that names it does so too.
    """
    found: list[tuple[str, int]] = []
    done: set[str] = set()
    for index, entry in enumerate(config.supervision):
        named = dict.fromkeys(case for name in entry.names for case in dataset.cases_of(name))
        found += [(case, index) for case in named if case not in done]
        done |= set() if entry.again else set(named)
    if not found:
        raise ConfigError("supervision names no case at all.", remedy="Name a list of splits.json, such as train.")
    return found


def _named_apart(demands_of: Sequence[Sequence[Demand]]) -> list[list[Demand]]:
    """Gives demands of several entries that have one name (but perhaps other weights) names of their own."""
    seen: set[str] = set()
    apart: list[list[Demand]] = []
    for index, of_entry in enumerate(demands_of):
        apart.append([])
        for demand in of_entry:
            name = plain = demand.constraint.name
            if name in seen:
                name = plain = f"{plain} (entry {index})"
            for number in numbers(2):
                if name not in seen:
                    break
                name = f"{plain}, {number}"
            seen.add(name)
            apart[-1].append(replace(demand, constraint=replace(demand.constraint, name=name)))
    return apart


def _numbered(demands_of: Sequence[Sequence[Demand]]) -> tuple[list[list[Demand]], list[Boxes]]:
    """Lets every descriptor of boxes know which of the frame's boxes it means, and lists those."""
    boxes: list[Boxes] = []
    told: list[list[Demand]] = []
    for of_entry in demands_of:
        told.append([])
        for demand in of_entry:
            measured = demand.constraint.descriptor
            if demand.boxes is not None and isinstance(measured, (BoxSize, BoxTightness)):
                if not any(demand.boxes is known for known in boxes):
                    boxes.append(demand.boxes)
                box = next(i for i, known in enumerate(boxes) if demand.boxes is known)
                demand = replace(demand, constraint=replace(demand.constraint, descriptor=replace(measured, box=box)))
            told[-1].append(demand)
    return told, boxes


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
            lost = on_grid.placement.left_out(as_seen(mask, data.grid))
            most = lost.max(initial=0)
            if most > allowed:
                where = f"{case}, slice {lost.argmax()}" if data.grid.axes == 2 else case
                fact = f"{where}: the grid leaves out {most:.1%} of {name}, over {allowed:.1%}."
                problems.append(Problem(fact, "data.complete", "Enlarge data.size, or allow more."))
    if problems:
        raise DatasetError.of(problems)
    return set(data.complete)


def _require_methods_for_volumes(config: Config, constraints: Sequence[Constraint]) -> None:
    """Refuses methods that do not know 3D images.

    Raises:
        ConfigError: Multipliers of what is seen in part, or proposals that keep bounds of slices.
    """
    method = config.method.name
    if config.data.batch == "patches" and method.endswith("lagrangian"):
        raise ConfigError(
            f"{method} has a multiplier for every slice and volume, and patches show parts of them, some twice.",
            "method",
            "Use penalty, or show whole volumes (data.batch: volumes).",
        )
    of_slices = [constraint.name for constraint in constraints if constraint.scope == "slice"]
    if method == "proposals" and of_slices:
        raise ConfigError(
            f"proposals of a 3D network keep bounds of volumes, and {of_slices[0]!r} speaks of slices.",
            "method",
            "Use penalty, or train on slices: give data.size two numbers.",
        )


def _require_slices(constraints: Sequence[Constraint], prepared: Mapping[str, PreparedCase]) -> None:
    """Refuses bounds of slices where the grid's slices are not the file's.

    Raises:
        ConfigError: Volumes are resampled between their slices.
    """
    of_slices = [constraint.name for constraint in constraints if constraint.scope == "slice"]
    other = [case for case, on_grid in prepared.items() if not on_grid.placement.keeps_slices]
    if of_slices and other:
        placement = prepared[other[0]].placement
        raise ConfigError(
            f"{of_slices[0]!r} speaks of the file's slices, and {len(other)} of {len(prepared)} cases are resampled "
            f"between them ({other[0]}: from {placement.shape[-1]} slices to {placement.resampled[-1]}).",
            "data",
            "Keep them, by a null as the third number of data.spacing_mm and no fit: resize; or give bounds per "
            "volume; or train on slices (data.batch: slices).",
        )


def _require_patches_that_tell(
    asked: Sequence[Demand], size: Sequence[int], prepared: Mapping[str, PreparedCase]
) -> None:
    """Refuses what no patch could ever say anything about, rather than to drop it in silence.

    Raises:
        ConfigError: Only upper bounds on what grows hold of parts, and patches show nothing but parts; all are listed.
    """
    problems = []
    for demand in asked:
        constraint = demand.constraint
        axes = 2 if constraint.scope == "slice" else 3
        held = (on_grid.placement.resampled for on_grid in prepared.values())
        seen_whole = any(all(p >= n for p, n in zip(size[:axes], lengths, strict=False)) for lengths in held)
        pairs = [demand.elsewhere, *(pair for of_case in demand.known.values() for pair in of_case.values())]
        bounded_above = constraint.descriptor.traits.grows and any(np.isfinite(upper).any() for _, upper in pairs)
        if not seen_whole and not bounded_above:
            shown = "x".join(map(str, size))
            problems.append(
                Problem(
                    f"{constraint.name!r} needs to see a whole {constraint.scope}, and no patch of {shown} holds one.",
                    "data.size",
                    f"Enlarge it{' in its first two numbers' if axes == 2 else ''}, take the constraint out, or choose "
                    "batch: volumes.",
                )
            )
    if problems:
        raise ConfigError.of(problems)


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
    asked = config.selection
    if asked.by_masks and not any(dataset.label_path(case).is_file() for case in held_out):
        raise ConfigError(
            f"selection.by: {asked.by} needs held-out cases with full masks, and {asked.cases!r} holds none.",
            str(dataset.folder / "splits.json"),
            "Name other selection.cases, or select by weak or last.",
        )


def _require_apart(dataset: Dataset, trained: Sequence[str], held_out: Sequence[str], config: Config) -> None:
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
