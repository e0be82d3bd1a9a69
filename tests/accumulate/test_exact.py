"""A gradient in chunks is the gradient of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from boundseg.accumulate import accumulate
from boundseg.constraints import Bounds, Multipliers
from boundseg.gated_crf import GatedCrf
from boundseg.losses import Lagrangian, Loss, Objective
from boundseg.networks import build

from .cases import IGNORE, WANTED, Images, constraints, cut, difference, gradient, network, some, step

EQUAL = 1e-5


def at_once(
    model: nn.Module, objective: Objective, batch: Images, size: int, asked: Iterable[str], noise: float = 0.0
) -> Loss:
    """The same chunks with all graphs kept: one loss of all logits, and one backward pass.

    The network is float32 as ours, the loss float64: in float32, a mean's own rounding is up to 3e-5 of its gradient
    where regions lie 40 voxels from the case's first one.
    """
    chunks: list[Images] = []
    logits: list[Tensor] = []
    for make in cut(batch, size, asked, noise):
        chunks.append(make())
        logits.append(model(chunks[-1].images))
    whole = some(batch, torch.arange(len(batch.images)), asked)
    images = torch.cat([chunk.images for chunk in chunks])
    loss = objective(
        torch.cat(logits).double(), whole.labels, whole.bounds, whole.frame, whole.volumes, 0.7, 5.0, images, whole.rows
    )
    loss.total.backward()
    return loss


def require_same_step(
    objective: Objective, batch: Images, size: int, model: nn.Module, twin: nn.Module, noise: float = 0.0
) -> None:
    asked = [constraint.name for constraint in objective.constraints]
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(2)
    whole = at_once(twin, objective, batch, size, asked, noise)
    drawn_next = torch.rand(3)
    torch.manual_seed(2)
    found = accumulate(model, objective, cut(batch, size, asked, noise), strength=0.7)
    assert torch.equal(torch.rand(3), drawn_next)
    assert difference(gradient(model), gradient(twin)) < EQUAL
    for (name, ours), theirs in zip(model.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    require_same_figures(found.loss, whole)


def require_same_figures(ours: Loss, theirs: Loss) -> None:
    torch.testing.assert_close(ours.total, theirs.total.detach(), check_dtype=False)
    torch.testing.assert_close(ours.cross_entropy, theirs.cross_entropy.detach(), check_dtype=False)
    if theirs.gated_crf is not None:
        torch.testing.assert_close(ours.gated_crf, theirs.gated_crf.detach(), check_dtype=False)
    assert ours.parts.keys() == theirs.parts.keys() and ours.terms.keys() == theirs.terms.keys()
    for name, part in theirs.parts.items():
        torch.testing.assert_close(ours.parts[name], part.detach(), check_dtype=False, msg=name)
    for name, term in theirs.terms.items():
        mine = ours.terms[name]
        torch.testing.assert_close(mine.value, term.value.detach(), check_dtype=False, rtol=1e-4, atol=1e-4, msg=name)
        torch.testing.assert_close(mine.cost, term.cost.detach(), check_dtype=False, rtol=1e-4, atol=1e-5, msg=name)
        assert torch.equal(mine.bounds.known, term.bounds.known), name
        assert torch.equal(mine.satisfied, term.satisfied), name
    for name, (total, count) in theirs.figures.items():
        torch.testing.assert_close(ours.figures[name][0], total, check_dtype=False)
        torch.testing.assert_close(ours.figures[name][1], count, check_dtype=False)


@pytest.mark.parametrize("size", [1, 3, 7, 99])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_chunks_have_the_gradient_of_all_graphs_at_once(size: int, norm: str) -> None:
    """Two volumes whose slices share chunks, bounds of slices and volumes, some labels, dropout and augmentation."""
    objective = Objective(IGNORE, constraints(), gated_crf=GatedCrf(0.1, radius=1))
    require_same_step(objective, step([5, 6]), size, network(norm), network(norm), noise=0.1)


@pytest.mark.parametrize("average", ["batch", "sum"])
def test_in_every_average(average: str) -> None:
    objective = Objective(IGNORE, constraints(), average=average)  # type: ignore[arg-type]
    require_same_step(objective, step([5, 6]), 3, network(), network())


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_each_descriptor_by_itself(name: str, mode: str) -> None:
    model, twin = network(dropout=0.0), network(dropout=0.0)
    model.train(mode == "train"), twin.train(mode == "train")
    require_same_step(Objective(IGNORE, constraints([name], of_slices=False)), step([7]), 3, model, twin)


@pytest.mark.parametrize("size", [1, 3, 7, 99])
def test_chunks_have_the_gradient_of_one_batch(size: int) -> None:
    """Where the network treats each image by itself, it is that of one forward pass of the whole batch."""
    for model in (network("group", dropout=0.0), network("batch", dropout=0.0).eval()):
        objective, batch = Objective(IGNORE, constraints()), step([4, 7])
        asked = [constraint.name for constraint in objective.constraints]
        at_once(model, objective, batch, 99, asked)
        theirs = gradient(model)
        model.zero_grad()
        accumulate(model, objective, cut(batch, size, asked), strength=0.7)
        assert difference(gradient(model), theirs) < EQUAL


@pytest.mark.parametrize("size", [1, 3])
def test_volumes_in_patches(size: int) -> None:
    objective = Objective(IGNORE, constraints(of_slices=False))
    batch = step([4, 3], (6, 5, 4))
    require_same_step(objective, batch, size, network(dims=3), network(dims=3))


def test_enet() -> None:
    models = [build("enet", 1, 3) for _ in range(2)]
    require_same_step(Objective(IGNORE, constraints()), step([3, 2], (16, 16)), 2, *models)


@pytest.mark.parametrize("coefficient", [None, 2.0])
def test_multipliers_ascend_once_by_the_whole(coefficient: float | None) -> None:
    batch, model, twin = step([5, 6]), network(), network()
    asked = constraints()
    shapes = {"slice size": [20, 1], "slice centre": [20, 1], "size": [3, 2], "centre": [3, 2, 3], "spread": [3, 2, 3]}
    shapes |= {"light": [3, 2], "contrast": [3, 2]}
    methods = [Lagrangian(Multipliers(shapes), 0.5, coefficient) for _ in range(2)]
    names = [constraint.name for constraint in asked]
    for _ in range(2):
        model.zero_grad(), twin.zero_grad()
        torch.manual_seed(3)
        whole = at_once(twin, Objective(IGNORE, asked, method=methods[0]), batch, 3, names)
        methods[0].ascend(asked, whole.terms, batch.rows)
        torch.manual_seed(3)
        found = accumulate(model, Objective(IGNORE, asked, method=methods[1]), cut(batch, 3, names), strength=0.7)
        methods[1].ascend(asked, found.loss.terms, found.rows)
        assert difference(gradient(model), gradient(twin)) < EQUAL
        require_same_figures(found.loss, whole)
    for name in names:
        torch.testing.assert_close(methods[1].multipliers.of(name), methods[0].multipliers.of(name))


@pytest.mark.parametrize("size", [3, 99])
def test_constraints_that_a_strength_does_not_name_have_all_of_theirs(size: int) -> None:
    objective, batch, model = Objective(IGNORE, constraints()), step([5, 6]), network("group", dropout=0.0)
    names = [constraint.name for constraint in objective.constraints]
    every = dict.fromkeys(names, 1.0) | {"size": 0.3}
    found = [accumulate(model, objective, cut(batch, size, names), strength=s).loss for s in ({"size": 0.3}, every)]
    require_same_figures(*found)


def test_one_row_of_bounds_may_be_that_of_all_slices() -> None:
    """A common bound, for each chunk as for the whole."""
    batch, model = step([5, 6]), network("group", dropout=0.0)
    common = {"slice size": Bounds.at_most(torch.tensor([[15.0]]))}
    objective = Objective(IGNORE, constraints([]))
    whole = objective(model(batch.images), batch.labels, common, batch.frame, batch.volumes)
    (theirs,) = torch.autograd.grad(whole.total, [model[0].weight])
    made = [lambda make=make: replace(make(), bounds=common) for make in cut(batch, 4, [])]
    found = accumulate(model, objective, made)
    torch.testing.assert_close(model[0].weight.grad, theirs)
    torch.testing.assert_close(found.loss.total, whole.total.detach())


@pytest.mark.parametrize(("below", "above"), [([0], [0]), ([2], [2]), ([1], [0, 2]), ([0, 2], [])])
def test_what_one_chunk_knows_of_a_volume_holds_for_all(below: list[int], above: list[int]) -> None:
    """Whichever chunks say it; the others' slices are part of the volume all the same."""
    objective, batch, model = Objective(IGNORE, constraints(["size"], of_slices=False)), step([6]), network()
    wanted = Bounds(torch.tensor([[3.0, 0.4]]), torch.tensor([[4.0, 0.5]]))  # too small, and too large
    batch = replace(batch, bounds={"size": wanted})
    whole = cut(batch, 2, ["size"])

    def told(index: int, lower: bool, upper: bool) -> Images:
        chunk = whole[index]()
        size = chunk.bounds["size"]
        of_side = [
            side if known else unknown
            for side, unknown, known in (
                (size.lower, torch.full((1, 2), -torch.inf), lower),
                (size.upper, torch.full((1, 2), torch.inf), upper),
            )
        ]
        return replace(chunk, bounds={"size": Bounds(*of_side)})

    losses, gradients = [], []
    for knows in ([(bool(below), bool(above))] * 3, [(i in below, i in above) for i in range(3)]):
        model.zero_grad()
        torch.manual_seed(0)
        found = accumulate(model, objective, [partial(told, i, *knows[i]) for i in range(3)])
        losses.append(found.loss)
        gradients.append(gradient(model))
    assert losses[0].terms["size"].cost.sum() > 0
    require_same_figures(losses[1], losses[0])
    assert difference(gradients[1], gradients[0]) < EQUAL
