"""Runs that are trained once for all tests, which leave them as they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from boundseg.training import loop
from boundseg.training.loop import train
from boundseg.training.run import Run

from .cases import INDIVIDUAL, entry, tiny

# trainings of a few small slices: on a busy machine threads wait for one another longer than they compute
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shelf() -> dict[str, Run]:
    """What was trained already."""
    return {}


def _trained(name: str, shelf: dict[str, Run], request: pytest.FixtureRequest, **data: object) -> Run:
    if name not in shelf:
        # the dataset folder of one test is gone with it: a run keeps one of its own
        folder: Path = request.getfixturevalue("tmp_path_factory").mktemp(name)
        shutil.copytree(request.getfixturevalue("tiny_dataset"), folder / "hearts")
        config = tiny(folder / "hearts", entry("full", "few"), entry("seeds", "train", [INDIVIDUAL]), data=data)
        shelf[name] = train(config, folder / "run", device="cpu", quiet=True)
    return shelf[name]


@pytest.fixture
def trained(shelf: dict[str, Run], request: pytest.FixtureRequest) -> Run:
    """A hybrid run of two epochs on slices padded to 24 x 24; its dataset lies beside it as ``hearts``."""
    return _trained("padded", shelf, request)


@pytest.fixture
def trained_on_crops(shelf: dict[str, Run], request: pytest.FixtureRequest) -> Run:
    """The same, on centre crops of 16 x 16."""
    return _trained("cropped", shelf, request, size=[16, 16], fit="crop")


@pytest.fixture
def interrupt_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Interrupts the next training at the end of the epoch after so many, before anything of it is written."""

    def interrupt(epochs: int) -> None:
        validate, calls = loop.validate, iter(range(100))

        def interrupted(*arguments: Any) -> Any:
            if next(calls) == epochs:
                raise KeyboardInterrupt
            return validate(*arguments)

        monkeypatch.setattr(loop, "validate", interrupted)

    return interrupt
