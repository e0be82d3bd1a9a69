"""Cross-entropy over the labelled pixels, and the objective that adds terms up and reports each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from boundseg.constraints import Bounds, Constraint, Frame, Groups, Memo, Term
from boundseg.gated_crf import GatedCrf

Average = Literal["image", "batch", "sum"]


def two_channels(logits: Float[Tensor, "B C *space"]) -> Float[Tensor, "B K *space"]:
    """Logits with a channel per class, float32 at least; one channel ``x`` is read as ``(0, x)``."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def partial_cross_entropy(
    logits: Float[Tensor, "B C *space"],
    labels: Integer[Tensor, "B *space"],
    ignore: int = 255,
    average: Average = "image",
) -> Float[Tensor, ""]:
    r"""Cross-entropy over the labelled pixels.

    .. math:: H = \frac{1}{|L|} \sum_{i \in L} \frac{1}{|\Omega_i|} \sum_{p \in \Omega_i} -\log S_p^{y_p}

    with :math:`\Omega_i` the labelled pixels of image i and :math:`L` the images that have any, so that an
    image with 50 labelled pixels counts as much as one with 65,536. Kervadec et al. 2019, eq. 2, write the
    plain sum (``average="sum"``); their code averages over the labelled pixels of the batch
    (``average="batch"``); for a batch of one image that is the same as ours. Full supervision is the case in
    which no pixel is ignored.

    Args:
        logits: Any number of classes; one channel ``x`` is read as the logits ``(0, x)``.
        labels: Class indices, ``ignore`` where nothing is known.
        ignore: The label that says so; every other value must be a class.
        average: See above.

    Returns:
        Nats, as float32 (float64 if given that); 0 with zero gradient where no pixel is labelled.
    """
    logits = two_channels(logits)
    labels = labels.long()
    nats = F.cross_entropy(logits, labels, ignore_index=ignore, reduction="none").flatten(1).sum(1)
    if average == "sum":
        return nats.sum()
    labelled = (labels != ignore).flatten(1).sum(1)
    if average == "batch":
        return nats.sum() / labelled.sum().clamp(min=1)
    return (nats / labelled.clamp(min=1)).sum() / (labelled > 0).sum().clamp(min=1)


def full_cross_entropy(logits: Float[Tensor, "B C *space"], target: Integer[Tensor, "B *space"]) -> Float[Tensor, ""]:
    """Cross-entropy where every pixel is labelled: :func:`partial_cross_entropy` with nothing ignored.

    Raises:
        IndexError: A value of the target is no class (an ignore label among them).
    """
    return partial_cross_entropy(logits, target, ignore=-1)


@dataclass(frozen=True)
class Loss:
    """The total to descend, and what it was made of."""

    total: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    terms: dict[str, Term]
    gated_crf: Float[Tensor, ""] | None = None


@dataclass(frozen=True)
class Objective:
    r"""Partial cross-entropy plus the weighted cost of every constraint.

    .. math:: H + \rho \sum_c \lambda_c \, \operatorname{mean}_{\text{known}} C_c

    There are no modes: what is not labelled gives no cross-entropy, and what has no bounds gives no cost.

    Args:
        ignore: The label of pixels about which nothing is known.
        constraints: What is asked of the prediction.
        average: How the cross-entropy is averaged, see :func:`partial_cross_entropy`.
        gated_crf: Neighbours that look alike should be of one class; left out, nothing is said of neighbours.
    """

    ignore: int = 255
    constraints: Sequence[Constraint] = ()
    average: Average = "image"
    gated_crf: GatedCrf | None = None

    def __post_init__(self) -> None:
        names = [constraint.name for constraint in self.constraints]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two constraints are called {twice[0]!r}: bounds go by names, give each its own")

    def __call__(
        self,
        logits: Float[Tensor, "B C *space"],
        labels: Integer[Tensor, "B *space"],
        bounds: Mapping[str, Bounds],
        frame: Frame | None = None,
        volumes: Groups | None = None,
        strength: float | Mapping[str, float] = 1.0,
        t: float | Tensor = 5.0,
        images: Float[Tensor, "B channels *space"] | None = None,
    ) -> Loss:
        """Loss of one batch.

        Args:
            logits: The network's output.
            labels: Class indices and ``ignore``.
            bounds: For each constraint's name, bounds ``[G, R]`` of its groups and regions; a constraint
                that is not named knows nothing here and costs nothing.
            frame: Where the predicted voxels lie in their cases.
            volumes: Which images are slices of one volume; needed by constraints of scope ``volume``.
            strength: The factor ρ on all constraints, or on each by its name, for a warm-up.
            t: The steepness of log-barriers, which grows by a schedule.
            images: What the network saw, for the gated CRF.

        Raises:
            ValueError: Bounds of no constraint here, a constraint that speaks of volumes where the batch does not say
                which images form one, or no images for the gated CRF.
        """
        cross_entropy = partial_cross_entropy(logits, labels, self.ignore, self.average)
        asked = [constraint for constraint in self.constraints if constraint.name in bounds]
        if len(asked) < len(bounds):
            known = [constraint.name for constraint in self.constraints]
            unknown = next(name for name in bounds if name not in known)
            raise ValueError(
                f"there are bounds for {unknown!r}, which is no constraint here: {', '.join(known) or 'none'}"
            )
        terms: dict[str, Term] = {}
        total = cross_entropy
        probs = two_channels(logits).softmax(1) if asked or self.gated_crf else logits
        memo: Memo = {}  # of one batch: constraints that need the same sums share them
        for constraint in asked:
            if constraint.scope == "volume" and volumes is None:
                raise ValueError(f"the constraint {constraint.name!r} speaks of volumes: give volumes=Groups(…)")
            groups = volumes if constraint.scope == "volume" else None
            term = constraint(probs, bounds[constraint.name], frame, groups, t, memo)
            factor = strength[constraint.name] if isinstance(strength, Mapping) else strength
            total = total + factor * constraint.weight * term.mean
            terms[constraint.name] = term
        if self.gated_crf is None:
            return Loss(total, cross_entropy, terms)
        if images is None:
            raise ValueError("the gated CRF compares images: give images=…")
        inside = torch.ones_like(probs[:, 0], dtype=torch.bool) if frame is None else frame.weight > 0
        energy = self.gated_crf(probs, images, inside)
        return Loss(total + self.gated_crf.weight * energy, cross_entropy, terms, energy)
