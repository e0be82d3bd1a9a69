"""How constraints teach: ``method`` in a config, and the method that it builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field

from boundseg.asked.section import Count, NotNegative, Positive, Section
from boundseg.constraints import Centroid, Constraint, Intensity, Multipliers
from boundseg.constraints.projection import Stop, require_linear
from boundseg.data.batches import TaughtCase
from boundseg.errors import ConfigError
from boundseg.losses import Lagrangian, Method, Penalties, Proposals
from boundseg.losses.proposals import Solver, Targets
from boundseg.nearest import did_you_mean


class PenaltyConfig(Section):
    """Each constraint's penalty: the paper's method."""

    name: Literal["penalty"] = "penalty"

    def require(self, constraints: Sequence[Constraint]) -> None:
        """Every constraint has a penalty."""

    def build(self, constraints: Sequence[Constraint], cases: Sequence[TaughtCase], device: torch.device) -> Method:
        """The method itself."""
        return Penalties()


class ProposalsConfig(Section):
    """Cross-entropy to the closest distribution that keeps the bounds; see :class:`boundseg.losses.Proposals`."""

    name: Literal["proposals"]
    solver: Solver = "exact"
    targets: Targets = "argmax"
    stop: Stop = "never"
    step: Positive | None = None
    iterations: Count = 500
    weight: NotNegative = 1.0
    partial: bool = True

    def require(self, constraints: Sequence[Constraint]) -> None:
        """Refuses what no proposal can keep, before anything is prepared.

        Raises:
            ConfigError: Constraints that are not linear in the probabilities, that speak of slices and of volumes, or
                that the solver or the targets cannot take.
        """
        for constraint in constraints:
            try:
                require_linear(constraint)
            except ValueError as error:
                raise ConfigError(
                    f"{error}.", "method", "Take that constraint out, or choose penalty or a Lagrangian."
                ) from None
        if len({constraint.scope for constraint in constraints}) > 1:
            raise ConfigError(
                "proposals keep bounds of slices or bounds of volumes, and the constraints here speak of both.",
                "method",
                "Take one kind out, or choose penalty or a Lagrangian.",
            )
        means = [c for c in constraints if isinstance(c.descriptor, (Centroid, Intensity))]
        if means and self.targets == "best":
            raise ConfigError(
                f"targets: best chooses voxels by sizes, and {means[0].name!r} bounds a mean.",
                "method.targets",
                "Choose argmax or soft.",
            )
        regions = {tuple(sorted(region)) for c in constraints for region in c.regions}
        if self.solver == "ascent" and (len(regions) > 1 or means):
            raise ConfigError(
                "solver: ascent keeps the size of one region, and more is bounded here.",
                "method.solver",
                "Choose exact, or bound one region.",
            )

    def build(self, constraints: Sequence[Constraint], cases: Sequence[TaughtCase], device: torch.device) -> Method:
        """The method itself."""
        return Proposals(
            self.solver,
            self.targets,
            self.stop,
            self.step,
            self.iterations,
            weight=self.weight,
            partial=self.partial,
        )


class _OfMultipliers(Section):
    @property
    def _rate(self) -> float:
        raise NotImplementedError

    @property
    def _coefficient(self) -> float | None:
        return None

    def require(self, constraints: Sequence[Constraint]) -> None:
        """Every constraint may have multipliers."""

    def build(self, constraints: Sequence[Constraint], cases: Sequence[TaughtCase], device: torch.device) -> Method:
        """The method itself, with a multiplier of 0 for every bound of the training cases."""
        rows = {"slice": sum(map(len, cases)), "volume": len(cases)}
        values = {name: bounds.shape[2:] for name, bounds in cases[0].bounds.items()}
        multipliers = Multipliers({c.name: (rows[c.scope], *values[c.name]) for c in constraints})
        return Lagrangian(multipliers.to(device), self._rate, self._coefficient)


class LagrangianConfig(_OfMultipliers):
    """A multiplier for every bound; see :class:`boundseg.constraints.Multipliers`.

    Attributes:
        rate: η, by which violations (in units of the constraint's scale) are added to it after each step.
    """

    name: Literal["lagrangian"]
    rate: Positive = 1.0

    @property
    def _rate(self) -> float:
        return self.rate


class AugmentedLagrangianConfig(_OfMultipliers):
    """Multipliers on a quadratic penalty; see :class:`boundseg.constraints.Multipliers`.

    Attributes:
        coefficient: c; with 2, the first epoch is that of the quadratic penalty of the same scale and weight.
        rate: η; left out, c.
    """

    name: Literal["augmented_lagrangian"]
    coefficient: Positive = 2.0
    rate: Positive | None = None

    @property
    def _rate(self) -> float:
        return self.coefficient if self.rate is None else self.rate

    @property
    def _coefficient(self) -> float | None:
        return self.coefficient


METHODS = ("penalty", "proposals", "lagrangian", "augmented_lagrangian")


def _by_name(content: Any) -> Any:
    """``method: penalty`` is short for ``method: {name: penalty}``."""
    content = {"name": content} if isinstance(content, str) else content
    name = content.get("name") if isinstance(content, Mapping) else None
    if isinstance(content, Mapping) and name not in METHODS:
        raise ValueError(f"{name!r} is no method{did_you_mean(str(name), METHODS)} There are {', '.join(METHODS)}.")
    return content


MethodConfig = Annotated[
    Annotated[
        PenaltyConfig | ProposalsConfig | LagrangianConfig | AugmentedLagrangianConfig, Field(discriminator="name")
    ],
    BeforeValidator(_by_name),
]
