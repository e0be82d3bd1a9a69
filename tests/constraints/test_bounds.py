import pytest
import torch
from hypothesis import given
from torch import Tensor

from boundseg.constraints import Bounds
from boundseg.errors import BoundsError
from tests.constraints.cases import values_and_bounds

INF = torch.inf


@given(values_and_bounds())
def test_a_violation_is_signed_and_zero_exactly_inside(case: tuple[Tensor, Bounds]) -> None:
    value, bounds = case
    violation = bounds.violation(value)
    assert ((violation < 0) == (value < bounds.lower)).all()
    assert ((violation > 0) == (value > bounds.upper)).all()
    assert (bounds.satisfied(value) == (violation == 0)).all()


@given(values_and_bounds())
def test_moving_a_value_by_its_violation_satisfies_its_bounds(case: tuple[Tensor, Bounds]) -> None:
    value, bounds = case
    assert bounds.satisfied(value - bounds.violation(value), tolerance=1e-8).all()


def test_the_mean_counts_known_values_only_and_is_0_where_there_are_none() -> None:
    bounds = Bounds(torch.tensor([-INF, 1.0, -INF]), torch.tensor([INF, INF, 0.0]))
    assert bounds.mean(torch.tensor([100.0, 2.0, 4.0])) == 3
    cost = torch.ones(2, requires_grad=True)
    mean = Bounds.unknown(2).mean(cost)
    mean.backward()
    assert mean == 0
    assert torch.equal(cost.grad, torch.zeros(2))


def test_totals_of_parts_make_the_mean_of_the_whole() -> None:
    bounds = Bounds(torch.tensor([[0.0], [-INF], [2.0]]), torch.tensor([[1.0], [INF], [INF]]))
    cost = torch.tensor([[3.0], [8.0], [5.0]])
    parts = [Bounds(bounds.lower[i : i + 1], bounds.upper[i : i + 1]).total(cost[i : i + 1]) for i in range(3)]
    assert sum(t for t, _ in parts) / sum(c for _, c in parts) == bounds.mean(cost)


def test_of_a_part_only_upper_bounds_of_what_grows_remain() -> None:
    bounds = Bounds(torch.tensor([[10.0, 10.0]]), torch.tensor([[20.0, 20.0]]))
    whole = torch.tensor([[True, False]])
    seen = bounds.seen_in_part(whole, grows=True)
    assert seen.lower.tolist() == [[10, -INF]]
    assert seen.upper.tolist() == [[20, 20]]
    assert bounds.seen_in_part(whole, grows=False).upper.tolist() == [[20, INF]]


@pytest.mark.parametrize(
    ("lower", "upper", "text"),
    [
        ([0.0, 812.0], [1.0, 640.0], r"bounds \[1\]: the lower bound 812 exceeds the upper bound \(upper bound 640\)"),
        ([float("nan")], [1.0], "is NaN"),
        ([0.0], [float("nan")], "is NaN"),
        ([0.0, 1.0], [1.0], "same shape"),
    ],
)
def test_impossible_bounds_are_refused(lower: list[float], upper: list[float], text: str) -> None:
    with pytest.raises(BoundsError, match=text):
        Bounds(torch.tensor(lower), torch.tensor(upper))
