"""The verbs that use what was trained: predict, evaluate, report."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from boundseg.cli.options import Device, Weights, device_named, open_dataset, require
from boundseg.errors import RunError
from boundseg.terminal import out, show_table, status

if TYPE_CHECKING:
    from boundseg.evaluation.tables import Evaluation
    from boundseg.training.predict import Predicted


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN... IMAGES...", help="A run folder, or several to average; then volumes, or folders of volumes."
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", help="Where the label maps go.")],
    probabilities: Annotated[bool, typer.Option(help="Also write each class's probability.")] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average over reversed rows and columns, too: four times the work.")
    ] = False,
    spacing: Annotated[str, typer.Option(help="Of pictures: of pixels, as 0.5um. Default: as the files say.")] = "",
    largest_component: Annotated[
        list[str] | None,
        typer.Option(help="A class or union that keeps its largest connected part, or all; may be repeated."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
    which: Weights = "best",
    device: Device = "auto",
) -> None:
    """Example:  boundseg predict runs/individual scans/ --out predictions

    Volumes in, label maps out, each on its own grid. Of several runs, probabilities are averaged:
    boundseg predict runs/fold0 runs/fold1 scans/ --out predictions
    """
    from boundseg.data.picture_io import parse_spacing
    from boundseg.training.predict import PartlyPredictedError
    from boundseg.training.predict import predict as predict_volumes
    from boundseg.training.run import Run

    # the first is a run, or the message says why it is none
    count = max(1, sum(1 for _ in takewhile(lambda path: (path / "config.yaml").is_file(), paths)))
    runs, images = [Run.open(path) for path in paths[:count]], paths[count:]
    require(bool(images), "there is nothing to predict.", "Name volumes, or folders of volumes, behind the run.")
    try:
        with status("predicting") as report:
            done = predict_volumes(
                runs,
                images,
                folder,
                probabilities=probabilities,
                mirror=mirror,
                spacing_mm=parse_spacing(spacing) if spacing else None,
                largest_component=largest_component or (),
                overwrite=overwrite,
                which=which,
                device=device_named(device),
                report=report,
            )
    except PartlyPredictedError as partly:
        _print_predicted(partly.done, folder)
        raise
    _print_predicted(done, folder)


def _print_predicted(done: Predicted, folder: Path) -> None:
    for note in done.notes:
        out.print(f"note: {note}")
    where = ", their volumes in volumes.csv" if done.written else ""
    out.print(f"{folder}: {len(done.written)} label maps{where}")


def evaluate(
    judged: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|FOLDER...", help="Run folders, or folders of label maps; several are compared."),
    ],
    dataset: Annotated[
        Path | None,
        typer.Option(help="The dataset with the references. Default: that of the run."),
    ] = None,
    cases: Annotated[str, typer.Option(help="A list, patient or case.")] = "test",
    which: Weights = "best",
    by: Annotated[Literal["size"] | None, typer.Option(help="Also a table by the true size in a slice.")] = None,
    empty: Annotated[
        Literal["nan", "one"],
        typer.Option(help="The DSC where reference and prediction are empty: undefined, or 1 as in the paper."),
    ] = "nan",
    device: Device = "auto",
) -> None:
    """Example:  boundseg evaluate runs/individual runs/tags --cases test --by size

    DSC, HD95, ASSD, volumes and kept bounds on cases with full masks; means with 95 % intervals over patients,
    and paired tests (Wilcoxon on patients, Holm) where several runs are named.
    """
    from boundseg.evaluation.comparable import require_comparable
    from boundseg.evaluation.tables import paired_tests, transposed
    from boundseg.training.evaluate import compare
    from boundseg.training.evaluate import evaluate as evaluate_run
    from boundseg.training.run import Run, named_apart

    references = None if dataset is None else open_dataset(dataset)
    found: dict[str, Evaluation] = {}
    for name, path in named_apart(judged).items():
        with status(f"evaluating {name}, {cases}") as report:
            if (path / "config.yaml").is_file():
                run, on = Run.open(path), device_named(device)
                found[name] = evaluate_run(
                    run, cases, dataset=references, which=which, device=on, empty=empty, report=report
                )
            elif references is not None:
                found[name] = compare(path, references, cases, empty=empty, report=report)
            else:
                raise RunError(f"{path} is no run folder.", remedy="For a folder of label maps, add --dataset.")
    require_comparable(found)
    for name, evaluation in found.items():
        show_table(f"{name}, {cases}: means (95 % intervals over patients)", transposed(evaluation.summary()))
        if rows := evaluation.satisfaction():
            show_table("bounds kept, to one pixel", rows)
        if by == "size":
            show_table("slices by the true size", evaluation.by_size())
    if len(found) > 1:
        show_table("DSC of volumes, Wilcoxon on patients", paired_tests(found))


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders that have been evaluated.")],
    page: Annotated[
        Path | None, typer.Option("--out", help="The page. Default: report.html, in the run's folder if it is one.")
    ] = None,
    megabytes: Annotated[
        float, typer.Option(help="Of the page; cases that have no room are left out of the viewer. 0: no viewer.")
    ] = 15.0,
    cases: Annotated[str | None, typer.Option(help="A list, patient or case: only these are in the viewer.")] = None,
) -> None:
    """Example:  boundseg report runs/individual runs/tags --out report.html

    One self-contained HTML page: tables, curves, boxes, bounds, a viewer of all slices, the configs' differences.
    """
    from boundseg.report.page import report as write_report

    with status("drawing") as told:
        path = page or (runs[0] if len(runs) == 1 else Path()) / "report.html"
        written = write_report(runs, path, told, megabytes=megabytes, cases=cases)
    out.print(f"report: {written}")
