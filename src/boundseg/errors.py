"""What boundseg raises: one small tree, whose leaves are all somebody's input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what is the case, where it was found, what to do about it."""

    what: str
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        where = "the current folder" if self.where == "." else self.where
        tail = " ".join(part for part in (f"in {where}." if where else "", self.remedy) if part)
        return f"{self.what}\n  {tail}" if tail else self.what


class BoundsegError(Exception):
    """Everything that boundseg raises on purpose."""


class InputError(BoundsegError, ValueError):
    """Something in the user's input is wrong; the command line prints it and ends with exit code 2.

    Args:
        what: The fact, in one sentence.
        where: The file, line or key in which it was found.
        remedy: What to do about it.

    Attributes:
        repeated: Whether another process of the same training raises it too, and says it.
    """

    repeated = False

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(what, where, remedy),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Self:
        """All problems of a folder or a config in one error, so that nobody mends them one per run."""
        found = tuple(problems)
        error = cls(found[0].what, found[0].where, found[0].remedy)
        error.problems = found
        error.args = ("\n".join(map(str, found)),)
        return error


class BoundsError(InputError):
    """Bounds that cannot be: NaN, or a lower one above its upper one."""


class VolumeError(InputError):
    """An image or label volume that cannot be read, or does not fit its neighbours."""


class DatasetError(InputError):
    """A dataset folder that is incomplete or contradicts itself."""


class PriorsError(InputError):
    """A row of priors.csv that cannot be read or is impossible."""


class ConfigError(InputError):
    """A config with an unknown key, or values that do not go together."""


class RunError(InputError):
    """A run folder that exists already, is missing, or was written by something else."""


class CheckpointError(RunError):
    """A checkpoint that is incomplete, corrupted, or of another version."""
