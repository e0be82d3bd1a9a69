"""One of several trainings: a process of its own, followed by the files that it writes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from boundseg.training.config import Config
from boundseg.training.run import Run

State = Literal["waiting", "preparing", "training", "done", "refused", "failed", "interrupted"]

INTERRUPTED = 130  # the exit code
CONSOLE = "console.txt"
# all that a run without a checkpoint holds
BEGINNINGS = ("config.yaml", "environment.json", "metrics.csv", "log.txt", CONSOLE)
# Linux ends the child when this process dies, however that dies; set before a torch is imported
_WITH_ITS_PARENT = (
    "import ctypes, runpy, signal; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "runpy.run_module('boundseg', run_name='__main__', alter_sys=True)"
)
_COMMAND = ["-c", _WITH_ITS_PARENT] if sys.platform == "linux" else ["-m", "boundseg"]
_COLOURS = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")  # make rich believe in a terminal


@dataclass
class Child:
    """A training that is waiting, running or has ended.

    Attributes:
        name: Of the run folder.
        config_path: The config, as it was named.
        config: The same, read.
        folder: The run folder.
        begun: Whether the run folder has a checkpoint to go on from.
        leftover: Whether the run folder holds what was interrupted before its first checkpoint.
        state: ``refused`` is the input's fault, ``failed`` everything else that nobody asked for.
        message: Why it was refused or failed.
        rows: Of ``metrics.csv``.
    """

    name: str
    config_path: Path
    config: Config
    folder: Path
    begun: bool = False
    leftover: bool = False
    state: State = "waiting"
    message: str = ""
    rows: list[dict[str, float]] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _console: Path = Path()
    _written: float = 0.0
    _said_before: int = 0

    @property
    def epochs(self) -> int:
        """How many epochs it has to train."""
        return self.config.training.epochs

    @property
    def seconds_left(self) -> float | None:
        """About how long it still trains; None before its first epoch and after its end."""
        if not self.rows or self.state != "training":
            return None
        whole = sum(row["seconds"] for row in self.rows) / len(self.rows) * (self.epochs - len(self.rows))
        return max(whole - (time.time() - self._written), 0.0)

    def start(self, options: Sequence[str], threads: int) -> None:
        """Begins the process, or goes on with what was begun."""
        if self.leftover:
            _clear(self.folder)
        inside = self.folder / CONSOLE
        # beside the run folder until it ends, since a new run begins with an empty one
        beside = self._console = self.folder.with_name(f"{self.folder.name}.{CONSOLE}")
        if self.begun:
            self._console = inside
            if beside.is_file():  # what followed the training before was killed
                beside.replace(inside)
            self._said_before = inside.stat().st_size if inside.is_file() else 0
        beside.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, *_COMMAND, "train", str(self.config_path), "--out", str(self.folder)]
        command += ["--threads", str(threads), *options, *(["--resume"] if self.begun else [])]
        environment = {name: value for name, value in os.environ.items() if name not in _COLOURS}
        environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONIOENCODING": "utf-8"}
        with self._console.open("ab" if self.begun else "wb") as file:
            # a session of its own: Ctrl-C on the terminal reaches this process alone, which passes it on once
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        # the data of what was begun have been prepared
        self.state = "training" if self.begun else "preparing"

    def look(self) -> None:
        """Reads what has changed."""
        if self._process is None or not self.runs:
            return
        code = self._process.poll()
        if self.state == "preparing" and (self.folder / "environment.json").is_file():
            self.state = "training"
        self.read_rows()
        if code is not None:
            self._end(code)

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self.state in ("preparing", "training")

    def read_rows(self) -> None:
        """Reads ``metrics.csv`` where it has changed."""
        path = self.folder / "metrics.csv"
        written = path.stat().st_mtime if path.is_file() else 0.0
        if written != self._written:
            self._written, self.rows = written, Run(self.folder).metrics()

    def interrupt(self) -> None:
        """Asks it to end its way: a training saves what it has."""
        if self._process is not None and self.runs and os.name == "posix":  # elsewhere the console tells all
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Ends it at once, where it runs."""
        if self._process is not None and self.runs:
            code = self._process.poll()
            self._process.kill()
            self._process.wait()
            self._end(INTERRUPTED if code is None else code)

    def _end(self, code: int) -> None:
        if code == 0:
            self.state = "done"
        elif code == 2:
            self.state = "refused"
        else:
            # interrupted while Python was starting, it ends by the signal itself
            self.state = "interrupted" if code in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM) else "failed"
        if self.state in ("refused", "failed"):
            self.message = _message(self._console.read_bytes()[self._said_before :].decode("utf-8", "replace"))
        if code < 0 and self.state == "failed":
            memory = ", which the system sends where memory runs out" if code == -9 else ""
            self.message = f"ended by {signal.Signals(-code).name}{memory}.\n{self.message}".strip()
        if self.folder.is_dir() and not self.begun:
            self._console.replace(self.folder / CONSOLE)


def _clear(folder: Path) -> None:
    """Removes what an interrupted training leaves that had not come to its first checkpoint."""
    for name in BEGINNINGS:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _message(said: str) -> str:
    """The error that a training ended with, or its last lines."""
    lines = said.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(("error: ", "boundseg failed: "))]
    return "\n".join(lines[starts[0] :] if starts else lines[-5:])
