"""The verbs: each parses, calls one function, prints. The only place that prints errors and ends processes."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from boundseg import __version__
from boundseg.errors import InputError, RunError
from boundseg.terminal import Verbosity, err, out, plain, say, show_columns, show_facts, show_table, status

if TYPE_CHECKING:
    from boundseg.data.dataset import Dataset
    from boundseg.data.prepare import Fit, Grid
    from boundseg.data.priors import Prior
    from boundseg.evaluation.tables import Evaluation
    from boundseg.training.several import Outcome

app = typer.Typer(
    help="Segmentation networks from a few labelled pixels and bounds on sizes and shapes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Classes = Annotated[list[str] | None, typer.Option("--class", help="A class; may be repeated. Default: all.")]
Cases = Annotated[list[str] | None, typer.Option("--cases", help="Lists, patients or cases; may be repeated.")]
Size = Annotated[tuple[int, int] | None, typer.Option("--size", help="Rows and columns of the prepared grid.")]
Weights = Annotated[Literal["best", "last"], typer.Option("--weights", help="Of which epoch.")]
Network = Annotated[str, typer.Option(help="enet, residual_unet, or the name of a 2D network of MONAI's.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads. Default: all cores.")]
benchmark = typer.Typer(help="How long a training step takes, and what of it is the method's.", no_args_is_help=True)
app.add_typer(benchmark, name="benchmark")


def main() -> None:
    """The command line's entry: 0 done, 1 our fault, 2 something in the input, 130 interrupted."""
    try:
        app(prog_name="boundseg")
    except InputError as error:
        for problem in error.problems:
            err.print(f"[red]error:[/] {plain(str(problem))}")
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except Exception as error:
        err.print(f"[red]boundseg failed:[/] {type(error).__name__}: {plain(str(error))}")
        err.print(f"  This is a fault of boundseg's; the traceback is in {_log_traceback()}.")
        sys.exit(1)


def _version(asked: bool) -> bool:
    if asked:
        out.print(f"boundseg {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, help="Print the version and end.", is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say only what was asked for.")] = False,
) -> None:
    Verbosity.verbose, Verbosity.quiet = verbose, quiet


@app.command(short_help="Synthetic hearts, four trainings, a table and a picture.")
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

    result = run_demo(folder, quick=quick, seed=seed, device=_device(device), quiet=Verbosity.quiet, say=say)
    show_table("left ventricle, test patients", result.rows)
    out.print(f"predictions beside references: {result.picture}")
    out.print(f"report: {result.report}")


@app.command(short_help="Somebody's download to a dataset folder.")
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
    opened = _open(dataset)
    lists = ", ".join(f"{name} {len(opened.cases_of(name))}" for name in opened.splits.lists)
    out.print(f"{dataset}: {len(opened.cases)} cases ({lists}), classes {', '.join(opened.classes)}")


@app.command(short_help="Every problem of a dataset folder at once.")
def check(dataset: Folder) -> None:
    """Example:  boundseg check ACDC_LV

    Every problem of a dataset folder at once.
    """
    from boundseg.data.check import check as check_dataset

    opened = _open(dataset)
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


@app.command(short_help="Weak labels from full masks: labelsTr_NAME.")
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

    _require(grid == "file" or size is not None, "--grid prepared needs the grid's --size.", "Add --size 256 256.")
    opened = _open(dataset)
    options = {"reading": reading} if method == "erosion" else {"radius_px": radius}
    with status(f"weakening {dataset}") as report:
        statistics = write_label_set(
            opened,
            _named_cases(opened, cases),
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


@app.command(short_help="Bounds from labels, into priors.csv.")
def priors(
    dataset: Folder,
    kind: Annotated[Literal["tags", "common", "individual", "volume", "box"], typer.Argument(help="What is derived.")],
    labels: Annotated[str, typer.Option(help="The weak label set that says what is present.")] = "erosion",
    empty: Annotated[
        Literal["unknown", "absent"], typer.Option(help="What a slice without a label of the class means.")
    ] = "unknown",
    patient: Annotated[str | None, typer.Option(help="For common: the annotated patient.")] = None,
    quantity: Annotated[
        str, typer.Option(help="For individual and volume: what is measured, as centroid_x or ratio.")
    ] = "size",
    margin: Annotated[
        float | None,
        typer.Option(help="Share by which bounds are widened. Default: 0.1, of positions, moments and intensities 0."),
    ] = None,
    absolute: Annotated[
        float, typer.Option("--absolute", help="Beside that, in their unit: for individual and volume.")
    ] = 0.0,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Of the bounds. Default: mm2 for common, px for individual, mL for volume; of other quantities, "
            "their first."
        ),
    ] = None,
    cases: Cases = None,
    classes: Classes = None,
    size: Size = None,
    fit: Annotated[
        Literal["pad", "crop", "resize"], typer.Option(help="Of the prepared grid, for grid_px.")
    ] = "resize",
) -> None:
    """Example:  boundseg priors ACDC_LV tags --labels erosion --empty absent

    Bounds from labels, into priors.csv; running it twice changes nothing.
    """
    from boundseg.constraints import quantities
    from boundseg.data import derive
    from boundseg.data import priors as table

    opened = _open(dataset)
    _require(absolute >= 0, f"--absolute {absolute:g} would narrow the bounds.", "Give 0 or more.")
    found, known = quantities.split(quantity), ", ".join(quantities.names())
    _require(found is not None, f"there is no quantity {quantity!r}.", f"The quantities are: {known}.")
    assert found is not None, "required above"
    units, first = found[0].units, found[0].units[0]
    _require(
        margin is not None or absolute > 0 or not found[0].signed,
        f"a share of {quantity} is no margin, since its 0 is anywhere.",
        "Give --absolute, in the unit of the bounds.",
    )
    margin = (0.0 if found[0].signed else 0.1) if margin is None else margin
    _require(0 <= margin < 1, f"--margin {margin:g} is no share.", "Give 0 or more, and less than 1.")
    _require(
        quantity == "size" or kind in ("individual", "volume"),
        f"{kind} says nothing of {quantity}.",
        "Derive individual or volume bounds.",
    )
    _require(unit is None or unit in units, f"{quantity} has no unit {unit!r}.", f"Use {' or '.join(units)}.")
    _require(kind != "common" or patient is not None, "common bounds need one annotated patient.", "Add --patient.")
    _require(
        kind in ("individual", "volume", "box") or labels in opened.label_sets,
        f"there is no label set {labels!r}.",
        f"The sets are: {', '.join(opened.label_sets) or 'none'}; boundseg weaken makes one from masks.",
    )
    named, regions = _named_cases(opened, cases), list(classes or opened.classes)
    grid = _grid(size, fit)
    path = dataset / "priors.csv"
    derivations: dict[str, Callable[[], list[Prior]]] = {
        "tags": lambda: derive.tags(opened, named, regions, labels, empty),
        "common": lambda: derive.common(
            opened,
            named,
            regions,
            labels,
            patient or "",
            margin=margin,
            empty=empty,
            unit=unit or "mm2",
            grid=grid,
        ),
        "individual": lambda: derive.individual(
            opened, named, regions, quantity=quantity, margin=margin, absolute=absolute, unit=unit or first, grid=grid
        ),
        "volume": lambda: derive.volume(
            opened,
            named,
            regions,
            quantity=quantity,
            margin=margin,
            absolute=absolute,
            unit=unit or ("mL" if quantity == "size" else first),
            grid=grid,
        ),
        "box": lambda: derive.box(opened, named, regions),
    }
    old = table.read(path) if path.is_file() else []
    rows = derivations[kind]()
    written = [f"box_{letter}" for letter in opened.axes[:2]] if kind == "box" else [quantity]
    derived = product([kind], written, regions, named, [kind == "volume"])
    table.write(path, table.merge(old, rows, derived))
    absent = sum(row.quantity == "size" and row.upper == 0 for row in rows)
    oracle = " (oracle: from full masks)" if kind in ("individual", "volume", "box") else ""
    told = f", {absent} of them say absent" if quantity == "size" and kind != "box" else ""
    out.print(f"{path}: {len(rows)} rows of the set {kind!r}{oracle}{told}")


@app.command(short_help="Trains as a config says and leaves a run folder; several side by side.")
def train(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="A YAML file, or several.")],
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="The run folder, runs/NAME by default; of several, the folder of all: runs."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another value, as training.epochs=5; may be repeated."),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the run's last checkpoint; of several, skip those that are finished.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. Default: all cores, which several share.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Of several, how many at once. Default: as many as there are cores; on a GPU, one."),
    ] = None,
) -> None:
    """Example:  boundseg train individual.yaml --set training.epochs=50

    Trains as a config says and leaves a run folder. Several configs train side by side, each in its own process:
    boundseg train individual.yaml tags.yaml --out runs --jobs 2
    """
    import torch

    from boundseg.training.config import Config
    from boundseg.training.loop import train as run_training

    overrides = [*(override or ()), *([] if seed is None else [f"seed={seed}"])]
    if len(configs) > 1:
        _train_several(configs, folder or Path("runs"), overrides, resume, _device(device), threads, jobs)
        return
    if threads:
        torch.set_num_threads(threads)
    (config,) = configs
    read, on = Config.load(config, overrides), _device(device)
    folder = folder or Path("runs") / config.stem
    try:
        with status(f"preparing {read.data.folder}") as report:
            run = run_training(
                read, folder, resume=resume, device=on, quiet=Verbosity.quiet, report=report, prepared=report.done
            )
    except KeyboardInterrupt as interrupted:  # typer would end without a word
        err.print(f"interrupted {interrupted}".strip())
        raise typer.Exit(130) from None
    rows = run.metrics()
    minutes, waiting = sum(row["seconds"] for row in rows) / 60, sum(row["waiting"] for row in rows) / len(rows)
    out.print(f"{len(rows)} epochs, {minutes:.1f} min, {waiting:.1%} of them waiting for data")
    out.print(f"run folder: {run.folder}  (boundseg evaluate {run.folder})")


@app.command(short_help="Volumes in, label maps out, each on its own grid.")
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    images: Annotated[list[Path], typer.Argument(help="Volumes, or folders of volumes.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the label maps go.")],
    probabilities: Annotated[bool, typer.Option(help="Also write each class's probability.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
    which: Weights = "best",
    device: Device = "auto",
) -> None:
    """Example:  boundseg predict runs/individual scans/ --out predictions

    Volumes in, label maps out, each on its own grid.
    """
    from boundseg.training.predict import predict as predict_volumes
    from boundseg.training.run import Run

    with status("predicting") as report:
        done = predict_volumes(
            Run.open(run),
            images,
            folder,
            probabilities=probabilities,
            overwrite=overwrite,
            which=which,
            device=_device(device),
            report=report,
        )
    for note in done.notes:
        out.print(f"note: {note}")
    out.print(f"{folder}: {len(done.written)} label maps")


@app.command(short_help="DSC, distances, volumes and kept bounds on cases with full masks.")
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

    references = None if dataset is None else _open(dataset)
    found: dict[str, Evaluation] = {}
    for name, path in named_apart(judged).items():
        with status(f"evaluating {name}, {cases}") as report:
            if (path / "config.yaml").is_file():
                run, on = Run.open(path), _device(device)
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


@app.command(short_help="One HTML page about a run, or about several side by side.")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders that have been evaluated.")],
    page: Annotated[
        Path | None, typer.Option("--out", help="The page. Default: report.html, in the run's folder if it is one.")
    ] = None,
) -> None:
    """Example:  boundseg report runs/individual runs/tags --out report.html

    One self-contained HTML page: tables, curves, boxes, bounds, slices, the configs' differences.
    """
    from boundseg.report.page import report as write_report

    with status("drawing") as told:
        written = write_report(runs, page or (runs[0] if len(runs) == 1 else Path()) / "report.html", told)
    out.print(f"report: {written}")


@app.command(short_help="What a run, a dataset or a model is, in one screen.")
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

        show_facts(describe_run(Run.open(what)).facts())
    elif what.suffix == ".safetensors" or (what / "state.json").is_file() or (what / "weights.safetensors").is_file():
        from boundseg.training.describe import describe_model

        show_facts(describe_model(what).facts())
    else:
        raise RunError(
            f"{what} is no dataset, run or model." if what.exists() else f"{what} is not there.",
            remedy="A dataset folder holds dataset.json, a run folder config.yaml and environment.json, "
            "a checkpoint weights.safetensors (RUN/checkpoints/best).",
        )


@benchmark.command("step-time", short_help="Table 5 of the paper: a training step by every method.")
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

    _require(path is None or path.suffix in (".csv", ".md"), f"{path} is no table.", "Name a file .csv or .md.")
    with status("timing") as report:
        times = measure(
            network,
            batch or [1],
            size,
            row or (),
            rounds=rounds,
            device=_device(device),
            threads=threads,
            precision=precision,
            seed=seed,
            report=report,
        )
    for title, rows in times.tables().items():
        show_table(title, rows)
    if path:
        _write(path, times.csv() if path.suffix == ".csv" else times.markdown())
        out.print(f"table: {path}")


@benchmark.command(short_help="How the cost of a constraint grows with classes and with the batch.")
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
    _require(path.suffix in known, f"{path} is no picture.", f"Name a file {' or '.join(known)}.")
    with status("timing") as report:
        found = measure(
            network,
            classes or (1, 2, 4, 8, 16),
            batch or (1, 2, 4, 8, 16, 32, 64),
            size,
            rounds=rounds,
            largest_step=largest_step,
            device=_device(device),
            threads=threads,
            seed=seed,
            report=report,
        )
    _write(path.with_suffix(".csv"), found.csv())
    found.draw(path)
    show_table(found.setting, found.table())
    out.print(f"plot: {path}, figures: {path.with_suffix('.csv')}")


def _train_several(
    configs: Sequence[Path],
    folder: Path,
    overrides: Sequence[str],
    resume: bool,
    device: str,
    threads: int | None,
    jobs: int | None,
) -> None:
    from boundseg.training.several import Interrupted, train_several

    try:
        outcomes = train_several(
            configs,
            folder,
            jobs=jobs,
            threads=threads,
            overrides=overrides,
            resume=resume,
            device=device,
            quiet=Verbosity.quiet,
        )
    except Interrupted as interrupted:
        _print_outcomes(interrupted.outcomes)
        err.print(f"interrupted {interrupted}")
        raise typer.Exit(130) from None
    _print_outcomes(outcomes)
    ends = {outcome.state for outcome in outcomes}
    if ends != {"done"}:
        # a fault of ours, or somebody's kill, before the input's
        raise typer.Exit(1 if "failed" in ends else 2 if "refused" in ends else 130)


def _print_outcomes(outcomes: Sequence[Outcome]) -> None:
    show_table("trainings", [outcome.row() for outcome in outcomes])
    for outcome in outcomes:
        if outcome.message:
            err.print(f"[red]{plain(outcome.name)}:[/] {plain(outcome.message)}")
    done = " ".join(str(outcome.folder) for outcome in outcomes if outcome.state == "done")
    if done:
        out.print(f"compare: boundseg evaluate {done}, then boundseg report {done}")


def _print_dataset(folder: Path, regions: Sequence[str], unit: Literal["px", "mm2", "mL"]) -> None:
    from boundseg.data.describe import UNITS, describe

    with status(f"reading {folder}") as report:
        found = describe(_open(folder), regions, report)
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


def _open(folder: Path) -> Dataset:
    from boundseg.data.dataset import Dataset

    return Dataset.open(folder)


def _named_cases(dataset: Dataset, names: Sequence[str] | None) -> list[str]:
    """The named cases, or all of ``imagesTr``: what trains and what is held out."""
    if names:
        return list(dict.fromkeys(case for name in names for case in dataset.cases_of(name)))
    return list(dataset.training_cases)


def _grid(size: tuple[int, int] | None, fit: Fit) -> Grid | None:
    from boundseg.data.prepare import Grid

    return None if size is None else Grid(size, fit)


def _device(name: str) -> str:
    import torch

    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there_are = [device for device, there in here.items() if there]
    _require(name in ("auto", *there_are), f"there is no device {name!r} here.", f"Use {' or '.join(there_are)}.")
    if name != "auto":
        return name
    return "cuda" if here["cuda"] else "cpu"


def _require(fact: bool, what: str, remedy: str) -> None:
    if not fact:
        from boundseg.errors import ConfigError

        raise ConfigError(what, remedy=remedy)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _log_traceback() -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="boundseg-", suffix=".log", delete=False, encoding="utf-8") as file:
        traceback.print_exc(file=file)
    return Path(file.name)
