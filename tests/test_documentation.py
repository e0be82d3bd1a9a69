"""What the documentation shows runs as it stands there."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from boundseg.cli import app
from boundseg.constraints import Bounds
from boundseg.data.priors import COLUMNS
from boundseg.training.config import Config

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def test_the_loss_of_the_readme_runs() -> None:
    code = next(block for block in blocks(ROOT / "README.md", "python") if "partial_cross_entropy" in block)
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    labels = torch.full((2, 8, 8), 255)
    labels[:, 4, 4] = 1
    unknown = torch.full((2, 3), torch.inf)
    names = {"logits": logits, "labels": labels, "lower": -unknown, "upper": torch.full((2, 3), 9.0)}
    exec(code, names)
    names["loss"].backward()
    assert logits.grad.abs().sum() > 0
    assert isinstance(names["bounds"], Bounds)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configs_on_a_page_parse(page: Path) -> None:
    for block in blocks(page, "yaml"):
        config = Config.parse(yaml.safe_load(block), str(page))
        assert Config.parse(yaml.safe_load(config.dump())) == config


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.yaml")), ids=lambda path: path.name)
def test_configs_that_made_results_parse(path: Path) -> None:
    assert Config.load(path).data.folder in (Path("ACDC_LV"), Path("ACDC"))
    assert path.read_text().startswith("# "), "a config opens with its claim"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_drawings_become_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(ROOT / "docs" / "getting-started.md", "python")
    drawn, affine = np.zeros((4, 4, 2), np.int16), np.diag([1.5, 1.5, 8.0, 1.0])
    drawn[1, 1, 0], drawn[2, 2, 1] = 1, 2
    monkeypatch.chdir(tmp_path)
    for folder in ("drawings", "ours"):
        Path(folder).mkdir()
    nib.save(nib.Nifti1Image(drawn, affine), "drawings/p02.nii.gz")
    exec(code, {})
    labels = nib.load("ours/labelsTr_scribble/p02.nii.gz")
    assert np.array_equal(np.asarray(labels.dataobj), np.where(drawn == 1, 1, np.where(drawn == 2, 0, 2)))
    assert np.array_equal(labels.affine, affine)


def test_every_verb_has_a_heading() -> None:
    page = (ROOT / "docs" / "verbs.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\w+)$", page, flags=re.M)
    verbs = [verb.name or verb.callback.__name__ for verb in app.registered_commands if verb.callback]
    assert sorted(headings) == sorted(verbs)


def test_the_tables_of_files_name_every_column_of_priors() -> None:
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    table = page.split("### priors.csv")[1].split("### ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)[: len(COLUMNS)]) == COLUMNS


def test_the_example_gains_by_the_bound(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["own_training.py"])
    runpy.run_path(str(ROOT / "examples" / "own_training.py"), run_name="__main__")
    without, with_bound = map(float, re.findall(r"DSC ([\d.]+)", capsys.readouterr().out))
    assert with_bound > without + 0.2
