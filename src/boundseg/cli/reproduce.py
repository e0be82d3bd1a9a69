"""The verb that runs the paper's tables and figures: reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from boundseg.cli.options import Device, device_named
from boundseg.terminal import Verbosity, err, out, plain, say, show_table

What = Literal[
    "table1", "table2", "table3", "table4", "table5",
    "figure1", "figure2", "figure3", "figure4", "figure5", "figure6", "figure7",
    "penalties", "errors", "patients", "labels", "crf", "hearts",
]  # fmt: skip


def reproduce(
    what: Annotated[What, typer.Argument(help="A table or a figure of Kervadec et al. 2019, or a table beyond it.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="DATASET", help="A dataset folder; of table3 two. Not for table5 and figure1."),
    ] = None,
    scale: Annotated[
        Literal["full", "half", "quick"],
        typer.Option(help="full: the paper's protocol, for a GPU. half, quick: reductions for a CPU."),
    ] = "full",
    preset: Annotated[
        Literal["honest", "published", "text"],
        typer.Option(help="honest: nothing chosen by masks. published: as the paper's code. text: as its text."),
    ] = "honest",
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where all is written. Default: reproduced/PRESET-SCALE.")
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option("--row", help="A row; may be repeated. Default: all of the table.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be repeated. Default: 0.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at once. Default: as many as there are cores; on a GPU, one."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each. Default: its share.")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another value in all rows, as training.epochs=5; may be repeated."),
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="Whose masks give the common bounds, where priors.csv has none.")
    ] = None,
    split: Annotated[
        Literal["patients", "volumes"],
        typer.Option(help="patients: as splits.json says. volumes: as the paper, without a test set."),
    ] = "patients",
    train: Annotated[bool, typer.Option(help="--no-train judges and writes what is there.")] = True,
    device: Device = "auto",
) -> None:
    """Example:  boundseg reproduce table1 --data ACDC_LV --scale quick --jobs 2

    A table or figure of the paper, or one beyond it: runs what is missing, goes on with what was begun, skips what is
    finished, and writes it, with the paper's figures beside ours.
    """
    from boundseg.paper import reproduce as run

    found = run(
        what,
        data or (),
        scale=scale,
        preset=preset,
        out=folder,
        only=row or (),
        seeds=seed or (0,),
        jobs=jobs,
        threads=threads,
        overrides=override or (),
        patient=patient,
        split=split,
        device=device_named(device),
        train=train,
        quiet=Verbosity.quiet,
        report=say,
    )
    show_table(what, found.short())
    for outcome in found.outcomes:
        if outcome.message:
            err.print(f"[red]{plain(outcome.name)}:[/] {plain(outcome.message)}")
    if found.unfinished:
        out.print(f"not finished: {'; '.join(found.unfinished)}  (the same command goes on)")
    out.print(f"page: {found.files['page']}")
    if "picture" in found.files:
        out.print(f"picture: {found.files['picture']}")
    ends = {outcome.state for outcome in found.outcomes}
    if found.interrupted:
        err.print("interrupted; the same command goes on")
        raise typer.Exit(130)
    if ends - {"done"}:
        raise typer.Exit(1 if "failed" in ends else 2 if "refused" in ends else 130)
