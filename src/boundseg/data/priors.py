"""``priors.csv``: what is known about the cases, one row per fact; read, written, looked up."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from io import StringIO
from itertools import zip_longest
from pathlib import Path

from boundseg.constraints import QUANTITIES, descriptor
from boundseg.constraints.quantities import names, split
from boundseg.data import atomic
from boundseg.data.dataset import Dataset, named_twice
from boundseg.data.spreadsheet import UNCLOSED, csv_lines, read_utf8
from boundseg.errors import PriorsError, Problem
from boundseg.nearest import did_you_mean

BOXES = {"box_x": ("px",), "box_y": ("px",), "box_z": ("px",)}  # first and last line of a bounding box
UNITS = tuple(dict.fromkeys(unit for quantity in QUANTITIES.values() for unit in quantity.units))
SWAP = "Swap them, or widen the margin (boundseg priors --margin 0.2)."


@dataclass(frozen=True)
class Prior:
    """One fact.

    Attributes:
        case: The case it speaks of.
        slice: 0-based along ``slice_axis``; None means the whole volume.
        region: A class name, a union such as ``LV+Myo``, or an ordered pair such as ``LV:Myo``. The column is headed
            ``class``.
        quantity: What is bounded, such as ``size`` or ``centroid_x``; see :mod:`boundseg.constraints.quantities`.
        lower: Lower bound in ``unit``; ``-inf`` where unknown.
        upper: Upper bound in ``unit``; ``inf`` where unknown.
        unit: ``px`` (the file's grid), ``grid_px`` (the prepared grid), ``mm2``, ``mL``, ``mm``, ``fraction``, ``1``
            (of what has none), ``intensity`` (of the file) or its square, ``intensity2``.
        set: The name by which a config asks for it.
        source: Where the number came from, in words.
        others: Cells of columns that are somebody's own, by the columns' names; they stay where rows are rewritten.
    """

    case: str
    slice: int | None
    region: str
    quantity: str
    lower: float
    upper: float
    unit: str
    set: str
    source: str
    others: Mapping[str, str] = field(default_factory=dict, hash=False)


COLUMNS = ("case", "slice", "class", "quantity", "lower", "upper", "unit", "set", "source")


def read(path: Path) -> list[Prior]:
    """All rows of a ``priors.csv``.

    Raises:
        PriorsError: The file is missing, or some rows cannot be read; all of them are listed.
    """
    rows, problems = scan(path)
    if problems:
        raise PriorsError.of(problems)
    return list(rows.values())


def scan(path: Path) -> tuple[dict[int, Prior], list[Problem]]:
    """The rows of a ``priors.csv`` that can be read, by their line, and what is wrong with its rows.

    Raises:
        PriorsError: The file is missing, or no such table.
    """
    if not path.is_file():
        raise PriorsError(f"{path.name} is not there.", str(path.parent), "boundseg priors writes one.")
    rows: dict[int, Prior] = {}
    problems: list[Problem] = []
    text = read_utf8(path, "Save it as Excel's 'CSV UTF-8 (comma delimited)'.")
    # a spreadsheet in a country of decimal commas separates by semicolons
    first = text.partition("\n")[0]
    separator = next((mark for mark in ";\t" if mark in first and "," not in first), ",")
    try:
        (_, header), *body = csv_lines(text, separator) or [(1, [])]
    except ValueError as error:
        raise PriorsError(f"{path.name} {error}", str(path.parent), UNCLOSED) from error
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise PriorsError(f"the columns {missing} are missing.", str(path), f"The header is: {','.join(COLUMNS)}")
    for line, cells in body:
        if not cells:
            continue
        where, row = f"{path}, line {line}", dict(zip_longest(header, cells[: len(header)], fillvalue=""))
        if separator != ",":
            row |= {side: row[side].replace(",", ".") for side in ("lower", "upper")}
        if loose := [cell for name, cell in zip_longest(header, cells, fillvalue="") if cell.strip() and not name]:
            fact = f"{row['case']}, {row['class']}: {loose[0]!r} is in no column."
            problems.append(Problem(fact, where, "Put quotes around a cell that holds a comma."))
            continue
        try:
            prior = _parse(row)
        except ValueError as error:
            problems.append(Problem(f"{row['case']}, {row['class']}: {error}", where, "Mend it."))
            continue
        rows[line] = prior
        problems += [Problem(f"{_named(prior)}: {fact}", where, remedy) for fact, remedy in _impossible(prior)]
    return rows, problems


def write(path: Path, rows: Iterable[Prior]) -> None:
    """Writes rows; unknown sides and whole volumes become empty cells, columns that are somebody's own come last."""
    text, rows = StringIO(), list(rows)
    others = tuple(dict.fromkeys(column for row in rows for column in row.others))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS + others)
    for row in rows:
        cells = [_cell(value) for value in astuple(row)[: len(COLUMNS)]]
        writer.writerow(cells + [row.others.get(column, "") for column in others])
    atomic.write_text(path, text.getvalue())


Key = tuple[str, str, str, str, bool]


def merge(old: Sequence[Prior], new: Sequence[Prior], derived: Iterable[Key] = ()) -> list[Prior]:
    """The old rows, with those that were derived anew replaced where the first of them stood.

    A row was derived anew if set, quantity, class, case and scope (whether it speaks of the volume) agree with a new
    row or are among ``derived``, so that deriving twice changes nothing and hand-written rows of other sets stay.
    Derived bounds have ten digits.

    Args:
        old: Rows as they stand.
        new: Rows that were derived.
        derived: Set, quantity, class, case and scope of whatever was derived, also where nothing came out.
    """

    def key(row: Prior) -> Key:
        return row.set, row.quantity, row.region, row.case, row.slice is None

    anew = {key(row) for row in new} | set(derived)
    stays = [key(row) not in anew for row in old]
    position = stays.index(False) if False in stays else len(old)
    kept = [row for row, stay in zip(old, stays, strict=True) if stay]
    short = [replace(row, lower=_ten_digits(row.lower), upper=_ten_digits(row.upper)) for row in new]
    return [*kept[:position], *short, *kept[position:]]


def problems_with(rows: Mapping[int, Prior], dataset: Dataset, slices: Mapping[str, int], path: Path) -> list[Problem]:
    """What does not fit the dataset: unknown cases, classes and quantities, slices that are not there.

    Args:
        rows: By their line in the file.
        slices: How many slices each case has, for the cases whose images could be read.
    """
    found = []
    for line, row in rows.items():
        where = f"{path}, line {line}"
        if row.case not in dataset.cases:
            near = did_you_mean(row.case, dataset.cases)
            found.append(Problem(f"{row.case!r} is no case of this dataset{near}", where, "Mend the name."))
        elif row.slice is not None and row.case in slices and not 0 <= row.slice < slices[row.case]:
            fact = f"{row.case} has slices 0 to {slices[row.case] - 1}, not {row.slice}."
            found.append(Problem(fact, where, "Count from 0."))
        for part in row.region.replace(":", "+").split("+"):
            if part not in dataset.labels:
                near = did_you_mean(part, dataset.labels)
                found.append(Problem(f"{part!r} is no class{near}", where, "Mend the name."))
        if twice := named_twice(row.region):
            found.append(Problem(f"{row.case}: {twice}", where, "Name each class once."))
        if row.quantity in BOXES:
            continue
        named = split(row.quantity)
        if named is None:
            near = did_you_mean(row.quantity, [*names(), *BOXES])
            found.append(Problem(f"{row.quantity!r} is no quantity{near}", where, "Mend the name."))
        elif row.unit in named[0].units:
            found += [Problem(f"{_named(row)}: {fact}.", where, "Mend it.") for fact in _unmeasurable(row, dataset)]
    return found


def _unmeasurable(row: Prior, dataset: Dataset) -> list[str]:
    """Why a quantity cannot be measured in this dataset's slices or volumes."""
    named, of_volume = split(row.quantity), row.slice is None
    assert named is not None, "the caller has looked"
    quantity, suffix = named
    if of_volume and not quantity.of_volumes:
        return [f"{row.quantity} is measured in slices"]
    if quantity.suffix == "channel" and int(suffix or 0) >= len(dataset.channels):
        return [f"there is no channel {suffix}: images have {len(dataset.channels)}, counted from 0"]
    try:
        descriptor(row.quantity, row.unit, dataset.axes if of_volume else dataset.axes[:2])
    except ValueError as error:
        return [str(error)]
    return []


@dataclass(frozen=True)
class Facts:
    """The rows of one set about one quantity of one region, in one unit and scope.

    Attributes:
        unit: Unit of all bounds.
        of_volume: Whether they speak of whole volumes (else of slices).
        bounds: ``bounds[case][slice]`` (slice is None for volumes): lower and upper.
        sources: Where each came from, by the same keys.
    """

    unit: str
    of_volume: bool
    bounds: dict[str, dict[int | None, tuple[float, float]]] = field(default_factory=dict)
    sources: dict[str, dict[int | None, str]] = field(default_factory=dict)


def look_up(rows: Iterable[Prior], *, set: str, quantity: str, region: str) -> list[Facts]:
    """The facts of a set, one group for each unit and scope; rows about the same thing all hold.

    Raises:
        PriorsError: Two rows about the same thing exclude each other.
    """
    facts: dict[tuple[str, bool], Facts] = {}
    for row in rows:
        if (row.set, row.quantity, row.region) != (set, quantity, region):
            continue
        key = (row.unit, row.slice is None)
        found = facts.setdefault(key, Facts(row.unit, row.slice is None))
        of_case = found.bounds.setdefault(row.case, {})
        lower, upper = of_case.get(row.slice, (-math.inf, math.inf))
        lower, upper = max(lower, row.lower), min(upper, row.upper)
        if lower > upper:
            raise PriorsError(
                f"{_named(row)}: two rows of the set {set!r} exclude each other ({lower:g} to {upper:g} {row.unit}).",
                remedy="Remove one of them from priors.csv.",
            )
        of_case[row.slice] = (lower, upper)
        sources = found.sources.setdefault(row.case, {})
        before = sources.get(row.slice)
        sources[row.slice] = row.source if before in (None, row.source) else f"{before}; {row.source}"
    return list(facts.values())


def _parse(row: Mapping[str, str]) -> Prior:
    try:
        number = int(row["slice"]) if row["slice"].strip() else None
    except ValueError:
        raise ValueError(f"slice = {row['slice']!r} is no whole number.") from None
    lower, upper = _bound(row, "lower", -math.inf), _bound(row, "upper", math.inf)
    texts = {column: row[column].strip() for column in COLUMNS}
    return Prior(
        case=texts["case"],
        slice=number,
        region=texts["class"],
        quantity=texts["quantity"],
        lower=lower,
        upper=upper,
        unit=texts["unit"],
        set=texts["set"],
        source=texts["source"],
        others={column: cell for column, cell in row.items() if column and column not in COLUMNS},
    )


def _bound(row: Mapping[str, str], side: str, unknown: float) -> float:
    try:
        return float(row[side]) if row[side].strip() else unknown
    except ValueError:
        raise ValueError(f"{side} = {row[side]!r} is no number.") from None


def _impossible(row: Prior) -> list[tuple[str, str]]:
    found = []
    if math.isnan(row.lower) or math.isnan(row.upper):
        found.append(("a bound is NaN.", "Leave the cell empty where nothing is known."))
    elif row.lower == math.inf or row.upper == -math.inf:
        found.append(("a bound is infinite on the wrong side.", "Leave the cell empty where nothing is known."))
    elif any(math.isfinite(side) and abs(side) > 1e30 for side in (row.lower, row.upper)):
        found.append(("a bound is too large to be computed with.", "Leave the cell empty where nothing is known."))
    elif row.lower > row.upper:
        fact = f"the lower bound {row.lower:g} {row.unit} exceeds the upper bound {row.upper:g} {row.unit}."
        found.append((fact, SWAP))
    named = split(row.quantity)
    units = BOXES.get(row.quantity) or (named[0].units if named else UNITS)
    if named and not named[0].signed and row.upper < 0:
        found.append((f"a {row.quantity} cannot be at most {row.upper:g}.", "Give an upper bound of 0 or more."))
    if named and row.region.count(":") != named[0].pair:
        two = "two classes, as LV:Myo" if named[0].pair else "one class, or a union as LV+Myo"
        found.append((f"a {row.quantity} is of {two}.", "Mend the class."))
    if row.unit in UNITS and row.unit not in units:
        found.append((f"a {row.quantity} has no unit {row.unit!r}.", f"Use one of {', '.join(units)}."))
    if row.unit not in UNITS:
        found.append((f"{row.unit!r} is no unit{did_you_mean(row.unit, UNITS)}", f"Use one of {', '.join(units)}."))
    return found


def _named(row: Prior) -> str:
    return ", ".join([row.case, *([] if row.slice is None else [f"slice {row.slice}"]), row.region])


def _ten_digits(value: float) -> float:
    # counts of voxels stay whole, and 0.9 * 617 is 555.3
    return float(f"{value:.10g}")


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isinf(value)):
        return ""
    if not isinstance(value, float):
        return value
    # what somebody wrote with more digits keeps them
    short = f"{value:.10g}"
    return short if float(short) == value else repr(value)


assert len(COLUMNS) == len(fields(Prior)) - 1
