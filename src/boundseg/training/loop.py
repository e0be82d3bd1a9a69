"""The loop: batch, forward, terms, backward, step, log, save."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn
from torch.nn.utils import get_total_norm

from boundseg.data.ahead import ahead
from boundseg.data.batches import batches, count_batches
from boundseg.data.dataset import Dataset
from boundseg.losses import Lagrangian
from boundseg.networks import build, final_bias, require_size
from boundseg.training.clock import Clock
from boundseg.training.config import Config
from boundseg.training.deterministic import deterministic
from boundseg.training.engine import Engine, make_ready
from boundseg.training.first_bias import expected_shares, start_at
from boundseg.training.gradients import pulls
from boundseg.training.guard import Interruption, Refusals, require_finite
from boundseg.training.progress import display
from boundseg.training.resume import begun
from boundseg.training.run import Run
from boundseg.training.schedules import barrier_steepness, learning_rate
from boundseg.training.session import require_room
from boundseg.training.supervision import Teaching, teach
from boundseg.training.validation import validate
from boundseg.training.watch import tensorboard

PULLS_AN_EPOCH = 10  # how often the parts' gradients are compared


def train(
    config: Config,
    folder: Path | str,
    *,
    resume: bool = False,
    device: str = "auto",
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
        quiet: Show no progress.
        report: Told of each case that is prepared.
        prepared: Told when all are, before the training's own display begins.

    Raises:
        InputError: Whatever is wrong with the data, the config or the run folder.
    """
    from lightning_fabric import Fabric, seed_everything

    # what is refused is refused before minutes of preparation, and leaves no run folder behind
    old = begun(folder, config) if resume else None
    if old is None:
        Run.require_free(folder)
    dataset = Dataset.open(config.data.folder)
    seed_everything(config.seed, verbose=False)
    outputs = len(dataset.labels) + config.network.spare_outputs
    axes = config.data.grid.axes
    network = build(config.network.name, len(dataset.channels), outputs, axes, **config.network.options)
    if axes == 3:
        require_size(network, config.network.name, len(dataset.channels), config.data.size)
    require_room(folder, network)
    teaching = teach(config, dataset, report)
    prepared()
    run = old or Run.create(folder, config, dataset, teaching.patients(dataset))
    _start(network, config, teaching, dataset, run)
    fabric = Fabric(accelerator=device, devices=1, precision=config.training.precision)
    with deterministic(config.training.deterministic):
        engine = make_ready(config, dataset, teaching, network, fabric)
        if resume:
            engine.session.restore(run)
        _epochs(config, engine, teaching, dataset, run, quiet)
    return run


def _epochs(config: Config, engine: Engine, teaching: Teaching, dataset: Dataset, run: Run, quiet: bool) -> None:
    settings, session, objective = config.training, engine.session, engine.objective
    progress, running, method = session.progress, session.running, session.method
    refusals, clock, watch = Refusals(engine.device), Clock(engine.device), tensorboard(run.folder)
    steps = count_batches(teaching.train, config.data.drawn, settings.batch_size)

    with display(settings.epochs, steps, session.epoch, quiet) as shown, Interruption() as interruption:
        for epoch in range(session.epoch, settings.epochs):
            if settings.stop_after and epoch - progress.best_epoch > settings.stop_after:
                run.log(f"ended after epoch {epoch - 1}: no improvement since epoch {progress.best_epoch}")
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
            drawn = batches(
                teaching.train,
                config.data.drawn,
                settings.batch_size,
                teaching.volume_constraints,
                np.random.default_rng([config.seed, epoch]),
                session.step,
            )
            for step, batch in enumerate(ahead(drawn, engine.device), session.step):
                clock.lap("data")
                for augmentation in engine.augment:
                    batch = augmentation(batch)
                clock.lap("augment")
                logits = engine.logits(batch.images)
                clock.lap("forward")
                loss = objective(
                    logits,
                    batch.labels,
                    batch.bounds,
                    batch.frame,
                    batch.volumes,
                    teaching.strengths(settings.warm_up, epoch + step / steps),
                    t,
                    batch.images,
                    batch.rows,
                )
                if step % max(steps // PULLS_AN_EPOCH, 1) == 0:
                    for part, pull in pulls(logits, loss.parts).items():
                        running.add_mean(f"pull: {part}", pull)
                clock.lap("loss")
                engine.optimizer.zero_grad(set_to_none=True)
                engine.fabric.backward(loss.total)
                clock.lap("backward")
                gradient = get_total_norm([p.grad for p in session.network.parameters() if p.grad is not None])
                refusals.refuse(session.optimizer, loss.total, loss.total if engine.scaled else gradient, batch)
                engine.optimizer.step()
                if isinstance(method, Lagrangian):
                    method.ascend(teaching.constraints, loss.terms, batch.rows)
                if session.average is not None:
                    session.average.update(session.network)
                running.add(loss)
                if not engine.scaled:
                    running.add_mean("gradient", gradient)
                session.step, images = step + 1, images + len(batch.images)
                shown.step()
                clock.lap("step")
                if interruption.asked:
                    session.save_step(run)
                    raise KeyboardInterrupt(f"in epoch {epoch}, saved; go on with --resume")
            stepped = clock.elapsed
            refusals.require_none(epoch, run)
            row = {"epoch": float(epoch), "lr": lr, **running.means()}
            row |= validate(engine.judged, teaching, engine.judged_by, dataset, engine.device, t)
            clock.lap("validation")
            require_finite(row, run)
            best = progress.update(epoch, _score(row, config), settings.schedule.patience)
            phases, elapsed = clock.seconds(), clock.elapsed
            waiting = phases["seconds: data"] / elapsed
            row |= {"seconds": elapsed, "waiting": waiting, "images_per_second": images / stepped, **phases}
            run.log_epoch(row)
            watch(row)
            session.save_epoch(run, best)
            shown.epoch(row, best)
    run.log(f"best epoch {progress.best_epoch} by {config.selection.by}: score {progress.best:.6g}")


def _start(network: nn.Module, config: Config, teaching: Teaching, dataset: Dataset, run: Run) -> None:
    bias = final_bias(network)
    if config.training.first_bias == "expected" and bias is not None:
        shares = expected_shares(teaching, len(dataset.labels), dataset.ignore)
        if shares:
            start_at(bias, shares)
            run.log(f"starts at the expected shares {[round(share, 5) for share in shares]}")


def _score(row: dict[str, float], config: Config) -> float:
    """What the selection compares, lower is better; a run without validation keeps its last epoch."""
    if config.selection.by == "dice":
        dice = [v for name, v in row.items() if name.startswith("validation dice: ") and not math.isnan(v)]
        return -sum(dice) / len(dice) if dice else math.inf
    if config.selection.by == "weak" and "validation objective" in row:
        return row["validation objective"]
    return -row["epoch"]
