"""What trainings need of a dataset folder, and how what is missing of it is derived: as weaken and priors do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from boundseg.asked.constraints import SizeConfig
from boundseg.data.dataset import SPLITS, Dataset, Splits, write_splits
from boundseg.data.label_sets import Method, write_label_set
from boundseg.errors import DatasetError, Problem
from boundseg.paper.bounds import Wanted, provide_bounds, teaching
from boundseg.paper.rows import Base, Drawn, Row
from boundseg.training.config import Config
from boundseg.training.state.writing import writing

Report = Callable[[str], None]

# as boundseg weaken writes them: pixels are those of the files, of the last two those of slices of 256 x 256
LABEL_SETS: dict[str, tuple[Method, dict[str, Any]]] = {
    "erosion": ("erosion", {"reading": "published"}),
    "erosion_text": ("erosion", {"reading": "text"}),
    "disc": ("disc", {"radius_px": 4}),
    "disc_centroid": ("disc", {"radius_px": 4, "centre": "centroid"}),
    "erosion_256": ("erosion", {"reading": "published", "grid_size": (256, 256)}),
    "disc_256": ("disc", {"radius_px": 2, "grid_size": (256, 256)}),  # 4 px across
}


@dataclass(frozen=True)
class Needs:
    """What trainings need, beside images and full masks.

    Attributes:
        label_sets: Weak label sets.
        bounds: Rows of priors.csv.
        lists: Lists that are drawn of those who train: their names, what each is, and the seed that draws it.
    """

    label_sets: tuple[str, ...] = ()
    bounds: tuple[Wanted, ...] = ()
    lists: Mapping[str, tuple[Drawn, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[tuple[Row, int, Config]]) -> Needs:
        """Those of rows with their seeds and configs."""
        labels: dict[str, None] = {}
        bounds: dict[Wanted, None] = {}
        lists: dict[str, tuple[Drawn, int]] = {}
        for row, seed, config in rows:
            for entry in config.supervision:
                labels |= dict.fromkeys({entry.labels} - {"full", "none"})
                for constraint in entry.constraints:
                    asked = constraint.asked
                    if isinstance(asked, SizeConfig) and asked.between is None:
                        bounds |= {Wanted(asked.set or asked.tags): None}
                    elif asked.set is not None:
                        bounds |= {Wanted(asked.set, asked.quantity): None}
            if row.drawn is not None:
                lists[row.drawn.name(seed)] = (row.drawn, seed)
        return cls(tuple(labels), tuple(bounds), lists)


def require_kind(dataset: Dataset, base: Base, sides: Sequence[str] = SPLITS) -> None:
    """Raises where a dataset folder is not one that the rows can be run on, with everything that is missing.

    Args:
        dataset: The folder.
        base: Of the rows.
        sides: The lists of ``splits.json`` that somebody has to be in.

    Raises:
        DatasetError: The classes are others, or one of the three splits or full masks are not there.
    """
    where = str(dataset.folder)
    # exactly: with more classes the network has more outputs, and learns another problem
    if set(base.targets) != set(dataset.classes):
        raise DatasetError(
            f"this is about the class {' and '.join(base.targets)} alone ({base.dataset}), and the dataset has "
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
        patient: The annotated patient of the common bounds; left out, see
            :func:`boundseg.paper.bounds.annotated_patient`.
        report: Told of everything that is derived.

    Returns:
        The dataset, opened anew.

    Raises:
        InputError: It cannot be derived, or the folder cannot be written.
    """
    with writing("what the trainings need", dataset.folder, "Give a copy of the dataset that may be written."):
        by_presence = any(one.set in ("tags", "common") for one in needs.bounds)
        wanted = [*needs.label_sets, *([base.presence] if by_presence else [])]
        for name in dict.fromkeys(wanted):
            _provide_labels(dataset, name, base, report)
        provide_bounds(dataset, needs.bounds, base, patient, report)
        _provide_lists(dataset, needs.lists, report)
    return Dataset.open(dataset.folder)


def drawn(dataset: Dataset, asked: Drawn, seed: int) -> list[str]:
    """Volumes or patients of the training list.

    A list of fewer with the same seed is the beginning of a longer one.

    Raises:
        DatasetError: There are not so many.
    """
    trains = dataset.splits.lists["train"]
    rng = np.random.default_rng(seed)
    if asked.of == "patients":
        ordered = [trains[i] for i in rng.permutation(len(trains))]
    else:
        patients = [_cases(dataset, member) for member in trains]
        shuffled = [[str(case) for case in rng.permutation(patients[i])] for i in rng.permutation(len(patients))]
        deepest = max(map(len, shuffled), default=0)
        ordered = [cases[turn] for turn in range(deepest) for cases in shuffled if turn < len(cases)]
    if len(ordered) < asked.count:
        what = "fully annotated volumes" if asked.of == "volumes" else "patients"
        raise DatasetError(
            f"{asked.count} {what} are asked for, and the list 'train' has {len(ordered)}.",
            str(dataset.folder / "splits.json"),
            "Leave the row out with --row, or give a larger dataset.",
        )
    return ordered[: asked.count]


def _cases(dataset: Dataset, name: str) -> list[str]:
    return dataset.cases_of(name)


def _provide_labels(dataset: Dataset, name: str, base: Base, report: Report) -> None:
    cases = [case for case in teaching(dataset) if not dataset.label_path(case, name).is_file()]
    if not cases:
        return
    if name not in LABEL_SETS:
        raise DatasetError(
            f"{len(cases)} cases have no labels {name!r} ({', '.join(cases[:3])}{' …' if len(cases) > 3 else ''}).",
            str(dataset.folder / f"labelsTr_{name}"),
            f"They cannot be derived from masks. A folder that has them is made by: {base.command}",
        )
    method, options = LABEL_SETS[name]
    report(f"labelsTr_{name}: weak labels of {len(cases)} volumes, made from their masks")
    write_label_set(dataset, cases, name, method, classes=base.targets, **options)


def _provide_lists(dataset: Dataset, lists: Mapping[str, tuple[Drawn, int]], report: Report) -> None:
    missing = {name: asked for name, asked in lists.items() if name not in dataset.splits.lists}
    if not missing:
        return
    found = {name: drawn(dataset, what, seed) for name, (what, seed) in missing.items()}
    report(f"splits.json: the lists {', '.join(found)}")
    write_splits(dataset.folder, Splits(dataset.splits.patients, {**dataset.splits.lists, **found}))
