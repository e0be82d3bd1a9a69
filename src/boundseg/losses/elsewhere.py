"""What a part of a divided batch must know of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints import Groups, Totals


@dataclass(frozen=True)
class Share:
    """What a part of a batch adds to what all parts must know.

    Attributes:
        totals: For each constraint of volumes that was asked, a row per image.
        counts: By what each mean divides: ``cross_entropy``, ``gated_crf``, and constraints of slices by their names.
            Constraints of volumes are not among them: their values are known when all parts are added up.
    """

    totals: dict[str, Totals]
    counts: dict[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Elsewhere:
    r"""What the rest of a divided batch holds: the other slices of its volumes, and by what means divide.

    A volume's penalty is a function of sums over all of its slices, :math:`C(\sum_i s_i)`. With the sums of all other
    slices as a constant, its gradient with respect to a slice of this part is that of the whole volume.

    Attributes:
        totals: For each constraint of volumes by its name, what of the volumes (rows as the part's groups) is not in
            this part. Constants.
        counts: What the other parts' means divide by, as in :attr:`Share.counts`, constraints of volumes by their names
            as well. What is not named is 0.
        gain: For each volume of the part, by what the gradient through its sums is multiplied: n where a part that
            takes a step of its own holds one n-th of a volume, so that the steps' mean is the whole volume's gradient.
        once: Which of the part's images count in their volumes, where some may stand in it twice; left out, all do.
    """

    totals: Mapping[str, Totals]
    counts: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
    gain: Float[Tensor, " G"] | None = None
    once: Bool[Tensor, " B"] | None = None

    def joined(self, name: str, images: Totals, volumes: Groups) -> Totals:
        """Totals of the part's images as those of their volumes, with those of the rest."""
        own = (images if self.once is None else images.only(self.once)).grouped(volumes)
        if self.gain is not None:
            own = own.pulling(self.gain)
        return own + self.totals[name] if name in self.totals else own
