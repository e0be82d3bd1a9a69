"""Lagrange multipliers on a network's own violations: the penalty's rival that ends on the bound and not beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.precision import at_least_float32


class Multipliers(nn.Module):
    r"""One multiplier for every bound: of each constraint, case (or slice), region and side.

    For bounds a and b of a value v, measured by a scale s, the violations are :math:`g_- = (a - v) / s` and
    :math:`g_+ = (v - b) / s`, and each has its own :math:`\lambda \geq 0`. The network descends

    .. math:: \text{Lagrangian:} \quad \lambda g, \qquad
              \text{augmented:} \quad \frac{\max(0, \lambda + c g)^2 - \lambda^2}{2 c}

    (Nocedal and Wright 2006, eq. 17.64 and 17.65, for the second), and after its step the multipliers ascend,
    :math:`\lambda \leftarrow \max(0, \lambda + \eta g)`. A penalty stops where its slope balances the rest of the loss,
    a little outside of the bounds; a multiplier grows until nothing is outside. The augmented form is the quadratic
    penalty, moved, and comes to rest where the plain Lagrangian circles; its own rate is :math:`\eta = c`.

    The two steps are two calls, :meth:`cost` and :meth:`ascend`, so that a loop shows both. The multipliers are
    buffers: they go into ``state_dict``, and with the module to a device.

    Args:
        shapes: For each constraint's name, ``[N, R]`` (and components): how many cases or slices it has in all, and how
            many values each.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self._names = tuple(shapes)
        for name, shape in shapes.items():
            self.register_buffer(self._buffer(name), torch.zeros(2, *shape))
            self.register_buffer(self._raised(name), torch.zeros(shape[0], dtype=torch.bool), persistent=False)

    def of(self, name: str) -> Float[Tensor, "2 N *values"]:
        """The multipliers of a constraint: of lower sides, then of upper ones."""
        return self.get_buffer(self._buffer(name))

    def cost(
        self,
        name: str,
        value: Float[Tensor, "G *values"],
        bounds: Bounds,
        rows: Int[Tensor, " G"],
        scale: float | Tensor = 1.0,
        coefficient: float | None = None,
    ) -> Float[Tensor, "G *values"]:
        """What the network descends; 0 for unknown sides, and of either sign inside of the bounds.

        Args:
            name: The constraint's.
            value: Values of the groups of a batch.
            bounds: Theirs, of the same shape.
            rows: Which of the N cases (or slices) each group is.
            scale: What counts as one violation, > 0, in the value's unit.
            coefficient: c > 0 of the augmented Lagrangian; None is the Lagrangian without it.

        Raises:
            ValueError: The coefficient is not positive.
        """
        if coefficient is not None and not coefficient > 0:
            raise ValueError(f"coefficient = {coefficient:g}: an augmented Lagrangian divides by it; give more than 0")
        _require_rows(name, rows, value)
        multipliers = self.of(name)[:, rows]
        costs: list[Tensor] = []
        for multiplier, (violation, known) in zip(multipliers, _violations(value, bounds, scale), strict=True):
            if coefficient is None:
                cost = multiplier * violation
            else:
                reached = (multiplier + coefficient * violation).relu()
                cost = (reached.square() - multiplier.square()) / (2 * coefficient)
            costs.append(cost.where(known, 0))
        return costs[0] + costs[1]

    @torch.no_grad()
    def ascend(
        self,
        name: str,
        value: Float[Tensor, "G *values"],
        bounds: Bounds,
        rows: Int[Tensor, " G"],
        rate: float,
        scale: float | Tensor = 1.0,
    ) -> None:
        """The dual step, for the cases of a batch; what is not in it, or not known, stays as it is.

        So does what a value that is no number would raise: one prediction that has overflowed, whose step a gradient
        scaler skips, would otherwise stay in its multiplier for ever.

        Args:
            rate: η, by which violations are added to the multipliers.
            name: As in :meth:`cost`, as are the others. Each row may stand in a batch once.
        """
        _require_rows(name, rows, value)
        multipliers = self.of(name)
        for side, (violation, known) in zip(multipliers, _violations(value, bounds, scale), strict=True):
            raised = (side[rows] + rate * violation).to(side.dtype)
            side[rows] = raised.relu().where(known & raised.isfinite(), side[rows])
        self.get_buffer(self._raised(name))[rows] = True

    @torch.no_grad()
    def merge(self, add: Callable[[Tensor], Tensor]) -> None:
        """Brings the multipliers of several ranks together: each row is that of the ranks that raised it since then.

        Ranks that hold the same volume have raised it by the same violation; what no rank raised stays as it is. To be
        called by all ranks, once an epoch or more often.

        Args:
            add: Adds a tensor up over the ranks and returns the sum.
        """
        for name in self._names:
            multipliers, raised = self.of(name), self.get_buffer(self._raised(name))
            by = raised.to(multipliers.dtype).reshape(1, -1, *([1] * (multipliers.ndim - 2)))
            ranks, total = add(by), add(multipliers * by)
            multipliers.copy_(torch.where(ranks > 0, total / ranks.clamp(min=1), multipliers))
            raised.zero_()

    def _buffer(self, name: str) -> str:
        return f"multipliers_{_escaped(name)}"

    def _raised(self, name: str) -> str:
        return f"raised_{_escaped(name)}"


def _escaped(name: str) -> str:
    """Names of constraints hold dots, which those of buffers may not; by its name a multiplier is found again."""
    return name.replace("%", "%25").replace(".", "%2E")


def _require_rows(name: str, rows: Tensor, value: Tensor) -> None:
    if rows.shape != value.shape[:1]:
        raise ValueError(
            f"rows of shape {list(rows.shape)} meet {len(value)} values of {name!r}: say of each which one it is"
        )


def _violations(value: Tensor, bounds: Bounds, scale: float | Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each side, by how much it is missed (negative inside), and where it is known."""
    value = at_least_float32(value)
    lower, upper = bounds.lower.isfinite(), bounds.upper.isfinite()
    # unknown bounds are replaced first: infinity times a multiplier of 0 would be NaN
    below, above = bounds.lower.where(lower, 0) - value, value - bounds.upper.where(upper, 0)
    return [(below / scale, lower), (above / scale, upper)]
