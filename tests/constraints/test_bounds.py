import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import SIZE_UNITS, Bounds, Frame, Size, converted, quadratic
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


@pytest.mark.parametrize("shape", [(3,), (1, 3), (4, 3)])
def test_bounds_that_all_images_share_cost_what_the_same_bounds_of_each_do(shape: tuple[int, ...]) -> None:
    lower, upper = torch.tensor([-INF, 0.0, 100.0]), torch.tensor([INF, 50.0, 120.0])
    bounds = Bounds(lower.expand(shape), upper.expand(shape))
    value = torch.arange(12.0).reshape(4, 3) * 20
    cost = quadratic(value, bounds)
    by_hand = [
        max(0, a - v, v - b) ** 2
        for row in value.tolist()
        for v, a, b in zip(row[1:], [0, 100], [50, 120], strict=True)
    ]
    torch.testing.assert_close(bounds.mean(cost), torch.tensor(by_hand).mean())
    assert bounds.total(cost)[1] == 8


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


@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.parametrize("shape", [(), (1, 1), (1, 2), (3, 1)])
def test_bounds_that_groups_share_become_those_of_each(shape: tuple[int, ...], grows: bool) -> None:
    whole = torch.tensor([[True, False], [True, True], [False, False]])
    bounds = Bounds(torch.full(shape, 10.0), torch.full(shape, 20.0))
    seen = bounds.seen_in_part(whole, grows=grows)
    full = Bounds(torch.full((3, 2), 10.0), torch.full((3, 2), 20.0)).seen_in_part(whole, grows=grows)
    assert torch.equal(seen.lower, full.lower)
    assert torch.equal(seen.upper, full.upper)


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


def test_around_is_a_value_and_both_margins() -> None:
    bounds = Bounds.around(torch.tensor([100.0, -20.0, 0.0]), relative=0.1, absolute=1.0)
    torch.testing.assert_close(bounds.lower, torch.tensor([89.0, -23.0, -1.0]))
    torch.testing.assert_close(bounds.upper, torch.tensor([111.0, -17.0, 1.0]))
    equal = Bounds.around(torch.tensor([7.0]))
    assert equal.lower == equal.upper == 7
    with pytest.raises(BoundsError, match=r"bounds \[1\]: the lower bound nan is NaN"):
        Bounds.around(torch.tensor([1.0, float("nan")]), relative=0.1)


def test_a_margin_leaves_an_unknown_side_unknown() -> None:
    wider = Bounds(torch.tensor([-INF, 10.0]), torch.tensor([100.0, INF])).widened(relative=0.1, absolute=10)
    assert wider.lower.tolist() == [-INF, -1]
    assert wider.upper.tolist() == [120, INF]
    with pytest.raises(BoundsError, match="a value to put bounds around is infinite"):
        Bounds.around(torch.tensor([INF]))


def test_one_side_may_be_all_that_is_known() -> None:
    least, most = Bounds.at_least(torch.tensor([3.0])), Bounds.at_most(torch.tensor([3.0]))
    assert (least.lower.item(), least.upper.item()) == (3, INF)
    assert (most.lower.item(), most.upper.item()) == (-INF, 3)


def test_tags_are_equation_5() -> None:
    bounds = Bounds.tags(torch.tensor([True, False, True]), image=64.0, known=torch.tensor([True, True, False]))
    assert bounds.lower.tolist() == [1, 0, -INF]
    assert bounds.upper.tolist() == [64, 0, INF]
    assert bounds.known.tolist() == [True, True, False]


def test_a_margin_widens_both_sides_and_cannot_cross_them() -> None:
    bounds = Bounds(torch.tensor([10.0, -INF]), torch.tensor([20.0, 5.0]))
    wide = bounds.widened(relative=0.5, absolute=1.0)
    assert wide.lower.tolist() == [4, -INF]
    assert wide.upper.tolist() == [31, 8.5]
    with pytest.raises(BoundsError, match="exceeds the upper bound"):
        bounds.widened(relative=-0.9)


@given(st.floats(0.1, 3.0), st.floats(0.1, 3.0), st.floats(0.5, 12.0))
def test_units_are_converted_with_each_images_own_spacing(rows: float, columns: float, thickness: float) -> None:
    """Bounds in any unit judge a prediction alike."""
    frame = Frame(
        torch.tensor([1.0, 2.5]).reshape(2, 1, 1), torch.tensor([[rows, columns, thickness], [1.0, 2.0, 3.0]])
    )
    probs = torch.rand(2, 3, 4, 5).softmax(1)
    mm2 = Bounds.around(Size("mm2")(probs, frame), 0.1)
    for unit in SIZE_UNITS:
        there = converted(mm2, "mm2", unit, frame, (4, 5))
        size = Size(unit)(probs, frame)
        torch.testing.assert_close(there.lower, 0.9 * size)
        back = converted(there, unit, "mm2", frame, (4, 5))
        torch.testing.assert_close(back.upper, mm2.upper)
    with pytest.raises(ValueError, match="a value in mL needs the frame's spacing_mm"):
        converted(mm2, "px", "mL", Frame.plain(2, 2), (4, 5))
