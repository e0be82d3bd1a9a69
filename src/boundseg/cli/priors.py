"""The verb that writes bounds: priors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from boundseg.cli.options import Cases, Classes, Folder, Size, named_cases, open_dataset, require
from boundseg.terminal import out, show_lists

if TYPE_CHECKING:
    from boundseg.data.prepare import Fit, Grid
    from boundseg.data.priors import Prior


def priors(
    dataset: Folder,
    kind: Annotated[
        Literal["tags", "common", "individual", "volume", "box", "report"],
        typer.Argument(help="What is derived; report: from a table of sizes."),
    ],
    labels: Annotated[str, typer.Option(help="The weak label set that says what is present.")] = "erosion",
    empty: Annotated[
        Literal["unknown", "absent"], typer.Option(help="What a slice without a label of the class means.")
    ] = "unknown",
    patient: Annotated[str | None, typer.Option(help="For common: the annotated patient.")] = None,
    quantity: Annotated[
        str, typer.Option(help="For individual and volume: what is measured, as centroid_x or ratio.")
    ] = "size",
    sheet: Annotated[
        Path | None, typer.Option("--table", help="For report: the spreadsheet (.csv, .tsv, .xlsx).")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", help="For report: a column of sizes or tags, as 'LV (mL)', 'LV (yes/no)'; may be repeated."
        ),
    ] = None,
    case_column: Annotated[str, typer.Option(help="For report: the column of case names.")] = "case",
    set_name: Annotated[
        str | None, typer.Option("--set", help="The set that a config asks for. Default: what is derived.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Share by which bounds are widened. Default: 0.1, of positions, moments and intensities 0."),
    ] = None,
    absolute: Annotated[
        float, typer.Option("--absolute", help="Beside that, in their unit: for individual and volume.")
    ] = 0.0,
    error: Annotated[
        float,
        typer.Option(help="For individual and volume: measure wrongly, each value by at most this share of it."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the errors.")] = 0,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Of the bounds. Default: mm2 for common, px for individual, mL for volume; of other quantities, "
            "their first. For report: of the table, where its columns do not say; tag: yes or no."
        ),
    ] = None,
    cases: Cases = None,
    classes: Classes = None,
    size: Size = None,
    fit: Annotated[
        Literal["pad", "crop", "resize"], typer.Option(help="Of the prepared grid, for grid_px.")
    ] = "resize",
) -> None:
    """Example:  boundseg priors ACDC_LV tags --labels erosion --empty absent

    Bounds from labels or from a table of reports, into priors.csv; running it twice changes nothing.
    """
    if kind == "report":
        require(
            absolute == 0 and error == 0 and quantity == "size",
            "report takes no --absolute, --error or --quantity.",
            "Give --margin.",
        )
        share = 0.1 if margin is None else margin
        require(0 <= share < 1, f"--margin {share:g} is no share.", "Give 0 or more, and less than 1.")
        report(dataset, sheet, columns or [], case_column, set_name or kind, share, unit, cases, classes or [])
        return
    require(
        sheet is None and not columns and case_column == "case",
        f"{kind} takes no --table, --column or --case-column.",
        "Tables are for boundseg priors DATASET report.",
    )
    from boundseg.constraints import quantities
    from boundseg.data import derive
    from boundseg.data import priors as table
    from boundseg.data.misjudged import Misjudged
    from boundseg.data.orientation import few

    opened = open_dataset(dataset)
    require(absolute >= 0, f"--absolute {absolute:g} would narrow the bounds.", "Give 0 or more.")
    found, known = quantities.split(quantity), ", ".join(quantities.names())
    require(found is not None, f"there is no quantity {quantity!r}.", f"The quantities are: {known}.")
    assert found is not None, "required above"
    units, first = found[0].units, found[0].units[0]
    require(
        margin is not None or absolute > 0 or not found[0].signed,
        f"a share of {quantity} is no margin, since its 0 is anywhere.",
        "Give --absolute, in the unit of the bounds.",
    )
    margin = (0.0 if found[0].signed else 0.1) if margin is None else margin
    require(0 <= margin < 1, f"--margin {margin:g} is no share.", "Give 0 or more, and less than 1.")
    require(
        quantity == "size" or kind in ("individual", "volume"),
        f"{kind} says nothing of {quantity}.",
        "Derive individual or volume bounds.",
    )
    require(
        error == 0 or kind in ("individual", "volume"),
        f"{kind} measures nothing.",
        "Derive individual or volume bounds.",
    )
    misjudged = Misjudged(error, seed)
    require(unit is None or unit in units, f"{quantity} has no unit {unit!r}.", f"Use {' or '.join(units)}.")
    require(kind != "common" or patient is not None, "common bounds need one annotated patient.", "Add --patient.")
    require(
        kind in ("individual", "volume", "box") or labels in opened.label_sets,
        f"there is no label set {labels!r}.",
        f"The sets are: {', '.join(opened.label_sets) or 'none'}; boundseg weaken makes one from masks.",
    )
    named, regions = named_cases(opened, cases), list(classes or opened.classes)
    passed_over: list[str] = []
    if kind in ("tags", "common"):
        there, without = derive.labelled(opened, named, labels)
        require(
            bool(there) and (cases is None or not without),
            f"{few(without)}: no labels of the set {labels!r}.",
            "Name others with --cases, leave it out, or draw labels.",
        )
        named, passed_over = there, without
    grid = grid_of(size, fit)
    path = dataset / "priors.csv"
    measured: dict[str, Any] = {
        "quantity": quantity,
        "margin": margin,
        "absolute": absolute,
        "grid": grid,
        "misjudged": misjudged,
    }
    derivations: dict[str, Callable[[], list[Prior]]] = {
        "tags": lambda: derive.tags(opened, named, regions, labels, empty),
        "common": lambda: derive.common(
            opened,
            named,
            regions,
            labels,
            patient or "",
            margin=margin,
            empty=empty,
            unit=unit or "mm2",
            grid=grid,
        ),
        "individual": lambda: derive.individual(opened, named, regions, unit=unit or first, **measured),
        "volume": lambda: derive.volume(
            opened, named, regions, unit=unit or ("mL" if quantity == "size" else first), **measured
        ),
        "box": lambda: derive.box(opened, named, regions),
    }
    old = table.read(path) if path.is_file() else []
    set_name = set_name or kind
    rows = [replace(row, set=set_name) for row in derivations[kind]()]
    written = [f"box_{letter}" for letter in opened.axes[:2]] if kind == "box" else [quantity]
    derived = product([set_name], written, regions, named, [kind == "volume"])
    table.write(path, table.merge(old, rows, derived))
    absent = sum(row.quantity == "size" and row.upper == 0 for row in rows)
    oracle = " (oracle: from full masks)" if kind in ("individual", "volume", "box") else ""
    told = f", {absent} of them say absent" if quantity == "size" and kind != "box" else ""
    out.print(f"{path}: {len(rows)} rows of the set {set_name!r}{oracle}{told}")
    show_lists({f"without labels of the set {labels!r}, passed over": passed_over})


def report(
    dataset: Path,
    sheet: Path | None,
    columns: list[str],
    case_column: str,
    set_name: str,
    margin: float,
    unit: str | None,
    cases: list[str] | None,
    classes: list[str],
) -> None:
    """Bounds of whole volumes from a table of reports."""
    from boundseg.data import priors as table
    from boundseg.data.reported import merged, reported, understand
    from boundseg.data.spreadsheet import read_sheet

    require(sheet is not None, "report needs the table of sizes or tags.", "Add --table volumes.csv.")
    require(bool(columns), "report needs a column of sizes or tags.", "Add --column 'LV (mL)'.")
    assert sheet is not None, "required above"
    opened = open_dataset(dataset)
    read = read_sheet(sheet)
    understood = understand(read, columns, classes, unit, opened)
    named = named_cases(opened, cases) if cases else None
    found = reported(opened, read, understood, case_column=case_column, margin=margin, set=set_name, cases=named)
    path = dataset / "priors.csv"
    old = table.read(path) if path.is_file() else []
    rows, replaced, kept = merged(old, found, read, understood, set_name)
    table.write(path, rows)
    out.print(f"{path}: {len(found.rows)} rows of the set {set_name!r} from {sheet}")
    for column in understood:
        factor = "" if column.factor == 1 else f", one of them {column.factor:g} {column.unit}"
        told = "present or absent" if column.unit == "tag" else f"in {column.unit}{factor}"
        out.print(f"column {column.name!r}: {column.region} {told}")
    if replaced or kept:
        stay = f", {len(kept)} kept where the cell is empty: {', '.join(kept)}" if kept else ""
        out.print(f"of that set before: {replaced} rows replaced{stay}")
    lists = {
        "numbers taken as cases": found.as_numbers,
        "empty": found.empty,
        "training cases not in the table": found.missing,
        "passed over": found.passed_over,
    }
    show_lists(lists)


def grid_of(size: tuple[int, int] | None, fit: Fit) -> Grid | None:
    from boundseg.data.prepare import Grid

    return None if size is None else Grid(size, fit)
