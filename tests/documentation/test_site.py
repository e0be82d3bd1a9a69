"""The site builds without a warning and asks nothing of the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# what makes a browser fetch by itself; a link that somebody clicks is none
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\bsrc=["'](?:https?:)?//"""
    r"""|<link[^>]*rel=["'](?:stylesheet|preload|icon)["'][^>]*href=["'](?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command += ["-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_page_is_built_and_fetches_nothing(site: Path) -> None:
    pages = [
        page for page in (ROOT / "docs").rglob("*") if page.suffix in (".md", ".ipynb") and "_site" not in page.parts
    ]
    for page in pages:
        built = site / page.relative_to(ROOT / "docs").with_suffix(".html")
        assert built.is_file(), page.name
    for built in site.rglob("*.html"):
        assert not FETCHED.findall(built.read_text(encoding="utf-8")), built.name


def test_formulas_are_drawn_by_the_browser(site: Path) -> None:
    for name in ("mathematics.html", "api/constraints.html"):
        text = (site / name).read_text(encoding="utf-8")
        assert text.count("<math") > 5, name
        assert "\\frac" not in re.sub(r'title="[^"]*"', "", text), "a formula was left as it was written"
