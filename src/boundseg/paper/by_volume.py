"""The paper's split: by volume, so that both phases of a patient can lie on both sides, and without a test set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boundseg.data import atomic, priors
from boundseg.data.dataset import Dataset, Splits, write_splits
from boundseg.data.priors import Prior
from boundseg.errors import DatasetError
from boundseg.training.state.writing import writing

SEED = 0  # one fixed split; the seed of a training moves networks and orders only
SOURCE = "source.json"  # says of which folder a split is


def by_volume(dataset: Dataset, folder: Path, held_back: float) -> Dataset:
    """The same files in another folder, where every volume is a patient of its own and a share of them is held back.

    Volumes are links to the files of the dataset (copies where links cannot be made), which stays as it is; what is
    derived later is written into the new folder. Common bounds are left out, since they are of a patient.

    Args:
        dataset: With full masks of all cases that are to be used.
        folder: Where. What an earlier call left there is used again; label sets and rows of ``priors.csv`` that the
            dataset got since are added, and what is there is left as it is.
        held_back: Which share, in (0, 1); at least one volume.

    Raises:
        DatasetError: The folder is of another dataset, or the dataset has other cases or classes than it had.
        RunError: It cannot be written.
    """
    cases = [case for case in dataset.cases if dataset.label_path(case).is_file()]
    made = (folder / "splits.json").is_file()
    if made:
        _require_made_of(dataset, cases, folder)
    with writing("the split by volume", folder, "Make room, or name another place with --out."):
        if not made:
            for case in cases:
                for path in dataset.image_paths(case):
                    _link(path, folder / "imagesTr" / path.name)
                _link(dataset.label_path(case), folder / "labelsTr" / dataset.label_path(case).name)
            shutil.copyfile(dataset.folder / "dataset.json", folder / "dataset.json")
        _bring_weak_labels(dataset, cases, folder)
        _bring_bounds(dataset, folder)
        if not made:
            atomic.write_text(folder / SOURCE, json.dumps({"folder": str(dataset.folder.resolve())}) + "\n")
            shuffled = np.random.default_rng(SEED).permutation(cases).tolist()
            count = max(1, round(held_back * len(cases)))
            lists = {"train": sorted(shuffled[count:]), "validation": sorted(shuffled[:count]), "test": []}
            write_splits(folder, Splits({case: [case] for case in cases}, lists))  # last: it says that all is there
    return Dataset.open(folder)


def _require_made_of(dataset: Dataset, cases: Sequence[str], folder: Path) -> None:
    """Raises DatasetError where a folder is not the split of these cases."""
    made = Dataset.open(folder)
    try:
        source = json.loads((folder / SOURCE).read_text(encoding="utf-8"))["folder"]
    except (OSError, ValueError, KeyError, TypeError):
        source = "a folder that it does not name"
    if source != str(dataset.folder.resolve()):
        raise DatasetError(
            f"the split by volume is of {source}, not of {dataset.folder.resolve()}.",
            str(folder),
            "Name another place with --out.",
        )
    changed = sorted({*cases} ^ {*made.splits.patients})
    if changed or made.labels != dataset.labels:
        what = f"cases ({', '.join(changed[:3])}{' …' if len(changed) > 3 else ''})" if changed else "classes"
        raise DatasetError(
            f"{dataset.folder} has other {what} than when it was split by volume.",
            str(folder),
            "Name another place with --out: the same volumes would not be held back.",
        )


def _bring_weak_labels(dataset: Dataset, cases: Sequence[str], folder: Path) -> None:
    for name in dataset.label_sets:
        for case in cases:
            path = dataset.label_path(case, name)
            to = folder / f"labelsTr_{name}" / path.name
            if path.is_file() and not to.exists():
                _link(path, to)


def _bring_bounds(dataset: Dataset, folder: Path) -> None:
    """Rows about what nothing is said of yet."""
    source, path = dataset.folder / "priors.csv", folder / "priors.csv"
    if not source.is_file():
        return
    rows = priors.read(path) if path.is_file() else []
    known = {_about(row) for row in rows}
    more = [row for row in priors.read(source) if row.set != "common" and _about(row) not in known]
    if more or not path.is_file():
        priors.write(path, [*rows, *more])


def _about(row: Prior) -> tuple[str, str, str, str]:
    # without the slice: bounds of a case come together, and those of two origins would contradict each other
    return row.set, row.quantity, row.region, row.case


def _link(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    try:
        to.symlink_to(path.resolve())
    except OSError:  # Windows, without the right to make links
        shutil.copyfile(path, to)
