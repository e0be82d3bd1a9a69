"""The site is built from the pages and docstrings, and every warning is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("furo", reason="the extra docs is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-d", str(out / "trees")]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(out / "html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_every_page_is_reached_from_the_first(site: Path) -> None:
    seen, left = set(), {"index.html"}
    while left:
        page = left.pop()
        seen.add(page)
        for target in re.findall(r'href="([^"#:]+\.html)', (site / page).read_text(encoding="utf-8")):
            found = (site / page).parent.joinpath(target).resolve().relative_to(site.resolve()).as_posix()
            assert (site / found).is_file(), f"{page} leads to {target}"
            left |= {found} - seen
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= seen


def test_pages_need_no_network(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', text), path.name


def test_formulas_are_shown_as_formulas(site: Path) -> None:
    page = (site / "mathematics.html").read_text(encoding="utf-8")
    assert page.count("<math") > 20
    assert "$$" not in re.sub(r"<pre.*?</pre>", "", page, flags=re.S)
    assert "<math" in (site / "api" / "constraints.html").read_text(encoding="utf-8")
