"""What is known about a value: a lower and an upper bound, either of which may be unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from boundseg.errors import BoundsError


@dataclass(frozen=True)
class Bounds:
    """Lower and upper bounds of values; an infinite side is unknown.

    Both tensors have one shape, usually ``[G, R]``: a row per group (a slice, a volume), a column per
    region. ``-inf`` below or ``inf`` above says that nothing is known on that side: it never costs, and a
    value with both sides unknown counts in no average.

    Raises:
        BoundsError: A bound is NaN, or a lower bound exceeds its upper one. Values are looked at where this
            costs nothing, on the CPU and outside of compiled code; call :meth:`check` elsewhere.
    """

    lower: Float[Tensor, "..."]
    upper: Float[Tensor, "..."]

    def __post_init__(self) -> None:
        if not (isinstance(self.lower, Tensor) and isinstance(self.upper, Tensor)):
            raise BoundsError(
                f"bounds are a {type(self.lower).__name__} and a {type(self.upper).__name__}.",
                remedy="Give tensors: Bounds(torch.tensor([[…]]), torch.tensor([[…]])).",
            )
        if self.lower.shape != self.upper.shape:
            raise BoundsError(
                f"lower bounds of shape {list(self.lower.shape)} meet upper bounds of shape {list(self.upper.shape)}.",
                remedy="Give both the same shape; write an unknown side as -inf or inf.",
            )
        if not torch.compiler.is_compiling() and self.lower.device.type == "cpu":
            self.check()

    @classmethod
    def unknown(cls, *shape: int, device: torch.device | None = None) -> Bounds:
        """Bounds that say nothing, for values of that shape."""
        lower = torch.full(shape, -torch.inf, device=device)
        return cls(lower, -lower)

    @classmethod
    def at_least(cls, lower: Real[Tensor, "*n"] | float) -> Bounds:
        """One-sided: nothing is known above."""
        lower = _floating(lower)
        return cls(lower, torch.full_like(lower, torch.inf))

    @classmethod
    def at_most(cls, upper: Real[Tensor, "*n"] | float) -> Bounds:
        """One-sided: nothing is known below."""
        upper = _floating(upper)
        return cls(torch.full_like(upper, -torch.inf), upper)

    @classmethod
    def around(cls, value: Real[Tensor, "*n"] | float, relative: float = 0.0, absolute: float = 0.0) -> Bounds:
        """A measured value and a margin: ``value ± (relative |value| + absolute)`` (Kervadec et al. 2019, eq. 7).

        Without a margin it is an equality, a = b.

        Args:
            value: In the descriptor's unit.
            relative: Share of the value, 0.1 in the paper.
            absolute: In the unit of the value.

        Raises:
            BoundsError: A value is NaN or infinite: where a value is promised, one must be there.
        """
        value = _floating(value)
        if not torch.compiler.is_compiling() and value.device.type == "cpu" and value.isinf().any():
            raise BoundsError(
                "a value to put bounds around is infinite.",
                remedy="Leave it out: Bounds.unknown(…), or only(…).",
            )
        margin = relative * value.abs() + absolute
        return cls(value - margin, value + margin)

    @classmethod
    def tags(
        cls,
        present: Bool[Tensor, "*n"],
        image: float,
        known: Bool[Tensor, "*n"] | None = None,
        least: float = 1.0,
    ) -> Bounds:
        """Image tags as bounds on sizes (Kervadec et al. 2019, eq. 5).

        Args:
            present: Where the class is in the image: ``least <= size <= image``; where it is not, ``size = 0``.
            image: The size of an image, ``|Ω|``, in the unit of the bounds.
            known: Where the tag is known at all; left out, everywhere.
            least: The smallest size of a class that is present.
        """
        lower = torch.where(present, least, torch.zeros_like(present, dtype=torch.get_default_dtype()))
        bounds = cls(lower, torch.where(present, image, torch.zeros_like(lower)))
        return bounds if known is None else bounds.only(known)

    @classmethod
    def concatenate(cls, parts: Sequence[Bounds]) -> Bounds:
        """The rows of several bounds, one after the other."""
        return cls(torch.cat([p.lower for p in parts]), torch.cat([p.upper for p in parts]))

    def check(self) -> None:
        """Looks at every value (this waits for the device).

        Raises:
            BoundsError: See above; the message names the first offender by its index.
        """
        infinite = (self.lower == torch.inf) | (self.upper == -torch.inf)
        wrong = ~(self.lower <= self.upper) | infinite
        if wrong.any():
            index = wrong.nonzero()[0].tolist()
            lower, upper = float(self.lower[tuple(index)]), float(self.upper[tuple(index)])
            if infinite[tuple(index)]:
                raise BoundsError(
                    f"bounds {index}: the side from {lower:g} to {upper:g} is infinite in the wrong direction.",
                    remedy="An unknown lower bound is -inf, an unknown upper one inf.",
                )
            fact = "is NaN" if lower != lower or upper != upper else "exceeds the upper bound"
            raise BoundsError(
                f"bounds {index}: the lower bound {lower:g} {fact} (upper bound {upper:g}).",
                remedy="Swap them, or write an unknown side as -inf or inf.",
            )

    @staticmethod
    def _like(lower: Tensor, upper: Tensor) -> Bounds:
        """What follows from bounds that were checked: a second look would read values, as no compiled or batched
        function may."""
        bounds = object.__new__(Bounds)
        object.__setattr__(bounds, "lower", lower)
        object.__setattr__(bounds, "upper", upper)
        return bounds

    @property
    def known(self) -> Bool[Tensor, "*n"]:
        """Where at least one side is known."""
        return torch.isfinite(self.lower) | torch.isfinite(self.upper)

    def violation(self, value: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """How far a value lies outside: negative below, positive above, zero (and no gradient) inside."""
        return (value - self.upper).relu() - (self.lower - value).relu()

    def satisfied(
        self, value: Float[Tensor, "*n"], tolerance: float | Float[Tensor, "*#n"] = 0.0
    ) -> Bool[Tensor, "*n"]:
        """Where a value keeps its bounds to a tolerance; unknown sides are kept by everything."""
        return self.violation(value).abs() <= tolerance

    def mean(self, cost: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
        """The mean cost over the values with a known side; 0, with zero gradient, where there are none.

        Args:
            cost: A number for each value, as penalties return; bounds of a smaller shape are those of all rows.
        """
        total, count = self.total(cost)
        return total / count.clamp(min=1)

    def total(self, cost: Float[Tensor, "*n"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Numerator and denominator of :meth:`mean`, to be added over chunks or ranks before they divide."""
        known = self.known.expand_as(cost)  # bounds that all images share count once for each of them
        return cost.where(known, 0).sum(), known.sum().to(cost.dtype)

    def seen_in_part(self, whole: Bool[Tensor, "*n"], *, grows: bool) -> Bounds:
        """The bounds that hold for what is seen, where what is seen may be a part of what they speak of.

        Of a part only an upper bound can be asked, and only of a value that never falls when more is added
        (a size): what is already too much stays too much. An upper bound of 0, absence, is the commonest.

        Args:
            whole: Where all of the group is seen; there the bounds stay as they are.
            grows: The descriptor's :attr:`~boundseg.constraints.Descriptor.grows`.
        """
        lower = self.lower.where(whole, -torch.inf)
        # a row that all groups share becomes one of each, on both sides
        return self._like(lower, self.upper.expand_as(lower) if grows else self.upper.where(whole, torch.inf))

    def only(self, where: Bool[Tensor, "*#n"]) -> Bounds:
        """The same bounds there, and unknown elsewhere."""
        return self._like(self.lower.where(where, -torch.inf), self.upper.where(where, torch.inf))

    def widened(self, relative: float = 0.0, absolute: float = 0.0) -> Bounds:
        """Bounds with a margin on both sides, a share of each bound and a number in their unit.

        Raises:
            BoundsError: A negative margin has pushed a lower bound over its upper one.
        """
        margins = [
            # of an unknown side 0 * inf would be NaN
            (relative * side.abs() + absolute).where(side.isfinite(), 0)
            for side in (self.lower, self.upper)
        ]
        return Bounds(self.lower - margins[0], self.upper + margins[1])

    def times(self, factor: float | Float[Tensor, "*#n"]) -> Bounds:
        """The same bounds in another unit, of which one old unit holds ``factor`` > 0."""
        return self._like(self.lower * factor, self.upper * factor)

    def to(self, device: torch.device | str) -> Bounds:
        """The same bounds on another device."""
        return self._like(self.lower.to(device, non_blocking=True), self.upper.to(device, non_blocking=True))


def _floating(values: Tensor | float) -> Tensor:
    """Numbers that can be infinite: sizes are often counted in whole ones."""
    tensor = torch.as_tensor(values)
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
