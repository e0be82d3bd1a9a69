"""Constraints in Lightning's trainings: a module that teaches by them, and a callback that logs what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from boundseg.integrations import batch
from boundseg.losses import Objective

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class BoundedModule(lightning.LightningModule):
    """A network that learns from batches as dictionaries: ``image``, and what :mod:`boundseg.integrations.batch` says.

    Training and validation log the objective, as ``loss`` and ``val_loss``; :class:`LogConstraints` logs what it was
    made of.

    Args:
        network: Images ``[B, C, *space]`` to logits ``[B, K, *space]``.
        objective: Labels and constraints.
        optimizer: Makes the optimiser of the network's parameters, as ``partial(torch.optim.Adam, lr=1e-3)`` does.
        complete: Classes of which crops leave out nothing; see :meth:`boundseg.integrations.batch.Known.of`.
    """

    def __init__(
        self, network: nn.Module, objective: Objective, optimizer: Optimizer, complete: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.make_optimizer = optimizer
        self.complete = tuple(complete)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batchdata: Mapping[str, Any], index: int) -> dict[str, Any]:
        """The loss, and under ``figures`` what it was made of."""
        return self._step(batchdata, "loss")

    def validation_step(self, batchdata: Mapping[str, Any], index: int) -> dict[str, Any]:
        """The same of held-out images."""
        return self._step(batchdata, "val_loss")

    def _step(self, batchdata: Mapping[str, Any], name: str) -> dict[str, Any]:
        images = batchdata["image"]
        found = batch.loss(self.objective, self(images), batchdata, self.complete)
        self.log(name, found.total.detach(), prog_bar=True, batch_size=len(images))
        return {"loss": found.total, "figures": batch.figures(found)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """What ``optimizer`` makes."""
        return self.make_optimizer(self.network.parameters())


class LogConstraints(lightning.Callback):
    """Logs the figures of every constraint: its value, its bounds, the share that is kept, its weighted cost.

    They are logged once an epoch as ``NAME/value`` and so on, under ``val/`` for held-out batches: means over the
    batches that know something of the constraint; see :func:`boundseg.integrations.batch.figures`. It reads
    ``figures`` from what a module's step returns, :class:`BoundedModule`'s or any other's that puts them there.
    """

    def __init__(self) -> None:
        # by name a sum and a count, on the device: nobody waits for it within an epoch
        self.sums: dict[str, tuple[Tensor, Tensor]] = {}

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds a training batch."""
        self._add("", outputs)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a held-out batch."""
        self._add("val/", outputs)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Logs the training batches of an epoch."""
        self._log(pl_module, "")

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Logs the held-out ones."""
        self._log(pl_module, "val/")

    def _add(self, prefix: str, outputs: Any) -> None:
        for name, value in (outputs.get("figures", {}) if isinstance(outputs, Mapping) else {}).items():
            total, count = self.sums.get(prefix + name, (torch.zeros_like(value), torch.zeros_like(value)))
            self.sums[prefix + name] = (total + value.nan_to_num(0.0), count + (~value.isnan()).to(value.dtype))

    def _log(self, module: lightning.LightningModule, prefix: str) -> None:
        of_side = [name for name in self.sums if name.startswith("val/") == bool(prefix)]
        for name in of_side:
            total, count = self.sums.pop(name)
            module.log(name, total / count, sync_dist=True)
