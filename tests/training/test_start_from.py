"""Weights to start from: every tensor is accounted for, by torch's own loading."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from boundseg.errors import CheckpointError
from boundseg.networks import build
from boundseg.training.config import Config
from boundseg.training.config.training import StartConfig
from boundseg.training.loop import train
from boundseg.training.run import Run
from boundseg.training.start_from import start_from

from .cases import entry, tiny


def unet(classes: int = 3, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build("unet", 1, classes, channels=(4, 8), strides=(2,))


def state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("form", ["safetensors", "state dict", "checkpoint", "parallel"])
def test_a_file_of_the_same_network_gives_all_its_tensors(tmp_path: Path, form: str) -> None:
    theirs, network = unet(seed=1), unet()
    path, rename = tmp_path / "weights.pt", {}
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(theirs.state_dict(), path)
    elif form == "parallel":
        torch.save({f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}, path)
        rename = {"module.": ""}
    else:
        content: Any = theirs.state_dict()
        torch.save(content if form == "state dict" else {"state_dict": content, "epoch": 3}, path)
    done = start_from(network, StartConfig(weights=path, rename=rename))
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert (len(done.taken), done.fresh, done.unused) == (len(network.state_dict()), (), ())


def test_another_number_of_classes_leaves_the_head_out_only_where_that_is_said(tmp_path: Path) -> None:
    theirs, network = unet(classes=2, seed=1), unet()
    before = state(network)
    save_file(theirs.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError) as caught:
        start_from(network, StartConfig(weights=tmp_path / "other.safetensors"))
    message = str(caught.value)
    assert "tensors have another shape in other.safetensors" in message
    assert "model.2.conv.weight is [12, 2, 3, 3], here [12, 3, 3, 3]" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    start_from(network, StartConfig(weights=tmp_path / "other.safetensors", fresh=["model.2"]))
    for name, tensor in network.state_dict().items():
        expected = before if name.startswith("model.2.") else theirs.state_dict()
        assert torch.equal(tensor, expected[name]), name


def test_all_that_does_not_match_is_listed(tmp_path: Path) -> None:
    theirs = unet(seed=1).state_dict()
    lost = next(iter(theirs))
    theirs["contrast.head.weight"] = theirs.pop(lost)
    save_file(theirs, tmp_path / "a.safetensors")
    asked = {"weights": tmp_path / "a.safetensors"}
    with pytest.raises(CheckpointError) as caught:
        start_from(unet(), StartConfig(**asked, fresh=["modle"]))
    assert [problem.what.partition(":")[0] for problem in caught.value.problems] == [
        "fresh",
        f"a.safetensors has not 1 of the network's {len(theirs)} tensors",
        f"1 of {len(theirs)} tensors of a.safetensors are none of the network's",
    ]
    assert "unused: [contrast.head]" in str(caught.value)
    done = start_from(unet(), StartConfig(**asked, fresh=[lost], unused=["contrast"]))
    assert (done.fresh, done.unused) == ((lost,), ("contrast.head.weight",))
    with pytest.raises(CheckpointError, match=r"rename: no tensor of a.safetensors begins with 'module.'"):
        start_from(unet(), StartConfig(**asked, rename={"module.": ""}))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize(
    ("write", "fact"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.mkdir(), "there are no weights in"),
        (lambda path: path.write_bytes(b"x" * 40), r"weights.pt is no file of torch.save\.\n.*Save it as"),
        (lambda path: path.write_bytes(b"hello"), "is no file of torch.save"),
        (lambda path: path.write_bytes(b"<html></html>"), "is no file of torch.save"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is no file of torch.save"),
        (lambda path: path.touch(), "is no file of torch.save"),
        (lambda path: path.write_bytes(b"\x80\x02h\x05."), "cannot be read"),
        (lambda path: torch.save(Harmful(), path), "cannot be read"),
        (lambda path: torch.save([1, 2], path), "holds no state dict"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, monkeypatch: Any, write: Any, fact: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=fact) as caught:
        start_from(unet(), StartConfig(weights=tmp_path / "weights.pt"))
    assert len(str(caught.value).splitlines()) >= 2
    assert not (tmp_path / "harmed").exists()


def test_a_training_goes_on_from_another_runs_weights(trained: Run, tmp_path: Path) -> None:
    """With a learning rate of next to nothing the weights are the other run's; the config says from where, for good."""
    own = trained.config.data.folder
    config = tiny(
        own, entry("full"), training={"start_from": str(trained.folder), "optimizer": {"lr": 1e-30}, "epochs": 1}
    )
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    theirs = load_file(trained.folder / "checkpoints" / "best" / "weights.safetensors")
    for name, tensor in load_file(run.folder / "checkpoints" / "last" / "weights.safetensors").items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(tensor, theirs[name]), name
    log = (run.folder / "log.txt").read_text()
    assert f"starts from {trained.folder}/checkpoints/best/weights.safetensors: {len(theirs)} of {len(theirs)}" in log
    assert "expected shares" not in log
    assert Run.open(run.folder).config.training.start_from == StartConfig(weights=trained.folder)
    # what it started from is not asked for again
    gone = config.starting_from(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="gone is not there"):
        train(gone, tmp_path / "none", device="cpu", quiet=True)
    assert not (tmp_path / "none").exists()


def test_a_published_backbone_is_not_fetched_again_to_predict(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    fetched = "network: {name: flexibleunet, backbone: efficientnet-b0, pretrained: true}"
    config.write_text(re.sub(r"^network: .*$", fetched, config.read_text(), flags=re.M))
    asked: dict[str, object] = {}

    def build(*_: object, **options: object) -> torch.nn.Module:
        asked.update(options)
        return torch.nn.Identity()

    monkeypatch.setattr("boundseg.training.run.build", build)
    Run.open(tmp_path / "run").network()
    assert asked == {"backbone": "efficientnet-b0", "pretrained": False}


def test_weights_are_looked_for_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "backbone.pt").write_bytes(b"")
    content = "data: {folder: x}\nsupervision: [{labels: full}]\ntraining: {start_from: backbone.pt}\n"
    (tmp_path / "a.yaml").write_text(content)
    start = Config.load(tmp_path / "a.yaml").training.start_from
    assert start is not None
    assert start.weights == tmp_path / "backbone.pt"
