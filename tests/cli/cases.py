"""What tests of the command line share: how it ends, a config that trains for a second, volumes rewritten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml

from boundseg.cli import app

VERBS = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]
TRAIN = ("--device", "cpu", "--threads", 1)


@dataclass
class Result:
    """What a command left on the screen."""

    code: int
    out: str
    err: str


Boundseg = Callable[..., Result]


def config(folder: Path, dataset: Path, labels: str = "seeds", **sections: Any) -> Path:
    """Writes a config that trains for a second."""
    content: dict[str, Any] = {
        "data": {"folder": str(dataset), "size": [24, 24]},
        "supervision": [
            {"cases": "train", "labels": labels, "constraints": [{"size": {"class": "LV", "set": "individual"}}]}
        ],
        "training": {"epochs": 1, "batch_size": 15},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content | sections), encoding="utf-8")
    return path


def ok(result: Result) -> Result:
    assert result.code == 0, result.err
    assert result.err == ""
    return result


def refused(result: Result, *facts: str) -> None:
    """Exit code 2, the facts, what to do about it, and no traceback."""
    assert result.code == 2, (result.code, result.out, result.err)
    for fact in facts:
        assert fact in result.err
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err + result.out
    # every message ends with where it was found, or what to do about it
    for message in result.err.split("error: ")[1:]:
        assert len(message.strip().splitlines()) >= 2, message


def rewrite(path: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> None:
    old: Any = nib.load(path)
    new = np.asarray(old.dataobj) if array is None else array
    nib.save(nib.Nifti1Image(new, old.affine if affine is None else affine), path)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
