"""Bit for bit the same, compiled, in other layouts: what a training may be asked of its engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from boundseg.data import batches
from boundseg.data.batches import Batch
from boundseg.errors import ConfigError
from boundseg.training.config import Config
from boundseg.training.deterministic import deterministic

from .cases import INDIVIDUAL, VOLUME, entry, tiny
from .test_loop import comparable, run, same_weights


def config(folder: Path, network: dict[str, Any] | None = None, **training: Any) -> Config:
    network = network or {"name": "basicunet", "features": [4, 4, 4, 4, 4, 4], "dropout": 0.2}
    augment = ["mirror", {"rotate": 10}, {"elastic": {"displacement": 2, "spacing": 8}}, {"noise": 0.1}]
    settings = {"augment": augment, **training}
    data = {"size": [32, 32]}
    return tiny(folder, entry("seeds", constraints=[INDIVIDUAL]), data=data, network=network, training=settings)


@pytest.mark.parametrize(("network", "asked"), [("basicunet", False), ("basicunet", True), ("enet", True)])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    network: str, asked: bool, tiny_dataset: Path, tmp_path: Path
) -> None:
    named = {"name": "enet"} if network == "enet" else None
    one, other = (
        run(config(tiny_dataset, named, deterministic=asked, epochs=1), tmp_path / name) for name in ("one", "other")
    )
    assert same_weights(one, other)
    assert comparable(one) == comparable(other)
    assert not torch.are_deterministic_algorithms_enabled()


def test_another_seed_gives_other_weights(tiny_dataset: Path, tmp_path: Path) -> None:
    asked = config(tiny_dataset, deterministic=True, epochs=1)
    other = asked.model_copy(update={"seed": 1})
    assert not same_weights(run(asked, tmp_path / "one"), run(other, tmp_path / "other"))


def test_an_operation_without_a_deterministic_form_is_named() -> None:
    def raises(text: str) -> None:
        with deterministic(True):
            assert torch.are_deterministic_algorithms_enabled()
            raise RuntimeError(text)

    with pytest.raises(ConfigError) as error:
        raises("put_ does not have a deterministic implementation, but you set …")
    assert str(error.value) == (
        "put_ has no deterministic form on this device.\n"
        "  in training.deterministic. Leave it out, or use another network or constraint."
    )
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="out of memory"):
        raises("out of memory")


def test_where_no_compiler_is_found_the_message_says_so(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    torch._dynamo.reset()
    with pytest.raises(ConfigError, match="the network cannot be compiled on this machine: ") as error:
        run(config(tiny_dataset, compile=True), tmp_path / "run")
    assert "Leave it out, or install what is missing (on a CPU, a C++ compiler)." in str(error.value)


@pytest.mark.slow  # the compiler takes half a minute
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo looks at every input
def test_a_compiled_network_learns_the_same(tiny_dataset: Path, tmp_path: Path) -> None:
    network = {"name": "unet", "channels": [4, 8], "strides": [2], "norm": "batch"}
    plain = run(config(tiny_dataset, network, augment=["mirror"]), tmp_path / "plain")
    compiled = run(config(tiny_dataset, network, augment=["mirror"], compile=True), tmp_path / "compiled")
    for ours, theirs in zip(comparable(compiled), comparable(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=5e-3, abs=1e-4)
    weights = compiled.checkpoint("last").weights
    assert weights.keys() == plain.checkpoint("last").weights.keys()


class Reads(TorchDispatchMode):
    """Counts what makes a host wait for its device: numbers that are read, shapes that depend on values."""

    OPERATIONS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += any(name in operation.__name__ for name in self.OPERATIONS)
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["penalty", "augmented_lagrangian"])
def test_the_loop_reads_once_an_epoch_and_not_once_a_step(
    method: str, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_the_host(*given: Any) -> Batch:
        with _disable_current_modes():
            return collate(*given)

    collate = batches.collate
    monkeypatch.setattr(batches, "collate", on_the_host)
    counts = []
    for batch_size in (4, 12):
        asked = config(tiny_dataset, batch_size=batch_size, epochs=1, weight_average=0.9)
        asked = asked.parse(asked.model_dump() | {"method": method, "network": {"name": "enet"}})
        with Reads() as reads:
            run(asked, tmp_path / f"{method}{batch_size}")
        counts.append(reads.count)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    ("asked", "data", "method", "said"),
    [
        (VOLUME, {"remember": True}, "proposals", "looks at a whole batch at once, and data.remember shows it parts"),
        (VOLUME, {"batch": "volumes", "chunk": 2}, "proposals", "at a whole batch at once, and data.chunk divides it"),
        (INDIVIDUAL, {"remember": True}, "penalty", "data.remember is for bounds of volumes, and none are asked"),
    ],
)
def test_what_a_divided_batch_cannot_be_asked_is_refused_before_a_run_is_made(
    asked: dict[str, Any], data: dict[str, Any], method: str, said: str, tiny_dataset: Path, tmp_path: Path
) -> None:
    divided = tiny(tiny_dataset, entry("seeds", constraints=[asked]), data=data, method={"name": method})
    with pytest.raises(ConfigError, match=said):
        run(divided, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("chunk", "augment", "said"),
    [
        ([24, 24, 4], "mirror", "24x24x4 share voxels with the next one, at one end: they do not divide 24x24x6"),
        ([16, 16, 6], "transpose", "16x16x6 share voxels"),
        ([24, 24, 4], "transpose", None),
        ([24, 24, 2], "mirror", None),
    ],
)
def test_chunks_that_share_voxels_are_not_turned_round(
    chunk: list[int], augment: str, said: str | None, tiny_dataset: Path, tmp_path: Path
) -> None:
    asked = tiny(
        tiny_dataset,
        entry("seeds", cases="few", constraints=[VOLUME]),
        data={"size": [24, 24, 6], "batch": "volumes", "chunk": chunk},
        network={"name": "unet", "channels": [4, 8], "strides": [[2, 2, 1]]},
        training={"augment": [augment], "epochs": 1},
    )
    if said is None:
        run(asked, tmp_path / "run")
        return
    with pytest.raises(ConfigError, match=said):
        run(asked, tmp_path / "run")
