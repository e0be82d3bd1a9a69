"""A table that somebody keeps in a spreadsheet: its cells, whichever separators it was saved with."""

from __future__ import annotations

import csv
import importlib
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from boundseg.errors import PriorsError, Problem
from boundseg.nearest import did_you_mean

UNCLOSED = "Is there a quote that is not closed? One within a quoted cell is written twice."
Cell = str | float  # a number of .xlsx is one, however its cell is shown; of text nothing is


@dataclass(frozen=True)
class Sheet:
    """A table with a header.

    Attributes:
        path: Its file.
        columns: Names of the columns, without blanks at their ends.
        rows: Line in the file, and the cells by column.
        separator: What stands between cells; empty where no text was read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, Cell]], ...]
    separator: str = ","

    def require(self, column: str, option: str) -> None:
        """Raises PriorsError where there is no such column."""
        if column not in self.columns:
            near = did_you_mean(column, self.columns)
            named = ", ".join(f"{name!r}" for name in self.columns)
            raise PriorsError(f"there is no column {column!r}{near}", str(self.path), f"{option} names one of {named}.")


def as_text(cell: Cell) -> str:
    """What a cell says: cases that are numbers come as 7.0."""
    return cell if isinstance(cell, str) else repr(cell).removesuffix(".0")


def read_sheet(path: Path) -> Sheet:
    """Reads ``.csv``, ``.tsv`` (separated by ``,``, ``;`` or tabs, as the header shows) or ``.xlsx`` (its first sheet).

    Empty lines are passed over.

    Raises:
        PriorsError: The file is missing, of another kind, no table, or has lines that do not fit the header.
    """
    if not path.is_file():
        raise PriorsError(f"{path.name} is not there.", str(path.parent), "Check the name and the folder.")
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".txt", ".xlsx"):
        raise PriorsError(
            f"{path.name} is no table that boundseg reads.", str(path.parent), "Save it as .csv (UTF-8), .tsv or .xlsx."
        )
    lines, separator = (_excel(path), "") if kind == ".xlsx" else _text(path)
    lines = [(number, cells) for number, cells in lines if _trimmed(cells)]
    if not lines:
        raise PriorsError(f"{path.name} is empty.", str(path.parent), "Its first line names the columns.")
    (_, first), *body = lines
    header = [as_text(cell) for cell in _trimmed(first)]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise PriorsError(f"the column {twice[0]!r} is there twice.", str(path), "Rename one of them.")
    if len(header) == 1 and body and len(_trimmed(body[0][1])) > 1:
        line, second = body[0][0], len(_trimmed(body[0][1]))
        fact = f"the first line, {header[0]!r}, names one column, and line {line} has {second} cells."
        raise PriorsError(fact, str(path), "Is it a title? Remove the lines above the one that names the columns.")
    commas = "A decimal comma needs ; or tabs as separator, or quotes around the number."
    problems = [
        Problem(
            f"line {number} has {len(_trimmed(cells))} cells, the header {len(header)}.",
            str(path),
            commas if separator == "," else "Name every column in the first line.",
        )
        for number, cells in body
        if len(_trimmed(cells)) > len(header)
    ]
    if problems:
        raise PriorsError.of(problems)
    rows = tuple((number, dict(zip(header, [*cells, *[""] * len(header)], strict=False))) for number, cells in body)
    return Sheet(path, tuple(name for name in header if name), rows, separator)


def _trimmed(cells: list[Cell]) -> list[Cell]:
    """Cells without the empty ones behind the last."""
    filled = [i for i, cell in enumerate(cells) if cell != ""]
    return cells[: filled[-1] + 1] if filled else []


def read_utf8(path: Path, remedy: str) -> str:
    """A text file's content; raises PriorsError, with the remedy, where it has another encoding."""
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets prepend a byte order mark
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise PriorsError(f"{path.name} is not UTF-8 (line {line}).", str(path.parent), remedy) from error


def _text(path: Path) -> tuple[list[tuple[int, list[Cell]]], str]:
    text = read_utf8(path, "Save it as Excel's 'CSV UTF-8 (comma delimited)', or as .xlsx.")
    first, skipped = text.split("\n", 1)[0].strip(), 0
    if first.lower().startswith("sep=") and len(first) == 5:  # Excel's note to itself
        separator, skipped = first[4], 1
        text = text.partition("\n")[2]
    else:
        unquoted = ("".join(line.split('"')[::2]) for line in text.splitlines())
        header = next((line for line in unquoted if set(line) & set("\t;,")), "")  # a title above it separates nothing
        # a tab decides; "LV, mL;case" has both, and its ; separates
        separator = next((mark for mark in "\t;" if mark in header), ",")
    try:
        lines = csv_lines(text, separator, skipped)
    except ValueError as error:
        raise PriorsError(f"{path.name} {error}", str(path.parent), UNCLOSED) from error
    return [(number, [cell.strip() for cell in cells]) for number, cells in lines], separator


def csv_lines(text: str, separator: str = ",", skipped: int = 0) -> list[tuple[int, list[str]]]:
    """The rows of a text and the lines they end on; raises ValueError where a quote is not closed.

    Args:
        text: Without the lines of its file that were ``skipped``.
        separator: Between cells.
        skipped: How many there were.
    """
    # strict: else such a quote takes the rows behind it into its cell
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        lines.extend((reader.line_num + skipped, cells) for cells in reader)
    except csv.Error as error:
        first = (lines[-1][0] if lines else skipped) + 1
        raise ValueError(f"cannot be read from line {first} on: {error}.") from error
    return lines


def _excel(path: Path) -> list[tuple[int, list[Cell]]]:
    try:
        openpyxl: Any = importlib.import_module("openpyxl")
    except ImportError as error:
        raise PriorsError(
            f"{path.name} needs openpyxl, which is not installed.",
            str(path.parent),
            "Install it with: pip install 'boundseg[xlsx]'. Or save the sheet as CSV (UTF-8).",
        ) from error
    try:
        computed, typed = (_first_sheet(openpyxl, path, data_only) for data_only in (True, False))
    except Exception as error:  # openpyxl raises what zipfile and its XML parser raise, and KeyError
        raise PriorsError(
            f"{path.name} cannot be read as .xlsx: {error}", str(path.parent), "Save it again, or as CSV (UTF-8)."
        ) from error
    return [
        (number, [_cell(*of_cell) for of_cell in zip(*of_row, strict=True)])
        for number, of_row in enumerate(zip(computed, typed, strict=True), start=1)
    ]


def _first_sheet(openpyxl: Any, path: Path, data_only: bool) -> list[Any]:
    """Rows of cells, with what their formulas came to or with the formulas."""
    with path.open("rb") as file:
        book = openpyxl.load_workbook(file, read_only=True, data_only=data_only)
        book.worksheets[0].reset_dimensions()  # some programs write a size that leaves out rows
        rows = list(book.worksheets[0].iter_rows())
        book.close()
    return rows


def _cell(computed: Any, typed: Any) -> Cell:
    value = computed.value
    if value is None and typed.data_type == "f" and computed.data_type != "str":
        return str(typed.value)  # nobody computed the formula, which differs from one that comes to an empty text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return "" if value is None else str(value).strip()
