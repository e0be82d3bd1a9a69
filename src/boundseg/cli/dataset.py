"""The verbs that make a dataset folder: convert, check, weaken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from boundseg.cli.options import Cases, Classes, Folder, Size, named_cases, open_dataset, require
from boundseg.errors import InputError
from boundseg.terminal import Verbosity, out, show_table, status


def convert(
    layout: Annotated[Literal["acdc"], typer.Argument(help="What was downloaded.")],
    source: Annotated[Path, typer.Argument(help="The download.")],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The dataset folder to be written.")],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="A class to keep; may be repeated. Default: all."),
    ] = None,
) -> None:
    """Example:  boundseg convert acdc ACDC/training ACDC_LV --target LV

    Somebody's download to a dataset folder.
    """
    from boundseg.data.convert import CONVERTERS

    with status(f"converting {source}") as report:
        CONVERTERS[layout](source, dataset, target or (), report)
    opened = open_dataset(dataset)
    lists = ", ".join(f"{name} {len(opened.cases_of(name))}" for name in opened.splits.lists)
    out.print(f"{dataset}: {len(opened.cases)} cases ({lists}), classes {', '.join(opened.classes)}")


def check(dataset: Folder) -> None:
    """Example:  boundseg check ACDC_LV

    Every problem of a dataset folder at once.
    """
    from boundseg.data.check import check as check_dataset

    opened = open_dataset(dataset)
    with status(f"checking {dataset}") as report:
        found = check_dataset(opened, report)
    shown = found.notes if Verbosity.verbose else found.notes[:5]
    for note in shown:
        out.print(f"note: {note}")
    if len(shown) < len(found.notes):
        out.print(f"note: … and {len(found.notes) - len(shown)} more (boundseg -v check)")
    for name, (cases, labelled) in found.labelled.items():
        out.print(f"labels {name}: {cases} cases, {labelled} labelled voxels")
    if found.problems:
        raise InputError.of(found.problems)
    out.print(f"{dataset}: {len(opened.cases)} cases, no problem found")


def weaken(
    dataset: Folder,
    method: Annotated[Literal["erosion", "disc"], typer.Option(help="How masks become labels.")] = "erosion",
    name: Annotated[str | None, typer.Option(help="Of the label set. Default: the method's.")] = None,
    cases: Cases = None,
    classes: Classes = None,
    reading: Annotated[
        Literal["published", "text"],
        typer.Option(help="Of the erosion: published (3x3, ten times) or text (10x10, once)."),
    ] = "published",
    radius: Annotated[float, typer.Option(help="Of the disc, in px.")] = 4,
    grid: Annotated[Literal["file", "prepared"], typer.Option(help="Whose pixels kernels and radii count.")] = "file",
    size: Size = None,
    seed: Annotated[int, typer.Option(help="Of the random pixels.")] = 0,
) -> None:
    """Example:  boundseg weaken ACDC_LV --method erosion

    Weak labels from full masks: labelsTr_NAME.
    """
    from boundseg.data.label_sets import write_label_set

    require(grid == "file" or size is not None, "--grid prepared needs the grid's --size.", "Add --size 256 256.")
    opened = open_dataset(dataset)
    options = {"reading": reading} if method == "erosion" else {"radius_px": radius}
    with status(f"weakening {dataset}") as report:
        statistics = write_label_set(
            opened,
            named_cases(opened, cases),
            name or method,
            method,
            classes=classes or (),
            grid_size=size if grid == "prepared" else None,
            seed=seed,
            report=report,
            **options,
        )
    total = statistics.total
    if total is None:
        raise InputError("there is no case to weaken.", str(dataset), "Name some with --cases.")
    rows = [
        {
            "class": class_name,
            "labelled px": f"{total.labelled[value]}",
            "share of all pixels": f"{total.labelled[value] / total.pixels:.3%}",
            "slices with the class": f"{total.slices[value]}",
            "of them unlabelled": f"{total.unlabelled_slices[value]}",
        }
        for class_name, value in statistics.names.items()
    ]
    show_table(f"labelsTr_{name or method}", rows)
    out.print(f"cases without any label: {', '.join(statistics.empty_cases) or 'none'}")
