"""Constraints in Lightning's trainings: a module that teaches by them, and a callback that logs what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning
import torch
from torch import Tensor, distributed, nn

from boundseg.constraints import Term
from boundseg.integrations import batch
from boundseg.losses import Lagrangian, Loss, Objective, Penalties, Rows

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class BoundedModule(lightning.LightningModule):
    """A network that learns from batches as dictionaries: ``image``, and what :mod:`boundseg.integrations.batch` says.

    Training and validation log the objective, as ``loss`` and ``val_loss``; :class:`LogConstraints` logs what it was
    made of.

    Of several processes, means are those over the batches of all: which of them an image is on makes no difference.
    Proposals alone are each process's own. The step of the multipliers follows that of the optimiser, also where a
    gradient scaler has skipped that one; values that are not finite raise none.

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
        # of held-out images there are no multipliers, and a proposal is no yardstick
        self.judging = replace(objective, method=Penalties())
        # a module of this one: saved with it, and moved to its device
        self.multipliers = objective.method.multipliers if isinstance(objective.method, Lagrangian) else None
        if self.multipliers is not None:
            # each process raises those of its own images: DDP would overwrite them by those of the first
            names = [f"multipliers.{name}" for name, _ in self.multipliers.named_buffers()]
            self._ddp_params_and_buffers_to_ignore = names
        # of the batches since the last step, each with the values that the network's own step begins from
        self._taught: list[tuple[Mapping[str, Term], Rows]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batchdata: Mapping[str, Any], index: int) -> dict[str, Any]:
        """The loss, and under ``figures`` what it was made of."""
        images = batchdata["image"]
        logits = self(images)
        known = batch.Known.of(batchdata, logits, self.complete)
        found = batch.priced(self.objective, logits, known, images)
        if self.multipliers is not None:
            self._taught.append(({name: term.detach() for name, term in found.terms.items()}, known.rows))
        count = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        if count > 1 and self.objective.method.descends_terms:
            total = self.objective.over_processes(found, known.labels, known.frame, add=_sum, count=count)
            found = replace(found, total=total)
        return self._told(found, "loss", len(images))

    def on_before_batch_transfer(self, batchdata: Any, dataloader_idx: int) -> Any:
        """Looks at the batch before it is on a GPU, where looking would wait for it.

        Raises:
            InputError: Labels lie between classes, or a volume holds a slice twice.
        """
        if isinstance(batchdata, Mapping):
            batch.require_classes(batchdata.get("label"))
            batch.require_once(batchdata)
        return batchdata

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """The optimiser's step, and then that of the multipliers, where there are some."""
        super().optimizer_step(*arguments, **options)
        self._ascend()

    def on_train_batch_end(self, *_: Any) -> None:
        """The multipliers' step where a module of one's own steps by itself."""
        if not self.automatic_optimization:
            self._ascend()

    def _ascend(self) -> None:
        method = self.objective.method
        if not isinstance(method, Lagrangian):
            return
        for terms, rows in self._taught:
            method.ascend(self.objective.constraints, terms, rows)
        self._taught = []
        if self.trainer.world_size > 1:
            # after each step, not each epoch: a checkpoint may be written after any of them
            method.multipliers.merge(_sum)

    def validation_step(self, batchdata: Mapping[str, Any], index: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """The same of held-out images; of several loaders, under the names that Lightning gives them."""
        return self._judged(batchdata, "val_loss")

    def test_step(self, batchdata: Mapping[str, Any], index: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """The same, as ``test_loss``."""
        return self._judged(batchdata, "test_loss")

    def _judged(self, batchdata: Mapping[str, Any], name: str) -> dict[str, Any]:
        images = batchdata["image"]
        return self._told(batch.loss(self.judging, self(images), batchdata, self.complete), name, len(images))

    def _told(self, found: Loss, name: str, size: int) -> dict[str, Any]:
        self.log(name, found.total.detach(), prog_bar=True, batch_size=size, sync_dist=name != "loss")
        return {"loss": found.total, "figures": batch.figures(found)}

    def predict_step(self, batchdata: Mapping[str, Any] | Tensor, *_: Any) -> Tensor:
        """Logits of a batch, or of images alone."""
        logits: Tensor = self(batchdata["image"] if isinstance(batchdata, Mapping) else batchdata)
        return logits

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """What ``optimizer`` makes."""
        return self.make_optimizer(self.network.parameters())


class LogConstraints(lightning.Callback):
    """Logs the figures of every constraint: its value, its bounds, the share that is kept, its weighted cost.

    They are logged once an epoch as ``NAME/value`` and so on, under ``val/`` for held-out batches: means over the
    batches of all processes that know something of the constraint; see :func:`boundseg.integrations.batch.figures`.
    Of several loaders of held-out batches each has its own, ending in ``/loader_0`` and so on (``/dataloader_idx_0`` is
    kept for Lightning's own names). It reads ``figures`` from what a module's step returns, :class:`BoundedModule`'s or
    any other's that puts them there.
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
        several = len(trainer.num_val_batches) > 1
        self._add("val/", outputs, f"/loader_{dataloader_idx}" if several else "")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Logs the training batches of an epoch."""
        self._log(trainer, pl_module, "")

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Logs the held-out ones."""
        self._log(trainer, pl_module, "val/")

    def _add(self, prefix: str, outputs: Any, suffix: str = "") -> None:
        for figure, value in (outputs.get("figures", {}) if isinstance(outputs, Mapping) else {}).items():
            name = f"{prefix}{figure}{suffix}"
            total, count = self.sums.get(name, (torch.zeros_like(value), torch.zeros_like(value)))
            self.sums[name] = (total + value.nan_to_num(0.0), count + (~value.isnan()).to(value.dtype))

    def _log(self, trainer: lightning.Trainer, module: lightning.LightningModule, prefix: str) -> None:
        own = {name: self.sums.pop(name) for name in [*self.sums] if name.startswith("val/") == bool(prefix)}
        nothing = torch.zeros(2, device=module.device)
        for name in _of_all(trainer, sorted(own)):
            sums = torch.stack(own[name]) if name in own else nothing
            total, count = trainer.strategy.reduce(sums, reduce_op="sum")
            # the name says of which loader it is
            module.log(name, total / count, sync_dist=trainer.world_size > 1, add_dataloader_idx=False)


def _sum(own: Tensor) -> Tensor:
    """The sum over all processes."""
    total = own.clone()
    distributed.all_reduce(total)
    return total


def _of_all(trainer: lightning.Trainer, names: list[str]) -> list[str]:
    """The names of all processes: each must take part in every sum."""
    if trainer.world_size == 1:
        return names
    gathered: list[list[str]] = [[] for _ in range(trainer.world_size)]
    distributed.all_gather_object(gathered, names)
    return sorted({name for of_process in gathered for name in of_process})
