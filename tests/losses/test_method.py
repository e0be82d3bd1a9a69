"""Penalties and multipliers as methods: the same terms, priced in two ways."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from boundseg.constraints import Bounds, Centroid, Constraint, Groups, Multipliers, Size, huber
from boundseg.losses import Lagrangian, Objective

SIDE = 16


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.full((3, SIDE, SIDE), 255)
    labels[:, 8, 8] = 1
    return torch.randn(3, 2, SIDE, SIDE, requires_grad=True), labels


def bounds(lower: float, upper: float) -> dict[str, Bounds]:
    lowers = torch.tensor([[lower], [-torch.inf], [0.0]])
    return {"size": Bounds(lowers, torch.tensor([[upper], [upper], [0.0]]))}


ROWS = {"slice": torch.tensor([4, 0, 2])}


def test_the_augmented_lagrangian_begins_as_the_quadratic_penalty() -> None:
    logits, labels = batch()
    size = Constraint("size", Size(), ((1,),), weight=0.3)
    method = Lagrangian(Multipliers({"size": (5, 1)}), rate=2.0, coefficient=2.0)
    known = bounds(90.0, 110.0)
    penalty = Objective(255, [size])(logits, labels, known)
    augmented = Objective(255, [size], method=method)(logits, labels, known, rows=ROWS)
    torch.testing.assert_close(augmented.total, penalty.total)
    (theirs,) = torch.autograd.grad(penalty.total, logits)
    (ours,) = torch.autograd.grad(augmented.total, logits)
    torch.testing.assert_close(ours, theirs)


def test_multipliers_price_by_the_unit_of_the_term() -> None:
    logits, labels = batch()
    centre = Constraint("centre", Centroid(axis=0), ((1,),), penalty=huber, scale=4.0, weight=0.1)
    multipliers = Multipliers({"centre": (3, 1)})
    multipliers.of("centre")[:] = 1.5
    known = {"centre": Bounds.at_most(torch.tensor([[2.0], [2.0], [torch.inf]]))}
    loss = Objective(255, [centre], method=Lagrangian(multipliers, 1.0))(
        logits, labels, known, rows={"slice": torch.arange(3)}
    )
    value = loss.terms["centre"].value[:2]
    torch.testing.assert_close(loss.total - loss.cross_entropy, 0.1 * (1.5 * (value - 2) / 4).mean())


def test_the_dual_step_raises_the_rows_of_the_batch() -> None:
    logits, labels = batch()
    size = Constraint("size", Size(), ((1,),))
    method = Lagrangian(Multipliers({"size": (5, 1)}), rate=0.5)
    loss = Objective(255, [size], method=method)(logits, labels, bounds(500.0, 600.0), rows=ROWS)
    method.ascend([size], loss.terms, ROWS)
    lower, upper = method.multipliers.of("size")
    value = loss.terms["size"].value[:, 0]
    per_violation = 0.5 / SIDE  # the quadratic penalty's scale is SIDE² pixels
    torch.testing.assert_close(lower[4, 0], per_violation * (500 - value[0]))
    torch.testing.assert_close(upper[2, 0], per_violation * value[2])
    assert lower[[0, 1, 2, 3]].eq(0).all() and upper[[0, 1, 3, 4]].eq(0).all()


def test_volumes_have_rows_of_their_own() -> None:
    logits, labels = batch()
    size = Constraint("size", Size(), ((1,),), scope="volume")
    volumes = Groups(torch.tensor([0, 0, 1]), torch.tensor([2, 1]))
    method = Lagrangian(Multipliers({"size": (7, 1)}), rate=1.0)
    rows = {"slice": torch.arange(3), "volume": torch.tensor([6, 3])}
    known = {"size": Bounds.at_most(torch.tensor([[10.0], [20.0]]))}
    loss = Objective(255, [size], method=method)(logits, labels, known, volumes=volumes, rows=rows)
    method.ascend([size], loss.terms, rows)
    assert method.multipliers.of("size")[1, :, 0].nonzero().flatten().tolist() == [3, 6]


def test_multipliers_end_on_the_bound_where_a_penalty_ends_beside_it() -> None:
    """One free image whose labels pull against its bound."""

    def trained(method: Lagrangian | None) -> float:
        logits = torch.zeros(1, 2, SIDE, SIDE, requires_grad=True)
        labels = torch.ones(1, SIDE, SIDE, dtype=torch.long)
        size = Constraint("size", Size(), ((1,),), weight=1.0)
        objective = Objective(255, [size], **({} if method is None else {"method": method}))
        known = {"size": Bounds.at_most(torch.tensor([[100.0]]))}
        rows = {"slice": torch.tensor([0])}
        optimizer = torch.optim.Adam([logits], lr=0.05)
        loss = objective(logits, labels, known, rows=rows)
        for step in range(1, 801):
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            if method is not None and step % 40 == 0:  # as a slice is seen once an epoch
                method.ascend([size], loss.terms, rows)
            loss = objective(logits, labels, known, rows=rows)
        return loss.terms["size"].value.item()

    beside = trained(None) - 100
    augmented = trained(Lagrangian(Multipliers({"size": (1, 1)}), rate=2.0, coefficient=2.0)) - 100
    assert beside > 0.5
    assert abs(augmented) < 0.02 * beside


def test_what_is_missing_is_told() -> None:
    logits, labels = batch()
    size = Constraint("size", Size(), ((1,),))
    objective = Objective(255, [size], method=Lagrangian(Multipliers({"size": (5, 1)}), 1.0))
    with pytest.raises(ValueError, match="'size' belong to single slices: give rows"):
        objective(logits, labels, bounds(1.0, 2.0))


def test_figures_are_the_multipliers_of_known_bounds() -> None:
    logits, labels = batch()
    size = Constraint("size", Size(), ((1,),))
    multipliers = Multipliers({"size": (3, 1)})
    multipliers.of("size")[1] = torch.tensor([[1.0], [2.0], [6.0]])
    known = {"size": Bounds.at_most(torch.tensor([[10.0], [torch.inf], [10.0]]))}
    rows = {"slice": torch.arange(3)}
    loss = Objective(255, [size], method=Lagrangian(multipliers, 1.0))(logits, labels, known, rows=rows)
    total, count = loss.figures["multiplier: size"]
    assert float(total) == 7 and float(count) == 2
