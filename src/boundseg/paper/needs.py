"""What trainings need of a dataset folder, and how what is missing of it is derived: as weaken and priors do it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from boundseg.data import derive, priors
from boundseg.data.dataset import SPLITS, Dataset, Splits, write_splits
from boundseg.data.label_sets import Method, write_label_set
from boundseg.data.priors import Prior
from boundseg.errors import DatasetError, Problem
from boundseg.paper.rows import Base, Row
from boundseg.training.config import Config
from boundseg.training.config.constraints import SizeConfig
from boundseg.training.state.writing import writing

Report = Callable[[str], None]

# as boundseg weaken writes them: pixels are those of the files
LABEL_SETS: dict[str, tuple[Method, dict[str, Any]]] = {
    "erosion": ("erosion", {"reading": "published"}),
    "erosion_text": ("erosion", {"reading": "text"}),
    "disc": ("disc", {"radius_px": 4}),
}


@dataclass(frozen=True)
class Needs:
    """What trainings need, beside images and full masks.

    Attributes:
        label_sets: Weak label sets.
        sets: Sets of bounds in priors.csv.
        lists: Lists of fully annotated volumes: their names, how many each names, and the seed that draws them.
    """

    label_sets: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    lists: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[tuple[Row, int, Config]]) -> Needs:
        """Those of rows with their seeds and configs."""
        labels: dict[str, None] = {}
        sets: dict[str, None] = {}
        lists: dict[str, tuple[int, int]] = {}
        for row, seed, config in rows:
            for entry in config.supervision:
                labels |= dict.fromkeys({entry.labels} - {"full", "none"})
                for constraint in entry.constraints:
                    asked = constraint.asked
                    if isinstance(asked, SizeConfig) and asked.between is None:
                        sets |= {asked.set or asked.tags: None}
            if (name := row.list_name(seed)) is not None and row.annotated is not None:
                lists[name] = (row.annotated, seed)
        return cls(tuple(labels), tuple(sets), lists)


def require_kind(dataset: Dataset, base: Base, sides: Sequence[str] = SPLITS) -> None:
    """Raises where a dataset folder is not one that the rows can be run on, with everything that is missing.

    Args:
        dataset: The folder.
        base: Of the rows.
        sides: The lists of ``splits.json`` that somebody has to be in.

    Raises:
        DatasetError: The class, one of the three splits, or full masks are not there.
    """
    where = str(dataset.folder)
    if base.target not in dataset.classes:
        raise DatasetError(
            f"this is about the class {base.target} ({base.dataset}), and the dataset has "
            f"{', '.join(dataset.classes) or 'none'}.",
            str(dataset.folder / "dataset.json"),
            f"Give a dataset made by: {base.command}",
        )
    problems = [
        Problem(f"nobody is in the list {name!r}.", str(dataset.folder / "splits.json"), "Put patients into it.")
        for name in sides
        if not dataset.splits.lists.get(name)
    ]
    missing = [case for name in SPLITS for case in _cases(dataset, name) if not dataset.label_path(case).is_file()]
    if missing:
        problems.append(
            Problem(
                f"{len(missing)} cases have no full mask ({', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}).",
                where,
                "Weak labels and bounds are made from masks, and predictions judged by them: give masks for all.",
            )
        )
    if problems:
        raise DatasetError.of(problems)


def provide(dataset: Dataset, needs: Needs, base: Base, patient: str | None = None, report: Report = print) -> Dataset:
    """Derives what is not there yet; what is there is left as it is.

    Args:
        dataset: The folder; label sets, rows of ``priors.csv`` and lists of ``splits.json`` are added to it.
        needs: See :meth:`Needs.of`.
        base: Of the rows.
        patient: The annotated patient of the common bounds; left out, see :func:`annotated_patient`.
        report: Told of everything that is derived.

    Returns:
        The dataset, opened anew.

    Raises:
        InputError: It cannot be derived, or the folder cannot be written.
    """
    with writing("what the trainings need", dataset.folder, "Give a copy of the dataset that may be written."):
        wanted = [*needs.label_sets, *([base.presence] if {"tags", "common"} & set(needs.sets) else [])]
        for name in dict.fromkeys(wanted):
            _provide_labels(dataset, name, base, report)
        _provide_bounds(dataset, needs.sets, base, patient, report)
        _provide_lists(dataset, needs.lists, report)
    return Dataset.open(dataset.folder)


def sources(dataset: Dataset, sets: Sequence[str], base: Base) -> dict[str, str]:
    """For every set of bounds where most of its rows came from, the commonest first, two at most."""
    path = dataset.folder / "priors.csv"
    rows = [row for row in priors.read(path) if row.region == base.target and row.quantity == "size"] if sets else []
    found = {}
    for name in sets:
        counts = Counter(row.source for row in rows if row.set == name)
        told = [f"{source} ({count} rows)" for source, count in counts.most_common(2)]
        found[f"bounds {name}"] = "; ".join(told) + (" …" if len(counts) > 2 else "")
    return found


def annotated_patient(dataset: Dataset, base: Base, patient: str | None = None) -> str:
    """Whose full masks give the common bounds: the one who is named, the base's, or the first one who trains.

    Raises:
        DatasetError: The one who is named is none of those who train.
    """
    trains = dataset.splits.lists["train"]
    if patient is not None and patient not in trains:
        raise DatasetError(
            f"{patient} is not in the list 'train'.", str(dataset.folder / "splits.json"), "Give --patient another."
        )
    # by volume, a patient is one of his volumes
    own = [name for name in trains if base.patient and (name == base.patient or name.startswith(f"{base.patient}_"))]
    return patient or (own or trains)[0]


def drawn(dataset: Dataset, count: int, seed: int) -> list[str]:
    """Volumes of the training list, each of another patient as long as there are patients.

    A list of fewer volumes with the same seed is the beginning of a longer one.

    Raises:
        DatasetError: There are not so many volumes.
    """
    patients = [_cases(dataset, member) for member in dataset.splits.lists["train"]]
    rng = np.random.default_rng(seed)
    shuffled = [[str(case) for case in rng.permutation(patients[i])] for i in rng.permutation(len(patients))]
    deepest = max(map(len, shuffled), default=0)
    ordered = [cases[turn] for turn in range(deepest) for cases in shuffled if turn < len(cases)]
    if len(ordered) < count:
        raise DatasetError(
            f"{count} fully annotated volumes are asked for, and the list 'train' has {len(ordered)}.",
            str(dataset.folder / "splits.json"),
            "Leave the row out with --row, or give a larger dataset.",
        )
    return ordered[:count]


def _cases(dataset: Dataset, name: str) -> list[str]:
    return dataset.cases_of(name)


def _masked(dataset: Dataset) -> list[str]:
    """The cases of all splits, those that train first."""
    return list(dict.fromkeys(case for name in SPLITS for case in _cases(dataset, name)))


def _teaching(dataset: Dataset) -> list[str]:
    return [case for name in ("train", "validation") for case in _cases(dataset, name)]


def _provide_labels(dataset: Dataset, name: str, base: Base, report: Report) -> None:
    cases = [case for case in _teaching(dataset) if not dataset.label_path(case, name).is_file()]
    if not cases:
        return
    if name not in LABEL_SETS:
        raise DatasetError(f"there is no label set {name!r}.", str(dataset.folder), "boundseg weaken makes one.")
    method, options = LABEL_SETS[name]
    report(f"labelsTr_{name}: weak labels of {len(cases)} volumes, made from their masks")
    write_label_set(dataset, cases, name, method, classes=[base.target], **options)


def _provide_bounds(dataset: Dataset, sets: Sequence[str], base: Base, patient: str | None, report: Report) -> None:
    path = dataset.folder / "priors.csv"
    rows = priors.read(path) if path.is_file() else []
    region, teaching, everyone = base.target, _teaching(dataset), _masked(dataset)
    derivations: dict[str, Callable[[list[str]], list[Prior]]] = {
        "tags": lambda cases: derive.tags(dataset, cases, [region], base.presence, "absent"),
        "common": lambda cases: derive.common(
            dataset, cases, [region], base.presence, annotated_patient(dataset, base, patient), empty="absent"
        ),
        "individual": lambda cases: derive.individual(dataset, cases, [region]),
        "volume": lambda cases: derive.volume(dataset, cases, [region]),
        # the published code gives a volume no margin, and the text counts its pixels
        "volume_exact": lambda cases: _named("volume_exact", derive.volume(dataset, cases, [region], margin=0.0)),
        "volume_px": lambda cases: _named("volume_px", derive.volume(dataset, cases, [region], unit="px")),
    }
    added = False
    for name in sets:
        has = {row.case for row in rows if row.set == name and row.region == region and row.quantity == "size"}
        # tags and common bounds need weak labels, which only those have who teach or are held out
        cases = [case for case in (teaching if name in ("tags", "common") else everyone) if case not in has]
        if not cases:
            continue
        if name not in derivations:
            raise DatasetError(f"there is no set {name!r} of bounds.", str(path), "boundseg priors derives one.")
        if has:
            report(f"priors.csv: bounds {name!r} of {len(cases)} more volumes")
        else:
            report(f"priors.csv: bounds {name!r} of {len(cases)} volumes")
        of_volume = name.startswith("volume")
        found = derivations[name](cases)
        rows = priors.merge(rows, found, product([name], ["size"], [region], cases, [of_volume]))
        added = True
    if added:
        priors.write(path, rows)


def _named(name: str, rows: Iterable[Prior]) -> list[Prior]:
    return [replace(row, set=name) for row in rows]


def _provide_lists(dataset: Dataset, lists: Mapping[str, tuple[int, int]], report: Report) -> None:
    missing = {name: asked for name, asked in lists.items() if name not in dataset.splits.lists}
    if not missing:
        return
    found = {name: drawn(dataset, count, seed) for name, (count, seed) in missing.items()}
    report(f"splits.json: the lists {', '.join(found)} of fully annotated volumes")
    write_splits(dataset.folder, Splits(dataset.splits.patients, {**dataset.splits.lists, **found}))
