"""Proposals as a method: the network learns from the closest distribution that keeps its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints import Groups
from boundseg.constraints.projection import Hardening, LinearForm, Proposal, Stop, ascend, linear_form, project
from boundseg.losses.cross_entropy import averaged, of_log_probs
from boundseg.losses.method import Asked, Predicted, Taught

Solver = Literal["exact", "ascent"]
Targets = Hardening | Literal["soft"]
UNTAUGHT = -1  # in a label map; an ignore label may be the number of a spare output


@dataclass(frozen=True)
class Proposals:
    r"""Cross-entropy to a proposal: the distribution closest to the prediction among those that keep the bounds.

    .. math:: w \cdot H(Q, S), \qquad Q = \arg\min_Q \operatorname{KL}(Q \,\|\, S) \text{ under the bounds}

    (Pathak et al., ICCV 2015). It takes constraints that are linear in the probabilities, all of slices or all of
    volumes: see :func:`~boundseg.constraints.projection.linear_form`. What is labelled keeps its label in the proposal,
    and is taught by the partial cross-entropy as well, in which a few seeds weigh as much as all other pixels do in the
    proposal's; with ``partial=False`` by the proposal alone, as published, which may come closer to full masks or lose
    what is small. Images of which no bound is known, and those whose bounds cannot be kept, are taught by their labels
    alone.

    The penalties of the constraints, and their weights, only report here.

    Args:
        solver: ``exact`` (:func:`~boundseg.constraints.projection.project`), or ``ascent`` as published
            (:func:`~boundseg.constraints.projection.ascend`), which takes one bounded region.
        targets: ``argmax``: the most probable class of each voxel, as published. ``best``: as many of a region's best
            voxels as its size in the proposal. ``soft``: Q itself.
        stop: Of the ascent.
        step: Of the ascent; None: the published one.
        iterations: Of the ascent, at most.
        tolerance: Of the exact solver: the residual at which an image is done.
        weight: w.
        partial: Whether the labels of images that a proposal teaches are taught by the partial cross-entropy as well.

    Raises:
        ValueError: A name that is none of these.
    """

    solver: Solver = "exact"
    targets: Targets = "argmax"
    stop: Stop = "never"
    step: float | None = None
    iterations: int = 500
    tolerance: float = 1e-5
    weight: float = 1.0
    partial: bool = True

    descends_terms = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("solver", self.solver, get_args(Solver)),
            ("targets", self.targets, (*get_args(Hardening), "soft")),
            ("stop", self.stop, get_args(Stop)),
        ):
            if value not in known:
                raise ValueError(f"{name} = {value!r}: choose one of {', '.join(known)}")

    def __call__(self, asked: Asked) -> Taught:
        """What a batch's constraints add to its loss.

        Raises:
            ValueError: Constraints that are not linear, or speak of slices and of volumes; several regions for the
                ascent.
        """
        if not asked.constraints:
            return Taught({})
        batch = _batch(asked)
        scopes = {constraint.scope for constraint in asked.constraints}
        if len(scopes) > 1:
            raise ValueError("proposals keep bounds of slices or bounds of volumes, and these constraints have both")
        groups = batch.groups(scopes.pop())
        form = linear_form(
            asked.constraints,
            [asked.terms[constraint.name].bounds for constraint in asked.constraints],
            batch.frame,
            groups,
            batch.logits.shape[2:],
        )
        proposal = self.propose(batch, form, groups)
        known = form.bounds.known.any(1) | form.contradictory
        kept = proposal.feasible.all(1) & ~form.contradictory
        # the published training learns from what the ascent left, whatever that is
        taught = known & kept if self.solver == "exact" else known
        images = taught[groups.index]
        cost = self._cross_entropy(batch, proposal, images)
        count = known.sum()
        figures = {
            "proposal": (cost.detach(), torch.ones_like(cost)),
            "proposal feasible": ((known & kept).sum(), count),
            "proposal residual": (proposal.residual.where(known & kept, 0).sum(), (known & kept).sum()),
        }
        strength = max(asked.strengths.values())
        costs = {"proposal": self.weight * strength * cost}
        # before a warm-up has begun, labels are all that teaches
        return Taught(costs, figures, None if self.partial or strength == 0 else images)

    def propose(self, batch: Predicted, form: LinearForm, groups: Groups) -> Proposal:
        """The proposal of a batch.

        Raises:
            ValueError: Several regions for the ascent.
        """
        if self.solver == "exact":
            return project(
                batch.logits,
                form.bounds,
                form.regions,
                frame=batch.frame,
                groups=groups,
                labels=batch.labels,
                ignore=batch.ignore,
                potentials=form.potentials,
                tolerance=self.tolerance,
            )
        if len(form.regions) > 1:
            raise ValueError(f"the ascent takes one bounded region, and there are {len(form.regions)}: use exact")
        return ascend(
            batch.logits,
            form.bounds,
            form.regions[0],
            frame=batch.frame,
            groups=groups,
            labels=batch.labels,
            ignore=batch.ignore,
            stop=self.stop,
            step=self.step,
            iterations=self.iterations,
        )

    def _cross_entropy(self, batch: Predicted, proposal: Proposal, taught: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
        """Over all pixels of the case, in the images that are taught."""
        inside = (batch.frame.weight > 0).expand_as(batch.labels)
        here = inside & taught.reshape(-1, *([1] * (inside.ndim - 1)))
        if self.targets != "soft":
            labels = proposal.harden(self.targets).where(here, UNTAUGHT)
            return of_log_probs(batch.log_probs, labels, UNTAUGHT, batch.average)
        nats = -(batch.log_probs * proposal.probs).sum(1)
        return averaged(nats.where(here, 0), here, batch.average)


def _batch(asked: Asked) -> Predicted:
    assert asked.predicted is not None, "an objective refuses proposals for divided batches"
    return asked.predicted
