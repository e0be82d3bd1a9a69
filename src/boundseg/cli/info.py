"""The verb that looks: info."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from boundseg.cli.options import Classes, open_dataset
from boundseg.errors import RunError
from boundseg.terminal import Verbosity, out, show_columns, show_facts, status


def info(
    what: Annotated[Path, typer.Argument(metavar="RUN|DATASET|MODEL", help="A folder, or a file of weights.")],
    classes: Classes = None,
    unit: Annotated[
        Literal["px", "mm2", "mL"], typer.Option(help="Of a dataset's histograms: slices, or volumes in mL.")
    ] = "px",
) -> None:
    """Example:  boundseg info ACDC_LV --class LV --unit mm2

    What a run, a dataset or a model is, in one screen.
    """
    if (what / "dataset.json").is_file():
        _print_dataset(what, classes or (), unit)
    elif (what / "config.yaml").is_file() or (what / "environment.json").is_file():
        from boundseg.training.describe import describe_run
        from boundseg.training.run import Run

        found = describe_run(Run.open(what))
        show_facts(found.facts())
        for title, rows in found.tables().items():
            show_columns(title, rows, most=24)
    elif what.suffix == ".safetensors" or (what / "state.json").is_file() or (what / "weights.safetensors").is_file():
        from boundseg.training.describe import describe_model

        show_facts(describe_model(what).facts())
    else:
        raise RunError(
            f"{what} is no dataset, run or model." if what.exists() else f"{what} is not there.",
            remedy="A dataset folder holds dataset.json, a run folder config.yaml and environment.json, "
            "a checkpoint weights.safetensors (RUN/checkpoints/best).",
        )


def _print_dataset(folder: Path, regions: Sequence[str], unit: Literal["px", "mm2", "mL"]) -> None:
    from boundseg.data.describe import UNITS, describe

    with status(f"reading {folder}") as report:
        found = describe(open_dataset(folder), regions, report)
    show_facts(found.facts())
    # three classes fill a screen; of more, a line each, and pictures of those that are asked for
    many = len(found.sizes) > 3
    if found.sizes:
        show_columns("sizes where shown, from full masks", found.size_rows([unit] if many else UNITS))
        if not many or regions or Verbosity.verbose:
            ascii_only = not out.encoding.lower().startswith("utf")
            out.print()
            for row in found.histograms(unit, plain=ascii_only):
                out.print(row)
        else:
            out.print("histograms: --class NAME, or boundseg -v info")
    else:
        out.print("\nsizes: unknown, since there are no full masks")
    if rows := found.label_rows():
        show_columns("labels", rows)
    else:
        out.print("\nlabels: none")
    if rows := found.known_rows():
        show_columns("bounds in priors.csv", rows, most=12)
    else:
        out.print("\nbounds: none (boundseg priors derives them)")
    show_columns("what each case knows", found.knowledge_rows(names=Verbosity.verbose), most=8)
