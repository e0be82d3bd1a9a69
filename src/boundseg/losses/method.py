"""How constraints teach a network: by penalties or multipliers, and by proposals in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from boundseg.constraints import Constraint, Frame, Groups, Multipliers, Scope, Term
from boundseg.losses.cross_entropy import Average

Rows = Mapping[Scope, Int[Tensor, " G"]]
Figures = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Predicted:
    """What a network said of a batch, and what its pixels are.

    Attributes:
        logits: The network's output, a channel per class.
        log_probs: Their log-softmax.
        labels: Class indices and ``ignore``.
        ignore: The label of pixels about which nothing is known.
        frame: Where the predicted voxels lie in their cases.
        volumes: Which images are slices of one volume.
        average: How cross-entropies are averaged.
    """

    logits: Float[Tensor, "B C *space"]
    log_probs: Float[Tensor, "B C *space"]
    labels: Integer[Tensor, "B *space"]
    ignore: int
    frame: Frame
    volumes: Groups | None
    average: Average

    def groups(self, scope: Scope) -> Groups:
        """What belongs together for constraints of a scope."""
        if scope == "volume" and self.volumes is not None:
            return self.volumes
        return Groups.each(len(self.logits), self.logits.device)


@dataclass(frozen=True)
class Asked:
    """What a batch is asked, and what was found.

    Attributes:
        constraints: Those for which the batch has bounds.
        terms: What each found, by its name.
        strengths: The factor on the weight of each, by its name, for a warm-up.
        rows: Which of all slices, and of all volumes, those of the batch are.
        predicted: The batch itself; None where terms of several chunks were put together.
        elsewhere: By a constraint's name, how many values the rest of a divided batch averages over.
        average: How cross-entropies are averaged: where they are summed, costs are too.
    """

    constraints: Sequence[Constraint]
    terms: Mapping[str, Term]
    strengths: Mapping[str, float]
    rows: Rows | None = None
    predicted: Predicted | None = None
    elsewhere: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
    average: Average = "image"

    def factor(self, constraint: Constraint) -> float:
        """The weight of a constraint, warm-up included."""
        return constraint.weight * self.strengths[constraint.name]

    def over_batch(self, constraint: Constraint, cost: Float[Tensor, "G *values"]) -> Float[Tensor, ""]:
        """A cost for each value of a constraint, averaged over the known ones, those of the rest of the batch among
        them; or summed: an image's penalty weighs against its cross-entropy whatever else is in the batch."""
        total, count = self.terms[constraint.name].bounds.total(cost)
        if self.average == "sum":
            return total
        return total / (count + self.elsewhere.get(constraint.name, 0)).clamp(min=1).to(total.dtype)


@dataclass(frozen=True)
class Taught:
    """What constraints add to the loss.

    Attributes:
        costs: By the name of each constraint, or of what several add together; weighted.
        figures: Totals and counts of what logs want to know.
        instead: The images whose labels are taught by these costs, and not by the partial cross-entropy; None: none.
    """

    costs: dict[str, Tensor]
    figures: Figures = field(default_factory=dict)
    instead: Bool[Tensor, " B"] | None = None


@runtime_checkable
class Method(Protocol):
    """Turns what constraints found into something to descend."""

    @property
    def descends_terms(self) -> bool:
        """Whether gradients flow through the values and costs of the terms."""
        ...

    def __call__(self, asked: Asked) -> Taught:
        """What a batch's constraints add to its loss."""
        ...


@dataclass(frozen=True)
class Penalties:
    r"""Each constraint's penalty: :math:`\sum_c \lambda_c \operatorname{mean}_{\text{known}} C_c` (the paper's)."""

    descends_terms = True

    def __call__(self, asked: Asked) -> Taught:
        return Taught(
            {c.name: asked.factor(c) * asked.over_batch(c, asked.terms[c.name].cost) for c in asked.constraints}
        )


@dataclass(frozen=True)
class Lagrangian:
    """Multipliers in place of penalties: see :class:`~boundseg.constraints.Multipliers`.

    Violations are measured by the unit of each term, so that the augmented form with c = 2 and multipliers of 0 is the
    quadratic penalty of the same scale and weight. A loop calls :meth:`ascend` after its optimiser's step.

    Args:
        multipliers: One for every bound, under the constraints' names.
        rate: η, by which violations are added to the multipliers.
        coefficient: c of the augmented Lagrangian; None is the Lagrangian without it.
    """

    multipliers: Multipliers
    rate: float
    coefficient: float | None = None

    descends_terms = True

    def __call__(self, asked: Asked) -> Taught:
        """Adds up the Lagrangian of every constraint, in place of its penalty.

        Raises:
            ValueError: The rows are not given.
        """
        costs: dict[str, Tensor] = {}
        figures: Figures = {}
        for constraint in asked.constraints:
            name, term = constraint.name, asked.terms[constraint.name]
            rows = self._rows(constraint, asked.rows)
            priced = self.multipliers.cost(name, term.value, term.bounds, rows, term.unit, self.coefficient)
            costs[name] = asked.factor(constraint) * asked.over_batch(constraint, priced)
            figures[f"multiplier: {name}"] = term.bounds.total(self.multipliers.of(name)[:, rows].amax(0))
        return Taught(costs, figures)

    def ascend(self, constraints: Sequence[Constraint], terms: Mapping[str, Term], rows: Rows) -> None:
        """The dual step, with the values that the network's own step began from."""
        for constraint in constraints:
            if constraint.name in terms:
                term = terms[constraint.name]
                own = self._rows(constraint, rows)
                self.multipliers.ascend(constraint.name, term.value, term.bounds, own, self.rate, term.unit)

    @staticmethod
    def _rows(constraint: Constraint, rows: Rows | None) -> Tensor:
        if rows is None or constraint.scope not in rows:
            raise ValueError(
                f"multipliers of {constraint.name!r} belong to single {constraint.scope}s: give rows={{...}}, "
                f"which says of each {constraint.scope} of the batch which one it is"
            )
        return rows[constraint.scope]
