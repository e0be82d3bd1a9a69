"""Bounds of volumes of which batches of slices see a part: which are left out, and when that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from boundseg.data.dataset import Dataset
from boundseg.training.parts import not_held, tell
from boundseg.training.supervision import teach

from .cases import INDIVIDUAL, VOLUME, entry, tiny

UPPER = {"size": {"class": "LV", "between": [0, 900], "per": "volume", "unit": "mL"}}
RATIO = {"ratio": {"class": "LV:Myo", "between": [None, 9], "per": "volume"}}
LOWER = "size LV volume per volume in mL: its lower bounds do not hold in batches of slices; "


@pytest.mark.parametrize(
    ("asked", "data", "expected"),
    [
        ([VOLUME], {}, [LOWER]),
        ([VOLUME], {"batch": "volumes"}, []),
        ([VOLUME], {"remember": True}, []),
        ([INDIVIDUAL], {}, []),
        ([UPPER], {}, []),
        ([RATIO], {}, ["its bounds do not hold in batches of slices; "]),
    ],
)
def test_what_parts_leave_out_is_told(tiny_dataset: Path, asked: Any, data: Any, expected: list[str]) -> None:
    config = tiny(tiny_dataset, entry(constraints=asked), data=data)
    found = not_held(config, teach(config, Dataset.open(tiny_dataset)))
    assert len(found) == len(expected)
    for note, part in zip(found, expected, strict=True):
        assert part in note
        assert note.endswith("set data.batch: volumes or data.remember: true")


def test_notes_are_logged_and_shown_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    logged: list[str] = []
    tell(["a [b]"], logged.append, quiet=True)
    assert (logged, capsys.readouterr().out) == (["note: a [b]"], "")
    tell(["a [b]"], logged.append, quiet=False)
    assert capsys.readouterr().out == "note: a [b]\n"
