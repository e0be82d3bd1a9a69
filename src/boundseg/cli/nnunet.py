"""The verb for people who train with nnU-Net: nnunet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boundseg.terminal import out, show_lists, show_table, status

if TYPE_CHECKING:
    from boundseg.data.dataset import Dataset

PASSED_ON = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
Theirs = Annotated[list[str] | None, typer.Argument(metavar="...", help="nnU-Net's.")]

nnunet = typer.Typer(
    help="Example:  boundseg nnunet train 27 2d 0 -device cpu\n\nnnU-Net's commands, with bounds: docs/nnunet.md.",
    no_args_is_help=True,
)


@nnunet.command(context_settings=PASSED_ON, short_help="nnUNetv2_train, with bounds.")
def train(arguments: Theirs = None) -> None:
    """Example:  boundseg nnunet train 27 2d 0 -device cpu

    nnUNetv2_train with the same arguments; -tr is nnUNetTrainerBoundseg unless it is given. -h shows nnU-Net's help.
    """
    from boundseg.integrations.nnunet import entry

    entry.train(arguments or [])


@nnunet.command(context_settings=PASSED_ON, short_help="nnUNetv2_predict, of such a training.")
def predict(arguments: Theirs = None) -> None:
    """Example:  boundseg nnunet predict -i scans -o predictions -d 27 -c 2d -f 0 -device cpu

    nnUNetv2_predict with the same arguments; -tr is nnUNetTrainerBoundseg unless it is given. -h shows nnU-Net's help.
    """
    from boundseg.integrations.nnunet import entry

    entry.predict(arguments or [])


@nnunet.command(short_help="The folder for nnU-Net's variable nnUNet_extTrainer.")
def folder() -> None:
    """Example:  export nnUNet_extTrainer=$(boundseg nnunet folder)

    The folder in which nnU-Net's own commands find nnUNetTrainerBoundseg.
    """
    from boundseg.integrations.nnunet.entry import FOLDER

    typer.echo(FOLDER)


@nnunet.command(short_help="Which bounds predicted label maps keep.")
def bounds(
    predictions: Annotated[Path, typer.Argument(help="Label maps, such as those of nnUNetv2_predict.")],
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder in nnUNet_raw.")],
    name: Annotated[str, typer.Option(help="NAME of boundseg_NAME.yaml.")] = "",
    table: Annotated[Path | None, typer.Option("--out", help="A CSV with a row for each bound.")] = None,
) -> None:
    """Example:  boundseg nnunet bounds predictions nnUNet_raw/Dataset027_LV

    Which bounds predicted label maps keep, whichever trainer taught the network.
    """
    from boundseg.integrations.nnunet import judged

    rows = judged.judge_folder(predictions, dataset, name)
    if table is not None:
        judged.write(table, rows)
    shown = [
        {"constraint": asked, "bounds": f"{count}", "kept": f"{kept / count:.1%}", "missed by, mean": f"{missed:.4g}"}
        for asked, (count, kept, missed) in judged.summary(rows).items()
    ]
    show_table(str(predictions), shown)


def convert(source: Dataset, destination: Path, labels: str, held_out: str | None) -> None:
    """A folder for nnUNet_raw from a dataset folder."""
    from boundseg.data.convert.nnunet import SPLITS_FINAL, convert_nnunet, write_splits_final

    with status(f"writing {destination}") as report:
        written = convert_nnunet(source, destination, labels, held_out, report)
    out.print(
        f"{destination}: {len(written.train)} cases train, {len(written.held_out)} are held out, "
        f"{len(written.test)} test"
    )
    show_lists({"ignore everywhere": written.unlabelled})
    preprocessed = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112  # nnU-Net spells it so
    if preprocessed:
        place = Path(preprocessed) / destination.name / SPLITS_FINAL
        write_splits_final(place, [(written.train, written.held_out)])
        out.print(f"fold 0: {place}")
    else:
        out.print(f"fold 0: copy {SPLITS_FINAL} to nnUNet_preprocessed/{destination.name}/ before you train")


def convert_splits(path: Path, dataset: Dataset, fold: int | None) -> None:
    """A fold of nnU-Net's, or all, into splits.json."""
    from boundseg.data.convert.nnunet import FOLD_LIST, splits_from_nnunet

    splits = splits_from_nnunet(dataset, path, fold)
    lists = ", ".join(f"{name} {len(splits.cases(name))}" for name in ("train", "validation", "test"))
    out.print(f"{dataset.folder / 'splits.json'}: {lists}")
    if fold is None:
        show_lists({"folds": [name for name in splits.lists if FOLD_LIST.fullmatch(name)]})
