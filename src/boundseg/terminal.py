"""What the command line says: tables, facts, and a moving line on a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.table import Table

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def is_first_process() -> bool:
    """Whether this is the one of several processes that people read; launchers number them in the environment."""
    number = next((os.environ[name] for name in ("RANK", "SLURM_PROCID") if name in os.environ), None)
    if number is not None:
        return number == "0"
    # without a launcher, Fabric numbers the nodes, and the processes of each
    return all(os.environ.get(name, "0") == "0" for name in ("NODE_RANK", "LOCAL_RANK"))


class Verbosity:
    """How much is said: set once, by -q and -v."""

    quiet = False
    verbose = False


def show_facts(facts: dict[str, str]) -> None:
    """Names and what is known of them, a line each."""
    table = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        table.add_row(plain(name), plain(fact))
    _show(table)


def show_columns(title: str, rows: Sequence[dict[str, str]], most: int | None = None) -> None:
    """A table without lines, below an empty one; columns of numbers are set right. With -v, all rows."""
    shown = rows if Verbosity.verbose else rows[:most]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in rows[0]:
        numbers = all(row[name].lstrip("-")[:1].isdigit() or row[name] == "-" for row in rows if row[name])
        # where room is short, names are folded and numbers are not
        table.add_column(plain(name), justify="right" if numbers else "left", overflow="fold", no_wrap=numbers)
    for row in shown:
        table.add_row(*(plain(value) for value in row.values()))
    out.print(f"\n{title}", style="bold")
    _show(table)
    if len(shown) < len(rows):
        out.print(f"… and {len(rows) - len(shown)} more (boundseg -v info)")


def show_lists(lists: Mapping[str, Sequence[str]], most: int = 4) -> None:
    """What holds of whom, a line each; nothing of empty lists, and with -v all of long ones."""
    for fact, names in lists.items():
        shown = names if Verbosity.verbose else names[:most]
        more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
        if names:
            out.print(f"{fact}: {', '.join(shown)}{more}")


def show_table(title: str, rows: Sequence[dict[str, str]]) -> None:
    """A table with lines, its title above."""
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(rows[0]):
        table.add_column(plain(name), justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(plain(value) for value in row.values()))
    _show(table)


def _show(table: Table) -> None:
    if out.is_terminal:
        Console(highlight=False).print(table)
        return
    # nothing is known of the reader's width: nothing is folded, so that a path is found whole
    wide = Console(width=100_000, highlight=False)
    with wide.capture() as drawn:
        wide.print(table)
    for line in drawn.get().splitlines():
        out.print(line.rstrip())


@contextmanager
def status(text: str) -> Iterator[Report]:
    """A moving line that names what is being worked on; nothing where there is no terminal, or with -q."""
    if Verbosity.quiet or not err.is_terminal:
        yield Report(None, text)
        return
    with err.status(text) as status:
        yield Report(status, text)


class Report:
    """Tells a moving line what is being worked on, and ends it before another display begins."""

    def __init__(self, line: Status | None, text: str) -> None:
        self._line, self._text = line, text

    def __call__(self, name: str) -> None:
        if self._line:
            self._line.update(f"{self._text}: {name}")

    def done(self) -> None:
        """Ends the line."""
        if self._line:
            self._line.stop()


def say(text: str) -> None:
    """A line, but with -q."""
    if not Verbosity.quiet:
        out.print(text)


def plain(text: str) -> str:
    """Text in which brackets are brackets, and no markup."""
    return text.replace("[", r"\[")
