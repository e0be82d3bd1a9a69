"""The objective, which adds terms up and reports each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from boundseg.constraints import Bounds, Constraint, Frame, Groups, Memo, Term, Totals
from boundseg.constraints.precision import best_precision
from boundseg.errors import BoundsError
from boundseg.gated_crf import GatedCrf
from boundseg.losses.cross_entropy import Average, counted, of_log_probs, require_average, two_channels
from boundseg.losses.elsewhere import Elsewhere, Share
from boundseg.losses.method import Asked, Figures, Method, Penalties, Predicted, Rows


@dataclass(frozen=True)
class Loss:
    """The total to descend, and what it was made of.

    Attributes:
        total: The sum of everything, weighted.
        cross_entropy: Over the labelled pixels, whether it is descended or not.
        terms: What each constraint found.
        gated_crf: The energy per pixel, where it was asked for.
        figures: Totals and counts of what the method has to tell beside the terms.
        parts: What the total is the sum of, weighted, by name.
        totals: Where the batch is a part: what each of its images adds to the constraints of volumes, by their names.
    """

    total: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    terms: dict[str, Term]
    gated_crf: Float[Tensor, ""] | None = None
    figures: Figures = field(default_factory=dict)
    parts: dict[str, Tensor] = field(default_factory=dict)
    totals: dict[str, Totals] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective:
    r"""Partial cross-entropy plus the weighted cost of every constraint.

    .. math:: H + \rho \sum_c \lambda_c \, \operatorname{mean}_{\text{known}} C_c

    with the constraints' penalties for C, or what another method puts in their place. There are no modes: what is not
    labelled gives no cross-entropy, and what has no bounds gives no cost.

    Args:
        ignore: The label of pixels about which nothing is known.
        constraints: What is asked of the prediction.
        average: How the cross-entropy is averaged, see :func:`partial_cross_entropy`; with ``sum``, the plain sum of
            Kervadec et al. 2019, eq. 2, costs are summed over the known values as well.
        gated_crf: Neighbours that look alike should be of one class; left out, nothing is said of neighbours.
        method: How constraints teach: :class:`Penalties`, :class:`Lagrangian` or :class:`Proposals`.
    """

    ignore: int = 255
    constraints: Sequence[Constraint] = ()
    average: Average = "image"
    gated_crf: GatedCrf | None = None
    method: Method = field(default_factory=Penalties)

    def __post_init__(self) -> None:
        require_average(self.average)
        if isinstance(self.constraints, Constraint):
            raise ValueError(f"constraints is one of them, {self.constraints.name!r}, and no list: put it into […]")
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
        rows: Rows | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Loss:
        """Loss of one batch, or of a part of one.

        Args:
            logits: The network's output.
            labels: Class indices and ``ignore``.
            bounds: For each constraint's name, bounds ``[G, R]`` of its groups and regions; a constraint
                that is not named knows nothing here and costs nothing.
            frame: Where the predicted voxels lie in their cases.
            volumes: Which images are slices of one volume; needed by constraints of scope ``volume``.
            strength: The factor ρ on all constraints, or on each by its name (1 of others), for a warm-up.
            t: The steepness of log-barriers, which grows by a schedule.
            images: What the network saw, for the gated CRF.
            rows: For multipliers: which of all slices (``slice``), and of all volumes, those of the batch are.
            elsewhere: What the rest of a divided batch holds. The total then has the gradient of the whole batch's with
                respect to this part; its cross-entropy, gated CRF and costs of slices are shares, which add up over the
                parts, and a volume's cost is that of the whole volume, in each part that holds some of it.

        Raises:
            ValueError: Proposals of a part of a batch, bounds of no constraint here, a constraint that speaks of
                volumes where the batch does not say which images form one, no images for the gated CRF, no rows for
                multipliers, or constraints that are not linear for proposals.
        """
        if elsewhere is not None and not self.method.descends_terms:
            raise ValueError(f"{type(self.method).__name__} need the whole batch at once, and this is a part of one")
        asked = self.asked(bounds)
        logits = two_channels(logits)
        frame = frame or Frame.plain(len(logits), logits.ndim - 2, logits.device)
        log_probs = logits.log_softmax(1)
        rest = {} if elsewhere is None else elsewhere.counts
        cross_entropy = of_log_probs(log_probs, labels, self.ignore, self.average, rest.get("cross_entropy", 0.0))
        probs = log_probs.exp() if asked or self.gated_crf else log_probs
        totals: dict[str, Totals] = {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.method.descends_terms):
            terms = self._terms(asked, probs, bounds, frame, volumes, t, elsewhere, totals)
        strengths = strengths_of(asked, strength)
        predicted = Predicted(logits, log_probs, labels, self.ignore, frame, volumes, self.average)
        taught = self.method(Asked(asked, terms, strengths, rows, predicted, rest, self.average))
        # a volume's cost may be float64, as its sums are
        costs = {name: cost.to(cross_entropy.dtype) for name, cost in taught.costs.items()}
        parts = {"cross_entropy": cross_entropy, **costs}
        if taught.instead is not None:
            replaced = taught.instead.reshape(-1, *([1] * (labels.ndim - 1)))
            left = labels.masked_fill(replaced, self.ignore)
            parts["cross_entropy"] = of_log_probs(log_probs, left, self.ignore, self.average)
            cross_entropy = cross_entropy.detach()
        energy = None
        if self.gated_crf is not None:
            if images is None:
                raise ValueError("the gated CRF compares images: give images=…")
            inside = (frame.weight > 0).expand_as(probs[:, 0])
            energy = self.gated_crf(probs, images, inside)
            if "gated_crf" in rest:
                own = inside.sum()
                energy = energy * (own.clamp(min=1) / (own + rest["gated_crf"]).clamp(min=1)).to(energy.dtype)
            parts["gated_crf"] = self.gated_crf.weight * energy
        total = torch.stack([*parts.values()]).sum()
        return Loss(total, cross_entropy, terms, energy, taught.figures, parts, totals)

    @torch.no_grad()
    def share(
        self,
        logits: Float[Tensor, "B C *space"],
        labels: Integer[Tensor, "B *space"],
        bounds: Mapping[str, Bounds],
        frame: Frame | None = None,
    ) -> Share:
        """What a part of a divided batch adds to what all parts must know; see :class:`Elsewhere`.

        Args:
            logits: As in :meth:`__call__`, as are the others.

        Raises:
            ValueError: Bounds of no constraint here.
        """
        asked = self.asked(bounds)
        logits = two_channels(logits)
        frame = frame or Frame.plain(len(logits), logits.ndim - 2, logits.device)
        probs = logits.softmax(1) if asked else logits
        memo: Memo = {}
        of_slices = [constraint for constraint in asked if constraint.scope == "slice"]
        terms = {c.name: c(probs, bounds[c.name], frame, None, memo=memo) for c in of_slices}
        volumes = [constraint for constraint in self.constraints if constraint.scope == "volume"]
        counts = self.counts(labels, terms, frame)
        for constraint in volumes:
            del counts[constraint.name]
        return Share({c.name: c.totals(probs, frame, memo) for c in volumes if c.name in bounds}, counts)

    @torch.no_grad()
    def counts(
        self, labels: Integer[Tensor, "B *space"], terms: Mapping[str, Term], frame: Frame | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """By what the mean of each part of a loss divides: of all parts, in the same order whatever a batch knows."""
        exact = best_precision(labels.device)
        nothing = torch.zeros((), dtype=exact, device=labels.device)
        found = {"cross_entropy": counted(labels.long() != self.ignore, self.average).to(exact)}
        if self.gated_crf is not None:
            inside = torch.ones_like(labels) if frame is None else (frame.weight > 0).expand_as(labels)
            found["gated_crf"] = inside.sum().to(exact)
        for name in (constraint.name for constraint in self.constraints):
            found[name] = terms[name].bounds.known.sum().to(exact) if name in terms else nothing
        return found

    def over_processes(
        self,
        found: Loss,
        labels: Integer[Tensor, "B *space"],
        frame: Frame | None = None,
        *,
        add: Callable[[Tensor], Tensor],
        count: int,
    ) -> Float[Tensor, ""]:
        """The total of a batch that is one of several processes': their mean is the total of all batches as one.

        Data parallelism averages gradients over the processes. Were each to descend its own total, a mean over its own
        labelled images and known bounds, an image would weigh the more, the less its process knows of its others. All
        processes call it in each step; it adds up a few numbers.

        Args:
            found: Of this process's batch, which holds its volumes as a whole.
            labels: As it was given to :meth:`__call__`, as is ``frame``.
            add: Adds a tensor up over all processes and returns the sum.
            count: How many processes there are.

        Raises:
            ValueError: Proposals, which are found for a whole batch.
        """
        if not self.method.descends_terms:
            raise ValueError(f"{type(self.method).__name__} are found for a whole batch at once, on one process")
        own = self.counts(labels, found.terms, frame)
        of_all = dict(zip(own, add(torch.stack([*own.values()])).unbind(), strict=True))
        parts: list[Tensor] = []
        for name, part in found.parts.items():
            if self.average == "sum" and name != "gated_crf":
                parts.append(part * count)  # nothing was divided
            else:
                share = count * own[name].clamp(min=1) / of_all[name].clamp(min=1)
                parts.append(part * share.to(part.dtype))
        return torch.stack(parts).sum()

    def asked(self, bounds: Mapping[str, Bounds]) -> list[Constraint]:
        """The constraints of which something is known.

        Raises:
            ValueError: There are bounds of no constraint here.
            BoundsError: They are no dictionary, or one of them is no :class:`~boundseg.constraints.Bounds`.
        """
        _require_bounds(bounds)
        asked = [constraint for constraint in self.constraints if constraint.name in bounds]
        if len(asked) < len(bounds):
            known = [constraint.name for constraint in self.constraints]
            unknown = next(name for name in bounds if name not in known)
            raise ValueError(
                f"there are bounds for {unknown!r}, which is no constraint here: {', '.join(known) or 'none'}"
            )
        return asked

    @staticmethod
    def _terms(
        asked: Sequence[Constraint],
        probs: Tensor,
        bounds: Mapping[str, Bounds],
        frame: Frame,
        volumes: Groups | None,
        t: float | Tensor,
        elsewhere: Elsewhere | None,
        totals: dict[str, Totals],
    ) -> dict[str, Term]:
        terms: dict[str, Term] = {}
        memo: Memo = {}  # of one batch: constraints that need the same sums share them
        for constraint in asked:
            name = constraint.name
            if constraint.scope == "slice":
                terms[name] = constraint(probs, bounds[name], frame, None, t, memo)
                continue
            if volumes is None:
                raise ValueError(f"the constraint {name!r} speaks of volumes: give volumes=Groups(…)")
            if elsewhere is None:
                terms[name] = constraint(probs, bounds[name], frame, volumes, t, memo)
                continue
            own = constraint.totals(probs, frame, memo)
            totals[name] = own.detach()
            whole = elsewhere.joined(name, own, volumes)
            terms[name] = constraint.price(whole, bounds[name], volumes.parts, t)
        return terms


def _require_bounds(bounds: object) -> None:
    if not isinstance(bounds, Mapping):
        raise BoundsError(
            f"bounds are a {type(bounds).__name__}.",
            remedy="Give a dictionary: for each constraint's name its Bounds; {} where nothing is known.",
        )
    for name, known in bounds.items():
        if not isinstance(known, Bounds):
            raise BoundsError(
                f"the bounds of {name!r} are a {type(known).__name__}.",
                remedy="Give Bounds(lower, upper), tensors [G, R] each; write an unknown side as -inf or inf.",
            )


def strengths_of(constraints: Sequence[Constraint], strength: float | Mapping[str, float]) -> dict[str, float]:
    """The factor on each constraint: the same on all, or by names, 1 of those that are not named."""
    return {c.name: strength.get(c.name, 1.0) if isinstance(strength, Mapping) else strength for c in constraints}
