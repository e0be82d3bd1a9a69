"""What is added up and then priced is what was priced at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from boundseg.constraints import Bounds, Constraint, Groups
from tests.constraints.cases import DESCRIPTORS, situation, slices

REGIONS = ((1,), (2,), (1, 2), (3,))


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_totals_of_parts_are_priced_as_the_whole(name: str) -> None:
    """Each descriptor, on slices of two volumes that are added up in two parts; one slice is seen in part."""
    row = DESCRIPTORS[name]
    case, groups = slices(situation((5, 6, 4)))
    whole = torch.ones(len(case.probs), 4, dtype=torch.bool)
    whole[0, 2] = False
    frame = replace(case.frame, whole=whole)
    constraint = Constraint("it", row.make(2 if row.surface else 3), REGIONS, "volume", scale=1.0)
    value = constraint.measure(case.probs, frame, groups)
    bounds = Bounds(value + 1, value + 2)
    at_once = constraint(case.probs, bounds, frame, groups)
    first = torch.arange(len(case.probs)) % 3 == 0
    added = None
    for part in (first, ~first):
        index = part.nonzero().flatten()
        of_part = replace(case.images(index).frame, whole=whole[index])
        totals = constraint.totals(case.probs[index], of_part).grouped(Groups(groups.index[index], groups.parts))
        added = totals if added is None else added + totals
    assert added is not None
    term = constraint.price(added, bounds, groups.parts)
    torch.testing.assert_close(term.value, at_once.value)
    torch.testing.assert_close(term.cost, at_once.cost)
    torch.testing.assert_close(term.tolerance, at_once.tolerance, check_dtype=False)
    assert torch.equal(term.bounds.known, at_once.bounds.known) and torch.equal(term.defined, at_once.defined)
    assert torch.equal(term.bounds.lower, at_once.bounds.lower)


def test_packed_is_unpacked() -> None:
    case, groups = slices(situation((5, 6, 4)))
    constraint = Constraint("size", DESCRIPTORS["centroid"].make(2), REGIONS, "volume")
    totals = constraint.totals(case.probs, case.frame)
    again = totals.unpacked(totals.packed())
    for name in ("sums", "images", "voxels", "cut", "amount"):
        assert torch.equal(getattr(again, name), getattr(totals, name)), name
    none = totals.grouped(groups) - totals.grouped(groups)
    assert not none.packed().any()


def test_rows_of_terms() -> None:
    case, _ = slices(situation((5, 6, 4)))
    constraint = Constraint("size", DESCRIPTORS["centroid"].make(2), REGIONS, scale=2.0)
    bounds = Bounds.at_most(torch.zeros(8, 4, *constraint.measure(case.probs, case.frame, Groups.each(8)).shape[2:]))
    term = constraint(case.probs, bounds, case.frame)
    parts = [term.rows(torch.tensor([0, 1, 2])), term.rows(torch.arange(3, 8))]
    together = type(term).concatenate(parts)
    assert torch.equal(together.cost, term.cost) and torch.equal(together.mean, term.mean)
    assert torch.equal(together.satisfied, term.satisfied)
    assert together.unit.shape == term.value.shape
