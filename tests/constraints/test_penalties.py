import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import PENALTIES, Bounds, log_hinge, quadratic, relative_scale
from tests.constraints.cases import values_and_bounds

INF = torch.inf
LEAST = {"log_hinge": 0.0}  # a logarithm is for values that cannot be negative


def equation_3(value: float, lower: float, upper: float) -> float:
    if value < lower:
        return (value - lower) ** 2
    if value > upper:
        return (value - upper) ** 2
    return 0.0


@given(values_and_bounds())
def test_agrees_with_equation_3_written_as_a_loop(case: tuple[Tensor, Bounds]) -> None:
    value, bounds = case
    expected = [equation_3(*row) for row in zip(*map(Tensor.tolist, (value, bounds.lower, bounds.upper)), strict=True)]
    torch.testing.assert_close(quadratic(value, bounds), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(quadratic(value, bounds, scale=16.0) * 16, quadratic(value, bounds))


@pytest.mark.parametrize("name", PENALTIES)
@given(st.data())
def test_cost_and_gradient_are_zero_exactly_inside_and_finite_everywhere(name: str, data: st.DataObject) -> None:
    value, bounds = data.draw(values_and_bounds(LEAST.get(name, -1e4)))
    value = value.clone().requires_grad_()
    cost = PENALTIES[name](value, bounds, 1.0)
    cost.sum().backward()
    inside = bounds.satisfied(value.detach())
    far = bounds.violation(value.detach()).abs() > 1e-3
    assert torch.isfinite(cost).all()
    assert torch.isfinite(value.grad).all()
    assert (cost.detach()[inside] == 0).all()
    assert (value.grad[inside] == 0).all()
    assert (cost.detach()[far] > 0).all()
    assert (value.grad[far].sign() == bounds.violation(value.detach())[far].sign()).all()


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_gradient_matches_finite_differences(penalty) -> None:
    value = torch.tensor([1.0, 5.0, 9.0, 3.0, 3.0], dtype=torch.float64, requires_grad=True)
    bounds = Bounds(
        torch.tensor([2.0, 2.0, 2.0, -INF, 4.0], dtype=torch.float64),
        torch.tensor([7.0, 7.0, 7.0, 2.5, 4.0], dtype=torch.float64),
    )
    assert torch.autograd.gradcheck(lambda v: penalty(v, bounds, 2.0), value)


def test_the_descent_direction_is_equation_4() -> None:
    value = torch.tensor([5.0, 50.0, 500.0], requires_grad=True)
    bounds = Bounds(torch.tensor([10.0] * 3), torch.tensor([100.0] * 3))
    quadratic(value, bounds).sum().backward()
    assert (-value.grad / 2).tolist() == [10 - 5, 0, 100 - 500]


def test_a_relative_cost_is_the_same_for_small_and_large_and_the_floor_prices_absence() -> None:
    bounds = Bounds(torch.tensor([90.0, 900.0, 90.0, 0.0, -INF]), torch.tensor([100.0, 1000.0, 100.0, 0.0, INF]))
    value = torch.tensor([110.0, 1100.0, 81.0, 25.0, 7.0])
    scale = relative_scale(value, bounds, floor=50.0)
    expected = torch.tensor([0.01, 0.01, 0.01, 0.25, 0.0])
    torch.testing.assert_close(quadratic(value, bounds, scale), expected)
    with pytest.raises(ValueError, match="needs a positive floor"):
        relative_scale(value, bounds, floor=0)


def test_the_log_hinge_prices_factors_whatever_the_size() -> None:
    """Twice too large costs (log 2)², for a small organ, a large one and a volume; and half as large as well."""
    bounds = Bounds(torch.tensor([90.0, 990.0, 9990.0, 190.0]), torch.tensor([90.0, 990.0, 9990.0, 190.0]))
    value = torch.tensor([190.0, 1990.0, 19990.0, 90.0])
    torch.testing.assert_close(log_hinge(value, bounds, 10.0), torch.full((4,), 2.0).log().square())


def test_only_the_log_hinge_leads_back_from_nothing() -> None:
    """Where softmax has all but saturated, the quadratic penalty's gradient on the logits dies with the region."""
    gradients = {}
    for shift in (-5.0, -10.0):
        for name, scale in (("quadratic", 4096.0), ("log_hinge", 1e-3)):
            logits = torch.stack([torch.zeros(64, 64), torch.full((64, 64), shift)]).requires_grad_()
            size = logits.softmax(0)[1].sum()
            PENALTIES[name](size, Bounds(torch.tensor(900.0), torch.tensor(1100.0)), scale).backward()
            gradients[name, shift] = logits.grad[1].sum().abs()
    assert gradients["quadratic", -10.0] < 0.01 * gradients["quadratic", -5.0]
    assert gradients["log_hinge", -10.0] > gradients["log_hinge", -5.0]


def test_the_log_hinge_takes_a_negative_lower_bound_for_0() -> None:
    bounds = Bounds(torch.tensor([-5.0]), torch.tensor([10.0]))
    assert log_hinge(torch.tensor([0.0]), bounds) == 0
