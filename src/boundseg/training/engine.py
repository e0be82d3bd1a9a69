"""What the loop turns: a network on its device, in its precision, with its optimiser and its objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from lightning_fabric.plugins import Precision
from torch import Tensor, nn

from boundseg.accumulate import Streaming
from boundseg.data.batches import Batch
from boundseg.data.dataset import Dataset
from boundseg.errors import ConfigError
from boundseg.losses import Objective, Penalties
from boundseg.training.config import Config
from boundseg.training.config.augment import augmentations
from boundseg.training.processes import Processes
from boundseg.training.running import Running
from boundseg.training.state.average import WeightAverage
from boundseg.training.state.session import Session
from boundseg.training.steps import Steps
from boundseg.training.supervision import Teaching


@dataclass(frozen=True)
class Engine:
    """A training made ready.

    Attributes:
        processes: Those that share the training, with devices and precision.
        session: All that changes: the bare network and optimiser, multipliers, averages.
        model: The network as training calls it: compiled where that is asked for, in the precision.
        judged: What is validated, which is never compiled: its batches have the shapes of volumes.
        optimizer: The optimiser as Fabric wraps it.
        objective: What is descended.
        judged_by: What epochs are judged by.
        steps: How epochs are divided.
        augment: What is done to every batch.
        layout: Of images and weights in memory.
    """

    processes: Processes
    session: Session
    model: nn.Module
    judged: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    judged_by: Objective
    steps: Steps
    augment: Sequence[Callable[[Batch], Batch]]
    layout: torch.memory_format

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.processes.fabric.device

    @property
    def scaled(self) -> bool:
        """Whether a gradient scaler is at work: it skips steps by itself, and its factor is in the gradients."""
        return self.processes.fabric.strategy.precision.precision == "16-mixed"

    def logits(self, images: Float[Tensor, "B C *space"]) -> Float[Tensor, "B K *space"]:
        """The network's output, in training.

        Raises:
            ConfigError: The network cannot be compiled here.
        """
        try:
            logits: Tensor = self.model(images.contiguous(memory_format=self.layout))
        except torch._dynamo.exc.TorchDynamoException as error:  # only what is compiled raises it
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConfigError(
                f"the network cannot be compiled on this machine: {reason}",
                "training.compile",
                "Leave it out, or install what is missing (on a CPU, a C++ compiler).",
            ) from error
        return logits.view_as(logits)  # on Fabric's own tensor, gradients of parts may not be asked for


def make_ready(
    config: Config, dataset: Dataset, teaching: Teaching, network: nn.Module, processes: Processes
) -> Engine:
    """Puts a network on its device and builds all that trains it."""
    settings, fabric = config.training, processes.fabric
    layout = _layout(config, fabric.device)
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    bare = _optimizer(network, config)
    model, optimizer = fabric.setup(_compiled(network, config), bare)
    method = config.method.build(teaching.constraints, teaching.train, fabric.device)
    gated_crf = config.regularise.gated_crf_term(len(dataset.labels))
    objective = Objective(dataset.ignore, teaching.constraints, settings.average, gated_crf, method)
    average = None if settings.weight_average is None else WeightAverage(network, settings.weight_average)
    memory = Streaming(sum(map(len, teaching.train)), len(teaching.train)) if config.data.remember else None
    session = Session(network, bare, method, Running(fabric.device), processes, average, memory)
    return Engine(
        processes,
        session,
        model,
        _Judged(session.judged, fabric.strategy.precision),
        optimizer,
        objective,
        # by penalties: of held-out cases there are no multipliers, and a proposal is no yardstick
        replace(objective, method=Penalties()),
        steps_of(config, teaching, dataset.ignore, processes),
        augmentations(settings.augment, dataset.ignore, [name in config.data.complete for name in dataset.labels]),
        layout,
    )


def steps_of(config: Config, teaching: Teaching, ignore: int, processes: Processes) -> Steps:
    """How a config divides epochs into steps."""
    neighbours = any(constraint.descriptor.traits.neighbours for constraint in teaching.constraints)
    return Steps(
        teaching.train,
        config.data.drawn,
        config.training.batch_size,
        teaching.volume_constraints,
        config.data.chunk,
        int(neighbours),
        ignore,
        processes,
    )


class _Judged(nn.Module):
    """A network in the training's precision and no more: each process judges its own cases and waits for nobody."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.network, self._precision = network, precision

    def forward(self, images: Tensor) -> Tensor:
        with self._precision.forward_context():
            logits: Tensor = self.network(images)
        return logits


def _compiled(network: nn.Module, config: Config) -> nn.Module:
    asked = config.training.compile
    if not asked:
        return network
    # volumes have as many slices as they have; slices come in batches of one size, and a smaller one at the end
    dynamic = True if config.data.batch == "volumes" else None
    return cast(nn.Module, torch.compile(network, mode=None if asked is True else asked, dynamic=dynamic))


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
