"""ONNX files: ONNX Runtime computes what the network computes, and the file says what goes in and comes out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from boundseg.errors import RunError
from boundseg.networks.build import NETWORKS
from boundseg.training.export import export
from boundseg.training.run import Run
from tests.cli.cases import Result, ok, refused
from tests.conftest import CommandLine

runtime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


def test_the_file_predicts_what_the_run_predicts(trained: Run, tmp_path: Path, command_line: CommandLine) -> None:
    """ENet, whose unpooling is a scatter; any number of images at once."""
    path = tmp_path / "enet.onnx"
    out = ok(Result(*command_line("export", trained.folder, path))).out
    assert "enet.onnx: logits as the network's, to" in out
    model = onnx.load(path)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["labels"]) == trained.labels
    assert json.loads(about["size"]) == [24, 24]
    assert (about["fit"], about["intensity"], json.loads(about["channels"])) == ("pad", "zscore", ["MR0"])
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = torch.randn(count, 1, 24, 24)
        (logits,) = session.run(["logits"], {"image": images.numpy()})
        (probs,) = trained.predictor().probabilities(images.numpy())
        assert np.allclose(torch.from_numpy(logits).softmax(1).numpy(), probs.numpy(), atol=1e-4)
    refused(Result(*command_line("export", trained.folder, path)), "enet.onnx exists.")
    refused(Result(*command_line("export", trained.folder, tmp_path / "enet.pt")), "enet.pt is no ONNX file.")


class Undecided(nn.Module):
    """Decides by its data."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.convolution(images)
        return logits if float(images.sum()) > 0 else -logits


def test_what_onnx_cannot_say_is_refused_and_nothing_is_written(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "enet", Undecided)
    monkeypatch.setattr(Run, "trained", lambda self, which: self.network())
    with pytest.raises(RunError, match=r"the network enet cannot be exported: .*\n.*it decides by its data"):
        export(trained, tmp_path / "out" / "a.onnx")
    assert not (tmp_path / "out").exists()


def test_without_its_packages_the_message_says_how_to_get_them(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(RunError, match=r"needs onnxscript, which is not installed\.\n.*boundseg\[onnx\]"):
        export(trained, tmp_path / "a.onnx")
