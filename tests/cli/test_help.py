"""The version, the help of every verb, and what is mistyped."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from boundseg import __version__

from .cases import VERBS, Boundseg, ok


def test_the_version(boundseg: Boundseg) -> None:
    assert ok(boundseg("--version")).out == f"boundseg {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_opens_with_an_example_that_names_it(boundseg: Boundseg, verb: str) -> None:
    shown = re.sub(r"\s+", " ", ok(boundseg(verb, "--help")).out)
    assert f"Example: boundseg {verb} " in shown
    # before any argument or option is explained
    assert shown.index("Example") < shown.index("Options")


def test_help_lists_every_verb_with_what_it_does(boundseg: Boundseg) -> None:
    shown = ok(boundseg("--help")).out
    assert set(VERBS) >= {"demo", "convert", "check", "weaken", "priors", "train", "predict", "evaluate"}
    for verb in VERBS:
        assert re.search(rf"^\W*{verb}\s+\w+", shown, re.M), verb


@pytest.mark.parametrize(
    "arguments", [("trian",), ("train",), ("check", "a", "b"), ("priors", "d", "sizes"), ("train", "c", "--epochs", 3)]
)
def test_a_mistyped_command_ends_with_2(boundseg: Boundseg, arguments: tuple[object, ...]) -> None:
    result = boundseg(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "Usage: boundseg" in result.err


def test_verbs_and_options_are_completed() -> None:
    def completed(words: str) -> list[str]:
        environment = {"_BOUNDSEG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            [sys.executable, "-m", "boundseg"],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | environment,
        )
        return done.stdout.split()

    assert completed("boundseg tr") == ["train"]
    assert "--resume" in completed("boundseg train --re")
