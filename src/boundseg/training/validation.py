"""What an epoch is worth: the objective and the DSC on held-out cases."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from boundseg.constraints import Leak, Size
from boundseg.data.batches import Batch, made, order
from boundseg.data.dataset import Dataset
from boundseg.inference import slide
from boundseg.losses import Objective, two_channels
from boundseg.training.processes import Processes
from boundseg.training.running import Running, means, merged
from boundseg.training.supervision import Teaching


@torch.inference_mode()
def validate(
    network: nn.Module,
    teaching: Teaching,
    objective: Objective,
    dataset: Dataset,
    processes: Processes,
    t: float,
    chunk: int | tuple[int, int, int] | None = None,
    of_slices: bool = False,
) -> dict[str, float]:
    """Means over the held-out cases, for a row of ``metrics.csv``; empty where there are none.

    The objective is that of training, on weak labels and bounds nobody learned from. Where sizes are bounded, the leak
    says which share of them the argmax does not show. Where a case has a full mask, the DSC of its volume on the
    prepared grid is taken as well. (NaN: reference and prediction are empty, or nothing is predicted of a class.)

    A 3D network sees a volume through a sliding window, and the bounds hold for the whole volume. Several processes
    divide the cases among them.

    Args:
        t: The steepness of log-barriers.
        chunk: How many slices the network sees at once, where training does not see a volume's either; None: all.
        of_slices: Also the mean DSC of single slices, of which one that is empty and predicted empty counts 1: the
            paper's measure.
    """
    if not teaching.validation:
        return {}
    network.eval()
    device = processes.fabric.device
    running = Running(device)
    bounds_sizes = any(isinstance(c.descriptor, Size) for c in teaching.constraints)
    held_out = list(zip(teaching.validation, order(teaching.validation, "volumes", 1), strict=True))
    for case, places in processes.share(held_out):
        batch = made(teaching.validation, "volumes", places, teaching.volume_constraints).to(device)
        if teaching.window is not None:
            logits = slide(network, batch.images, teaching.window)
        elif isinstance(chunk, int):
            logits = torch.cat([network(batch.images[at : at + chunk]) for at in range(0, len(batch.images), chunk)])
        else:
            logits = network(batch.images)
        running.add(objective(logits, batch.labels, batch.bounds, batch.frame, batch.volumes, t=t, images=batch.images))
        of_classes: dict[str, Tensor] = {}
        if bounds_sizes:
            of_classes["leak"] = _leak(logits, batch)
        if "full" in case.prepared.labels:
            target = torch.from_numpy(np.array(case.prepared.labels["full"])).to(device)
            prediction = _predicted(logits, target, len(dataset.labels), dataset.ignore)
            of_classes["dice"] = _dice(prediction, target, len(dataset.labels))
            for name, value in dataset.classes.items() if of_slices else ():
                running.add_each(f"slice dice: {name}", _dice_of_slices(prediction, target, value))
        for what, of_class in of_classes.items():
            for name, value in dataset.classes.items():
                running.add_defined(f"{what}: {name}", of_class[value])
    return {f"validation {name}": mean for name, mean in means(merged(processes.gather(running.state()))).items()}


def _leak(logits: Tensor, batch: Batch) -> Tensor:
    """The leak of each output over a volume, [K]; NaN where there is nothing of it."""
    leak = Leak()
    sums = batch.volumes.add(leak.sums(two_channels(logits).softmax(1), batch.frame))[0]
    return leak.value(sums[None])[0].where(leak.defined(sums[None])[0], torch.nan)


def _predicted(logits: Tensor, target: Tensor, classes: int, ignore: int) -> Tensor:
    """The most probable class of every voxel; ``ignore`` where there is no reference."""
    prediction = (logits > 0).long()[:, 0] if logits.shape[1] == 1 else logits.argmax(1)
    prediction = prediction.where(prediction < classes, 0)  # spare outputs
    return prediction.where(target != ignore, ignore)


def _dice(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """DSC of each class over a volume (slices or one image), [K]."""
    values = torch.arange(classes, device=target.device)
    predicted = torch.stack([(prediction == value).sum() for value in values])
    there = torch.stack([(target == value).sum() for value in values])
    both = torch.stack([((prediction == value) & (target == value)).sum() for value in values])
    return 2 * both / (predicted + there)


def _dice_of_slices(prediction: Tensor, target: Tensor, value: int) -> Tensor:
    """DSC of a class in every slice, [S]; 1 where it is neither there nor predicted."""
    if target.ndim == 4:  # a volume as one image, [1, H, W, S]
        prediction, target = (labels[0].movedim(-1, 0) for labels in (prediction, target))
    predicted, there = (prediction == value).flatten(1), (target == value).flatten(1)
    either = predicted.sum(1) + there.sum(1)
    return torch.where(either > 0, 2 * (predicted & there).sum(1) / either.clamp(min=1), 1)
