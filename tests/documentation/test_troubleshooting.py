"""Troubleshooting is headed by words that the package says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
# what is seen, and no message
SYMPTOMS = {
    "Everything is background after an epoch, or everything is organ",
    "Sizes are kept and the DSC is low",
}
HEADINGS = re.findall(r"^### (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.M)


def texts(source: str) -> Iterator[str]:
    """Every string of a module; NUL stands where a value is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def said() -> list[str]:
    return [text for path in (ROOT / "src").rglob("*.py") for text in texts(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("heading", [heading for heading in HEADINGS if heading not in SYMPTOMS])
def test_the_package_says_the_words_of_a_heading(heading: str, said: list[str]) -> None:
    assert any(heading in text for text in said), f"no message says: {heading}"


def test_headings_can_be_told_apart() -> None:
    assert len(HEADINGS) == len(set(HEADINGS)) >= 30
    assert set(HEADINGS) >= SYMPTOMS
