"""What is shown while several trainings run: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from boundseg.training.progress import summary
from boundseg.training.several.child import Child

STYLES = {"training": "bold", "done": "green", "refused": "red", "failed": "red", "interrupted": "yellow"}


class Display(Protocol):
    """Told whenever the trainings have been looked at."""

    def update(self) -> None: ...


class Silent:
    """Shows nothing."""

    def update(self) -> None:
        pass


class Lines:
    """A line for every new state and every new epoch, behind the training's name."""

    def __init__(self, console: Console, children: Sequence[Child]) -> None:
        self._console, self._children = console, children
        self._states = {child.name: "waiting" for child in children}
        # what a run that goes on has done before was told then
        self._told = {child.name: len(child.rows) for child in children}
        self._width = max(len(child.name) for child in children)

    def update(self) -> None:
        for child in self._children:
            for row in child.rows[self._told[child.name] :]:
                left = (child.epochs - row["epoch"] - 1) * row["seconds"]
                self._say(child, f"epoch {row['epoch']:3.0f}/{child.epochs}  {summary(row)}  {clock(left)} left")
            self._told[child.name] = len(child.rows)
            if child.state != self._states[child.name]:
                self._say(child, child.state)
                self._states[child.name] = child.state

    def _say(self, child: Child, text: str) -> None:
        self._console.print(f"{child.name:{self._width}}  {text}", highlight=False, soft_wrap=True, markup=False)


class Moving:
    """A table, a line each, drawn anew in its place."""

    def __init__(self, live: Live, children: Sequence[Child]) -> None:
        self._live, self._children = live, children

    def update(self) -> None:
        self._live.update(table(self._children), refresh=True)


@contextmanager
def display(children: Sequence[Child], quiet: bool = False) -> Iterator[Display]:
    """The display that suits where the output goes."""
    console = Console()
    if quiet:
        yield Silent()
    elif not console.is_terminal:
        yield Lines(console, children)
    else:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield Moving(live, children)


def table(children: Sequence[Child]) -> Table:
    """Every training's name, state, epochs that are done, time left, and the figures of its last epoch."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("run", "state", "epochs", "left", "last epoch"):
        shown.add_column(name, justify="right" if name in ("epochs", "left") else "left", no_wrap=True)
    for child in children:
        left = child.seconds_left
        shown.add_row(
            Text(child.name),
            Text(child.state, STYLES.get(child.state, "dim")),
            f"{len(child.rows)}/{child.epochs}",
            "" if left is None else clock(left),
            Text(summary(child.rows[-1]) if child.rows else ""),
        )
    return shown


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
