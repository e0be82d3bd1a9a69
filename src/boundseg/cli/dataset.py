"""The verbs that make a dataset folder: convert, check, weaken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from boundseg.cli import nnunet as to_nnunet
from boundseg.cli.options import Cases, Classes, Folder, Size, named_cases, open_dataset, require
from boundseg.errors import InputError
from boundseg.terminal import Verbosity, out, show_lists, show_table, status


def convert(
    layout: Annotated[
        Literal["acdc", "zenodo-vertebrae", "promise12", "labels", "images", "dicom", "nnunet", "nnunet-splits"],
        typer.Argument(
            help="What was downloaded; images: PNG, TIFF; dicom; labels: label maps that somebody drew; nnunet: a "
            "dataset folder, for nnU-Net."
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            help="The download, the folder of label maps, images or series, the dataset folder, or splits_final.json."
        ),
    ],
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET", help="The folder to be written; for labels and nnunet-splits, one that is there."
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="A class to keep; may be repeated. Default: all."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the patients that are drawn where no split.csv says.")] = None,
    name: Annotated[str, typer.Option(help="For labels: of the label set.")] = "",
    meaning: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="For labels: what was drawn, as 1=LV,2=background (values, or segments of 3D Slicer); 0 is ignore. "
            "For images and dicom: the classes, as 1=tumour,2=stroma; 0 is background.",
        ),
    ] = None,
    files: Annotated[
        str, typer.Option(help="For labels, and masks of images: how files are called, as {case}-label.")
    ] = "",
    masks: Annotated[Path | None, typer.Option(help="For images: the folder of their label maps.")] = None,
    spacing: Annotated[str, typer.Option(help="For images: of pixels, as 0.5um. Default: as the files say.")] = "",
    series: Annotated[str | None, typer.Option(help="For dicom: which one, by number, description or UID.")] = None,
    labels: Annotated[str, typer.Option(help="For nnunet: the label set that becomes labelsTr.")] = "",
    held_out_labels: Annotated[
        str | None, typer.Option(help="For nnunet: of the held-out cases, full for instance. Default: the same.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="For nnunet-splits: which fold. Default: all, as lists.")] = None,
) -> None:
    """Example:  boundseg convert acdc ACDC/training ACDC_LV --target LV

    Somebody's download to a dataset folder, label maps to a label set of one, or a dataset folder to one for nnU-Net.
    """
    require(layout == "images" or not (masks or spacing), f"{layout} takes no --masks or --spacing.", "Leave them out.")
    require(layout == "dicom" or series is None, f"{layout} takes no --series.", "It is of convert dicom.")
    require(layout == "nnunet" or not (labels or held_out_labels), f"{layout} takes no --labels.", "Leave it out.")
    require(layout == "nnunet-splits" or fold is None, f"{layout} takes no --fold.", "Leave it out.")
    if layout in ("images", "dicom"):
        require(not target and not name, f"{layout} takes no --target and no --name.", "Classes are named by --map.")
        if layout == "images":
            told = convert_pictures(source, dataset, meaning or [], masks, files, spacing, seed or 0)
        else:
            require(seed is None and not files, "dicom takes no --seed and no --files.", "Leave them out.")
            told = convert_series(source, dataset, meaning or [], series)
        print_converted(dataset)
        for line in told:
            out.print(line)
        return
    if layout in ("nnunet", "nnunet-splits"):
        own = not (target or seed is not None or name or meaning or files)
        require(own, f"{layout} takes no --target, --seed, --name, --map or --files.", "Leave them out.")
        if layout == "nnunet":
            require(bool(labels), "which label set?", "Add --labels scribble (or full).")
            to_nnunet.convert(open_dataset(source), dataset, labels, held_out_labels)
        else:
            to_nnunet.convert_splits(source, open_dataset(dataset), fold)
        return
    if layout == "labels":
        require(not target and seed is None, "labels take no --target and no --seed.", "Say with --map what is kept.")
        convert_labels(source, dataset, name, meaning or [], files)
        return
    require(
        not (name or meaning or files), f"{layout} takes no --name, --map or --files.", "They are of convert labels."
    )
    require(layout != "acdc" or seed is None, "acdc takes no --seed: nobody is drawn.", "Write a split.csv.")
    from boundseg.data.convert import CONVERTERS

    with status(f"converting {source}") as report:
        split = CONVERTERS[layout](source, dataset, target or (), report, seed or 0)
    print_converted(dataset)
    out.print(split)


def print_converted(dataset: Path) -> None:
    opened = open_dataset(dataset)
    lists = ", ".join(f"{name} {len(opened.cases_of(name))}" for name in opened.splits.lists)
    out.print(f"{dataset}: {len(opened.cases)} cases ({lists}), classes {', '.join(opened.classes) or 'none yet'}")


def convert_pictures(
    folder: Path, dataset: Path, meaning: list[str], masks: Path | None, files: str, spacing: str, seed: int
) -> list[str]:
    """PNG and TIFF to a dataset folder; gives what there is to tell."""
    from boundseg.data.convert.images import CASE, convert_images, parse_classes
    from boundseg.data.picture_io import parse_spacing

    require(bool(meaning), "which classes are there?", 'Add --map "1=tumour,2=stroma": values of masks, and classes.')
    with status(f"converting {folder}") as report:
        done = convert_images(
            folder,
            dataset,
            parse_classes(meaning),
            masks=masks,
            names=files or CASE,
            spacing_mm=parse_spacing(spacing) if spacing else None,
            report=report,
            seed=seed,
        )
    told = [done.split]
    for (by, rows_mm, columns_mm), count in done.spacings.items():
        size = f"{rows_mm:.6g} x {columns_mm:.6g} mm a pixel"
        unknown = "no size of a pixel in the file: taken as 1 mm; give sizes in px, or --spacing"
        told.append(f"{count} images: {f'{size} ({by})' if by else unknown}")
    if done.unmarked:
        told.append("unmarked pixels (0) became background (0=ignore in --map leaves them out)")
    if done.unmasked:
        told.append(f"without a mask: {', '.join(done.unmasked[:4])}{' …' if len(done.unmasked) > 4 else ''}")
    return told


def convert_series(folder: Path, dataset: Path, meaning: list[str], series: str | None) -> list[str]:
    """DICOM to a dataset folder; gives what there is to tell."""
    from boundseg.data.convert.dicom import convert_dicom
    from boundseg.data.convert.images import BACKGROUND, IGNORE, parse_classes

    given = {0: BACKGROUND, **parse_classes(meaning)} if meaning else {}
    classes = {value: name for value, name in given.items() if name != IGNORE}
    names = [name for _, name in sorted(classes.items())][1:]
    in_order = sorted(classes) == list(range(len(classes))) and classes.get(0, BACKGROUND) == BACKGROUND
    require(
        in_order and len({BACKGROUND, *names}) == len(names) + 1,
        "--map: the classes of dicom count up from 1, each with a name of its own.",
        'Give --map "1=LV,2=Myo"; 0 is background.',
    )
    with status(f"converting {folder}") as report:
        split = convert_dicom(folder, dataset, names, series=series, report=report)
    return [split] if names else [split, "labels come later: name the classes in dataset.json, or here with --map"]


def convert_labels(folder: Path, dataset: Path, name: str, meaning: list[str], files: str) -> None:
    """Label maps from a drawing tool: labelsTr_NAME."""
    from boundseg.data.drawings import NAMES, convert_drawings, parse_meaning

    require(bool(name), "the label set needs a name.", "Add --name scribble.")
    require(bool(meaning), "what was drawn with which value?", 'Add --map "1=LV,2=background".')
    opened = open_dataset(dataset)
    with status(f"reading {folder}") as report:
        drawn = convert_drawings(folder, opened, name, parse_meaning(meaning, opened), files or NAMES, report)
    rows = [
        {
            "label": label,
            "labelled voxels": f"{voxels}",
            "share of all voxels": f"{voxels / drawn.total:.3%}",
            "cases": f"{drawn.cases[label]}",
        }
        for label, voxels in drawn.voxels.items()
    ]
    show_table(f"labelsTr_{name}", rows)
    first = drawn.kept[0] if drawn.kept else ""
    kept = f"kept from an earlier call (to take one out, remove {opened.label_path(first, name)})"
    told = {
        "axes brought onto those of the image": drawn.turned,
        "drawings that cover a part of the image, ignore elsewhere": drawn.placed,
        "nothing drawn": drawn.empty,
        "training cases without a drawing": drawn.missing,
        kept: drawn.kept,
        f"drawings of {len(drawn.of_test)} test case(s) passed over": drawn.of_test,
        "folders not looked into": drawn.folders,
        "of --map, held by no drawing": [str(value) for value in drawn.unused],
    }
    show_lists(told)


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
    centre: Annotated[
        Literal["random", "centroid"], typer.Option(help="Of the disc: a random pixel of the mask, or its middle.")
    ] = "random",
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
    options = {"reading": reading} if method == "erosion" else {"radius_px": radius, "centre": centre}
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
