"""The loop: batch, forward, terms, backward, step, log, save."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from boundseg.accumulate import Chunk, accumulate
from boundseg.data.batches import Batch
from boundseg.data.dataset import Dataset
from boundseg.losses import Lagrangian
from boundseg.networks import build, final_bias, require_size
from boundseg.training.clock import Clock
from boundseg.training.config import Config
from boundseg.training.deterministic import deterministic
from boundseg.training.divided import require_divisible
from boundseg.training.engine import Engine, make_ready
from boundseg.training.first_bias import expected_shares, start_at
from boundseg.training.gradients import Pulls
from boundseg.training.guard import Interruption, Refusals, found_lost, require_finite
from boundseg.training.parts import not_held, tell
from boundseg.training.processes import Processes, start
from boundseg.training.progress import display
from boundseg.training.run import Run
from boundseg.training.running import means, merged
from boundseg.training.schedules import barrier_steepness, learning_rate
from boundseg.training.start_from import Started, start_from
from boundseg.training.state.resume import begun
from boundseg.training.state.session import require_room
from boundseg.training.supervision import Teaching, teach
from boundseg.training.validation import validate
from boundseg.training.watch import tensorboard

Log = Callable[[str], None]
PULLS_AN_EPOCH = 10  # how often the parts' gradients are compared


def train(
    config: Config,
    folder: Path | str,
    *,
    resume: bool = False,
    device: str = "auto",
    devices: int | None = None,
    nodes: int = 1,
    quiet: bool = False,
    report: Callable[[str], None] = lambda case: None,
    prepared: Callable[[], None] = lambda: None,
) -> Run:
    """Trains as a config says and leaves a run folder.

    Args:
        config: What is learned, from what and how.
        folder: The run folder to be made.
        resume: Go on from the folder's last checkpoint; the config must be the one it began with (it may name more
            epochs).
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: How many of them on this node share each step, each with a process of its own, for which the script is
            run again; left out, what a launcher such as torchrun says, or one.
        nodes: How many nodes take part; on each, the same is called.
        quiet: Show no progress.
        report: Told of each case that is prepared.
        prepared: Told when all are, before the training's own display begins.

    Raises:
        InputError: Whatever is wrong with the data, the config or the run folder.
    """
    from lightning_fabric import seed_everything

    processes = Processes(start(device, devices, nodes, config.training))
    quiet = quiet or not processes.first
    # what is refused is refused before minutes of preparation, and leaves no run folder behind
    old = processes.in_turn(lambda: begun(folder, config) if processes.first else Run.open(folder)) if resume else None
    dataset = Dataset.open(config.data.folder)
    seed_everything(config.seed, verbose=False)
    outputs = len(dataset.labels) + config.network.spare_outputs
    axes = config.data.grid.axes
    network = build(config.network.name, len(dataset.channels), outputs, axes, **config.network.options)
    if axes == 3:
        require_size(network, config.network.name, len(dataset.channels), config.data.window)
    # a run that goes on has its own weights
    asked = None if resume else config.training.start_from
    started = start_from(network, asked) if asked else None

    def ready() -> Teaching:
        if processes.first:
            if old is None:
                Run.require_free(folder)
            require_room(folder, network)
        teaching = teach(config, dataset, report if processes.first else lambda case: None)
        require_divisible(config, teaching.constraints, processes.count)
        return teaching

    teaching = processes.in_turn(ready)
    prepared()
    run = old or processes.in_turn(
        lambda: Run.create(folder, config, dataset, teaching.patients(dataset)) if processes.first else Run.open(folder)
    )
    log = run.log if processes.first else _silent
    _start(network, config, teaching, dataset, log, started)
    tell(not_held(config, teaching), log, quiet)
    with deterministic(config.training.deterministic), found_lost(processes, run):
        engine = make_ready(config, dataset, teaching, network, processes)
        if processes.count > 1:
            torch.manual_seed(config.seed + 2**32 * processes.rank)  # weights are the same on all, what is drawn is not
        if resume:
            engine.session.restore(run)
        _epochs(config, engine, teaching, dataset, run, quiet, log)
    return run


def _epochs(
    config: Config, engine: Engine, teaching: Teaching, dataset: Dataset, run: Run, quiet: bool, log: Log
) -> None:
    settings, session, steps = config.training, engine.session, engine.steps
    progress, running, method, processes = session.progress, session.running, session.method, session.processes
    refusals, clock = Refusals(processes), Clock(engine.device)
    watch = tensorboard(run.folder) if processes.first else lambda row: None
    of_slices = config.selection.by == "slice_dice"

    def augmented(make: Callable[[], Batch]) -> Batch:
        batch = make()
        clock.lap("data")
        for augmentation in engine.augment:
            batch = augmentation(batch)
        clock.lap("augment")
        return batch

    def forward(batch: Chunk) -> Tensor:
        logits = engine.logits(batch.images)
        clock.lap("forward")
        return logits

    def backward(loss: Tensor) -> None:
        clock.lap("loss")
        engine.processes.fabric.backward(loss)
        clock.lap("backward")

    with display(settings.epochs, len(steps), session.epoch, quiet) as shown, Interruption() as interruption:
        for epoch in range(session.epoch, settings.epochs):
            if settings.ends_early(epoch, progress.best_epoch):
                log(f"ended after epoch {epoch - 1}: no improvement since epoch {progress.best_epoch}")
                break
            lr = learning_rate(settings.schedule, settings.optimizer.lr, epoch / settings.epochs, progress)
            for group in engine.optimizer.param_groups:
                group["lr"] = lr
            engine.model.train()
            session.begin(epoch)
            refusals.clear()
            clock.begin()
            images = 0
            t = barrier_steepness(settings.barrier, epoch)
            # the order is a function of seed and epoch alone: a resumed run draws what the unbroken one drew
            rng = np.random.default_rng([config.seed, epoch])
            for number, step in enumerate(steps.of_epoch(rng, session.step), session.step):
                pulls = Pulls()
                watched = number % max(len(steps) // PULLS_AN_EPOCH, 1) == 0
                engine.optimizer.zero_grad(set_to_none=True)
                taken = accumulate(
                    engine.model,
                    engine.objective,
                    [partial(augmented, chunk) for chunk in step.chunks],
                    strength=teaching.strengths(settings.warm_up, epoch + number / len(steps)),
                    t=t,
                    forward=forward,
                    backward=backward,
                    seen=pulls.add if watched else None,
                    memory=session.memory,
                    ranks=processes.ranks(engine.model, step.volumes),
                )
                gradient = get_total_norm([p.grad for p in session.network.parameters() if p.grad is not None])
                loss = taken.loss
                refusals.refuse(session.optimizer, loss.total, loss.total if engine.scaled else gradient, step.images)
                engine.optimizer.step()
                if isinstance(method, Lagrangian):
                    method.ascend(teaching.constraints, loss.terms, taken.rows)
                if session.average is not None:
                    session.average.update(session.network)
                running.add(loss)
                for part, pull in pulls.norms(processes).items():
                    running.add_mean(f"pull: {part}", pull)
                if not engine.scaled:
                    running.add_mean("gradient", gradient)
                session.step, images = number + 1, images + step.count
                shown.step()
                clock.lap("step")
                if processes.agree(interruption.asked, number, len(steps)):
                    session.save_step(run)
                    raise KeyboardInterrupt(f"in epoch {epoch}, saved; go on with --resume")
            stepped = clock.elapsed
            refusals.require_none(epoch, run)
            session.average_statistics()
            row = {"epoch": float(epoch), "lr": lr, **means(merged(processes.gather(running.state())))}
            if config.selection.due(epoch, settings.epochs):
                row |= validate(
                    engine.judged, teaching, engine.judged_by, dataset, processes, t, steps.chunk, of_slices
                )
            clock.lap("validation")
            require_finite(row, run)
            best = progress.update(epoch, _score(row, config, teaching), settings.schedule)
            phases, elapsed = clock.seconds(), clock.elapsed
            waiting = phases["seconds: data"] / elapsed
            row |= {"seconds": elapsed, "waiting": waiting, "images_per_second": images / stepped, **phases}
            if processes.first:
                run.log_epoch(row)
            watch(row)
            session.save_epoch(run, best)
            shown.epoch(row, best)
    log(f"best epoch {progress.best_epoch} by {config.selection.by}: score {progress.best:.6g}")


def _start(
    network: nn.Module, config: Config, teaching: Teaching, dataset: Dataset, log: Log, started: Started | None
) -> None:
    bias = final_bias(network)
    if started:
        log(str(started))
        taken = [parameter for name, parameter in network.named_parameters() if name in started.taken]
        if any(parameter is bias for parameter in taken):
            return  # it knows the shares already
    if config.training.first_bias == "expected" and bias is not None:
        shares = expected_shares(teaching, len(dataset.labels), dataset.ignore)
        if shares:
            start_at(bias, shares)
            log(f"starts at the expected shares {[round(share, 5) for share in shares]}")


def _score(row: dict[str, float], config: Config, teaching: Teaching) -> float:
    """What the selection compares, lower is better; NaN: the epoch was not validated.

    A run without held-out cases keeps its last epoch.
    """
    if config.selection.by == "last" or not teaching.validation:
        return -row["epoch"]
    if not config.selection.due(int(row["epoch"]), config.training.epochs):
        return math.nan
    by_masks = config.selection.by_masks
    if by_masks is None:
        return row["validation objective"]
    dice = [v for name, v in row.items() if name.startswith(by_masks) and not math.isnan(v)]
    return -sum(dice) / len(dice) if dice else math.inf


def _silent(text: str) -> None:
    """Of all processes, one writes."""
