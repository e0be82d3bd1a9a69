"""A checkpoint comes back bit for bit, says what is wrong with it, and survives being killed at any moment."""

from __future__ import annotations

import copy
import json
import pathlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from boundseg.errors import CheckpointError
from boundseg.training.state import checkpoint


def network(width: int = 4) -> nn.Module:
    """Small, and with everything a state holds: weights, running averages and a counter of integers."""
    torch.manual_seed(width)
    small = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))
    return small.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def adam(of: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(of.parameters(), lr=1e-2, fused=True)


def step(of: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    of(image).square().mean().backward()
    optimizer.step()


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_network_and_adam_come_back_bit_for_bit(tmp_path: Path) -> None:
    ours = network()
    optimizer = adam(ours)
    for seed in range(3):
        step(ours, optimizer, seed)
    checkpoint.save(tmp_path / "last", ours, optimizer, {"epoch": 2, "best": float("inf")})

    theirs = network(4)
    other = adam(theirs)
    read = checkpoint.load(tmp_path / "last")
    assert (read.state["epoch"], read.state["best"]) == (2, float("inf"))
    checkpoint.restore_weights(theirs, read, tmp_path)
    checkpoint.restore_optimizer(other, read)
    assert same(ours.state_dict(), theirs.state_dict())
    kept, found = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert kept.keys() == found.keys()
    assert all(same(kept[index], found[index]) for index in kept)
    # and both go on alike
    step(ours, optimizer, 7)
    step(theirs, other, 7)
    assert same(ours.state_dict(), theirs.state_dict())


def test_nothing_is_pickled(tmp_path: Path) -> None:
    ours = network()
    optimizer = adam(ours)
    step(ours, optimizer, 0)
    checkpoint.save(tmp_path / "last", ours, optimizer, {"epoch": 0})
    files = sorted(path.name for path in tmp_path.rglob("*"))
    assert files == ["last", "optimizer.safetensors", "state.json", "weights.safetensors"]
    json.loads((tmp_path / "last" / "state.json").read_text())
    for name in ("optimizer.safetensors", "weights.safetensors"):
        content = (tmp_path / "last" / name).read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert all(entry["dtype"] in ("F32", "I64") for name, entry in header.items() if name != "__metadata__")


def test_a_checkpoint_without_an_optimizer_is_one(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "best", network(), None, {"epoch": 3})
    assert checkpoint.load(tmp_path / "best").optimizer == {}


def test_saving_again_replaces_everything(tmp_path: Path) -> None:
    ours = network()
    optimizer = adam(ours)
    step(ours, optimizer, 0)
    checkpoint.save(tmp_path / "last", ours, optimizer, {"epoch": 0})
    checkpoint.save(tmp_path / "last", ours, None, {"epoch": 1})
    read = checkpoint.load(tmp_path / "last")
    assert (read.state["epoch"], read.optimizer) == (1, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "previous"]
    assert checkpoint.load(tmp_path / "previous").state["epoch"] == 0


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Ends the process before the ``count``-th change of a folder or file that a save makes."""
    left = count

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keys: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*arguments, **keys)

        return call

    def rmtree(path: Path | str, **_: Any) -> None:
        folder = Path(path)  # file by file, as the real one does
        for inside in sorted(folder.rglob("*"), reverse=True):
            unlink(inside) if inside.is_file() else counted(pathlib.Path.rmdir)(inside)
        if folder.exists():
            counted(pathlib.Path.rmdir)(folder)

    unlink = counted(pathlib.Path.unlink)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    monkeypatch.setattr(checkpoint, "save_file", counted(checkpoint.save_file))
    monkeypatch.setattr(checkpoint.atomic, "write_text", counted(checkpoint.atomic.write_text))
    for name in ("rename", "mkdir"):
        monkeypatch.setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))


def save_until_killed(folder: Path, epoch: int, count: int) -> bool:
    """Saves weights that are all ``epoch``; says whether the process was killed."""
    ours = network()
    for tensor in ours.state_dict().values():
        tensor.fill_(epoch)
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(monkeypatch, count)
        try:
            checkpoint.save(folder, ours, adam(ours), {"epoch": epoch})
        except Killed:
            return True
    return False


def loaded_epoch(folder: Path) -> int:
    read = checkpoint.load(folder)
    epoch = int(read.state["epoch"])
    assert all((tensor == epoch).all() for tensor in read.weights.values())
    return epoch


def test_a_save_killed_at_any_moment_leaves_the_last_checkpoint_or_the_new_one(tmp_path: Path) -> None:
    """And so does the next save, killed at any moment as well."""
    between_the_renames = 0
    for first in range(100):
        folder = tmp_path / str(first) / "last"
        checkpoint.save(folder, network(), None, {"epoch": 0})
        assert not save_until_killed(folder, 1, 10_000)
        first_killed = save_until_killed(folder, 2, first)
        assert loaded_epoch(folder) in (1, 2)
        between_the_renames += not folder.exists()
        for second in range(100):
            again = tmp_path / f"{first} {second}"
            shutil.copytree(folder.parent, again)
            before = loaded_epoch(again / "last")
            second_killed = save_until_killed(again / "last", 3, second)
            assert loaded_epoch(again / "last") in (before, 3)
            if not second_killed:
                break
        assert loaded_epoch(again / "last") == 3
        assert sorted(path.name for path in again.iterdir()) == ["last", "previous"]
        if not first_killed:
            break
    assert not first_killed
    assert between_the_renames


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    ours = network()
    optimizer = adam(ours)
    step(ours, optimizer, 0)
    checkpoint.save(tmp_path / "last", ours, optimizer, {"epoch": 0})
    return tmp_path / "last"


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    message = refused(tmp_path / "best")
    assert message.startswith("there is no checkpoint in best.")
    assert str(tmp_path) in message


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "header", "empty"])
def test_a_corrupted_file_is_named_by_its_folder(saved: Path, name: str, damage: str) -> None:
    content = (saved / name).read_bytes()
    damaged = {"cut": content[:-8], "header": b"\xff" * 16 + content[16:], "empty": b""}[damage]
    (saved / name).write_bytes(damaged)
    message = refused(saved)
    assert message.startswith("the checkpoint cannot be read:")
    assert f"in {saved}. Use the run's other checkpoint" in message


def test_a_missing_file(saved: Path) -> None:
    (saved / "weights.safetensors").unlink()
    assert refused(saved).startswith("the checkpoint cannot be read:")


@pytest.mark.parametrize("text", ["", "{", "[]", '"state"'])
def test_a_state_that_is_no_json_object(saved: Path, text: str) -> None:
    (saved / "state.json").write_text(text)
    assert refused(saved).startswith("the checkpoint cannot be read:")


def test_another_format(saved: Path) -> None:
    state = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(json.dumps(state | {"format": 99}))
    message = refused(saved)
    assert message.startswith("the checkpoint has format 99; this version reads 1.")
    assert "environment.json" in message


@pytest.mark.parametrize("other", [network(5), nn.Conv2d(1, 2, 3)], ids=["other sizes", "other names"])
def test_another_network(saved: Path, other: nn.Module) -> None:
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(CheckpointError, match="the weights do not fit the network: ") as caught:
        checkpoint.restore_weights(other, checkpoint.load(saved), saved)
    assert "The config's network must be the one that was trained." in str(caught.value)
    assert other.state_dict().keys() == before.keys()
