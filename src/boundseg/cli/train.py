"""The verb that trains, one config or several side by side: train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boundseg.cli.options import Device, device_named
from boundseg.errors import ConfigError
from boundseg.terminal import Verbosity, err, is_first_process, out, plain, show_table, status

if TYPE_CHECKING:
    from boundseg.training.run import Run
    from boundseg.training.several import Outcome


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
    devices: Annotated[
        int | None,
        typer.Option(min=1, help="How many devices share each step of one training. Default: as a launcher says; 1."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes with as many devices; run this on each.")] = 1,
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
        if (devices or 1) * nodes > 1:
            raise ConfigError(
                f"{len(configs)} configs train side by side, each on a device of its own.",
                "--devices",
                "Leave it out, or train one config at a time.",
            )
        _train_several(configs, folder or Path("runs"), overrides, resume, device_named(device), threads, jobs)
        return
    if threads:
        torch.set_num_threads(threads)
    (config,) = configs
    read, on = Config.load(config, overrides), device_named(device)
    folder = folder or Path("runs") / config.stem
    try:
        with status(f"preparing {read.data.folder}") as report:
            run = run_training(
                read,
                folder,
                resume=resume,
                device=on,
                devices=devices,
                nodes=nodes,
                quiet=Verbosity.quiet,
                report=report,
                prepared=report.done,
            )
    except KeyboardInterrupt as interrupted:  # typer would end without a word
        if is_first_process():
            err.print(f"interrupted {interrupted}".strip())
        raise typer.Exit(130) from None
    if not is_first_process():
        return
    rows = run.metrics()
    minutes, waiting = sum(row["seconds"] for row in rows) / 60, sum(row["waiting"] for row in rows) / len(rows)
    epochs = "1 epoch" if len(rows) == 1 else f"{len(rows)} epochs"
    out.print(f"{epochs}, {minutes:.1f} min, {waiting:.1%} of them waiting for data")
    out.print(f"run folder: {run.folder}  ({_next(run)})")


def _next(run: Run) -> str:
    """The verb that the dataset allows next: to evaluate needs a test case with a mask."""
    from boundseg.data.dataset import Dataset

    dataset = Dataset.open(run.config.data.folder)
    tests = dataset.cases_of("test") if "test" in dataset.splits.lists else []
    if any(dataset.label_path(case).is_file() for case in tests):
        return f"boundseg evaluate {run.folder}"
    scans = dataset.folder / "imagesTs" if tests else "SCANS"
    return f"no test case has a mask: boundseg predict {run.folder} {scans} --out predictions"


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
