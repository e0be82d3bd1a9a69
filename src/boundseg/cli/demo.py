"""The verb that shows what the others do: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boundseg.cli.options import Device, device_named
from boundseg.terminal import Verbosity, out, say, show_table


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where everything is written.")] = Path("demo"),
    quick: Annotated[bool, typer.Option(help="A few patients and epochs: shows the way, not the result.")] = False,
    seed: Annotated[int, typer.Option(help="Of the networks and the order of slices.")] = 0,
    device: Device = "auto",
) -> None:
    """Example:  boundseg demo --out demo

    Synthetic hearts, four trainings, a table and a picture.
    """
    from boundseg.demo import run_demo

    result = run_demo(folder, quick=quick, seed=seed, device=device_named(device), quiet=Verbosity.quiet, say=say)
    show_table("left ventricle, test patients", result.rows)
    out.print(f"predictions beside references: {result.picture}")
    out.print(f"report: {result.report}")
