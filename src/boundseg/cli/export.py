"""The verb that hands a network on: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boundseg.cli.options import Weights
from boundseg.terminal import out, status


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to be written, .onnx.")],
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists.")] = False,
    which: Weights = "best",
) -> None:
    """Example:  boundseg export runs/individual individual.onnx

    The network as ONNX, with what it was trained on in the file's metadata; ONNX Runtime checks it first.
    """
    from boundseg.training.export import export as export_network
    from boundseg.training.run import Run

    with status("exporting"):
        apart = export_network(Run.open(run), file, which, overwrite=overwrite)
    out.print(f"{file}: logits as the network's, to {apart:.1e}")
