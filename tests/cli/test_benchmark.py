"""The verb ``boundseg benchmark``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from boundseg.benchmark import ROWS
from tests.conftest import CommandLine

SMALL = ("--network", "enet", "--size", 32, 32, "--rounds", 2, "--device", "cpu", "--threads", 1)
VERBS_PAGE = Path(__file__).parents[2] / "docs" / "verbs.md"


@pytest.mark.parametrize("verb", ["step-time", "growth"])
def test_help_opens_with_an_example(command_line: CommandLine, verb: str) -> None:
    code, out, _ = command_line("benchmark", verb, "--help")
    shown = re.sub(r"\s+", " ", out)
    assert code == 0
    assert f"Example: boundseg benchmark {verb} " in shown
    assert shown.index("Example") < shown.index("Options")
    assert f"## benchmark {verb}\n" in VERBS_PAGE.read_text(encoding="utf-8")


def test_help_lists_both(command_line: CommandLine) -> None:
    assert re.search(r"^\W*benchmark\s+\w+", command_line("--help")[1], re.M)
    shown = command_line("benchmark", "--help")[1]
    assert "step-time" in shown
    assert "growth" in shown


def test_step_time_prints_a_table_for_each_batch_and_writes_them(command_line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "new" / "times.csv"
    code, out, err = command_line(
        "benchmark", "step-time", *SMALL, "--batch", 1, "--batch", 2, "--row", "exact-2", "--out", path
    )
    assert (code, err) == (0, "")
    assert "batch 1; enet, 32 x 32" in out
    assert "batch 2; enet, 32 x 32" in out
    assert out.count("exact proposals, 2 bounds") == 2
    with path.open(encoding="utf-8") as file:
        assert [(row["row"], row["batch"]) for row in csv.DictReader(file)] == [
            ("partial", "1"),
            ("exact-2", "1"),
            ("partial", "2"),
            ("exact-2", "2"),
        ]
    assert f"table: {path}" in out

    path = tmp_path / "times.md"
    assert command_line("benchmark", "step-time", *SMALL, "--row", "direct-1", "--out", path)[0] == 0
    assert "| direct loss, 1 bound | " in path.read_text(encoding="utf-8")


def test_growth_writes_a_plot_and_its_figures(command_line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "growth.png"
    code, out, err = command_line(
        "benchmark", "growth", *SMALL, "--classes", 1, "--classes", 2, "--batch", 1, "--batch", 2, "--out", path
    )
    assert (code, err) == (0, "")
    assert path.is_file()
    assert len(path.with_suffix(".csv").read_text(encoding="utf-8").splitlines()) == 7
    assert f"plot: {path}" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("step-time", "--batch", 0), ("batch is 0, and must be 1 or more.", "Give --batch another number.")),
        (("step-time", "--size", 0, 32), ("size is 0,",)),
        (("step-time", "--rounds", 0, "--threads", 0), ("rounds is 0,", "threads is 0,")),
        (("step-time", "--network", "enett"), ("Unknown network 'enett'; did you mean 'enet'?",)),
        (("step-time", "--network", "unet", "--size", 30, 33), ("the network unet fails", "Choose another --size")),
        (("step-time", "--row", "direct"), ("there is no row 'direct'", "The rows are: " + ", ".join(ROWS))),
        (("step-time", "--device", "tpu"), ("there is no device 'tpu' here.",)),
        (("step-time", "--out", "times.txt"), ("times.txt is no table.", "Name a file .csv or .md.")),
        (("growth", "--classes", 0), ("classes is 0,",)),
        (("growth", "--largest-step", 0), ("largest-step is 0,", "Give --largest-step")),
        (("growth", "--out", "growth"), ("growth is no picture.", "Name a file .png or .svg or .pdf.")),
    ],
)
def test_what_cannot_be_done_is_one_message_and_exit_code_2(
    command_line: CommandLine, arguments: tuple[object, ...], told: tuple[str, ...]
) -> None:
    code, out, err = command_line("benchmark", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for fact in told:
        assert fact in err
