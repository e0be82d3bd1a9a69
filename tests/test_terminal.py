"""Tables where there is no terminal: whole, and plain."""

from __future__ import annotations

import pytest

from boundseg.terminal import Verbosity, is_first_process, show_columns, show_facts, show_lists, show_table

LONG = "/a/path/" + "of/many/parts/" * 30


def test_nothing_is_folded_and_no_line_ends_in_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"run": LONG, "next": "[train]"})
    assert capsys.readouterr().out == f"run   {LONG}\nnext  [train]\n"
    show_table("title", [{"name": LONG, "DSC [px]": "0.5"}])
    shown = capsys.readouterr().out
    assert LONG in shown and "DSC [px]" in shown
    assert not [line for line in shown.splitlines() if line.endswith(" ")]


def test_columns_of_numbers_are_set_right(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"part": "size", "value": "-1.5", "satisfied": "-", "note": "", "first": "1 x"},
        {"part": "centroid", "value": "385.8", "satisfied": "12.5%", "note": "a", "first": ""},
    ]
    show_columns("parts", rows)
    assert capsys.readouterr().out == (
        "\nparts\n"
        "part      value  satisfied  note  first\n"
        "size       -1.5          -          1 x\n"
        "centroid  385.8      12.5%  a\n"
    )
    show_columns("parts", rows, most=1)
    assert capsys.readouterr().out.endswith("… and 1 more (boundseg -v info)\n")


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "1"}, False),
        ({"LOCAL_RANK": "1"}, False),
        # the second node of a training that no launcher has begun
        ({"NODE_RANK": "1"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
    ],
)
def test_one_of_several_processes_is_read(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == first


def test_long_lists_are_cut_and_empty_ones_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {"turned": ["a", "b", "c"], "empty": [], "unused": ["[d]"]}
    show_lists(lists, most=2)
    assert capsys.readouterr().out == "turned: a, b and 1 more\nunused: [d]\n"
    monkeypatch.setattr(Verbosity, "verbose", True)
    show_lists(lists, most=2)
    assert capsys.readouterr().out == "turned: a, b, c\nunused: [d]\n"
