"""Runs code in a fresh interpreter, where nothing checks shapes: for compiled code, and for messages about them."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run_plain(code: str) -> str:
    """What the code prints; fails with its errors where it does not end well."""
    source = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
