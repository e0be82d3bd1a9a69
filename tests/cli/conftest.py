"""The command line in this process."""

from __future__ import annotations

import pytest

from tests.conftest import CommandLine

from .cases import Boundseg, Result


@pytest.fixture
def boundseg(command_line: CommandLine) -> Boundseg:
    """Runs ``boundseg ARGUMENTS`` in this process."""
    return lambda *arguments: Result(*command_line(*arguments))
