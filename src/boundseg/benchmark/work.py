"""One training step, and its loss alone, of any method on one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from boundseg.benchmark.blobs import IGNORE, blobs, pressing_bounds
from boundseg.constraints import Bounds, Constraint, Multipliers, Size
from boundseg.errors import ConfigError
from boundseg.losses import Lagrangian, Loss, Method, Objective, Penalties, Rows
from boundseg.networks import build

Precision = Literal["32-true", "bf16-mixed"]
SIZES = "size"  # the name of the only constraint


class Work:
    """A network, its optimiser and a batch: the same for every method that is timed on them.

    Args:
        network: Its name, see :func:`boundseg.networks.build`.
        batch: Images.
        classes: Foreground classes, each of them bounded; the network has one output more.
        size: Rows and columns.
        device: Where.
        precision: Of the network's forward pass; losses take float32.
        seed: Of the weights and the images.
        chunk: How many images the network sees at once where only its logits are wanted. Default: all.

    Raises:
        ConfigError: No such network, or it takes no images of this size.
    """

    def __init__(
        self,
        network: str,
        batch: int,
        classes: int,
        size: tuple[int, int],
        device: torch.device,
        precision: Precision = "32-true",
        seed: int = 0,
        chunk: int | None = None,
    ) -> None:
        self.device, self.classes, self._half = device, classes, precision == "bf16-mixed"
        torch.manual_seed(seed)
        self.network = build(network, 1, classes + 1).to(device).train()
        # a learning rate of 0 does all of Adam's arithmetic and moves nothing: the thousandth step is the first again,
        # and no row meets sizes that another has changed
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.0, fused=True)
        self.batch = blobs(batch, classes, size, seed).to(device)
        self.logits = self._fresh_logits(network, chunk or batch)
        probs = self.logits.float().softmax(1)
        self.bounds = {sides: pressing_bounds(probs, sides) for sides in (1, 2)}

    def _fresh_logits(self, name: str, chunk: int) -> torch.Tensor:
        images = self.batch.images
        rows, columns = images.shape[2:]
        remedy = "Choose another --size: most networks take multiples of 32, enet and residual_unet almost any."
        try:
            with torch.no_grad():
                logits = torch.cat([self._forward(part) for part in torch.split(images, chunk)])
        except (RuntimeError, ValueError) as error:
            told = str(error).partition("\n")[0]
            raise ConfigError(
                f"the network {name} fails on a batch of {len(images)} x {rows} x {columns}: {told}", remedy=remedy
            ) from error
        if logits.shape != (len(images), self.classes + 1, rows, columns):
            raise ConfigError(
                f"the network {name} answers images of {rows} x {columns} by {list(logits.shape[1:])}.", remedy=remedy
            )
        return logits

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            logits: torch.Tensor = self.network(images)
            return logits

    def step(self, method: Method | None = None, sides: int = 0, full: bool = False) -> Callable[[], None]:
        """A whole training step.

        Args:
            method: How the constraints teach; None for cross-entropy alone.
            sides: 1 for upper bounds, 2 for both; 0 asks nothing.
            full: Whether every pixel is labelled.
        """
        loss_of, ascend = self._objective(method, sides, full)

        def run() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            loss = loss_of(self._forward(self.batch.images))
            torch.autograd.backward(loss.total)
            self.optimizer.step()
            ascend(loss)

        return run

    def loss(self, method: Method | None = None, sides: int = 0, full: bool = False) -> Callable[[], None]:
        """What of a step is the loss: from the logits to their gradient, ascents and projections included.

        Args:
            method: As in :meth:`step`, as are the others.
        """
        loss_of, ascend = self._objective(method, sides, full)

        def run() -> None:
            loss = loss_of(self.logits.detach().requires_grad_())
            torch.autograd.backward(loss.total)
            ascend(loss)

        return run

    def _objective(
        self, method: Method | None, sides: int, full: bool
    ) -> tuple[Callable[[torch.Tensor], Loss], Callable[[Loss], None]]:
        regions = tuple((k,) for k in range(1, self.classes + 1))
        objective = Objective(IGNORE, [Constraint(SIZES, Size(), regions)], method=method or Penalties())
        labels = self.batch.masks if full else self.batch.seeds
        bounds: dict[str, Bounds] = {SIZES: self.bounds[sides]} if sides else {}
        rows: Rows = {"slice": torch.arange(len(labels), device=self.device)}

        def loss_of(logits: torch.Tensor) -> Loss:
            return objective(logits, labels, bounds, rows=rows)

        def ascend(loss: Loss) -> None:
            if isinstance(method, Lagrangian):
                method.ascend(objective.constraints, loss.terms, rows)

        return loss_of, ascend

    def lagrangian(self, coefficient: float | None) -> Lagrangian:
        """Multipliers for the bounds of this batch; plain where the coefficient is None."""
        multipliers = Multipliers({SIZES: tuple(self.bounds[2].lower.shape)}).to(self.device)
        return Lagrangian(multipliers, rate=1.0, coefficient=coefficient)
