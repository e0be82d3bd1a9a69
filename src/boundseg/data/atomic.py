"""Files that are there whole or not at all: written under a temporary name, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path, whose file takes the place of ``path`` when the block ends without an error.

    It has the name of ``path``, in a hidden folder beside it: writers of volumes choose their format by the
    name, and a MetaImage header (.mhd) names the file of its voxels, which goes along.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        parts = [part for part in Path(folder).iterdir() if part != temporary]
        for written in (*parts, temporary):
            sync(written)
        for written in (*parts, temporary):
            written.replace(path.with_name(written.name))


def write_text(path: Path, text: str) -> None:
    """Writes a small text file as above."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Waits until a file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
