"""The run folder: what a training leaves behind, and what can be asked of it afterwards."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import nn

from boundseg.data import atomic
from boundseg.data.dataset import Dataset
from boundseg.data.enlarged import require_size
from boundseg.data.orientation import orientations, pixels_mm
from boundseg.data.stored import StoredSlices
from boundseg.errors import InputError, RunError, VolumeError
from boundseg.inference import Mirrored, Predictor, VolumePredictor, largest_components, regions_named
from boundseg.networks import build
from boundseg.training.config import Config
from boundseg.training.state import checkpoint as checkpoints
from boundseg.training.state.checkpoint import Checkpoint
from boundseg.training.state.writing import append, writing

Which = Literal["best", "last"]
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A run folder, opened."""

    folder: Path

    @classmethod
    def create(cls, folder: Path | str, config: Config, dataset: Dataset, patients: Mapping[str, Sequence[str]]) -> Run:
        """Makes the folder and writes ``config.yaml`` and ``environment.json``.

        Args:
            folder: Where.
            config: What is trained.
            dataset: On what.
            patients: Who teaches (``train``) and who is held out (``validation``).

        Raises:
            RunError: The folder exists, or cannot be written; then none is left behind.
        """
        cls.require_free(folder)
        run = cls(Path(folder))
        taught = [case for name in patients.get("train", ()) for case in dataset.splits.patients[name]]
        environment = _environment(config.seed) | {
            "labels": dataset.labels,
            "channels": dataset.channels,
            "slice_axis": dataset.slice_axis,
            "orientations": _of_headers(orientations, dataset, taught),
            "pixels_mm": _of_headers(pixels_mm, dataset, taught),
            "data": dataset.fingerprint(),
            "patients": {name: list(members) for name, members in patients.items()},
        }
        try:
            with writing("the run folder", run.folder, "Make room, or name another place with --out."):
                run.folder.mkdir(parents=True, exist_ok=True)
                atomic.write_text(run.folder / "environment.json", json.dumps(environment, indent=1) + "\n")
            run.write_config(config)
        except RunError:
            shutil.rmtree(run.folder, ignore_errors=True)  # it was free
            raise
        return run

    @staticmethod
    def require_free(folder: Path | str) -> None:
        """Raises RunError where something is in the way of a new run folder."""
        folder = Path(folder)
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise RunError(
                f"the run folder {folder} exists.",
                remedy="Go on with --resume, name another with --out, or remove it.",
            )

    def write_config(self, config: Config) -> None:
        """Writes ``config.yaml``, with absolute paths."""
        with writing("config.yaml", self.folder):
            atomic.write_text(self.folder / "config.yaml", config.absolute.dump())

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Opens a run folder; raises RunError where it is none."""
        folder = Path(folder)
        for name in ("config.yaml", "environment.json"):
            if not (folder / name).is_file():
                raise RunError(f"{folder} is no run folder: {name} is not there.", remedy="boundseg train makes one.")
        return cls(folder)

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Says which file of the run is damaged: what is no number, no JSON, or not there makes a RunError."""
        try:
            yield
        except InputError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(
                f"{name} of the run cannot be read: {type(error).__name__}: {error}",
                str(self.folder),
                "Restore the file from a copy, or train again.",
            ) from error

    def require_readable(self) -> None:
        """Raises InputError where the config, ``environment.json`` or ``metrics.csv`` is damaged."""
        _ = self.config, self.environment  # say by themselves what is wrong
        with self.reading("metrics.csv"):
            _ = [(row["epoch"], row["seconds"], row["cross_entropy"]) for row in self.metrics()]

    @cached_property
    def config(self) -> Config:
        """The config as it was resolved."""
        return Config.load(self.folder / "config.yaml")

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, machine and seed, and the dataset's classes and channels; raises RunError where it is damaged."""
        with self.reading("environment.json"):
            content: dict[str, Any] = json.loads((self.folder / "environment.json").read_text(encoding="utf-8"))
            _ = content["labels"], content["channels"]
        return content

    @property
    def labels(self) -> dict[str, int]:
        """Class names and values, the background among them."""
        labels: dict[str, int] = self.environment["labels"]
        return labels

    @property
    def is_3d(self) -> bool:
        """Whether the network sees volumes, and not slices."""
        return self.config.data.grid.axes == 3

    def network(self) -> nn.Module:
        """A fresh network as the config describes it."""
        channels, network = self.environment["channels"], self.config.network
        outputs, axes = len(self.labels) + network.spare_outputs, self.config.data.grid.axes
        # its weights are those of a checkpoint: a published backbone is not fetched again
        options = network.options | ({"pretrained": False} if "pretrained" in network.options else {})
        return build(network.name, len(channels), outputs, axes, **options)

    def checkpoint(self, which: Which = "best") -> Checkpoint:
        """A checkpoint; raises CheckpointError where it cannot be read."""
        return checkpoints.load(self.folder / "checkpoints" / which)

    @property
    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was written; whether it can be read, :meth:`checkpoint` tells."""
        return any((self.folder / "checkpoints" / which / "state.json").is_file() for which in ("best", "last"))

    @property
    def taught_mm(self) -> list[float]:
        """The shortest and the longest side of the training's pixels; empty where the run does not say."""
        wanted_mm = self.config.data.spacing_mm or ()
        return self.environment.get("pixels_mm") or [side for side in wanted_mm[:2] if side]

    def require_size(
        self, case: str, path: Path | None, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]
    ) -> None:
        """Raises VolumeError where a case would become too large, see :func:`boundseg.data.enlarged.require_size`."""
        planes = len(self.environment["channels"]) + len(self.labels)
        require_size(case, path, shape, spacing_mm, self.config.data.grid, planes)

    def predictor(
        self, which: Which = "best", device: torch.device | str = "cpu", mirror: bool = False
    ) -> Predictor | VolumePredictor:
        """The trained network with its preparation; ``mirror`` averages over reversed rows and columns, too."""
        network, data, device = self.trained(which), self.config.data, torch.device(device)
        network = (Mirrored(network) if mirror else network).to(device).eval()
        if self.is_3d:
            return VolumePredictor(network, data.grid, device, window=data.window)
        return Predictor(network, data.grid, device)

    def trained(self, which: Which = "best") -> nn.Module:
        """The network with its weights."""
        network = self.network()
        checkpoint = self.checkpoint(which)
        checkpoints.restore_weights(network, checkpoint, self.folder, checkpoint.predicting)
        return network

    def predict(
        self,
        array: Shaped[np.ndarray, "*C X Y S"],
        spacing: Sequence[float],
        which: Which = "best",
        device: torch.device | str = "cpu",
        mirror: bool = False,
        largest_component: Sequence[str] = (),
    ) -> UInt8[np.ndarray, "X Y S"]:
        """The label map of a volume, on its own grid.

        Args:
            array: ``[X, Y, S]``, slices along the last axis, or ``[C, X, Y, S]`` with several channels.
            spacing: Size of a voxel along X and Y (and S, which 3D networks alone need), in mm.
            which: ``best`` or ``last`` weights.
            device: Where to compute.
            mirror: Average over reversed rows and columns, too.
            largest_component: Classes or unions that keep their largest connected part, see
                :func:`boundseg.training.predict.predict`.

        Raises:
            InputError: ``largest_component`` names no class.
            VolumeError: The number of channels is not the network's, a 3D network is not told all three sides of a
                voxel, voxels are NaN or infinite, or the spacing would make far more of them than there are.
        """
        image = np.asarray(array)
        image = image[None] if image.ndim == 3 else image
        channels = len(self.environment["channels"])
        if image.ndim != 4 or len(image) != channels:
            raise VolumeError(
                f"an array of shape {np.shape(array)} is no volume of {channels} channel(s).",
                remedy="Give [X, Y, S], or [C, X, Y, S].",
            )
        slices = StoredSlices.of(np.moveaxis(image, 3, 1))
        slices.require_finite([Path("the array")] * channels)
        if self.is_3d and len(spacing) != 3:
            raise VolumeError(f"a 3D network needs a spacing of 3 axes, and {len(spacing)} are given.")
        rows_mm, columns_mm, *between = map(float, spacing)
        spacing_mm = rows_mm, columns_mm, between[0] if between else math.nan
        kept = regions_named(largest_component, self.labels)
        self.require_size("the array", None, slices.shape, spacing_mm)
        found = self.predictor(which, device, mirror).labels(slices, spacing_mm, len(self.labels))
        return np.moveaxis(largest_components(found, kept), 0, 2)

    def metrics(self) -> list[dict[str, float]]:
        """The rows of ``metrics.csv``, one per epoch; raises RunError where it is damaged."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return []
        with self.reading("metrics.csv"), path.open(newline="", encoding="utf-8") as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Appends a row to ``metrics.csv``; an epoch that is run again after a resume replaces its row.

        Columns that another row has not are ``nan`` in it: an epoch may not have been validated, and a run may go on
        with a version that logs more.

        Raises:
            RunError: It cannot be written; the file is as it was.
        """
        rows = [old for old in self.metrics() if old["epoch"] < row["epoch"]] + [dict(row)]
        # the row that knows most gives the columns' order
        names = dict.fromkeys(name for known in sorted((row, *rows), key=len, reverse=True) for name in known)
        text = StringIO()
        table = csv.writer(text, lineterminator="\n")  # a class's name may hold a comma
        table.writerow(names)
        table.writerows([f"{known.get(name, math.nan):.8g}" for name in names] for known in rows)
        with writing("metrics.csv", self.folder):
            atomic.write_text(self.folder / "metrics.csv", text.getvalue())

    def log(self, text: str) -> None:
        """Appends a line to ``log.txt``; raises RunError where it cannot be written, and leaves no half of it."""
        with writing("log.txt", self.folder):
            append(self.folder / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}")


def _of_headers(found: Callable[[Dataset, Collection[str]], list[T]], dataset: Dataset, cases: list[str]) -> list[T]:
    """What headers say of the images that teach; nothing where prepared data are trained without what reads them."""
    try:
        return found(dataset, cases)
    except ImportError:
        return []


def named_apart(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by their last parts' names, as many parts as it takes to tell them apart.

    Raises:
        RunError: A folder is named twice.
    """
    resolved = [folder.resolve() for folder in folders]
    twice = sorted({str(folder) for folder in folders if resolved.count(folder.resolve()) > 1})
    if twice:
        raise RunError(f"{', '.join(twice)} is named more than once.", remedy="Name each folder once.")
    parts = 1
    while len({path.parts[-parts:] for path in resolved}) < len(resolved):
        parts += 1
    return {"/".join(path.parts[-parts:]): folder for path, folder in zip(resolved, folders, strict=True)}


def require_folder(out: Path) -> None:
    """Raises VolumeError where a folder is neither there nor can be made: a file, or a place that is closed."""
    try:
        there = next(path for path in (out, *out.parents) if path.exists())
    except OSError as error:
        fact = f"--out {out} cannot be written: {error.strerror}."
        raise VolumeError(fact, remedy="Choose another --out.") from error
    if not there.is_dir():
        raise VolumeError(f"--out {out} cannot be a folder: {there} is a file.", remedy="Choose another --out.")
    if not os.access(there, os.W_OK):
        raise VolumeError(f"--out {out} cannot be written: {there} is closed to you.", remedy="Choose another --out.")


def _environment(seed: int) -> dict[str, Any]:
    packages = {}
    for name in ("boundseg", "torch", "numpy", "monai", "lightning-fabric", "nibabel"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "command": sys.argv,
        "seed": seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "packages": packages,
        "machine": f"{platform.machine()}, {platform.system()}, {torch.get_num_threads()} thread(s)",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit of the checkout that boundseg was imported from, where it was."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
