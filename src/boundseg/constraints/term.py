"""What a constraint has found in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from boundseg.constraints.bounds import Bounds

_COLUMNS = ("value", "cost", "tolerance", "defined", "unit")  # of a term, beside its bounds


@dataclass(frozen=True)
class Term:
    """What a constraint found in a batch, a row per group and a column per region (or pair of regions).

    Attributes:
        value: The descriptor's values; 0 where undefined.
        bounds: What holds for them; sides that do not hold of a part that was seen, or of a value that is undefined,
            are unknown here.
        cost: The penalty.
        tolerance: What one predicted voxel adds to the value, for each group; 0 where voxels do not count.
        defined: Where the value means something.
        unit: What counts as one violation, in the value's unit: the penalty's scale, or its root where that is one of
            squares. Multipliers measure by it.
    """

    value: Float[Tensor, "G R *components"]
    bounds: Bounds
    cost: Float[Tensor, "G R *components"]
    tolerance: Float[Tensor, "..."]
    defined: Bool[Tensor, "..."]
    unit: float | Float[Tensor, "..."] = 1.0

    @classmethod
    def concatenate(cls, terms: Sequence[Term]) -> Term:
        """The rows of several terms of one constraint, one after the other."""
        return cls._of(
            {name: torch.cat([term._full(name) for term in terms]) for name in _COLUMNS},
            [term.bounds for term in terms],
        )

    def rows(self, index: Int[Tensor, " N"]) -> Term:
        """Some of the rows."""
        bounds = Bounds._like(self.bounds.lower[index], self.bounds.upper[index])
        return self._of({name: self._full(name)[index] for name in _COLUMNS}, [bounds])

    @classmethod
    def _of(cls, columns: dict[str, Tensor], bounds: Sequence[Bounds]) -> Term:
        return cls(bounds=Bounds.concatenate(bounds), **columns)

    def _full(self, name: str) -> Tensor:
        """An attribute, a number for each value."""
        return torch.as_tensor(getattr(self, name), device=self.value.device).expand_as(self.value)

    def detach(self) -> Term:
        """The same numbers as constants."""
        unit = self.unit.detach() if isinstance(self.unit, Tensor) else self.unit
        return Term(
            self.value.detach(),
            self.bounds,
            self.cost.detach(),
            self.tolerance.detach(),
            self.defined,
            unit,
        )

    @property
    def mean(self) -> Float[Tensor, ""]:
        """The cost, averaged over the values with a known side."""
        return self.bounds.mean(self.cost)

    @property
    def satisfied(self) -> Bool[Tensor, "G R *components"]:
        """Where bounds are known and kept, to one predicted voxel: a soft size never reaches 0."""
        return self.bounds.known & self.bounds.satisfied(self.value, self.tolerance)
