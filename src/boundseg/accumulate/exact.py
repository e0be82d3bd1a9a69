"""The gradient of a batch that does not fit into memory: once over its chunks without gradient, once with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from boundseg.accumulate.chunk import Chunk
from boundseg.accumulate.gathered import NOBODY, Gathered, Part, gather
from boundseg.accumulate.ranks import Ranks
from boundseg.accumulate.replay import Randomness, copied, put_back
from boundseg.accumulate.streaming import Streaming
from boundseg.constraints import Bounds, Frame, Groups, Scope, Term
from boundseg.losses import Asked, Elsewhere, Loss, Objective, Rows
from boundseg.losses.objective import strengths_of


@dataclass(frozen=True)
class Step:
    """What a loop logs of a step, and gives to multipliers.

    Attributes:
        loss: That of the whole step, as one batch would have had it; constants. On several processes the terms of
            slices are this process's own, those of volumes are of all; the mean of every figure (or the ratio of the
            sums of total and count) over the processes is that of one.
        rows: Which slices and volumes the terms speak of.
        images: How many this process saw.
    """

    loss: Loss
    rows: Rows
    images: int


def accumulate(
    model: nn.Module,
    objective: Objective,
    chunks: Sequence[Callable[[], Chunk]],
    *,
    strength: float | Mapping[str, float] = 1.0,
    t: float | Tensor = 5.0,
    forward: Callable[[Chunk], Tensor] | None = None,
    backward: Callable[[Tensor], object] = torch.autograd.backward,
    seen: Callable[[Tensor, Loss], object] | None = None,
    memory: Streaming | None = None,
    ranks: Ranks | None = None,
) -> Step:
    r"""Adds the gradient of a whole batch to the parameters, with one chunk of it in memory at a time.

    A volume's penalty is :math:`C(\sum_i s_i(\theta))` over its slices i. With :math:`S = \sum_i s_i` known from a
    first pass without gradient, :math:`\nabla C = \sum_i C'(S) \nabla s_i`: each chunk gives its part by itself.
    Means divide by what all chunks count. Nothing is approximated: the gradient is that of one batch, as far as the
    network treats images alike in it (batch-norm normalises each chunk by itself, as in any plain pass over chunks).

    The last chunk keeps its graph from the first pass, so that a step of n chunks takes 2 n − 1 forward and n backward
    passes, and a step of one chunk is a plain one. Chunks are made twice: their random numbers (those of torch, on the
    CPU and on the device) are drawn again as they were, buffers of the network begin from where they were, and both
    are afterwards what one pass leaves.

    Args:
        model: The network, in the mode in which it is trained.
        objective: What it descends; not proposals, which need their batch at once (one chunk will do).
        chunks: Each makes a chunk, on the model's device. What it draws comes from torch's generators.
        strength: As in :class:`~boundseg.losses.Objective`, as is ``t``.
        forward: Logits of a chunk. Default: ``model(chunk.images)``.
        backward: Called with each chunk's loss, as ``fabric.backward``.
        seen: Told of each chunk's logits and loss before that.
        memory: What was seen last of volumes of which the only chunk holds a part.
        ranks: The processes that share the step; each brings one chunk or more, see :func:`nothing_of`.

    Raises:
        ValueError: No chunk, proposals of several, a memory for several, chunks that do not say which volumes they
            hold, or volumes in 3D parts without a halo where a descriptor looks at neighbours.
        BoundsError: Chunks (of any process) know different bounds of a volume.
    """
    if not chunks:
        raise ValueError("a step without chunks: a process that has nothing brings nothing_of(…) a chunk")
    forward = forward or (lambda chunk: cast(Tensor, model(chunk.images)))
    divided = len(chunks) > 1 or ranks is not None
    if divided and not objective.method.descends_terms:
        raise ValueError(
            f"{type(objective.method).__name__} are found for a whole batch at once: give one chunk, not "
            f"{len(chunks)}, on one process"
        )
    if divided and memory is not None:
        raise ValueError("a memory stands in for what a step does not hold: give one chunk, on one process")
    world = 1 if ranks is None else ranks.count
    descend = _Descent(objective, strength, t, backward, seen, world)
    if not divided:
        chunk = chunks[0]()
        rest = None if memory is None else memory.elsewhere(chunk)
        loss = descend(chunk, forward(chunk), chunk.bounds, rest)
        if memory is not None:
            memory.remember(chunk, loss)
        return Step(_constant(loss), chunk.rows or {}, len(chunk.images))

    def holding(more: bool) -> AbstractContextManager[object]:
        """Gradients are averaged over processes with the last chunk that is descended."""
        return ranks.hold() if ranks is not None and more else nullcontext()

    device, buffers, last = next(model.parameters()).device, list(model.buffers()), len(chunks) - 1
    before = copied(buffers) if last else []
    draws: list[Randomness] = []
    parts: list[Part] = []
    with torch.no_grad():
        for make in chunks[:last]:
            draws.append(Randomness.now(device))
            chunk = make()
            parts.append(_part(objective, chunk, forward(chunk)))
    with holding(more=last > 0):
        chunk = chunks[last]()
        logits = forward(chunk)
        parts.append(_part(objective, chunk, logits.detach()))
        gathered = gather(objective.constraints, parts, t, ranks)
        bounds, rest = gathered.of_chunk(last, chunk.bounds), gathered.elsewhere(last, parts[last])
        losses = {last: _constant(descend(chunk, logits, bounds, rest))}
    del logits  # and with it the graph of the last chunk, before the next is made
    if last:
        ended, after = Randomness.now(device), copied(buffers)
        put_back(buffers, before)
        for index, make in enumerate(chunks[:last]):
            draws[index].restore()
            with holding(more=index < last - 1):
                chunk = make()
                bounds, rest = gathered.of_chunk(index, chunk.bounds), gathered.elsewhere(index, parts[index])
                losses[index] = _constant(descend(chunk, forward(chunk), bounds, rest))
        put_back(buffers, after)
        ended.restore()
    return _whole(objective, [losses[index] for index in range(len(chunks))], parts, gathered, strength, world)


@dataclass(frozen=True)
class _Descent:
    """Backward of one chunk; what it returns holds the graph's numbers and no graph that is needed."""

    objective: Objective
    strength: float | Mapping[str, float]
    t: float | Tensor
    backward: Callable[[Tensor], object]
    seen: Callable[[Tensor, Loss], object] | None
    world: int

    def __call__(self, chunk: Chunk, logits: Tensor, bounds: Mapping[str, Bounds], elsewhere: Elsewhere | None) -> Loss:
        loss = self.objective(
            logits,
            chunk.labels,
            bounds,
            chunk.frame,
            chunk.volumes,
            self.strength,
            self.t,
            chunk.images,
            chunk.rows,
            elsewhere,
        )
        if self.seen is not None:
            self.seen(logits, loss)
        self.backward(loss.total * self.world if self.world > 1 else loss.total)
        return loss


def _part(objective: Objective, chunk: Chunk, logits: Tensor) -> Part:
    of_volumes = [c for c in objective.asked(chunk.bounds) if c.scope == "volume"]
    volumes = chunk.volumes
    if of_volumes and volumes is None:
        raise ValueError(
            f"the constraint {of_volumes[0].name!r} speaks of volumes: give chunks their volumes=Groups(…)"
        )
    rows = (chunk.rows or {}).get("volume")
    if of_volumes and rows is None:
        raise ValueError(
            f"the constraint {of_volumes[0].name!r} speaks of volumes, which may be spread over chunks: "
            'give each chunk rows={"volume": …}, the number of each of its volumes'
        )
    if volumes is None:
        volumes = Groups.each(len(logits), logits.device)
    for constraint in of_volumes:
        if constraint.descriptor.traits.neighbours and logits.ndim > 4:
            _require_halo(constraint.name, chunk.frame, volumes)
    return Part(
        objective.share(logits, chunk.labels, chunk.bounds, chunk.frame),
        volumes,
        chunk.bounds,
        torch.arange(len(volumes.parts), device=logits.device) if rows is None else rows,
        (chunk.rows or {}).get("slice"),
        len(chunk.images),
    )


def _require_halo(name: str, frame: Frame | None, volumes: Groups) -> None:
    if (frame is None or not any(frame.halo)) and (volumes.parts > 1).any():
        raise ValueError(
            f"{name} looks at a voxel's neighbours, and its volumes are cut into several 3D images: give their frame "
            "a halo of 1 along the axes that are cut, or what lies between two of them is not measured"
        )


def _whole(
    objective: Objective,
    losses: Sequence[Loss],
    parts: Sequence[Part],
    gathered: Gathered,
    strength: float | Mapping[str, float],
    world: int,
) -> Step:
    """What the parts add up to."""
    real = (gathered.numbers != NOBODY).nonzero().flatten()
    rows: dict[Scope, Tensor] = {"volume": gathered.numbers[real]} if gathered.terms else {}
    of_slices = [c for c in objective.constraints if c.scope == "slice" and c.name in losses[0].terms]
    terms: dict[str, Term] = {c.name: Term.concatenate([loss.terms[c.name] for loss in losses]) for c in of_slices}
    numbers = [part.slices for part in parts if part.slices is not None]
    if len(numbers) == len(parts):
        rows["slice"] = torch.cat(numbers)
        ours = (rows["slice"] != NOBODY).nonzero().flatten()
        rows["slice"] = rows["slice"][ours]
        terms = {name: term.rows(ours) for name, term in terms.items()}
    terms |= {name: term.rows(real) for name, term in gathered.terms.items()}
    constraints = [c for c in objective.constraints if c.name in terms]
    others = {c.name: gathered.counts[c.name] - gathered.own[c.name] for c in of_slices}
    strengths = strengths_of(constraints, strength)
    taught = objective.method(Asked(constraints, terms, strengths, rows, elsewhere=others, average=objective.average))
    # of slices, each process has a share of the mean; their mean over the processes is to be that of one process
    shared = {c.name for c in of_slices}
    costs = {name: cost * (world if name in shared else 1) for name, cost in taught.costs.items()}
    cross_entropy = world * torch.stack([loss.cross_entropy for loss in losses]).sum()
    made_of = {"cross_entropy": cross_entropy, **{n: cost.to(cross_entropy.dtype) for n, cost in costs.items()}}
    energy = None
    if objective.gated_crf is not None:
        energy = world * torch.stack([cast(Tensor, loss.gated_crf) for loss in losses]).sum()
        made_of["gated_crf"] = objective.gated_crf.weight * energy
    total = torch.stack([*made_of.values()]).sum()
    loss = Loss(total, cross_entropy, terms, energy, taught.figures, made_of)
    return Step(loss, rows, sum(part.images for part in parts))


def _constant(loss: Loss) -> Loss:
    return Loss(
        loss.total.detach(),
        loss.cross_entropy.detach(),
        {name: term.detach() for name, term in loss.terms.items()},
        None if loss.gated_crf is None else loss.gated_crf.detach(),
        loss.figures,
        {name: part.detach() for name, part in loss.parts.items()},
        loss.totals,
    )
