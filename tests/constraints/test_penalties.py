"""What each penalty costs, by closed forms and by functions that are not ours."""

import math
import re
import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import kl_div, rel_entr
from torch import Tensor

from boundseg.constraints import PENALTIES, Bounds, log_hinge, quadratic, relative_scale
from boundseg.constraints.penalties import (
    NEEDS,
    Needs,
    huber,
    linear,
    log_barrier,
    name_of,
    needs,
    priced,
    relative_band,
    size_divergence,
)
from tests.constraints.cases import values_and_bounds

INF = torch.inf
DOCS = Path(__file__).parents[2] / "docs" / "constraints"


def equation_3(value: float, lower: float, upper: float) -> float:
    if value < lower:
        return (value - lower) ** 2
    if value > upper:
        return (value - upper) ** 2
    return 0.0


def slope(cost: Tensor, value: Tensor) -> Tensor:
    return torch.autograd.grad(cost.sum(), value)[0]


@given(values_and_bounds())
def test_agrees_with_equation_3_written_as_a_loop(case: tuple[Tensor, Bounds]) -> None:
    value, bounds = case
    expected = [equation_3(*row) for row in zip(*map(Tensor.tolist, (value, bounds.lower, bounds.upper)), strict=True)]
    torch.testing.assert_close(quadratic(value, bounds), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(quadratic(value, bounds, scale=16.0) * 16, quadratic(value, bounds))


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
    torch.testing.assert_close(linear(value, bounds, scale.sqrt()), expected.sqrt())
    with pytest.raises(ValueError, match="needs a positive floor"):
        relative_scale(value, bounds, floor=0)


def test_a_line_and_a_square_that_turns_into_one() -> None:
    bounds = Bounds(torch.full((5,), 10.0), torch.full((5,), 20.0))
    value = torch.tensor([2.0, 9.0, 15.0, 22.0, 36.0], requires_grad=True)
    cost = linear(value, bounds, 4.0)
    assert cost.tolist() == [2, 0.25, 0, 0.5, 4]
    assert slope(cost, value).tolist() == [-0.25, -0.25, 0, 0.25, 0.25]
    cost = huber(value, bounds, 4.0)
    assert cost.tolist() == [1.5, 1 / 32, 0, 1 / 8, 3.5]
    assert slope(cost, value).tolist() == [-1 / 4, -1 / 16, 0, 1 / 8, 1 / 4]


@given(values_and_bounds(), st.sampled_from([0.5, 1.0, 30.0]))
def test_huber_is_torchs_of_the_violation(case: tuple[Tensor, Bounds], scale: float) -> None:
    value, bounds = case
    z = bounds.violation(value) / scale
    expected = torch.nn.functional.huber_loss(z, torch.zeros_like(z), reduction="none")
    torch.testing.assert_close(huber(value, bounds, scale), expected)


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


@pytest.mark.parametrize("name", ["log_hinge", "size_divergence", "relative_band"])
def test_a_negative_bound_of_an_amount_is_one_of_0(name: str) -> None:
    value = torch.tensor([0.0, 0.3])
    lower = Bounds(torch.tensor([-5.0, -5.0]), torch.tensor([10.0, 10.0]))
    assert PENALTIES[name](value, lower, 0.1).tolist() == [0, 0]
    both = Bounds(torch.tensor([-5.0, -5.0]), torch.tensor([-1.0, -1.0]))
    absent = Bounds(torch.zeros(2), torch.zeros(2))
    assert torch.equal(PENALTIES[name](value, both, 0.1), PENALTIES[name](value, absent, 0.1))


def test_the_barriers_values_and_slopes() -> None:
    """With t = 5 and one side: the logarithm up to z = -1/25, the line of slope 5 beyond."""
    value = torch.tensor([10 - 2 * math.e, 8.0, 9.98, 10.0, 30.0], dtype=torch.float64, requires_grad=True)
    bounds = Bounds(torch.full((5,), -INF).double(), torch.full((5,), 10.0).double())
    cost = log_barrier(value, bounds, scale=2.0)
    touch = (1 + math.log(25)) / 5
    expected = torch.tensor([-0.2, 0.0, touch - 0.05, touch, touch + 50], dtype=torch.float64)
    torch.testing.assert_close(cost, expected, atol=1e-12, rtol=1e-12)
    slopes = torch.tensor([0.1 / math.e, 0.1, 2.5, 2.5, 2.5], dtype=torch.float64)
    torch.testing.assert_close(slope(cost, value), slopes)


@pytest.mark.parametrize("t", [0.5, 5.0, 80.0])
def test_the_barriers_two_parts_meet_in_value_and_slope(t: float) -> None:
    z = (torch.tensor([-1 - 1e-9, -1, -1 + 1e-9], dtype=torch.float64) / t**2).requires_grad_()
    cost = log_barrier(z, Bounds(torch.full((3,), -INF).double(), torch.zeros(3).double()), 1.0, t)
    torch.testing.assert_close(cost, cost[1].expand(3), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(slope(cost, z), torch.full((3,), t).double(), rtol=1e-8, atol=1e-8)


def test_the_barrier_tends_to_a_hard_bound() -> None:
    value = torch.tensor([0.1, 0.5, 0.999, 1.001, 3.0], dtype=torch.float64)
    bounds = Bounds(torch.zeros(5).double(), torch.ones(5).double())
    costs = torch.stack([log_barrier(value, bounds, 1.0, t) for t in (1e2, 1e4, 1e6)])
    assert (costs[:, :3].diff(dim=0) < 0).all() and (costs[-1, :3] < 1e-4).all()
    assert (costs[:, 3:].diff(dim=0) > 0).all() and (costs[-1, 3:] > 1e2).all()


@given(st.floats(0, 1e6), st.floats(0.1, 1e4))
def test_a_kept_side_of_the_barrier_leaves_a_duality_gap_of_1_over_t_at_most(room: float, t: float) -> None:
    """The implicit multiplier ψ'(z) times the room -z is what one constraint adds to the gap."""
    z = torch.tensor([-room], dtype=torch.float64, requires_grad=True)
    bounds = Bounds(torch.tensor([-INF], dtype=torch.float64), torch.tensor([0.0], dtype=torch.float64))
    gap = float(slope(log_barrier(z, bounds, 1.0, t), z)) * room
    assert 0 <= gap <= (1 + 1e-9) / t


@pytest.mark.parametrize("t", [5.0, 50.0, 500.0])
def test_the_barriers_minimum_is_within_1_over_t_of_the_constrained_one(t: float) -> None:
    """The least (v - 3)² with v <= 1 is 4."""
    bounds = Bounds(torch.tensor(-INF).double(), torch.tensor(1.0).double())

    def objective(v: float) -> float:
        return (v - 3) ** 2 + float(log_barrier(torch.tensor(v, dtype=torch.float64), bounds, 1.0, t))

    found = minimize_scalar(objective, bounds=(-2, 4), method="bounded", options={"xatol": 1e-9}).x
    assert found <= 1
    assert 0 <= (found - 3) ** 2 - 4 <= 1 / t


def test_between_close_bounds_the_barrier_is_flat() -> None:
    value = torch.tensor([9.97, 10.0, 10.03, 10.05, 9.95], dtype=torch.float64, requires_grad=True)
    bounds = Bounds(torch.full((5,), 10.0).double(), torch.full((5,), 10.0).double())
    gradient = slope(log_barrier(value, bounds, 1.0, 5.0), value)
    torch.testing.assert_close(gradient[:3], torch.zeros(3).double(), atol=1e-12, rtol=0)
    assert gradient[3] > 0 > gradient[4]


def test_the_barriers_t_may_be_a_tensor() -> None:
    value = torch.tensor([-3.0, 0.2, 2.0])
    bounds = Bounds(torch.zeros(3), torch.ones(3))
    as_tensor = log_barrier(value, bounds, 1.0, torch.tensor(5.0 * 1.1**30))
    torch.testing.assert_close(as_tensor, log_barrier(value, bounds, 1.0, 5.0 * 1.1**30))
    inside = torch.tensor([0.0, 0.2, 1.0])
    assert log_barrier(inside, bounds, 1.0, torch.tensor(1e25)).isfinite().all()  # t² is no float32


def shares(draw: st.DataObject, classes: int) -> Tensor:
    parts = draw.draw(st.lists(st.floats(0, 1, width=32), min_size=classes, max_size=classes).filter(any))
    return torch.tensor(parts, dtype=torch.float64) / sum(parts)


@given(st.integers(2, 5), st.data())
def test_the_divergence_of_a_partition_is_the_kullback_leibler_divergence(classes: int, data: st.DataObject) -> None:
    asked, predicted = shares(data, classes), (shares(data, classes) + 0.01) / (1 + 0.01 * classes)
    cost = size_divergence(predicted, Bounds(asked, asked), 1e-13)
    terms = torch.from_numpy(np.asarray(kl_div(asked.numpy(), predicted.numpy())))
    torch.testing.assert_close(cost, terms, atol=1e-9, rtol=1e-9)
    exact = torch.distributions.Categorical(probs=asked), torch.distributions.Categorical(probs=predicted)
    torch.testing.assert_close(cost.sum(), torch.distributions.kl_divergence(*exact), atol=1e-6, rtol=1e-6)
    assert float(cost.sum()) == pytest.approx(rel_entr(asked.numpy(), predicted.numpy()).sum(), abs=1e-9)


@given(st.data())
def test_the_divergence_is_the_least_of_all_that_the_bounds_allow(data: st.DataObject) -> None:
    value, low, high = (data.draw(st.floats(0, 1)) for _ in range(3))
    low, high = min(low, high), max(low, high)
    asked = np.append(np.linspace(low, high, 101), value if low <= value <= high else low)
    least = kl_div(asked + 1e-3, value + 1e-3).min()
    one = torch.ones(1, dtype=torch.float64)
    cost = size_divergence(value * one, Bounds(low * one, high * one), 1e-3)
    assert float(cost) == pytest.approx(least, abs=1e-12)


def test_the_divergences_gradient_makes_up_for_what_the_softmax_loses() -> None:
    """Of 30 % asked, a ten times smaller remainder still has a gradient of the same size on the logits."""
    gradients = []
    for shift in (-5.0, -7.3):
        logits = torch.stack([torch.zeros(64, 64), torch.full((64, 64), shift)]).requires_grad_()
        share = logits.softmax(0)[1].mean()
        size_divergence(share, Bounds(torch.tensor(0.3), torch.tensor(0.4))).backward()
        gradients.append(float(logits.grad[1].sum().abs()))
    assert gradients[0] > 0.25
    assert gradients[1] > 0.8 * gradients[0]
    value = torch.tensor([0.0, 1.0], requires_grad=True)
    gradient = slope(size_divergence(value, Bounds(torch.tensor([0.3, 0.0]), torch.tensor([0.4, 0.0]))), value)
    torch.testing.assert_close(gradient, torch.tensor([-0.3 / 1e-4, 1 / 1.0001]))


def test_a_relative_error_is_symmetric_and_below_1() -> None:
    bounds = Bounds(torch.tensor([50.0, 50.0, 50.0, 50.0, 0.0]), torch.tensor([100.0, 100.0, 100.0, 100.0, 0.0]))
    value = torch.tensor([200.0, 25.0, 70.0, 1e9, 0.0])
    expected = torch.tensor([1 / 3, 1 / 3, 0, 1, 0])
    torch.testing.assert_close(relative_band(value, bounds, 1e-6), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(relative_band(value, bounds, 1e-6, 0.25), (expected - 0.25).relu(), atol=1e-6, rtol=0)
    half = relative_band(torch.tensor([10.0]), Bounds(torch.zeros(1), torch.zeros(1)), 10.0)
    assert half.tolist() == [0.5]  # of an absent region, the softening is what costs one half
    for tolerance in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"a relative error lies between 0 and 1; give 0 <= tolerance < 1"):
            relative_band(value, bounds, 1.0, tolerance)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan])
def test_what_divides_is_positive(wrong: float) -> None:
    value, bounds = torch.ones(1), Bounds(torch.zeros(1), torch.ones(1))
    for penalty in PENALTIES.values():
        with pytest.raises(ValueError, match=rf"(scale|softening) = {wrong:g}: .* give a number above 0"):
            penalty(value, bounds, wrong)
    with pytest.raises(ValueError, match=rf"t = {wrong:g}: "):
        log_barrier(value, bounds, 1.0, wrong)


def test_every_penalty_says_what_it_needs() -> None:
    assert list(NEEDS) == list(PENALTIES.values())
    assert [name for name, penalty in PENALTIES.items() if needs(penalty).barrier] == ["log_barrier"]
    assert needs(partial(partial(log_barrier, t=7.0), scale=2.0)) is NEEDS[log_barrier]

    class Mine:
        __hash__ = None  # an object that compares by its fields has none

        def __call__(self, value: Tensor, bounds: Bounds, scale: float | Tensor = 1.0) -> Tensor:
            return bounds.violation(value)

    def half(value: Tensor, bounds: Bounds, scale: float | Tensor = 1.0) -> Tensor:
        return quadratic(value, bounds, scale) / 2

    assert [name_of(penalty) for penalty in PENALTIES.values()] == list(PENALTIES)
    assert [name_of(partial(log_barrier, t=7.0)), name_of(half), name_of(Mine())] == ["log_barrier", "half", "Mine"]
    assert needs(half) == needs(Mine()) == Needs("any", 2, ("number", "image", "relative", "voxels"))


def test_penalties_by_what_they_price() -> None:
    assert priced("any") == ["quadratic", "linear", "huber", "log_barrier"]
    assert set(priced("amount")) - set(priced("any")) == {"log_hinge", "relative_band"}
    assert priced("share") == list(PENALTIES)


def test_the_page_tells_of_every_penalty_and_its_code_runs() -> None:
    page = (DOCS / "penalties.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## `(\w+)`$", page, flags=re.M)
    assert headings == list(PENALTIES)
    assert re.findall(r"^\| \[`(\w+)`\]", page, flags=re.M) == headings
    codes = re.findall(r"^```python\n(.*?)^```", page, flags=re.S | re.M)
    assert len(codes) == 2
    names: dict[str, object] = {}
    for code in codes:
        exec(code, names)
    assert names["logits"].grad.abs().sum() > 0


def test_the_picture_can_be_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "penalties.png"
    monkeypatch.setattr("sys.argv", ["draw_penalties.py", str(picture)])
    runpy.run_path(str(DOCS / "draw_penalties.py"), run_name="__main__")
    assert 10_000 < picture.stat().st_size < 120_000
