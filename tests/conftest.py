"""Small dataset folders on disk, as NIfTI files, for every test that reads files."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

# tiny tensors: threads would wait for each other
torch.set_num_threads(1)

CLASSES = {"LV": 1, "Myo": 2}
IGNORE = 3
PATIENTS = {"train": 3, "validation": 1, "test": 1}
FRAMES = ("frame01", "frame07")

WriteDataset = Callable[..., Path]
CommandLine = Callable[..., "tuple[int, str, str]"]


def oblique_affine(spacing_mm: tuple[float, float, float] = (1.25, 1.5, 8.0)) -> np.ndarray:
    """A scanner's affine: turned about two axes, anisotropic, one axis mirrored, the origin anywhere."""
    tilt, turn = np.deg2rad(25), np.deg2rad(-10)
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag([-1, 1, 1]) * spacing_mm
    affine[:3, 3] = 91.5, -32.25, 12.0
    return affine


def heart(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask, slices last: a bright ellipse (1) in a ring (2); the last slice holds neither."""
    rows, columns, slices = shape
    y, x = np.mgrid[:rows, :columns]
    target = np.zeros(shape, np.uint8)
    for index in range(slices - 1):
        radius = 2.0 + 2.5 * rng.random()
        across = np.hypot((y - rows / 2 + rng.uniform(-1, 1)) / 1.2, x - columns / 2 + rng.uniform(-1, 1))
        target[..., index] = np.where(across <= radius, 1, np.where(across <= radius + 2, 2, 0))
    level = rng.uniform(0.8, 1.2, slices)
    image = (np.array([40.0, 200.0, 110.0])[target] + rng.normal(0, 12, shape)) * level
    return image.round().clip(0, 400).astype(np.int16), target


def seeds(target: np.ndarray, ignore: int, rng: np.random.Generator) -> np.ndarray:
    """Three labelled pixels of each class in every slice that holds it."""
    labels = np.full_like(target, ignore)
    for index in range(target.shape[2]):
        for value in np.unique(target[..., index][target[..., index] > 0]):
            pixels = np.argwhere(target[..., index] == value)
            chosen = pixels[rng.choice(len(pixels), 3, replace=False)]
            labels[chosen[:, 0], chosen[:, 1], index] = value
    return labels


def save(path: Path, array: np.ndarray, affine: np.ndarray, slice_axis: int = 2) -> None:
    """Writes a volume whose slices are stacked along the last axis as one in which they are elsewhere."""
    order = [0, 1]
    order.insert(slice_axis, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.transpose(order), affine[:, [*order, 3]])
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    nib.save(image, path)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders written in this session: most tests ask for the same one."""
    return {"": tmp_path_factory.mktemp("datasets")}


@pytest.fixture
def write_dataset(tmp_path: Path, written: dict[str, Path]) -> WriteDataset:
    """Writes a folder of that name into ``tmp_path``, as :func:`fill` says; returns its path."""

    def write(name: str = "hearts", **options: Any) -> Path:
        key = repr(sorted(options.items()))
        if key not in written:
            folder = written[""] / str(len(written))
            fill(folder, **options)
            written[key] = folder
        shutil.copytree(written[key], tmp_path / name)
        return tmp_path / name

    return write


def fill(
    folder: Path,
    *,
    patients: Mapping[str, int] = PATIENTS,
    frames: tuple[str, ...] = FRAMES,
    slices: int = 5,
    channels: int = 1,
    slice_axis: int = 2,
    weak: bool = True,
    priors: bool = True,
    seed: int = 0,
) -> None:
    """Writes a dataset folder; the same arguments give the same voxels, whatever the slice axis.

    Args:
        folder: Where.
        patients: How many patients are in each split; those of ``test`` lie in ``imagesTs`` and ``labelsTs``.
        frames: Each patient has a case for each of them: ``patient1_frame01``, …
        slices: Of each volume; the last holds the background only.
        channels: Of each image; every further one is the first, upside down in intensity.
        slice_axis: Where the slices are stacked in the files.
        weak: Whether to write ``labelsTr_seeds``.
        priors: Whether to derive ``priors.csv`` (sets tags, individual, volume) for the cases of imagesTr.
        seed: Of all voxels.
    """
    members: dict[str, list[str]] = {}
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for split in [split for split, count in patients.items() for _ in range(count)]:
        number = len(members) + 1
        patient = f"patient{number}"
        splits[split].append(patient)
        members[patient] = [f"{patient}_{frame}" for frame in frames]
        side = "Ts" if split == "test" else "Tr"
        # no two neighbours have one grid
        shape = (20 + number % 3, 24 - number % 2, slices)
        affine = oblique_affine((1.25 + 0.05 * number, 1.5, 8.0))
        for index, case in enumerate(members[patient]):
            rng = np.random.default_rng([seed, number, index])
            image, target = heart(shape, rng)
            for channel in range(channels):
                path = folder / f"images{side}" / f"{case}_{channel:04d}.nii.gz"
                save(path, image if channel == 0 else 400 - image // channel, affine, slice_axis)
            save(folder / f"labels{side}" / f"{case}.nii.gz", target, affine, slice_axis)
            if weak and side == "Tr":
                path = folder / "labelsTr_seeds" / f"{case}.nii.gz"
                save(path, seeds(target, IGNORE, rng), affine, slice_axis)
    description = {
        "channel_names": {str(channel): f"MR{channel}" for channel in range(channels)},
        "labels": {"background": 0, **CLASSES, "ignore": IGNORE},
        "numTraining": len(list((folder / "labelsTr").glob("*.nii.gz"))),
        "file_ending": ".nii.gz",
        "slice_axis": slice_axis,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "splits.json").write_text(json.dumps({"patients": members, **splits, "lists": {"few": ["patient1"]}}))
    if priors:
        derive_priors(folder)


def derive_priors(folder: Path) -> None:
    """Writes the folder's priors.csv as ``boundseg priors`` does."""
    from boundseg.data import derive
    from boundseg.data import priors as table
    from boundseg.data.dataset import Dataset

    dataset = Dataset.open(folder)
    cases, regions = dataset.training_cases, list(CLASSES)
    rows = [
        *(derive.tags(dataset, cases, regions, "seeds", "absent") if "seeds" in dataset.label_sets else []),
        *derive.individual(dataset, cases, regions),
        *derive.volume(dataset, cases, regions),
    ]
    table.write(folder / "priors.csv", rows)


@pytest.fixture
def tiny_dataset(tmp_path: Path, write_dataset: WriteDataset) -> Path:
    """Ten volumes of five slices: 3 patients train, 1 validates, 1 tests, two cases each.

    Classes LV = 1 and Myo = 2, ignore = 3; full masks, ``labelsTr_seeds``, and ``priors.csv`` with the sets
    ``tags`` (absent where empty), ``individual`` in px and ``volume`` in mL.
    """
    return write_dataset()


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Runs ``boundseg ARGUMENTS`` in this process: exit code, output, errors."""
    from boundseg.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["boundseg", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        shown = capsys.readouterr()
        return code or 0, shown.out, shown.err

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the public data sets (``acdc/``, …), which is not part of the repository."""
    folder = os.environ.get("BOUNDSEG_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set BOUNDSEG_DATA to the folder that holds acdc/ (CONTRIBUTING.md)")
    return Path(folder)
