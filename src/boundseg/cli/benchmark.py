"""The verbs that measure: benchmark step-time, benchmark growth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from boundseg.cli.options import Device, device_named, require
from boundseg.terminal import out, show_table, status

Network = Annotated[str, typer.Option(help="enet, residual_unet, or the name of a 2D network of MONAI's.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads. Default: all cores.")]


def step_time(
    network: Network = "enet",
    batch: Annotated[list[int] | None, typer.Option(help="Images in a step; may be repeated. Default: 1.")] = None,
    size: Annotated[tuple[int, int], typer.Option(help="Rows and columns of the images.")] = (256, 256),
    row: Annotated[list[str] | None, typer.Option(help="A row; may be repeated. Default: all.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each step is timed; six or more give intervals.")] = 20,
    path: Annotated[Path | None, typer.Option("--out", help="Also write the table: NAME.csv or NAME.md.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    precision: Annotated[
        Literal["32-true", "bf16-mixed"], typer.Option(help="Of the network's forward pass.")
    ] = "32-true",
    seed: Annotated[int, typer.Option(help="Of weights, images and the order of the rows.")] = 0,
) -> None:
    """Example:  boundseg benchmark step-time --batch 1 --batch 16 --threads 1

    Table 5 of the paper: how long a training step takes by every method, in turns, beside the paper's figures.
    """
    from boundseg.benchmark import step_time as measure

    require(path is None or path.suffix in (".csv", ".md"), f"{path} is no table.", "Name a file .csv or .md.")
    with status("timing") as report:
        times = measure(
            network,
            batch or [1],
            size,
            row or (),
            rounds=rounds,
            device=device_named(device),
            threads=threads,
            precision=precision,
            seed=seed,
            report=report,
        )
    for title, rows in times.tables().items():
        show_table(title, rows)
    if path:
        write_text(path, times.csv() if path.suffix == ".csv" else times.markdown())
        out.print(f"table: {path}")


def growth(
    network: Network = "enet",
    classes: Annotated[
        list[int] | None, typer.Option(help="A number of bounded classes; may be repeated. Default: 1, 2, 4, 8, 16.")
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Images in a step; may be repeated. Default: 1, 2, 4, … 64.")
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(help="Rows and columns of the images.")] = (256, 256),
    rounds: Annotated[
        int, typer.Option(help="How often a step is timed at batch 1; a batch of B has its B-th part, or two.")
    ] = 12,
    largest_step: Annotated[
        int, typer.Option(help="The largest batch whose step is timed and not extrapolated: memory.")
    ] = 64,
    path: Annotated[
        Path, typer.Option("--out", help="The plot, a .png, .svg or .pdf; the figures go into a .csv beside it.")
    ] = Path("growth.png"),
    device: Device = "auto",
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of weights, images and the order of what is timed.")] = 0,
) -> None:
    """Example:  boundseg benchmark growth --out growth.png --threads 1

    What the direct loss and exact proposals add to a training step, over the number of bounded classes and the batch.
    """
    from boundseg.benchmark import growth as measure

    known = (".png", ".svg", ".pdf")
    require(path.suffix in known, f"{path} is no picture.", f"Name a file {' or '.join(known)}.")
    with status("timing") as report:
        found = measure(
            network,
            classes or (1, 2, 4, 8, 16),
            batch or (1, 2, 4, 8, 16, 32, 64),
            size,
            rounds=rounds,
            largest_step=largest_step,
            device=device_named(device),
            threads=threads,
            seed=seed,
            report=report,
        )
    write_text(path.with_suffix(".csv"), found.csv())
    found.draw(path)
    show_table(found.setting, found.table())
    out.print(f"plot: {path}, figures: {path.with_suffix('.csv')}")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
