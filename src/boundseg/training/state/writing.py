"""Files of a run that cannot be written: one message, and nothing half-written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from boundseg.errors import RunError

# how safetensors tells an error of the operating system: from 0.6 on, and before
_TOLD = (
    re.compile(r"I/O error: (?P<why>.*) \(os error (?P<code>\d+)\)"),
    re.compile(r'code: (?P<code>\d+), .*message: "(?P<why>.*)"'),
)


@contextmanager
def writing(what: str, folder: Path, remedy: str = "") -> Iterator[None]:
    """Says which file of a run cannot be written, why, and what to do about it.

    Args:
        what: The file, or what it holds.
        folder: The run folder.
        remedy: Instead of how a training goes on: from its last checkpoint, or from the beginning where there is none.

    Raises:
        RunError: Writing has failed: a full disk, a quota, a folder that may not be written.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{what} cannot be written: {error.strerror or error}.", str(folder), remedy or _remedy(folder)
        ) from error


def os_error(error: SafetensorError) -> OSError | None:
    """The operating system's error behind one of safetensors', which has only its text."""
    found = next(filter(None, (pattern.search(str(error)) for pattern in _TOLD)), None)
    return OSError(int(found["code"]), found["why"]) if found else None


def append(path: Path, line: str) -> None:
    """Appends a line to a text file, or leaves the file as it was: the half of a line is taken back.

    Raises:
        OSError: It cannot be written.
    """
    before = path.stat().st_size if path.exists() else None
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        if before is not None:
            os.truncate(path, before)
        else:
            path.unlink(missing_ok=True)
        raise


def _remedy(folder: Path) -> str:
    checkpoints = folder / "checkpoints"
    if any((checkpoints / name / "state.json").is_file() for name in ("last", "previous")):
        return "The last checkpoint is kept. Make room, and go on with --resume."
    return "There is no checkpoint yet. Make room, remove the run folder, and train again."
