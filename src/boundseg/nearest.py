"""The nearest known name, for messages about a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where a known name is near (whatever its capitals), else a full stop."""
    spelt = {candidate.casefold(): candidate for candidate in known}
    near = get_close_matches(name.casefold(), spelt, n=1, cutoff=0.5)
    return f"; did you mean {spelt[near[0]]!r}?" if near else "."
