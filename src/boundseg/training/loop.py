"""The loop: batch, forward, terms, backward, step, log, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import get_total_norm

from boundseg.data.batches import batches, count_batches
from boundseg.data.dataset import Dataset
from boundseg.errors import RunError
from boundseg.losses import Lagrangian, Objective, Penalties
from boundseg.networks import build, final_bias, require_size
from boundseg.training.augment_config import augmentations
from boundseg.training.config import Config
from boundseg.training.first_bias import expected_shares, start_at
from boundseg.training.gradients import pulls
from boundseg.training.guard import Interruption, Refusals
from boundseg.training.progress import display
from boundseg.training.run import Run
from boundseg.training.running import Running
from boundseg.training.schedules import barrier_steepness, learning_rate
from boundseg.training.session import Session, averaged, require_room
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

    settings = config.training
    # what is refused is refused before minutes of preparation, and leaves no run folder behind
    begun = _continue(folder, config) if resume else None
    if begun is None:
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
    run = begun or Run.create(folder, config, dataset, teaching.patients(dataset))
    fabric = Fabric(accelerator=device, devices=1, precision=settings.precision)
    _start(network, config, teaching, dataset, run)
    layout = _layout(config, fabric.device)
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    bare = _optimizer(network, config)
    model, optimizer = fabric.setup(network, bare)
    method = config.method.build(teaching.constraints, teaching.train, fabric.device)
    gated_crf = config.regularise.gated_crf_term(len(dataset.labels))
    objective = Objective(dataset.ignore, teaching.constraints, settings.average, gated_crf, method)
    # epochs are judged by penalties: of held-out cases there are no multipliers, and a proposal is no yardstick
    judged_by = replace(objective, method=Penalties())
    running, refusals = Running(fabric.device), Refusals(fabric.device)
    session = Session(network, bare, method, running, averaged(network, settings.weight_average))
    if resume:
        session.restore(run)
    progress = session.progress
    steps = count_batches(teaching.train, config.data.drawn, settings.batch_size)
    augment = augmentations(settings.augment, dataset.ignore, [name in config.data.complete for name in dataset.labels])
    judged = model if session.average is None else fabric.setup_module(session.judged)
    # float16 needs a gradient scaler, which skips steps by itself and whose factor is in the gradients
    scaled = settings.precision == "16-mixed"
    watch = tensorboard(run.folder)

    with display(settings.epochs, steps, session.epoch, quiet) as shown, Interruption() as interruption:
        for epoch in range(session.epoch, settings.epochs):
            if settings.stop_after and epoch - progress.best_epoch > settings.stop_after:
                run.log(f"ended after epoch {epoch - 1}: no improvement since epoch {progress.best_epoch}")
                break
            started, waited = time.perf_counter(), 0.0
            lr = learning_rate(settings.schedule, settings.optimizer.lr, epoch / settings.epochs, progress)
            for group in optimizer.param_groups:
                group["lr"] = lr
            model.train()
            session.begin(epoch)
            refusals.clear()
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
            for step in range(session.step, steps):
                asked = time.perf_counter()
                batch = next(drawn).to(fabric.device)
                waited += time.perf_counter() - asked
                for augmentation in augment:
                    batch = augmentation(batch)
                strength = teaching.strengths(settings.warm_up, epoch + step / steps)
                logits = model(batch.images.contiguous(memory_format=layout))
                logits = logits.view_as(logits)  # on Fabric's own tensor, gradients of parts may not be asked for
                loss = objective(
                    logits,
                    batch.labels,
                    batch.bounds,
                    batch.frame,
                    batch.volumes,
                    strength,
                    t,
                    batch.images,
                    batch.rows,
                )
                if step % max(steps // PULLS_AN_EPOCH, 1) == 0:
                    for part, pull in pulls(logits, loss.parts).items():
                        running.add_mean(f"pull: {part}", pull)
                optimizer.zero_grad(set_to_none=True)
                fabric.backward(loss.total)
                gradient = get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
                refusals.refuse(bare, loss.total, loss.total if scaled else gradient, batch)
                optimizer.step()
                if isinstance(method, Lagrangian):
                    method.ascend(teaching.constraints, loss.terms, batch.rows)
                if session.average is not None:
                    session.average.update_parameters(network)
                running.add(loss)
                if not scaled:
                    running.add_mean("gradient", gradient)
                session.step, images = step + 1, images + len(batch.images)
                shown.step()
                if interruption.asked:
                    session.save_step(run)
                    raise KeyboardInterrupt(f"in epoch {epoch}, saved; go on with --resume")
            stepped = time.perf_counter() - started
            _require_finite_steps(refusals, epoch, run)
            row = {"epoch": float(epoch), "lr": lr, **running.means()}
            row |= validate(judged, teaching, judged_by, dataset, fabric.device, t)
            _require_finite(row, run)
            best = progress.update(epoch, _score(row, config), settings.schedule.patience)
            elapsed = time.perf_counter() - started
            row |= {"seconds": elapsed, "waiting": waited / elapsed, "images_per_second": images / stepped}
            run.log_epoch(row)
            watch(row)
            session.save_epoch(run, best)
            shown.epoch(row, best)
    waited_share = np.mean([row["waiting"] for row in run.metrics()])
    run.log(f"waited for data {waited_share:.2%} of the time")
    run.log(f"best epoch {progress.best_epoch} by {config.selection.by}: score {progress.best:.6g}")
    return run


def _start(network: nn.Module, config: Config, teaching: Teaching, dataset: Dataset, run: Run) -> None:
    bias = final_bias(network)
    if config.training.first_bias == "expected" and bias is not None:
        shares = expected_shares(teaching, len(dataset.labels), dataset.ignore)
        if shares:
            start_at(bias, shares)
            run.log(f"starts at the expected shares {[round(share, 5) for share in shares]}")


def _optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    settings = config.training.optimizer
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[settings.name](
        network.parameters(), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )


def _layout(config: Config, device: torch.device) -> torch.memory_format:
    asked = config.training.channels_last
    channels_last = device.type == "cuda" if asked is None else asked
    if not channels_last:
        return torch.contiguous_format
    return torch.channels_last if config.data.grid.axes == 2 else torch.channels_last_3d


def _score(row: dict[str, float], config: Config) -> float:
    """What the selection compares, lower is better; a run without validation keeps its last epoch."""
    if config.selection.by == "dice":
        dice = [v for name, v in row.items() if name.startswith("validation dice: ") and not math.isnan(v)]
        return -sum(dice) / len(dice) if dice else math.inf
    if config.selection.by == "weak" and "validation objective" in row:
        return row["validation objective"]
    return -row["epoch"]


def _require_finite_steps(refusals: Refusals, epoch: int, run: Run) -> None:
    refused = refusals.first()
    if refused is None:
        return
    step, images = refused
    where = ", ".join(images[:4]) + (", …" if len(images) > 4 else "")
    raise RunError(
        f"the loss of epoch {epoch} is not finite, first at its step {step} ({where}).",
        str(run.folder),
        f"{_kept(epoch)}Look at these cases; else start a new run with a lower learning rate or lower weights of the "
        "constraints.",
    )


def _kept(epoch: int) -> str:
    return f"The checkpoint of epoch {epoch - 1} is kept. " if epoch else ""


def _require_finite(row: dict[str, float], run: Run) -> None:
    # the validation's as well: it is the first to see what the epoch's last step did
    if not all(math.isfinite(row.get(name, 0.0)) for name in ("objective", "validation objective")):
        epoch = int(row["epoch"])
        raise RunError(
            f"the loss of epoch {epoch} is not finite.",
            str(run.folder),
            f"{_kept(epoch)}Start a new run with a lower learning rate or lower weights of the constraints.",
        )


def _continue(folder: Path | str, config: Config) -> Run:
    run = Run.open(folder)
    resolved = config.data.model_copy(update={"folder": config.data.folder.resolve()})
    config = config.model_copy(update={"data": resolved})
    ours, theirs = (c.model_dump(mode="json", exclude={"training": {"epochs"}}) for c in (config, run.config))
    if differing := _differing(ours, theirs):
        raise RunError(
            f"the config differs from the one that {folder} began with, in: {', '.join(differing)}.",
            str(run.folder / "config.yaml"),
            "Resume with the same config, or start a new run with --out.",
        )
    run.write_config(config)  # the epochs may be more than before
    return Run.open(folder)


def _differing(ours: Any, theirs: Any, key: str = "") -> list[str]:
    """The keys, such as ``training.optimizer.lr``, at which two configs differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            found
            for name in ours | theirs
            for found in _differing(ours.get(name), theirs.get(name), f"{key}.{name}" if key else name)
        ]
    return [key] if ours != theirs else []
