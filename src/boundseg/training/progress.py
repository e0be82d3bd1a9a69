"""What is shown while a training runs: a live line on a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Row = Mapping[str, float]


class Display(Protocol):
    """What the loop tells: each step, and each epoch's row of ``metrics.csv``."""

    def step(self) -> None: ...

    def epoch(self, row: Row, best: bool) -> None: ...


class Silent:
    """Shows nothing."""

    def step(self) -> None:
        pass

    def epoch(self, row: Row, best: bool) -> None:
        pass


class Lines:
    """One line an epoch, as for a log file."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._console, self._epochs = console, epochs

    def step(self) -> None:
        pass

    def epoch(self, row: Row, best: bool) -> None:
        left = row["seconds"] * (self._epochs - row["epoch"] - 1)
        text = f"epoch {row['epoch']:3.0f}/{self._epochs}  {summary(row)}  {_clock(left)} left"
        self._console.print(text + ("  best" if best else ""), highlight=False, soft_wrap=True)


class Live(Lines):
    """The same lines above a bar that moves with every step."""

    def __init__(self, console: Console, epochs: int, progress: Progress, steps: int) -> None:
        super().__init__(console, epochs)
        self._progress = progress
        self._task = progress.add_task("training", total=epochs * steps)

    def step(self) -> None:
        self._progress.advance(self._task)


@contextmanager
def display(epochs: int, steps: int, first_epoch: int, quiet: bool = False) -> Iterator[Display]:
    """The display that suits where the output goes."""
    console = Console()
    if quiet:
        yield Silent()
    elif not console.is_terminal:
        yield Lines(console, epochs)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
            live = Live(console, epochs, progress, steps)
            for _ in range(first_epoch * steps):
                live.step()
            yield live


def summary(row: Row) -> str:
    """Loss terms, the share of bounds that are kept, and the DSC, as far as an epoch has them.

    A constraint whose bounds were known nowhere in the epoch has no penalty and is left out.
    """
    parts = [f"CE {row['cross_entropy']:.4f}"]
    penalties = [value for name, value in row.items() if name.startswith("penalty: ")]
    known = [value for value in penalties if value == value]
    kept = [value for name, value in row.items() if name.startswith("satisfied: ") and value == value]
    if penalties:
        parts.append(f"penalty {sum(known):.4f}" if known else "no bound known")
    if kept:
        parts.append(f"bounds kept {sum(kept) / len(kept):.0%}")
    dice = [value for name, value in row.items() if name.startswith("validation dice: ") and value == value]
    if dice:
        parts.append(f"DSC {sum(dice) / len(dice):.4f}")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
