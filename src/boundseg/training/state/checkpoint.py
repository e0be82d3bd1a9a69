"""Checkpoints: safetensors and JSON, written whole or not at all; nothing is unpickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from boundseg.accumulate import Streaming
from boundseg.data import atomic
from boundseg.errors import CheckpointError
from boundseg.training.state.writing import os_error

FORMAT = 1
PREVIOUS = "previous"


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a checkpoint's folder."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    multipliers: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)

    @property
    def predicting(self) -> dict[str, Tensor]:
        """The weights to predict with: their moving average, where one was kept."""
        return self.average or self.weights


def save(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    state: Mapping[str, Any],
    others: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """Writes ``weights.safetensors``, ``state.json`` and what else was given into ``folder``.

    They are written into a new folder beside it, which then takes its place; the last one is kept as
    ``previous`` beside its successor.

    Args:
        folder: The checkpoint's.
        network: The bare network.
        optimizer: Its optimiser, where training is to go on from here.
        state: What is no tensor.
        others: Tensors under the names of :class:`Checkpoint`: ``multipliers``, ``average``, ``memory``.

    Raises:
        OSError: They cannot be written, as where the disk is full; what was written of them is removed.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _save(partial / "weights.safetensors", network.state_dict())
        if optimizer is not None:
            _save(partial / "optimizer.safetensors", _flat(optimizer))
        for name, tensors in (others or {}).items():
            _save(partial / f"{name}.safetensors", tensors)
        atomic.write_text(partial / "state.json", json.dumps({"format": FORMAT, **state}, indent=1))
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    old = _before(folder)
    if folder.exists():  # else a save was killed between its renames, and the old one is all there is
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    partial.rename(folder)
    _sync_folder(folder.parent)
    if old.name != PREVIOUS:
        shutil.rmtree(old, ignore_errors=True)


def _before(folder: Path) -> Path:
    """Where the checkpoint before goes: of the last one, it is kept."""
    return folder.with_name(PREVIOUS if folder.name == "last" else f".{folder.name}.old")


def load(folder: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        CheckpointError: It is missing, incomplete, corrupted, or of another version.
    """
    old = _before(folder)
    # killed between the two renames of save: the previous one is whole
    folder = old if not folder.exists() and old.exists() else folder
    if not (folder / "state.json").is_file():
        raise CheckpointError(
            f"there is no checkpoint in {folder.name}.", str(folder.parent), "Train first, or name another run."
        )
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if not isinstance(state, dict):
            raise ValueError("state.json is not a JSON object.")
        if state.get("format") != FORMAT:
            raise CheckpointError(
                f"the checkpoint has format {state.get('format')!r}; this version reads {FORMAT}.",
                str(folder),
                "Use the version of boundseg that environment.json of the run names.",
            )
        weights = load_file(folder / "weights.safetensors")
        optimizer, *others = (
            load_file(path) if (path := folder / f"{name}.safetensors").is_file() else {}
            for name in ("optimizer", "multipliers", "average", "memory")
        )
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"the checkpoint cannot be read: {error}",
            str(folder),
            "Use the run's other checkpoint (best or last), or train again.",
        ) from error
    return Checkpoint(weights, optimizer, state, *others)


def restore_weights(
    network: nn.Module, checkpoint: Checkpoint, folder: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Puts weights into a network, by default what a training goes on from.

    Raises:
        CheckpointError: They are another network's.
    """
    try:
        network.load_state_dict(checkpoint.weights if weights is None else weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights do not fit the network: {str(error).splitlines()[-1].strip()}",
            str(folder),
            "The config's network must be the one that was trained.",
        ) from error


def restore_multipliers(multipliers: nn.Module, checkpoint: Checkpoint, folder: Path) -> None:
    """Puts multipliers back; raises CheckpointError where they belong to other bounds."""
    try:
        multipliers.load_state_dict(checkpoint.multipliers)
    except RuntimeError as error:
        raise CheckpointError(
            f"the multipliers do not fit the training: {str(error).splitlines()[-1].strip()}",
            str(folder),
            "Resume with the cases and the constraints that the run began with.",
        ) from error


def restore_memory(memory: Streaming, checkpoint: Checkpoint, folder: Path, device: torch.device) -> None:
    """Puts back what was seen last; raises CheckpointError where it is of other slices."""
    try:
        memory.load_state_dict(checkpoint.memory, device)
    except ValueError as error:
        raise CheckpointError(
            f"what is remembered of slices does not fit the training: {error}",
            str(folder),
            "Resume with the cases that the run began with.",
        ) from error


def restore_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Puts an optimiser's running averages back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in checkpoint.optimizer.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": value
        for index, of_parameter in optimizer.state_dict()["state"].items()
        for name, value in of_parameter.items()
    }


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # contiguous copies: channels-last parameters are refused by safetensors, and views would be shared
    try:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise os_error(error) or error from error
    atomic.sync(path)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere folders cannot be opened, and renames are durable by themselves
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
