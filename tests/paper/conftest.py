"""A table of two rows on synthetic hearts, two epochs each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from boundseg.data.dataset import Dataset
from boundseg.demo import write_hearts
from boundseg.paper import Reproduced, reproduce
from boundseg.paper.needs import Needs, provide
from boundseg.paper.rows import base, row
from boundseg.paper.runs import plan
from boundseg.training.loop import train

PATIENTS = {"train": 2, "validation": 1, "test": 1}
ROWS = ("partial", "common")


# small enough for seconds; both epochs of the first row, then one more of it and two of the second
CHANGED = [
    "training.epochs=2",
    "training.schedule={name: constant}",  # that of the scale goes to an end, and such a training is not prolonged
    "data.size=[48, 48]",
    "data.spacing_mm=[4, 4]",
    "training.batch_size=30",
]


@dataclass(frozen=True)
class Begun:
    """A table that was run: on what, where to, what was said, and what came back.

    Attributes:
        before: What was there when one row had half its epochs and the other none.
        page_before: Its page.
        found: What came back when the rest was run.
    """

    dataset: Path
    out: Path
    said: list[str]
    before: Reproduced
    page_before: str
    found: Reproduced


@pytest.fixture(scope="session")
def bare_hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, full masks and splits of four patients; no weak labels and no bounds."""
    folder = tmp_path_factory.mktemp("paper") / "hearts"
    write_hearts(folder, PATIENTS)
    (folder / "priors.csv").unlink()
    shutil.rmtree(folder / "labelsTr_erosion")
    return folder


@pytest.fixture(scope="session")
def begun(bare_hearts: Path, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """Two rows of table 1, quick, two epochs; the first row was interrupted after one."""
    folder = tmp_path_factory.mktemp("table1")
    dataset, out, said = folder / "hearts", folder / "out", list[str]()
    shutil.copytree(bare_hearts, dataset)
    opened = provide(Dataset.open(dataset), Needs(("erosion_text",)), base("acdc"), report=said.append)
    (one,) = plan([(row("table1/partial"), opened)], [0], "honest", "quick", out, ["training.epochs=1", *CHANGED[1:]])
    train(one.config, one.folder, device="cpu", quiet=True)
    before = run(dataset, out, [], train=False)
    page = before.files["page"].read_text(encoding="utf-8")
    return Begun(dataset, out, said, before, page, run(dataset, out, said))


def run(dataset: Path, out: Path, said: list[str], **changed: object) -> Reproduced:
    """The same two rows, with other arguments where they are given."""
    options: dict[str, object] = {
        "scale": "quick",
        "only": ROWS,
        "jobs": 2,
        "threads": 1,
        "overrides": CHANGED,
        "device": "cpu",
        "quiet": True,
        "report": said.append,
        "out": out,
    }
    return reproduce("table1", [dataset], **(options | changed))  # type: ignore[arg-type]
