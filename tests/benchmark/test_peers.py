"""The comparison with nnU-Net runs to its table and its picture."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from boundseg.data.convert.acdc import convert_acdc
from tests.integrations import nnunet_cases as cases

pytest.importorskip("nnunetv2", reason="pip install 'boundseg[nnunet]'")

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers.py"
ROWS = ("nnunet_bounds_erosion", "enet_erosion")


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with fewer epochs and fewer timed steps of nnU-Net."""
    spec = importlib.util.spec_from_file_location("peers", PEERS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "peers", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "EPOCHS", 2)
    monkeypatch.setattr(module, "TIMED_STEPS", 2)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_rows_of_seconds_give_a_table_and_a_picture(
    real_data: Path,
    peers: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    patients = pd.read_csv(real_data / "acdc" / "split.csv")
    of = {side: list(some.patient) for side, some in patients.groupby("split")}
    cases.few(
        real_data / "acdc",
        tmp_path / "download",
        {"train": of["train"][:3], "validation": of["validation"][:1], "test": of["test"][:3]},
    )
    convert_acdc(tmp_path / "download", tmp_path / "hearts", ["LV"])
    cases.enter(monkeypatch, tmp_path / "peers")
    monkeypatch.setenv("nnUNet_compile", "f")  # as the script does, and undone after it
    threads = torch.get_num_threads()
    command = [str(PEERS), str(tmp_path / "hearts"), "--out", str(tmp_path / "peers"), "--labels", "erosion"]
    asked = [part for row in ROWS for part in ("--row", row)]
    monkeypatch.setattr(sys, "argv", [*command, "--minutes", "0.05", *asked])
    try:
        peers.main()
    finally:
        torch.set_num_threads(threads)
    found = pd.read_csv(tmp_path / "peers" / "peers.csv")
    assert list(found["labels"]) == ["erosion"] * 2
    assert found["bounds kept"].str.match(r"[\d.]+% of \d+").all()
    assert (found["slices shown"] > 0).all()
    assert (tmp_path / "peers" / "peers.png").stat().st_size > 5_000
    assert all((tmp_path / "peers" / row / "cost.json").is_file() for row in ROWS)
    assert "nnU-Net with bounds" in capsys.readouterr().out
    # the same command again trains nothing
    peers.main()
    assert "== " not in capsys.readouterr().out
