"""Configs of trainings that take seconds, for the dataset folder of ``tiny_dataset``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boundseg.training.config import Config
from boundseg.training.run import Run

INDIVIDUAL = {"size": {"class": "LV", "set": "individual"}}
TAGS = {"size": {"class": "LV", "set": "tags"}}
VOLUME = {"size": {"class": "LV", "set": "volume"}}


def entry(labels: str = "seeds", cases: str | list[str] = "train", constraints: Sequence[Any] = ()) -> dict[str, Any]:
    """An entry of ``supervision``."""
    return {"cases": cases, "labels": labels, "constraints": list(constraints)}


def tiny(folder: Path, *entries: dict[str, Any], **sections: dict[str, Any]) -> Config:
    """Two epochs on a grid of 24 x 24; ``sections`` are merged into those of the config."""
    content: dict[str, Any] = {
        "data": {"folder": str(folder), "size": [24, 24]},
        "supervision": list(entries or [entry()]),
        "training": {"epochs": 2, "batch_size": 8, "optimizer": {"lr": 2e-3}, "schedule": {"name": "constant"}},
    }
    for name, section in sections.items():
        content[name] = {**content.get(name, {}), **section} if isinstance(section, dict) else section
    return Config.parse(content)


def resampling(run: Run, folder: Path, spacing_mm: float) -> Run:
    """A copy of the run, had its config asked for a spacing."""
    shutil.copytree(run.folder, folder)
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("spacing_mm: null", f"spacing_mm: [{spacing_mm}, {spacing_mm}]"))
    return Run.open(folder)
