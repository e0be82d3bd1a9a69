"""Notebooks of the documentation run top to bottom, and print what they show."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell prints, without the figures that depend on the machine."""
    outputs = [[out for out in cell.get("outputs", []) if out.get("name") == "stdout"] for cell in notebook.cells]
    return [" ".join(re.sub(r"\d[\d.]*", "#", "".join(out.text for out in outs)).split()) for outs in outputs]


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.ipynb")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_client|nbclient|zmq|tornado).*")
def test_a_notebook_prints_what_it_shows(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(path, as_version=4)
    shown = printed(notebook)
    assert any(shown)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert printed(notebook) == shown
    assert path.stat().st_size < 100_000, "pictures in a notebook are small"
