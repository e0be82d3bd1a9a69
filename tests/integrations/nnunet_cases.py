"""nnU-Net's folders and plans, small enough for a test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

NUMBER, NAME = 27, "Dataset027_TEST"
FOLDERS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}


def enter(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Points nnU-Net's variables at folders below ``root``; where it starts processes, there are threads instead.

    Each process would import nnU-Net anew, which takes longer than what it is there for.
    """
    patch.setattr("multiprocessing.get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool))
    for variable, name in FOLDERS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        patch.setenv(variable, str(root / name))
    patch.setenv("nnUNet_n_proc_DA", "0")
    patch.setenv("nnUNet_def_n_proc", "1")


def plan(root: Path, configurations: Mapping[str, Mapping[str, Any]], processes: int = 1) -> None:
    """Plans and preprocesses as nnU-Net's command does, with smaller networks.

    Args:
        root: As for :func:`enter`.
        configurations: For each configuration what is changed: ``patch_size``, ``spacing``, ``batch_size``.
        processes: That read and preprocess.
    """
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "1")  # for the planner it is torch's threads
        extract_fingerprints([NUMBER], num_processes=processes, verbose=False)
        plan_experiments([NUMBER])
        shrink(root / "preprocessed" / NAME / "nnUNetPlans.json", configurations)
        preprocess([NUMBER], configurations=list(configurations), num_processes=[processes] * len(configurations))


def shrink(path: Path, configurations: Mapping[str, Mapping[str, Any]]) -> None:
    """Takes stages and features out of the networks of ``nnUNetPlans.json``, and changes what else is given.

    Args:
        path: The plans.
        configurations: As for :func:`plan`; a spacing is of no use once cases are preprocessed.
    """
    plans = json.loads(path.read_text())
    for name, changes in configurations.items():
        plans["configurations"][name] |= changes
        network = plans["configurations"][name]["architecture"]["arch_kwargs"]
        stages = min(3 if name == "3d_fullres" else 4, network["n_stages"])
        for key, value in network.items():
            if isinstance(value, list) and len(value) in (network["n_stages"], network["n_stages"] - 1):
                network[key] = value[: stages if len(value) == network["n_stages"] else stages - 1]
        network["n_stages"] = stages
        network["features_per_stage"] = [8, 16, 32, 32][:stages]
    path.write_text(json.dumps(plans))


def fold(root: Path, trainer: str, configuration: str) -> Path:
    """The results of fold 0."""
    return root / "results" / NAME / f"{trainer}__nnUNetPlans__{configuration}" / "fold_0"


def trainer_of(trainer: type, root: Path, configuration: str) -> Any:
    """A trainer as ``nnUNetv2_train`` makes it."""
    import torch

    folder = root / "preprocessed" / NAME
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    description = json.loads((folder / "dataset.json").read_text())
    return trainer(plans, configuration, 0, description, torch.device("cpu"))


def ask(root: Path, text: str, name: str = "") -> None:
    """Writes ``boundseg.yaml``, or ``boundseg_NAME.yaml``."""
    (root / "raw" / NAME / f"boundseg{name and '_'}{name}.yaml").write_text(text)


def few(source: Path, destination: Path, split: Mapping[str, Sequence[str]]) -> None:
    """A download of ACDC with some patients."""
    destination.mkdir()
    for patient in [patient for patients in split.values() for patient in patients]:
        shutil.copytree(source / patient, destination / patient)
    rows = [f"{patient},{side}" for side, patients in split.items() for patient in patients]
    (destination / "split.csv").write_text("\n".join(["patient,split", *rows]) + "\n")
