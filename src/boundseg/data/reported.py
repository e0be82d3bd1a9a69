"""Bounds of whole volumes, or of pictures, from a table of reports: a size or a tag a case, however it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from boundseg.data.dataset import Dataset, named_twice
from boundseg.data.possible import whole_size
from boundseg.data.priors import Prior, merge
from boundseg.data.spreadsheet import Cell, Sheet, as_text
from boundseg.data.volume_io import Volume
from boundseg.errors import InputError, PriorsError, Problem
from boundseg.nearest import did_you_mean

# spellings to the unit of priors.csv and how much of it one is
_IN_ML = {
    1.0: ("ml", "cc", "ccm", "cm3", "cm^3", "cm³", "milliliter", "millilitre"),
    1e-3: ("mm3", "mm^3", "mm³", "µl", "μl", "ul"),
    1e3: ("l", "liter", "litre", "dm3", "dm^3", "dm³"),
}
_IN_MM2 = {
    1.0: ("mm2", "mm^2", "mm²"),
    1e2: ("cm2", "cm^2", "cm²"),
    1e-6: ("um2", "um^2", "um²", "µm2", "µm^2", "µm²", "μm2", "μm^2", "μm²"),  # µ may be either of two characters
}
SPELLINGS = {spelling: ("mL", of) for of, spellings in _IN_ML.items() for spelling in spellings}
SPELLINGS |= {spelling: ("mm2", of) for of, spellings in _IN_MM2.items() for spelling in spellings}
SPELLINGS |= dict.fromkeys(("px", "pixel", "pixels", "voxel", "voxels"), ("px", 1.0))
SPELLINGS |= {"%": ("fraction", 0.01), "percent": ("fraction", 0.01), "fraction": ("fraction", 1.0)}
# what is only said to be there or not: bounds of 1 px at the least, or of 0
_TAGS = ("tag", "tags", "yes/no", "y/n", "true/false", "present/absent", "ja/nein", "j/n", "oui/non", "1/0", "0/1")
SPELLINGS |= dict.fromkeys(_TAGS, ("tag", 1.0))
PRESENT = ("yes", "y", "true", "present", "ja", "j", "wahr", "vorhanden", "oui", "vrai")
ABSENT = ("no", "n", "false", "absent", "nein", "falsch", "nicht vorhanden", "non", "faux")
USE = "Use mL (or cc, cm3), mm3, L or voxels; of pictures mm2, cm2, um2, pixels or %; or tag, of yes and no."
WRITE = "Write 100, 100.5 or 100,5; <60, >40 or 40-60; or leave it empty. A column of yes and no is one of --unit tag."
TAG = "Write yes or no (ja, nein; present, absent; 1, 0), or leave it empty."
COMPUTE = "Open the table in a spreadsheet program and save it, or write the number."
NOTHING = ("", "-", "–", "?", "n/a", "na", "nan")
_NUMBER = re.compile(r"(?P<side>[<>≤≥]?)\s*(?P<number>-?\d[\d.,]*)")
_RANGE = re.compile(r"(?P<least>\d[\d.,]*)\s*(?:[-–—]|\bbis\b|\bto\b)\s*(?P<most>\d[\d.,]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column of sizes, or of tags: what says whether a class is there.

    Attributes:
        name: As the table's header has it.
        region: The class whose size it is.
        unit: ``mL`` or ``px``; ``mm2`` or ``fraction``, of pictures; ``tag``.
        factor: What one of the table's numbers is in that unit.
    """

    name: str
    region: str
    unit: str
    factor: float


@dataclass
class Reported:
    """What a table told.

    Attributes:
        rows: For priors.csv.
        cases: Of the table, as far as they were asked for.
        empty: Cases whose cells are empty.
        missing: Training cases that are not in the table.
        passed_over: Cases of the table that were not asked for.
        pictures: Those of ``cases`` that have one slice.
        as_numbers: Cells that are numbers, with the case of the same number: ``12345 as 0012345``.
    """

    rows: list[Prior] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    as_numbers: list[str] = field(default_factory=list)


def understand(
    sheet: Sheet, names: Sequence[str], regions: Sequence[str], unit: str | None, dataset: Dataset
) -> list[Column]:
    """The classes and units of columns, from their names (``LV (mL)``, ``LV [mm3]``, ``LV_ml``) or as given.

    Raises:
        PriorsError: A column is not there, its class or its unit is not to be understood or contradicts what was
            given, two columns are of one class; all of it is listed.
    """
    problems: list[Problem] = []
    if regions and len(regions) != len(names):
        fact = f"{len(names)} --column and {len(regions)} --class were given."
        raise PriorsError(fact, remedy="Give one --class for each --column, in their order, or none.")
    if unit is not None and unit.casefold() not in SPELLINGS:
        raise PriorsError(f"{unit!r} is no unit of a size.", remedy=USE)
    columns = []
    for i, name in enumerate(names):
        try:
            sheet.require(name, "--column")
        except PriorsError as error:
            problems += error.problems
            continue
        told, spelt = _class_and_unit(name)
        if not spelt and not unit and _is_of_words(sheet, name):
            spelt = "tag"
        region = regions[i] if regions else told
        unknown = [part for part in region.split("+") if part not in dataset.labels]
        if unknown:
            near = did_you_mean(unknown[0], dataset.labels)
            remedy = f"Say whose size it is with --class: {', '.join(dataset.classes)}, or a union such as A+B."
            problems.append(Problem(f"column {name!r}: {unknown[0]!r} is no class{near}", str(sheet.path), remedy))
        elif twice := named_twice(region):
            problems.append(Problem(f"column {name!r}: {twice}", str(sheet.path), "Name each class once."))
        if spelt and spelt.casefold() not in SPELLINGS:
            fact = f"column {name!r}: {spelt!r} is no unit of a size."
            problems.append(Problem(fact, str(sheet.path), f"{USE} Rename the column."))
        elif spelt and unit and SPELLINGS[spelt.casefold()] != SPELLINGS[unit.casefold()]:
            fact = f"column {name!r} is in {spelt}, --unit says {unit}."
            problems.append(Problem(fact, str(sheet.path), "Leave out --unit, or rename the column."))
        elif not spelt and not unit:
            fact = f"column {name!r} does not say its unit."
            remedy = "Add --unit mL, or call it 'LV (mL)'; of yes and no --unit tag, or 'LV (yes/no)'."
            problems.append(Problem(fact, str(sheet.path), remedy))
        else:
            columns.append(Column(name, region, *SPELLINGS[(spelt or unit or "").casefold()]))
    for i, column in enumerate(columns):
        for other in columns[:i]:
            if {*column.region.split("+")} == {*other.region.split("+")}:
                fact = f"columns {other.name!r} and {column.name!r} are both of {column.region}."
                remedy = "Name one of them, or write the other into a set of its own: --set."
                problems.append(Problem(fact, str(sheet.path), remedy))
    if problems:
        raise PriorsError.of(problems)
    return columns


def reported(
    dataset: Dataset,
    sheet: Sheet,
    columns: Sequence[Column],
    *,
    case_column: str,
    margin: float = 0.1,
    set: str = "report",
    cases: Collection[str] | None = None,
) -> Reported:
    """Rows of ``priors.csv`` for whole volumes: a size and ``margin`` of it to either side.

    Of a picture, or whatever has one slice, areas, shares and pixels are told of that slice. A cell ``<60`` or ``>40``
    gives the one bound that it states, ``40-60`` both, without a margin; an empty cell gives none. A tag gives 1 px at
    the least, or 0. A case is named by itself, or by its patient where that has one case.

    Args:
        dataset: The dataset; the images of the cases are read for their grids.
        sheet: The table.
        columns: Those that hold sizes, see :func:`understand`.
        case_column: The column that names cases.
        margin: Share of the size by which bounds are widened.
        set: Name of the set.
        cases: The cases that are meant; None means all of the table.

    Raises:
        PriorsError: A case is unknown or there twice, a cell is no size, or one that its image cannot hold (larger
            than all of it, or smaller than a voxel: another unit; an area, of a volume); all of it is listed.
    """
    sheet.require(case_column, "--case-column")
    found, problems = Reported(), list[Problem]()
    lines: dict[str, int] = {}
    marks = _decimal_marks(sheet, columns)
    for line, row in sheet.rows:
        where = f"{sheet.path}, line {line}"
        try:
            named = _spelt(row[case_column], dataset)
            case = _case(named, dataset)
        except ValueError as error:
            problems.append(Problem(str(error), where, "Mend the name, or remove the row."))
            continue
        if lines.setdefault(case, line) != line:
            fact = f"{case} has two rows, in line {lines[case]} and here."
            problems.append(Problem(fact, where, "Keep one of them."))
            continue
        if cases is not None and case not in cases:
            found.passed_over.append(case)
            continue
        found.cases.append(case)
        if named != (cell := as_text(row[case_column])):
            found.as_numbers.append(f"{cell} as {named}")
        rows, wrong = _of_case(case, row, columns, marks, margin, set, sheet)
        try:
            image = dataset.read_grid(case)
        except InputError as error:
            problems += error.problems
        else:
            if image.array.shape[dataset.slice_axis] == 1:
                found.pictures.append(case)
                rows = [r if r.unit == "mL" else replace(r, slice=0) for r in rows]
            wrong += _impossible(rows, dataset, image)
        problems += [Problem(f"{case}, {fact}", where, remedy) for fact, remedy in wrong]
        found.rows += rows
        if not rows and not wrong:
            found.empty.append(case)
    wanted = dataset.training_cases if cases is None else cases
    found.missing = [case for case in wanted if case not in lines]
    if not sheet.rows:
        problems.append(Problem("the table has no rows.", str(sheet.path), "Add a row for each case."))
    if problems:
        raise PriorsError.of(problems)
    return found


def _is_of_words(sheet: Sheet, name: str) -> bool:
    """Whether all cells of a column are words for yes and no: 1 and 0 may be sizes."""
    words = {as_text(row[name]).casefold() for _, row in sheet.rows} - {*NOTHING}
    return bool(words) and words <= {*PRESENT, *ABSENT}


def _class_and_unit(name: str) -> tuple[str, str]:
    """What a column's name says: ``LV (mL)``, ``LV [mL]``, ``LV, mL``, ``LV in mL``, ``LV_mL``; else no unit."""
    if bracketed := re.fullmatch(r"(.*?)\s*[(\[]\s*([^)\]]*?)\s*[)\]]", name):
        return bracketed[1], bracketed[2]
    first, _, last = re.sub(r"(,|/|_|\bin\b)", " ", name).strip().rpartition(" ")
    if first and last.casefold() in SPELLINGS:
        return name[: name.rindex(last)].rstrip(" ,/_").removesuffix(" in").strip(), last
    return name, ""


def merged(
    old: Sequence[Prior], found: Reported, sheet: Sheet, columns: Sequence[Column], set: str
) -> tuple[list[Prior], int, list[str]]:
    """The rows of ``priors.csv`` with those of a table, see :func:`boundseg.data.priors.merge`.

    Where a cell is empty, rows of the same set that this table did not write stay: somebody typed them.

    Returns:
        The rows; how many old ones were replaced; the cases of those that stay where the cell is empty.
    """
    told = {(row.region, row.case) for row in found.rows}
    own = tuple(f"{sheet.path.name}, {column.name}: " for column in columns)
    regions = {column.region for column in columns}
    of_set = [
        row
        for row in old
        if (row.set, row.quantity) == (set, "size")
        and row.region in regions
        and row.case in found.cases
        and (row.slice is None or row.case in found.pictures)
    ]
    kept = [row for row in of_set if (row.region, row.case) not in told and not row.source.startswith(own)]
    stay = {(row.region, row.case) for row in kept}
    derived = [
        (set, "size", region, case, of_volume)
        for case in found.cases
        for region in regions
        if (region, case) not in stay
        for of_volume in ([True, False] if case in found.pictures else [True])
    ]
    replaced = sum((row.region, row.case) not in stay for row in of_set)
    return merge(old, found.rows, derived), replaced, list(dict.fromkeys(row.case for row in kept))


def _spelt(cell: Cell, dataset: Dataset) -> str:
    """What names a case: a spreadsheet keeps 0012345 as a number, and shows zeros that its cell does not hold."""
    text = as_text(cell)
    known = [*dataset.cases, *dataset.splits.patients]
    if isinstance(cell, str) or text in known:
        return text
    same = sorted({name for name in known if name.isdecimal() and int(name) == cell})
    return same[0] if len(same) == 1 else text


def _case(text: str, dataset: Dataset) -> str:
    if text in dataset.cases:
        return text
    if text not in dataset.splits.patients:
        known = [*dataset.cases, *dataset.splits.patients]
        raise ValueError(f"{text!r} is no case of this dataset{did_you_mean(text, known)}")
    of = dataset.splits.patients[text]
    if len(of) != 1:
        raise ValueError(f"the patient {text} has {len(of)} cases: {', '.join(of)}. Which one is meant?")
    return of[0]


def _of_case(
    case: str,
    row: Mapping[str, Cell],
    columns: Sequence[Column],
    marks: Mapping[str, str],
    margin: float,
    set: str,
    sheet: Sheet,
) -> tuple[list[Prior], list[tuple[str, str]]]:
    """The rows of a case, and what is wrong with its cells: the fact and the remedy."""
    rows: list[Prior] = []
    wrong: list[tuple[str, str]] = []
    for column in columns:
        cell = row[column.name]
        if as_text(cell).casefold() in NOTHING:
            continue
        source, unit = f"{sheet.path.name}, {column.name}: {as_text(cell)}", column.unit
        try:
            if unit == "tag":
                lower, upper, unit = *_tag(cell), "px"
            else:
                low, high = _size(cell, column, marks[column.name])
                lower, upper = low * column.factor, high * column.factor
                if low == high:  # a size, of which it is not said how exact it is
                    lower, upper = (1 - margin) * lower, (1 + margin) * upper
                    source += f", margin {margin:g}"
        except ValueError as error:
            remedy = TAG if unit == "tag" else COMPUTE if as_text(cell).startswith("=") else WRITE
            wrong.append((f"{column.name!r}: {error}", remedy))
            continue
        rows.append(Prior(case, None, column.region, "size", lower, upper, unit, set, source))
    return rows, wrong


def _tag(cell: Cell) -> tuple[float, float]:
    """Bounds in px of what is there, or not."""
    word = as_text(cell).casefold()
    if word in (*PRESENT, "1"):
        return 1.0, math.inf
    if word in (*ABSENT, "0"):
        return 0.0, 0.0
    raise ValueError(f"{as_text(cell)!r} is neither yes nor no.")


def _size(cell: Cell, column: Column, decimal_mark: str) -> tuple[float, float]:
    """Least and most that a cell states, in the column's unit; the same of one number."""
    if not isinstance(cell, str):
        side, least = "", float(cell)
        most = least
    elif of_range := _RANGE.fullmatch(text := _without_unit(cell, column)):
        side, (least, most) = "", (_number(of_range[end], decimal_mark)[1] for end in ("least", "most"))
    else:
        side, least = _number(text, decimal_mark)
        most = least
    if least < 0:
        raise ValueError(f"{as_text(cell)!r} is below 0.")
    if least > most:
        raise ValueError(f"{as_text(cell)!r} goes from more to less.")
    return (-math.inf if side in ("<", "≤") else least), (math.inf if side in (">", "≥") else most)


def _without_unit(text: str, column: Column) -> str:
    """A cell's text without the unit behind its number, which has to be the column's."""
    for spelling in sorted(SPELLINGS, key=len, reverse=True):
        number = text[: -len(spelling)].rstrip()
        if text.casefold().endswith(spelling) and number[-1:].isdecimal():
            if SPELLINGS[spelling] != (column.unit, column.factor):
                raise ValueError(f"{text!r} is in another unit than its column.")
            return number
    return text


def _number(text: str, decimal_mark: str) -> tuple[str, float]:
    if text.startswith("="):
        raise ValueError(f"the formula {text!r} was saved without what it comes to.")
    match = _NUMBER.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no number.")
    digits = match["number"]
    marks = re.findall(r"[.,]", digits)
    if len(marks) > 1:
        raise ValueError(f"{text!r} is no number with one decimal mark.")
    grouped = re.fullmatch(r"-?[1-9]\d{0,2}[.,]\d{3}", digits)
    if grouped and decimal_mark not in marks:
        small, large = float(digits.replace(",", ".")), int(re.sub(r"[.,]", "", digits))
        raise ValueError(f"{text!r} may be {small:g} or {large}.")
    return match["side"], float(digits.replace(",", "."))


def _decimal_marks(sheet: Sheet, columns: Sequence[Column]) -> dict[str, str]:
    """The decimal mark of each column, as far as it is known; empty where it is not.

    A mark that has not three digits behind it is no separator of thousands. Where there is no such cell, files
    separated by ; come from where commas are decimal marks, and files separated by commas from where points are.
    """
    marks = {}
    for column in columns:
        cells = [cell for _, row in sheet.rows if isinstance(cell := row[column.name], str)]
        shown = {mark for mark in ".," if any(re.search(rf"\d[{mark}](\d{{1,2}}|\d{{4,}})(?!\d)", c) for c in cells)}
        habit = {";": ",", ",": ".", "": "."}.get(sheet.separator, "")
        marks[column.name] = habit if not shown else shown.pop() if len(shown) == 1 else ""
    return marks


def _impossible(rows: Sequence[Prior], dataset: Dataset, image: Volume) -> list[tuple[str, str]]:
    """Sizes that the case's image cannot hold, and those of pictures where it is none."""
    found, slices = [], image.array.shape[dataset.slice_axis]
    for row in rows:
        if slices > 1 and row.unit in ("mm2", "fraction"):
            fact = f"{row.region}: an area, or a share, is told of a picture, and this case has {slices} slices."
            found.append((fact, "Give its volume, or bounds of its slices: rows of priors.csv."))
            continue
        whole = whole_size(row, dataset, image)
        voxel = whole / image.array.size
        sides = [side for side in (row.lower, row.upper) if math.isfinite(side)]
        stated = sum(sides) / len(sides)
        size = f"{row.region}: {stated:.4g} {row.unit}"
        remedy = "Look at the unit of the column, or at the image's spacing."
        if stated > whole:
            found.append((f"{size} is more than the whole image ({whole:.4g} {row.unit}).", remedy))
        elif 0 < stated < voxel:
            found.append((f"{size} is less than one voxel ({voxel:.2g} {row.unit}).", remedy))
    return found
