"""Whether a message that a page shows is one that the package gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
ENOUGH = 15  # characters of ours, which no other message begins with by chance

# the parts of a string; None is something that is filled in
Parts = tuple[str | None, ...]


def is_ours(message: str) -> bool:
    """Whether some string of the source, with its braces filled in, is this message or begins with it."""
    shown = re.sub(r"\s+", " ", message)
    return any(_begins(parts, shown) for parts in _strings())


@cache
def plain_source() -> str:
    """The source in one line, in which a message that was written as several strings is one."""
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py")))
    return re.sub(r"\s+", " ", re.sub(r'"\s*\n\s*f?"', "", source))


def _begins(parts: Parts, shown: str, ours: int = 0) -> bool:
    if not shown or not parts:
        return not shown and parts in ((), (".",)) and ours >= ENOUGH
    first, rest = parts[0], parts[1:]
    if first is None:
        return any(_begins(rest, shown[length:], ours) for length in range(1, len(shown) + 1))
    if first.startswith(shown):
        return ours + len(shown) >= ENOUGH
    return shown.startswith(first) and _begins(rest, shown[len(first) :], ours + len(first))


@cache
def _strings() -> tuple[Parts, ...]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py")))
    return tuple(parts for tree in trees for parts in _below(tree))


def _below(node: ast.AST) -> Iterator[Parts]:
    if isinstance(node, ast.JoinedStr):
        yield tuple(str(part.value) if isinstance(part, ast.Constant) else None for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield (node.value,)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _below(child)
