"""What a dataset folder holds: the sizes of its classes, what is labelled, and what each case knows."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int, Integer

from boundseg.data import priors
from boundseg.data.dataset import Dataset
from boundseg.data.histogram import QUANTILES, figure, histogram, quantiles, side_by_side
from boundseg.data.orientation import by_orientation
from boundseg.data.picture_io import PICTURE_ENDINGS
from boundseg.data.priors import Prior
from boundseg.errors import DatasetError

Unit = Literal["px", "mm2", "mL"]
UNITS: tuple[Unit, ...] = get_args(Unit)
Scope = Literal["slice", "volume"]


@dataclass(frozen=True)
class Sizes:
    """A region's sizes in the full masks; what a mask ignores is not counted.

    Attributes:
        px: Of each slice that shows the region, in its file's pixels.
        mm2: The same slices, in mm2.
        ml: Of each volume that shows it.
        slices: How many slices were looked at, those without the region among them.
        volumes: How many volumes were.
    """

    px: Int[np.ndarray, " shown"]
    mm2: Float[np.ndarray, " shown"]
    ml: Float[np.ndarray, " volumes_shown"]
    slices: int
    volumes: int

    def in_unit(self, unit: Unit) -> Int[np.ndarray, " n"] | Float[np.ndarray, " n"]:
        """Sizes of slices in px or mm2, or of volumes in mL."""
        return {"px": self.px, "mm2": self.mm2, "mL": self.ml}[unit]


@dataclass(frozen=True)
class LabelSet:
    """How much one set of labels says; ignored voxels say nothing.

    Attributes:
        cases: How many cases have a file of it.
        voxels: All voxels of these cases.
        labelled: Those that are not ignored.
        slices: All slices of these cases.
        labelled_slices: Those that hold a labelled voxel.
        shown: For each region, the slices in which some voxel is labelled as it.
    """

    cases: int
    voxels: int
    labelled: int
    slices: int
    labelled_slices: int
    shown: dict[str, int]


@dataclass(frozen=True)
class Known:
    """The rows of ``priors.csv`` of one set about one quantity of one region, in one unit and scope.

    Attributes:
        rows: How many there are.
        cases: Of how many cases they speak.
        absent: How many of them say that there is none of it (an upper bound of 0).
        lower: The least lower bound of the others; ``-inf`` where none is known.
        upper: Their greatest upper bound; ``inf`` where none is known.
        oracle: Whether any was taken from full masks.
    """

    set: str
    quantity: str
    region: str
    unit: str
    scope: Scope
    rows: int
    cases: int
    absent: int
    lower: float
    upper: float
    oracle: bool


@dataclass(frozen=True)
class Knowledge:
    """What is known of some cases, the same of each.

    Attributes:
        cases: Their names.
        labels: The label sets that each has a file of.
        bounds: Sets of ``priors.csv``, scopes, and the regions that they speak of.
        lists: How many of the cases each list holds; those of no split are counted under ``no split``.
    """

    cases: tuple[str, ...]
    labels: tuple[str, ...]
    bounds: tuple[tuple[str, Scope, tuple[str, ...]], ...]
    lists: dict[str, int]


@dataclass(frozen=True)
class Description:
    """What a dataset folder holds.

    Attributes:
        dataset: The folder.
        lists: For each split and named list, its patients and its cases.
        shapes: Of each case: slices, rows, columns.
        spacings_mm: Of each case: along rows, along columns, from slice to slice.
        orientations: How many cases have which axis codes, such as ``LPS``; none of pictures.
        sizes: Of each region, from full masks; empty where there are none.
        label_sets: By name; ``full`` is that of the full masks.
        known: The facts of ``priors.csv``; empty where there is none.
        knowledge: Cases by what is known of them, most cases first.
    """

    dataset: Dataset
    lists: dict[str, tuple[int, int]]
    shapes: Int[np.ndarray, "cases 3"]
    spacings_mm: Float[np.ndarray, "cases 3"]
    orientations: dict[str, int]
    sizes: dict[str, Sizes]
    label_sets: dict[str, LabelSet]
    known: tuple[Known, ...]
    knowledge: tuple[Knowledge, ...]

    def facts(self) -> dict[str, str]:
        """The folder in a few lines."""
        dataset = self.dataset
        slices, rows, columns = (_range(values) for values in self.shapes.T)
        in_plane, between = _range(self.spacings_mm[:, :2]), _range(self.spacings_mm[:, 2])
        classes = ", ".join(f"{name} {value}" for name, value in dataset.labels.items())
        lists = [f"{name} {cases} of {patients}" for name, (patients, cases) in self.lists.items()]
        channels = ", ".join(dataset.channels)
        full = self.label_sets.get("full")
        partly = full is not None and full.labelled < full.voxels
        codes = self.orientations
        axes = next(iter(codes)) if len(codes) == 1 else ", ".join(f"{name} {count}" for name, count in codes.items())
        note = {"note": "full masks hold ignored voxels: sizes are of what is labelled"} if partly else {}
        return {
            "dataset": f"{dataset.folder}: {len(dataset.cases)} cases of {len(dataset.splits.patients)} patients",
            "lists": f"{_shortened(lists, 8)} (cases of patients)",
            "images": f"{len(dataset.channels)} channel(s): {channels}; {dataset.file_ending}",
            "classes": f"{classes}; ignore {dataset.ignore}",
            "slices": f"{rows} x {columns} px, {slices} in a volume, stacked along axis {dataset.slice_axis}",
            "spacing": f"{in_plane} mm in a slice, {between} mm from slice to slice",
            **({"axes": axes + (" cases; nothing is turned" if len(codes) > 1 else "")} if codes else {}),
            **note,
        }

    def size_rows(self, units: Sequence[Unit] = UNITS) -> list[dict[str, str]]:
        """A row per region and unit: in how many slices (or volumes) it shows, and how large it is where it does."""
        rows = []
        for name, sizes in self.sizes.items():
            for unit in units:
                values = sizes.in_unit(unit)
                of, what = (sizes.volumes, "volume") if unit == "mL" else (sizes.slices, "slice")
                shown = quantiles(values) if len(values) else dict.fromkeys(QUANTILES, math.nan)
                found = {key: "" if math.isnan(value) else figure(value) for key, value in shown.items()}
                rows.append(
                    {"class": name, "size of a": f"{what}, {unit}", "shown in": f"{len(values)} of {of}", **found}
                )
        return rows

    def histograms(self, unit: Unit = "px", width: int = 100, plain: bool = False) -> list[str]:
        """Lines with a histogram of each region's sizes where it shows, up to three beside one another."""
        shown = {name: values for name, sizes in self.sizes.items() if len(values := sizes.in_unit(unit))}
        wide = min((width + 2) // max(min(len(shown), 3), 1) - 2, 60)
        what = "volumes" if unit == "mL" else "slices"
        blocks = [
            [f"{name}, {unit} of {len(values)} {what}", *histogram(values).lines(wide, plain)]
            for name, values in shown.items()
        ]
        return [line for start in range(0, len(blocks), 3) for line in side_by_side(blocks[start : start + 3])]

    def label_rows(self) -> list[dict[str, str]]:
        """A row per label set: its cases, the labelled share, and the slices in which each region is labelled."""
        return [
            {
                "labels": name,
                "cases": str(found.cases),
                "labelled voxels": f"{found.labelled / found.voxels:.2%}",
                "slices with labels": f"{found.labelled_slices} of {found.slices}",
                "slices that show": _shortened([f"{region} {count}" for region, count in found.shown.items()], 3),
            }
            for name, found in self.label_sets.items()
        ]

    def known_rows(self) -> list[dict[str, str]]:
        """A row per set of bounds, quantity, region, unit and scope."""
        return [
            {
                "bounds": known.set + (" (oracle)" if known.oracle else ""),
                "on": f"{known.quantity} {known.region}",
                "per": known.scope,
                "rows": str(known.rows),
                "cases": str(known.cases),
                "say absent": str(known.absent),
                "lower from": "" if math.isinf(known.lower) else f"{figure(known.lower)} {known.unit}",
                "upper to": "" if math.isinf(known.upper) else f"{figure(known.upper)} {known.unit}",
            }
            for known in self.known
        ]

    def knowledge_rows(self, names: bool = False) -> list[dict[str, str]]:
        """A row per kind of case; with ``names``, or where they are few, with the cases' names."""
        rows = []
        for kind in self.knowledge:
            lists = ", ".join(f"{name} {count}" for name, count in kind.lists.items())
            if names or len(kind.cases) <= 2:
                lists += f": {', '.join(kind.cases)}"
            rows.append(
                {
                    "cases": str(len(kind.cases)),
                    "of": lists,
                    "labels": ", ".join(kind.labels) or "none",
                    "bounds": self._bounds(kind) or "none",
                }
            )
        return rows

    def _bounds(self, kind: Knowledge) -> str:
        """``slices: individual, tags; volumes: report on LV``: regions are named where they are not all classes."""
        names: dict[Scope, list[str]] = defaultdict(list)
        for name, scope, regions in kind.bounds:
            names[scope].append(name + (f" on {', '.join(regions)}" if {*regions} < {*self.dataset.classes} else ""))
        return "; ".join(f"{scope}s: {', '.join(of_scope)}" for scope, of_scope in sorted(names.items()))


def describe(
    dataset: Dataset, regions: Sequence[str] = (), report: Callable[[str], None] = lambda case: None
) -> Description:
    """Reads the first channel's grid, all labels and ``priors.csv`` of a dataset folder, once.

    Args:
        dataset: The folder; nothing in it changes.
        regions: Classes, or unions such as ``LV+Myo``, whose sizes are wanted; empty means every class.
        report: Told of each case.

    Raises:
        InputError: There is no image, a region is none, or a file cannot be read or does not fit its image.
    """
    if not dataset.cases:
        raise DatasetError("there is no image.", str(dataset.folder / "imagesTr"), "Names: CASE_0000.nii.gz")
    values_of = _regions(dataset, regions or list(dataset.classes))
    path = dataset.folder / "priors.csv"
    rows = priors.read(path) if path.is_file() else []
    shapes, spacings, affines, has = [], [], {}, {}
    counts: dict[str, list[Int[np.ndarray, "S K"]]] = defaultdict(list)
    masked_mm: list[tuple[float, float, float]] = []
    for case in dataset.cases:
        report(case)
        image = dataset.read_grid(case)
        shapes.append(dataset.to_slices(image.array).shape)
        spacings.append(dataset.slice_spacing_mm(image))
        affines[case] = image.affine
        has[case] = [n for n in ("full", *dataset.label_sets) if dataset.label_path(case, n).is_file()]
        for name in has[case]:
            counts[name].append(_counts(dataset.to_slices(dataset.read_labels(case, name, image)), dataset.ignore))
        if "full" in has[case]:
            masked_mm.append(spacings[-1])
    return Description(
        dataset,
        _lists(dataset),
        np.array(shapes),
        np.array(spacings),
        {} if dataset.file_ending in PICTURE_ENDINGS else {n: len(of) for n, of in by_orientation(affines).items()},
        {name: _sizes(counts["full"], values, masked_mm) for name, values in values_of.items() if counts["full"]},
        {
            name: _label_set(counts[name], values_of, dataset.ignore)
            for name in ("full", *dataset.label_sets)
            if counts[name]
        },
        _known(rows),
        _knowledge(dataset, has, rows),
    )


def _regions(dataset: Dataset, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    try:
        return {name: dataset.region(name) for name in names}
    except KeyError as error:
        raise DatasetError(
            str(error.args[0]), str(dataset.folder / "dataset.json"), f"The classes are: {', '.join(dataset.classes)}."
        ) from None


def _counts(labels: Integer[np.ndarray, "S H W"], ignore: int) -> Int[np.ndarray, "S K"]:
    """How often each value, the ignored one last, occurs in each slice."""
    return np.stack([np.bincount(one.ravel(), minlength=ignore + 1) for one in labels])


def _sizes(
    counts: Sequence[Int[np.ndarray, "_ K"]], values: tuple[int, ...], spacings_mm: Sequence[tuple[float, float, float]]
) -> Sizes:
    of_cases = [of_case[:, list(values)].sum(1) for of_case in counts]
    mm2 = [px * rows * columns for px, (rows, columns, _) in zip(of_cases, spacings_mm, strict=True)]
    ml = np.array([s.sum() * between / 1000 for s, (_, _, between) in zip(mm2, spacings_mm, strict=True)])
    px, flat_mm2 = np.concatenate(of_cases), np.concatenate(mm2)
    return Sizes(px[px > 0], flat_mm2[px > 0], ml[ml > 0], len(px), len(ml))


def _label_set(
    counts: Sequence[Int[np.ndarray, "_ K"]], values_of: Mapping[str, tuple[int, ...]], ignore: int
) -> LabelSet:
    slices = np.concatenate(counts)
    labelled = slices.sum(1) - slices[:, ignore]
    return LabelSet(
        cases=len(counts),
        voxels=int(slices.sum()),
        labelled=int(labelled.sum()),
        slices=len(slices),
        labelled_slices=int((labelled > 0).sum()),
        shown={name: int(slices[:, list(values)].any(1).sum()) for name, values in values_of.items()},
    )


def _lists(dataset: Dataset) -> dict[str, tuple[int, int]]:
    patient_of = {case: patient for patient, cases in dataset.splits.patients.items() for case in cases}
    found = {}
    for name in dataset.splits.lists:
        cases = dataset.cases_of(name)
        found[name] = (len({patient_of[case] for case in cases}), len(cases))
    return found


def _known(rows: Iterable[Prior]) -> tuple[Known, ...]:
    groups: dict[tuple[str, str, str, str, Scope], list[Prior]] = defaultdict(list)
    for row in rows:
        groups[row.set, row.quantity, row.region, row.unit, _scope(row)].append(row)
    found = []
    for key, group in groups.items():
        some = [row for row in group if row.upper != 0]
        found.append(
            Known(
                *key,
                rows=len(group),
                cases=len({row.case for row in group}),
                absent=len(group) - len(some),
                lower=min((row.lower for row in some if not math.isinf(row.lower)), default=-math.inf),
                upper=max((row.upper for row in some if not math.isinf(row.upper)), default=math.inf),
                oracle=any(row.source.startswith("oracle") for row in group),
            )
        )
    return tuple(found)


def _knowledge(dataset: Dataset, has: Mapping[str, Sequence[str]], rows: Iterable[Prior]) -> tuple[Knowledge, ...]:
    regions: dict[str, dict[tuple[str, Scope], dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if not (math.isinf(row.lower) and math.isinf(row.upper)):
            regions[row.case][row.set, _scope(row)][row.region] = None
    split_of = {case: name for name in reversed(("train", "validation", "test")) for case in dataset.cases_of(name)}
    kinds: dict[tuple[tuple[str, ...], tuple[tuple[str, Scope, tuple[str, ...]], ...]], list[str]] = defaultdict(list)
    for case in dataset.cases:
        bounds = tuple((*key, tuple(of)) for key, of in sorted(regions[case].items()))
        kinds[tuple(has[case]), bounds].append(case)
    found = [
        Knowledge(tuple(cases), labels, bounds, dict(Counter(split_of.get(case, "no split") for case in cases)))
        for (labels, bounds), cases in kinds.items()
    ]
    return tuple(sorted(found, key=lambda kind: -len(kind.cases)))


def _scope(row: Prior) -> Scope:
    return "volume" if row.slice is None else "slice"


def _range(values: np.ndarray) -> str:
    low, high = figure(float(values.min())), figure(float(values.max()))
    return low if low == high else f"{low} to {high}"


def _shortened(texts: Sequence[str], most: int) -> str:
    more = f", … ({len(texts)})" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
