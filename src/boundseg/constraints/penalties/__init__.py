"""What a violation costs: plain functions of a value and its bounds, the table of their names, and what each needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.penalties.hinges import huber, linear, quadratic, relative_scale
from boundseg.constraints.penalties.logarithms import log_barrier, log_hinge
from boundseg.constraints.penalties.relative import relative_band, size_divergence

Penalty = Callable[[Tensor, Bounds, "float | Tensor"], Tensor]
Domain = Literal["any", "amount", "share"]
ScaleKind = Literal["image", "relative", "voxels", "number"]

PENALTIES: dict[str, Penalty] = {
    "quadratic": quadratic,
    "linear": linear,
    "huber": huber,
    "log_hinge": log_hinge,
    "log_barrier": log_barrier,
    "size_divergence": size_divergence,
    "relative_band": relative_band,
}


@dataclass(frozen=True)
class Needs:
    """What a penalty needs of what it prices, and what its third argument means.

    Attributes:
        domain: Which values it takes: any number, amounts (>= 0), or shares of a whole (0 to 1).
        power: Which power of the value's unit its third argument has.
        scales: The kinds of third argument that make sense, the default first: the pixels of an ``image``,
            ``relative`` to the violated bound, predicted ``voxels``, or a ``number``.
        barrier: Whether it takes ``t`` and pushes inside the bounds as well.
    """

    domain: Domain
    power: Literal[1, 2]
    scales: tuple[ScaleKind, ...]
    barrier: bool = False


NEEDS: dict[Penalty, Needs] = {
    quadratic: Needs("any", 2, ("image", "relative", "voxels", "number")),
    linear: Needs("any", 1, ("image", "relative", "voxels", "number")),
    huber: Needs("any", 1, ("voxels", "relative", "number")),
    log_hinge: Needs("amount", 1, ("voxels", "number")),
    log_barrier: Needs("any", 1, ("image", "voxels", "number"), barrier=True),
    size_divergence: Needs("share", 1, ("voxels", "number")),
    relative_band: Needs("amount", 1, ("voxels", "number")),
}

# of somebody's own function nothing is known: its scale is taken for a number, and otherwise for quadratic's
_UNKNOWN = Needs("any", 2, ("number", "image", "relative", "voxels"))


def needs(penalty: Penalty) -> Needs:
    """What a penalty needs, also one with some keywords filled in by :func:`functools.partial`.

    A function that is not of :data:`NEEDS` may take any number and any kind of scale; its third argument counts as
    a number unless said otherwise, and as one in the unit squared where it is not.
    """
    function = _unwrapped(penalty)
    # by identity, since somebody's own penalty may be an object without a hash
    return next((needed for known, needed in NEEDS.items() if known is function), _UNKNOWN)


def name_of(penalty: Penalty) -> str:
    """How messages call a penalty: its name in :data:`PENALTIES`, or that of somebody's own function or class."""
    function = _unwrapped(penalty)
    own = getattr(function, "__name__", type(function).__name__)
    return next((name for name, known in PENALTIES.items() if known is function), own)


def priced(domain: Domain) -> list[str]:
    """The names of the penalties that take values of a domain: a share is also an amount, an amount any number."""
    takes = {"any": {"any"}, "amount": {"any", "amount"}, "share": {"any", "amount", "share"}}[domain]
    return [name for name, penalty in PENALTIES.items() if NEEDS[penalty].domain in takes]


def _unwrapped(penalty: Penalty) -> Penalty:
    while isinstance(penalty, partial):
        penalty = penalty.func
    return penalty


__all__ = [
    "NEEDS",
    "PENALTIES",
    "Domain",
    "Needs",
    "Penalty",
    "ScaleKind",
    "huber",
    "linear",
    "log_barrier",
    "log_hinge",
    "name_of",
    "needs",
    "priced",
    "quadratic",
    "relative_band",
    "relative_scale",
    "size_divergence",
]
