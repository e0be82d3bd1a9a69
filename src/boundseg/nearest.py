"""The nearest known name, for messages about a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from unicodedata import normalize


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where a known name is near (whatever its capitals), else a full stop."""
    spelt = {normalize("NFC", candidate).casefold(): candidate for candidate in known}
    near = get_close_matches(normalize("NFC", name).casefold(), spelt, n=1, cutoff=0.5)
    if not near:
        return "."
    found = spelt[near[0]]
    if normalize("NFC", found) == normalize("NFC", name):
        # on a screen they look the same: a Mac names files with letters and accents apart
        return f"; did you mean {found!a}? Its accents are stored otherwise than those of {name!a}."
    return f"; did you mean {found!r}?"
