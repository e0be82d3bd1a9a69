"""Every problem of a dataset folder at once, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boundseg.data import possible, priors, volume_io
from boundseg.data.dataset import SPLITS, Dataset
from boundseg.data.drawings import UNREAD
from boundseg.data.orientation import differences
from boundseg.data.picture_io import LOSSY
from boundseg.data.volume_io import Volume
from boundseg.errors import InputError, PriorsError, Problem
from boundseg.nearest import did_you_mean

MOSTLY = 0.5  # a weak set of which more is labelled was probably drawn with 0 for "not drawn"
SHOWN = 6


@dataclass
class Findings:
    """What a check found.

    Attributes:
        problems: What keeps a training from being right.
        notes: What may be meant so.
        labelled: For each label set (``full`` among them): cases, and labelled voxels.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    labelled: dict[str, tuple[int, int]] = field(default_factory=dict)


def check(dataset: Dataset, report: Callable[[str], None] = lambda case: None) -> Findings:
    """Reads every file of a dataset folder and lists what does not fit together."""
    found = Findings()
    grids = _check_volumes(dataset, found, report)
    found.notes[:0] = differences(dataset, grids)  # of all cases, before those of single ones
    _check_splits(dataset, found)
    _check_priors(dataset, found, grids)
    for name, (cases, labelled) in found.labelled.items():
        if cases and not labelled:
            folder = dataset.label_path("", name).parent
            fact = f"the label set {name!r} has no labelled voxel in any of its {cases} cases."
            found.problems.append(Problem(fact, str(folder), "Draw labels, or remove the set."))
    return found


def _check_volumes(dataset: Dataset, found: Findings, report: Callable[[str], None]) -> dict[str, Volume]:
    """Reads images and all their labels; returns the grid, without its voxels, of each case that could be read."""
    if not dataset.cases:
        found.problems.append(
            Problem("there is no image.", str(dataset.folder / "imagesTr"), "Names: CASE_0000.nii.gz")
        )
    grids: dict[str, Volume] = {}
    for case in dataset.cases:
        report(case)
        try:
            _, image = dataset.read_image(case)
        except InputError as error:
            found.problems += error.problems
            continue
        # one byte is seen everywhere: the grids of all cases are kept, and none of their voxels
        grids[case] = Volume(np.broadcast_to(np.uint8(0), image.array.shape), image.affine)
        for name in ("full", *dataset.label_sets):
            if not dataset.label_path(case, name).is_file():
                continue
            try:
                labels = dataset.read_labels(case, name, image)
            except InputError as error:
                found.problems += error.problems
                continue
            # a weak set may teach the background; a full mask of background alone holds nothing
            nothing = (dataset.ignore,) if name != "full" else (0, dataset.ignore)
            labelled = int((~np.isin(labels, nothing)).sum())
            cases, total = found.labelled.get(name, (0, 0))
            found.labelled[name] = (cases + 1, total + labelled)
            if not labelled and name != "full":
                found.notes.append(f"{case} has no labelled voxel in the set {name!r}.")
            if name != "full" and labelled > MOSTLY * labels.size:
                found.notes.append(
                    f"{case}: {labelled / labels.size:.0%} of the voxels of the set {name!r} are labelled, most as "
                    f"{_named(dataset, labels)}. If 0 means 'not drawn' there, write {dataset.ignore} (ignore) instead."
                )
            if name == "full" and np.any(labels == dataset.ignore):
                found.notes.append(f"{case}: the full mask holds ignored voxels.")
    _check_unread(dataset, found)
    if dataset.cases and not found.labelled and not found.problems:
        fact = "no case has labels."
        found.problems.append(Problem(fact, str(dataset.folder), "Put them into labelsTr, or labelsTr_NAME if weak."))
    return grids


def _check_unread(dataset: Dataset, found: Findings) -> None:
    """Volumes beside images and labels that no case has: nobody would miss what is never read."""
    ending, sets = dataset.file_ending, ("full", *dataset.label_sets)
    read = {path for case in dataset.cases for path in dataset.image_paths(case)}
    read |= {dataset.label_path(case, name) for case in dataset.cases for name in sets}
    known = {"imagesTr", "imagesTs", "labelsTr", "labelsTs", *(f"labelsTr_{name}" for name in dataset.label_sets)}
    last = "" if len(dataset.channels) == 1 else f" to CASE_{len(dataset.channels) - 1:04d}{ending}"
    names = {"images": f"CASE_0000{ending}{last}", "labels": f"CASE{ending}"}
    for folder in sorted(path for kind in names for path in dataset.folder.glob(f"{kind}*") if path.is_dir()):
        others = [path for path in sorted(folder.iterdir()) if _is_volume(path) and path not in read]
        if others and folder.name not in known:
            found.notes.append(f"{folder.name} is no folder of the layout: its {len(others)} volumes are never read.")
            continue
        kind, unread = folder.name[: len("images")], []
        for path in others:
            case = path.name.removesuffix(ending)
            if kind == "images" or not path.name.endswith(ending) or case in dataset.cases:
                unread.append(path.name)
                continue
            fact = f"{path.name} has no image{did_you_mean(case, dataset.cases)}"
            found.problems.append(Problem(fact, str(folder), "Add CASE_0000, or remove the labels."))
        if unread:
            fact = f"volumes that are never read: {', '.join(unread[:SHOWN])}"
            fact += f" and {len(unread) - SHOWN} more." if len(unread) > SHOWN else "."
            side = f" of cases in images{folder.name[6:8]}" if kind == "labels" else ""
            found.problems.append(
                Problem(fact, str(folder), f"Names there are {names[kind]}{side}; mend or remove them.")
            )


def _is_volume(path: Path) -> bool:
    kinds = (*volume_io.ENDINGS, *LOSSY, *UNREAD)
    return path.is_file() and not path.name.startswith(".") and path.name.lower().endswith(kinds)


def _check_splits(dataset: Dataset, found: Findings) -> None:
    path, splits = dataset.folder / "splits.json", dataset.splits
    if not path.is_file():
        found.notes.append("no splits.json: every case is taken as one patient, imagesTr trains, imagesTs tests.")
    counts = Counter(case for cases in splits.patients.values() for case in cases)
    for case, count in counts.items():
        if count > 1:
            found.problems.append(Problem(f"{case} belongs to {count} patients.", str(path), "Keep one of them."))
        if case not in dataset.cases:
            near = did_you_mean(case, dataset.cases)
            found.problems.append(Problem(f"{case!r} has no image{near}", str(path), "Mend the name."))
    for case in dataset.cases:
        if case not in counts:
            found.problems.append(Problem(f"{case} belongs to no patient.", str(path), "Add it under patients."))
    sides: dict[str, str] = {}
    for name, members in splits.lists.items():
        for member in members:
            try:
                cases = splits.cases_of_member(member)
            except KeyError:
                near = did_you_mean(member, [*splits.patients, *counts])
                fact = f"the list {name!r} names {member!r}, which is no patient or case{near}"
                found.problems.append(Problem(fact, str(path), "Mend the name."))
                continue
            for patient in {splits.patient_of(case) for case in cases} if name in SPLITS else ():
                if sides.setdefault(patient, name) != name:
                    fact = f"{patient} is on two sides of the split: {sides[patient]} and {name}."
                    found.problems.append(Problem(fact, str(path), "Keep a patient's cases on one side."))


def _check_priors(dataset: Dataset, found: Findings, grids: Mapping[str, Volume]) -> None:
    path = dataset.folder / "priors.csv"
    if not path.is_file():
        found.notes.append("no priors.csv: nothing is known about sizes (boundseg priors derives bounds).")
        return
    try:
        rows, problems = priors.scan(path)
    except PriorsError as error:
        found.problems += error.problems
        return
    slices = {case: grid.array.shape[dataset.slice_axis] for case, grid in grids.items()}
    found.problems += problems + priors.problems_with(rows, dataset, slices, path)
    found.problems += possible.too_large(rows, dataset, grids, path) + possible.excluding(rows, path)


def _named(dataset: Dataset, labels: np.ndarray) -> str:
    """The class that most labelled voxels have."""
    values, counts = np.unique(labels[labels != dataset.ignore], return_counts=True)
    most = int(values[counts.argmax()])
    return next(name for name, value in dataset.labels.items() if value == most)
