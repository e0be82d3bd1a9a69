"""Two runs that were trained and judged once for all tests of reports, which copy what they change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from boundseg.training.evaluate import evaluate
from boundseg.training.loop import train
from tests.training.cases import INDIVIDUAL, VOLUME, entry, tiny

torch.set_num_threads(1)
CONSTRAINTS = {"individual": [INDIVIDUAL, VOLUME], "partial": []}


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Filled by the first test that asks for runs."""
    return {"": tmp_path_factory.mktemp("report")}


@pytest.fixture
def runs(studio: dict[str, Path], tiny_dataset: Path, tmp_path: Path) -> list[Path]:
    """Copies of the folders of two runs on one dataset, judged on its validation patient."""
    shelf = studio[""]
    if not (shelf / "hearts").exists():
        shutil.copytree(tiny_dataset, shelf / "hearts")
        for name, constraints in CONSTRAINTS.items():
            config = tiny(shelf / "hearts", entry("seeds", "train", constraints))
            evaluate(train(config, shelf / name, device="cpu", quiet=True), "validation")
    return [Path(shutil.copytree(shelf / name, tmp_path / name)) for name in CONSTRAINTS]
