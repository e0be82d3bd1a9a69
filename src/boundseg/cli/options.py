"""Options that several verbs have, and what a verb makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from boundseg.data.dataset import Dataset

Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Classes = Annotated[list[str] | None, typer.Option("--class", help="A class; may be repeated. Default: all.")]
Cases = Annotated[list[str] | None, typer.Option("--cases", help="Lists, patients or cases; may be repeated.")]
Size = Annotated[tuple[int, int] | None, typer.Option("--size", help="Rows and columns of the prepared grid.")]
Weights = Annotated[Literal["best", "last"], typer.Option("--weights", help="Of which epoch.")]


def require(fact: bool, what: str, remedy: str) -> None:
    if not fact:
        from boundseg.errors import ConfigError

        raise ConfigError(what, remedy=remedy)


def open_dataset(folder: Path) -> Dataset:
    from boundseg.data.dataset import Dataset

    return Dataset.open(folder)


def named_cases(dataset: Dataset, names: Sequence[str] | None) -> list[str]:
    """The named cases, or all of ``imagesTr``: what trains and what is held out."""
    if names:
        return list(dict.fromkeys(case for name in names for case in dataset.cases_of(name)))
    return list(dataset.training_cases)


def device_named(name: str) -> str:
    import torch

    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there_are = [device for device, there in here.items() if there]
    require(name in ("auto", *there_are), f"there is no device {name!r} here.", f"Use {' or '.join(there_are)}.")
    if name != "auto":
        return name
    return "cuda" if here["cuda"] else "cpu"
