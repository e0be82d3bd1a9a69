"""Weights to start from: another run's, or a published backbone's; tensor by tensor, and none in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from boundseg.errors import CheckpointError, Problem
from boundseg.nearest import did_you_mean
from boundseg.training.config.training import StartConfig

TORCH_ENDINGS = (".pt", ".pth", ".ckpt", ".bin")
SHOWN = 4
WHERE = "training.start_from"


@dataclass(frozen=True)
class Started:
    """What became of a network's tensors and of a file's.

    Attributes:
        source: The file.
        taken: The network's tensors that came from it.
        fresh: Those that start as they were drawn.
        unused: The file's tensors that go nowhere.
    """

    source: Path
    taken: tuple[str, ...]
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        total = len(self.taken) + len(self.fresh)
        told = f"starts from {self.source}: {len(self.taken)} of {total} tensors"
        told += f"; fresh: {_some(self.fresh)}" if self.fresh else ""
        return told + (f"; not used: {_some(self.unused)}" if self.unused else "")


def start_from(network: nn.Module, asked: StartConfig) -> Started:
    """Puts weights into a network, all of them but those that are named.

    Args:
        network: Changed in place, or not at all.
        asked: Whose weights, and which are left aside.

    Raises:
        CheckpointError: The file cannot be read; a tensor of the network is neither in it nor ``fresh``, or has another
            shape there; a tensor of the file is neither the network's nor ``unused``; a name fits nothing. All of it
            is listed.
    """
    path = weights_file(asked.weights)
    theirs = _renamed(_read(path), asked.rename, path)
    own = network.state_dict()
    fresh = tuple(name for name in own if _begins(name, asked.fresh))
    unused = tuple(name for name in theirs if _begins(name, asked.unused) or name in fresh)
    taken = tuple(name for name in own if name not in fresh and name in theirs and name not in unused)
    problems = [
        Problem(f"{option}: no tensor begins with {prefix!r}{did_you_mean(prefix, names)}", WHERE, "Mend the name.")
        for option, prefixes, names in (("fresh", asked.fresh, own), ("unused", asked.unused, theirs))
        for prefix in prefixes
        if not any(_begins(name, [prefix]) for name in names)
    ]
    other = [name for name in taken if theirs[name].shape != own[name].shape]
    missing = [name for name in own if name not in fresh and name not in taken]
    left = [name for name in theirs if name not in taken and name not in unused]
    if other:
        shapes = _some([f"{name} is {list(theirs[name].shape)}, here {list(own[name].shape)}" for name in other])
        fact = f"{len(other)} tensors have another shape in {path.name}: {shapes}."
        remedy = f"Other classes or channels? Start them fresh: fresh: [{', '.join(_modules(other))}]."
        problems.append(Problem(fact, WHERE, remedy))
    if missing:
        fact = f"{path.name} has not {len(missing)} of the network's {len(own)} tensors: {_some(missing)}."
        remedy = f"Start them fresh (fresh: [{', '.join(_modules(missing))}]), or say what they are called: rename."
        problems.append(Problem(fact, WHERE, remedy))
    if left:
        fact = f"{len(left)} of {len(theirs)} tensors of {path.name} are none of the network's: {_some(left)}."
        remedy = f"Pass over them (unused: [{', '.join(_modules(left))}]), or say what they are called: rename."
        problems.append(Problem(fact, WHERE, remedy))
    if problems or not taken:
        raise CheckpointError.of(problems or [Problem(f"nothing is taken from {path.name}.", WHERE, "Leave it out.")])
    network.load_state_dict({name: theirs[name] for name in taken}, strict=False)
    return Started(path, taken, fresh, unused)


def weights_file(weights: Path) -> Path:
    """The file that is meant: of a run folder, the weights to predict with of its best epoch.

    Raises:
        CheckpointError: There is none.
    """
    for path in (weights, weights / "weights.safetensors", weights / "checkpoints" / "best" / "weights.safetensors"):
        if path.is_file():
            return path
    fact = f"there are no weights in {weights}." if weights.exists() else f"{weights} is not there."
    remedy = "Name a run folder, a checkpoint's folder, a .safetensors file, or a state dict that torch.save wrote."
    raise CheckpointError(fact, WHERE, remedy)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix not in TORCH_ENDINGS:
            known = ", ".join((".safetensors", *TORCH_ENDINGS))
            raise CheckpointError(f"{path.name} is no file of weights.", str(path.parent), f"They end in {known}.")
        # tensors and plain containers only: a file that would run code is refused
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # whatever somebody's bytes make of an unpickler: KeyError, IndexError, UnpicklingError
        raise _unreadable(path, error) from error
    for key in ("state_dict", "model_state_dict", "network_weights", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        remedy = "Save it as torch.save(network.state_dict(), …)."
        raise CheckpointError(f"{path.name} holds no state dict.", str(path.parent), remedy)
    return {str(name): value for name, value in content.items()}


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = f"cannot be read: {str(error).strip().partition(chr(10))[0]}"
    if path.suffix != ".safetensors" and not isinstance(error, OSError) and not _is_of_torch(path):
        reason = "is no file of torch.save."
    remedy = "Save it as safetensors, or as torch.save(network.state_dict(), …); nothing else in a file is loaded."
    return CheckpointError(f"{path.name} {reason}", str(path.parent), remedy)


def _is_of_torch(path: Path) -> bool:
    """Whether a file begins as a zip archive or a pickle does, not as a page or a pointer of Git LFS."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def _renamed(tensors: Mapping[str, Tensor], rename: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    """Tensors whose names begin with a key of ``rename`` begin with its value instead."""
    for prefix in rename:
        if not any(name.startswith(prefix) for name in tensors):
            near = did_you_mean(prefix, tensors)
            raise CheckpointError(f"rename: no tensor of {path.name} begins with {prefix!r}{near}", WHERE, "Mend it.")
    found = {}
    for name, tensor in tensors.items():
        prefix = next((one for one in rename if name.startswith(one)), "")
        found[rename.get(prefix, "") + name[len(prefix) :]] = tensor
    return found


def _begins(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix.rstrip('.')}.") for prefix in prefixes)


def _modules(names: Sequence[str]) -> list[str]:
    """The modules of tensors, a few."""
    found = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return found if len(found) <= SHOWN else list(dict.fromkeys(name.partition(".")[0] for name in names))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
