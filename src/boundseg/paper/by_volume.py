"""The paper's split: by volume, so that both phases of a patient can lie on both sides, and without a test set."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from boundseg.data import priors
from boundseg.data.dataset import Dataset, Splits, write_splits
from boundseg.training.state.writing import writing

HELD_BACK = 25 / 200  # the published code's share of ACDC
SEED = 0  # one fixed split; the seed of a training moves networks and orders only


def by_volume(dataset: Dataset, folder: Path) -> Dataset:
    """The same files in another folder, where every volume is a patient of its own and one in eight is held back.

    Volumes are links to the files of the dataset (copies where links cannot be made), which stays as it is; what is
    derived later is written into the new folder. Common bounds are left out, since they are of a patient.

    Args:
        dataset: With full masks of all cases that are to be used.
        folder: Where; what an earlier call left there is used again.

    Raises:
        RunError: It cannot be written.
    """
    if (folder / "splits.json").is_file():
        return Dataset.open(folder)
    cases = [case for case in dataset.cases if dataset.label_path(case).is_file()]
    with writing("the split by volume", folder, "Make room, or name another place with --out."):
        for case in cases:
            for path in dataset.image_paths(case):
                _link(path, folder / "imagesTr" / path.name)
            _link(dataset.label_path(case), folder / "labelsTr" / dataset.label_path(case).name)
            for name in dataset.label_sets:
                if (path := dataset.label_path(case, name)).is_file():
                    _link(path, folder / f"labelsTr_{name}" / path.name)
        shutil.copyfile(dataset.folder / "dataset.json", folder / "dataset.json")
        known = dataset.folder / "priors.csv"
        if known.is_file():
            priors.write(folder / "priors.csv", [row for row in priors.read(known) if row.set != "common"])
        shuffled = np.random.default_rng(SEED).permutation(cases).tolist()
        count = max(1, round(HELD_BACK * len(cases)))
        lists = {"train": sorted(shuffled[count:]), "validation": sorted(shuffled[:count]), "test": []}
        write_splits(folder, Splits({case: [case] for case in cases}, lists))  # last: it says that all is there
    return Dataset.open(folder)


def _link(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    try:
        to.symlink_to(path.resolve())
    except OSError:  # Windows, without the right to make links
        shutil.copyfile(path, to)
