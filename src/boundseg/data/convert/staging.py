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

    Where an empty folder is there already (the working directory, a link to one, a mount point), the hidden one lies in
    it, and what it holds is moved up.

    Raises:
        DatasetError: The destination holds something already, or nothing can be written there.
    """
    target = destination.resolve()
    there = target.exists()
    partial = (target if there else target.parent) / f".{target.name}.partial"
    if there and (not target.is_dir() or any(path != partial for path in target.iterdir())):
        raise DatasetError(f"{destination} exists and is not empty.", remedy="Name a new folder, or remove it.")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        fact = f"{destination} cannot be written: {error.strerror or error}."
        raise DatasetError(fact, remedy="Name a folder that may be made there.") from error
    try:
        yield partial
        if not there:
            partial.rename(target)
            return
        # files last: where dataset.json lies, the rest is whole
        for path in sorted(partial.iterdir(), key=Path.is_file):
            path.rename(target / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
