"""A dataset folder that is there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boundseg.errors import DatasetError


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """Gives a hidden folder beside ``destination``, which takes its place when the block ends without an error.

    Raises:
        DatasetError: The destination holds something already.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DatasetError(f"{destination} exists and is not empty.", remedy="Name a new folder, or remove it.")
    partial = destination.with_name(f".{destination.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if destination.exists():
            destination.rmdir()
        partial.rename(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
