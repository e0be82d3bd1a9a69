"""Runs code in a fresh interpreter, where nothing checks shapes: for compiled code, and for messages about them."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run_plain(code: str) -> str:
    """What the code prints; fails with its errors where it does not end well."""
    source = textwrap.dedent(code)
    # an older typer imports what a newer click calls old
    warnings = ("-W", "error", "-W", "ignore::DeprecationWarning:typer")
    done = subprocess.run([sys.executable, *warnings, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
