"""Multipliers against closed forms, and against the computed (not only the documented) formula of cooper."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import Bounds
from boundseg.constraints.multipliers import Multipliers
from tests.constraints.cases import values_and_bounds
from tests.plain import run_plain

INF = torch.inf


def train(multipliers: Multipliers, bounds: Bounds, steps: int, rate: float, coefficient: float | None) -> Tensor:
    """min Σ (x - 3)² under bounds on x, by descent in x and ascent in the multipliers."""
    x = torch.zeros(bounds.lower.shape, dtype=torch.float64, requires_grad=True)
    rows = torch.arange(len(x))
    for _ in range(steps):
        loss = (x - 3).square().sum() + multipliers.cost("x", x, bounds, rows, coefficient=coefficient).sum()
        (slope,) = torch.autograd.grad(loss, x)
        x = (x - 0.05 * slope).detach().requires_grad_()
        multipliers.ascend("x", x.detach(), bounds, rows, rate)
    return x.detach()


@pytest.mark.parametrize(("rate", "coefficient"), [(0.05, None), (2.0, 2.0)], ids=["Lagrangian", "augmented"])
def test_ends_on_the_bound_with_the_multiplier_that_holds_it_there(rate: float, coefficient: float | None) -> None:
    """At x = b the slope of the rest, 2 (b - 3), is minus the multiplier; inside, nothing is held."""
    bounds = Bounds(
        torch.tensor([[-INF], [5.0], [0.0], [-INF], [2.0]], dtype=torch.float64),
        torch.tensor([[1.0], [INF], [9.0], [INF], [2.0]], dtype=torch.float64),
    )
    multipliers = Multipliers({"x": (5, 1)}).double()
    x = train(multipliers, bounds, 3000, rate, coefficient)
    torch.testing.assert_close(x.flatten(), torch.tensor([1.0, 5.0, 3.0, 3.0, 2.0]).double(), atol=1e-4, rtol=0)
    lower, upper = multipliers.of("x").squeeze(2)
    torch.testing.assert_close(lower[1], torch.tensor(4.0).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(upper[0], torch.tensor(4.0).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close((upper - lower)[4], torch.tensor(2.0).double(), atol=1e-3, rtol=0)
    assert lower[[0, 2, 3]].abs().max() == upper[[1, 2, 3]].abs().max() == 0


@given(values_and_bounds(), st.floats(0.1, 10), st.floats(0.5, 100), st.integers(0, 99))
def test_agrees_with_cooper(case: tuple[Tensor, Bounds], coefficient: float, scale: float, seed: int) -> None:
    utils = pytest.importorskip("cooper.formulations.utils", reason="cooper-optim is not installed")
    constraint_type = pytest.importorskip("cooper").ConstraintType.INEQUALITY
    value, bounds = (case[0] / 1e3).requires_grad_(), Bounds(case[1].lower / 1e3, case[1].upper / 1e3)
    rows = torch.arange(len(value))
    multipliers = Multipliers({"v": (len(value),)}).double()
    multipliers.of("v").copy_(torch.rand(2, len(value), generator=torch.Generator().manual_seed(seed)))
    expected = torch.zeros((), dtype=torch.float64)
    plain = torch.zeros((), dtype=torch.float64)
    for multiplier, side, sign in zip(multipliers.of("v"), (bounds.lower, bounds.upper), (-1, 1), strict=True):
        known = side.isfinite()
        violation = sign * (value[known] - side[known]) / scale
        expected = expected + utils.compute_primal_quadratic_augmented_contribution(
            multiplier[known], torch.full_like(violation, coefficient), violation, constraint_type
        )
        plain = plain + utils.compute_primal_weighted_violation(multiplier[known], violation)
    augmented = multipliers.cost("v", value, bounds, rows, scale, coefficient).sum()
    torch.testing.assert_close(augmented, expected)
    torch.testing.assert_close(multipliers.cost("v", value, bounds, rows, scale).sum(), plain)
    for ours, theirs in ((augmented, expected), (multipliers.cost("v", value, bounds, rows, scale).sum(), plain)):
        slopes = [
            torch.autograd.grad(x, value, retain_graph=True)[0] if x.requires_grad else torch.zeros_like(value)
            for x in (ours, theirs)
        ]
        torch.testing.assert_close(*slopes)


def test_only_the_cases_of_a_batch_ascend_and_all_survive_a_checkpoint() -> None:
    multipliers = Multipliers({"size LV per slice": (6, 2), "box.crossed": (3, 1, 4)})
    bounds = Bounds(torch.tensor([[5.0, -INF], [-INF, -INF]]), torch.tensor([[9.0, 3.0], [INF, INF]]))
    value = torch.tensor([[1.0, 4.0], [7.0, 7.0]])
    multipliers.ascend("size LV per slice", value, bounds, torch.tensor([4, 1]), rate=0.5, scale=2.0)
    expected = torch.zeros(2, 6, 2)
    expected[0, 4, 0], expected[1, 4, 1] = 0.5 * 4 / 2, 0.5 * 1 / 2
    torch.testing.assert_close(multipliers.of("size LV per slice"), expected)
    again = Multipliers({"size LV per slice": (6, 2), "box.crossed": (3, 1, 4)})
    again.load_state_dict(multipliers.state_dict())
    torch.testing.assert_close(again.of("size LV per slice"), expected)


def test_a_multiplier_falls_again_once_its_bound_is_kept() -> None:
    multipliers, rows = Multipliers({"v": (1, 1)}), torch.tensor([0])
    bounds = Bounds.at_most(torch.tensor([[1.0]]))
    for value, expected in ((3.0, 2.0), (0.5, 1.5), (-9.0, 0.0)):
        multipliers.ascend("v", torch.tensor([[value]]), bounds, rows, rate=1.0)
        assert multipliers.of("v")[1].item() == expected


@pytest.mark.parametrize("wrong", [torch.nan, INF, -INF])
def test_a_value_that_is_no_number_raises_nothing(wrong: float) -> None:
    multipliers, rows = Multipliers({"v": (3, 1)}), torch.arange(3)
    bounds = Bounds.around(torch.full((3, 1), 30.0))
    multipliers.ascend("v", torch.tensor([[10.0], [20.0], [40.0]]), bounds, rows, 1.0)
    multipliers.ascend("v", torch.tensor([[10.0], [wrong], [40.0]]), bounds, rows, 1.0)
    assert multipliers.of("v").squeeze(2).tolist() == [[40, 10, 0], [0, 0, 20]]


def test_multipliers_are_found_again_by_the_names_of_their_constraints() -> None:
    saved = Multipliers({"size 0.5": (2, 1), "b": (2, 1)})
    saved.of("size 0.5").fill_(8)
    other = Multipliers({"b": (2, 1), "size 0.5": (2, 1)})
    other.load_state_dict(saved.state_dict())
    assert float(other.of("size 0.5").sum()) == 32
    assert float(other.of("b").sum()) == 0


def test_rows_are_of_every_value() -> None:
    """Without the tests' type checks, as users meet it."""
    run_plain(
        """
        import torch
        from boundseg.constraints import Bounds, Multipliers

        multipliers, bounds = Multipliers({"a": (3, 1)}), Bounds.unknown(2, 1)
        for step, options in ((multipliers.cost, {}), (multipliers.ascend, {"rate": 1.0})):
            try:
                step("a", torch.zeros(2, 1), bounds, torch.tensor([0]), **options)
                raise SystemExit("one row was taken for two values")
            except ValueError as error:
                assert "rows of shape [1] meet 2 values of 'a'" in str(error), error
        """
    )


def test_a_coefficient_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="coefficient = 0: an augmented Lagrangian divides by it"):
        Multipliers({"v": (1,)}).cost("v", torch.ones(1), Bounds.unknown(1), torch.tensor([0]), coefficient=0.0)
