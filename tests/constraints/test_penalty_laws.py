"""What every penalty keeps; a new one inherits all of it from its line in PENALTIES.

The barrier is the one exception: it costs inside the bounds as well, and where it does, a test says so.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import PENALTIES, Bounds
from boundseg.constraints.penalties import NEEDS, log_barrier
from tests.constraints.cases import values_and_bounds
from tests.plain import run_plain

INF = torch.inf
SCALES = st.sampled_from([0.5, 1.0, 20.0])
HINGES = [name for name, penalty in PENALTIES.items() if not NEEDS[penalty].barrier]
every = pytest.mark.parametrize("name", PENALTIES)
every_hinge = pytest.mark.parametrize("name", HINGES)


def unit(name: str) -> float:
    """Cases are drawn up to 1e4: shares are of that."""
    return 1e-4 if NEEDS[PENALTIES[name]].domain == "share" else 1.0


@st.composite
def cases(draw: st.DrawFn, name: str) -> tuple[Tensor, Bounds, float]:
    """Values in the penalty's domain, some of them exactly at a bound, their bounds and a scale."""
    value, bounds = draw(values_and_bounds(-1e4 if NEEDS[PENALTIES[name]].domain == "any" else 0.0))
    nearby = draw(st.sampled_from([None, bounds.lower, bounds.upper]))
    if nearby is not None:
        value = nearby.where(nearby.isfinite(), value)
    one = unit(name)
    return value * one, Bounds(bounds.lower * one, bounds.upper * one), draw(SCALES) * one


def cost_and_gradient(name: str, value: Tensor, bounds: Bounds, scale: float) -> tuple[Tensor, Tensor]:
    value = value.clone().requires_grad_()
    cost = PENALTIES[name](value, bounds, scale)
    return cost.detach(), torch.autograd.grad(cost.sum(), value)[0]


def assert_no_more(less: Tensor, more: Tensor) -> None:
    assert (less <= more + 1e-9 * (1 + more.abs())).all(), (less, more)


@every_hinge
@given(st.data())
def test_cost_and_gradient_are_zero_exactly_inside(name: str, data: st.DataObject) -> None:
    value, bounds, scale = data.draw(cases(name))
    cost, gradient = cost_and_gradient(name, value, bounds, scale)
    violation = bounds.violation(value)
    inside, far = violation == 0, violation.abs() > 1e-2 * unit(name)
    assert (cost[inside] == 0).all()
    assert (gradient[inside] == 0).all()
    assert (cost[far] > 0).all()
    assert (gradient[far].sign() == violation[far].sign()).all()


@given(st.data())
def test_the_barrier_pushes_inside_as_well_and_always_back_in_from_outside(data: st.DataObject) -> None:
    value, bounds, scale = data.draw(cases("log_barrier"))
    _, gradient = cost_and_gradient("log_barrier", value, bounds, scale)
    violation = bounds.violation(value)
    far = violation.abs() > 1.01 * scale / 5.0**2  # closer, it may be flat
    assert (gradient[far].sign() == violation[far].sign()).all()
    one_sided = bounds.lower.isfinite() ^ bounds.upper.isfinite()
    assert (gradient[one_sided] != 0).all()


@every
@given(st.data(), st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]), st.booleans())
def test_value_and_gradient_are_finite_in_every_precision(
    name: str, data: st.DataObject, precision: torch.dtype, both: bool
) -> None:
    value, bounds, scale = data.draw(cases(name))
    value = value.to(precision)
    kind = precision if both else torch.promote_types(precision, torch.float32)
    bounds = Bounds(bounds.lower.to(kind), bounds.upper.to(kind))
    cost, gradient = cost_and_gradient(name, value, bounds, scale)
    assert cost.dtype == torch.promote_types(precision, torch.float32)
    assert cost.isfinite().all()
    if precision != torch.float16 or name != "quadratic":  # 2e4 / 0.5 squared has a slope beyond 65504
        assert gradient.isfinite().all()


@every
@given(st.data(), st.floats(0, 1e4))
def test_a_larger_violation_never_costs_less(name: str, data: st.DataObject, further: float) -> None:
    value, bounds, scale = data.draw(cases(name))
    violation = bounds.violation(value)
    beyond = value + violation.sign() * further * unit(name)
    beyond = beyond if NEEDS[PENALTIES[name]].domain == "any" else beyond.clamp(min=0)
    penalty = PENALTIES[name]
    assert_no_more(penalty(value, bounds, scale), penalty(beyond, bounds, scale))


@every
@given(st.data(), st.floats(0, 1e4), st.floats(0, 1e4))
def test_wider_bounds_never_cost_more(name: str, data: st.DataObject, down: float, up: float) -> None:
    value, bounds, scale = data.draw(cases(name))
    wider = Bounds(bounds.lower - down * unit(name), bounds.upper + up * unit(name))
    penalty = PENALTIES[name]
    assert_no_more(penalty(value, wider, scale), penalty(value, bounds, scale))


@every_hinge
@given(st.data(), st.sampled_from(["lower", "upper"]))
def test_to_forget_a_side_never_costs(name: str, data: st.DataObject, side: str) -> None:
    value, bounds, scale = data.draw(cases(name))
    unknown = torch.full_like(value, INF)
    one_sided = Bounds(-unknown, bounds.upper) if side == "lower" else Bounds(bounds.lower, unknown)
    assert_no_more(PENALTIES[name](value, one_sided, scale), PENALTIES[name](value, bounds, scale))


def test_to_forget_a_far_side_of_the_barrier_does_cost() -> None:
    """A side with more than one scale of room is negative; an unknown one is 0."""
    value = torch.tensor([0.0])
    far = log_barrier(value, Bounds(torch.tensor([-INF]), torch.tensor([100.0])))
    assert far < log_barrier(value, Bounds(torch.tensor([-INF]), torch.tensor([INF]))) == 0


@every
@given(st.data())
def test_the_two_sides_add_up_and_an_unknown_one_adds_nothing(name: str, data: st.DataObject) -> None:
    value, bounds, scale = data.draw(cases(name))
    unknown = torch.full_like(value, INF)
    penalty = PENALTIES[name]
    below, above = Bounds(bounds.lower, unknown), Bounds(-unknown, bounds.upper)
    total = penalty(value, below, scale) + penalty(value, above, scale)
    torch.testing.assert_close(total, penalty(value, bounds, scale))
    cost, gradient = cost_and_gradient(name, value, Bounds(-unknown, unknown), scale)
    assert (cost == 0).all()
    assert (gradient == 0).all()


@every
@given(st.data())
def test_every_entry_is_priced_by_itself(name: str, data: st.DataObject) -> None:
    value, bounds, scale = data.draw(cases(name))
    order = torch.tensor(data.draw(st.permutations(range(len(value)))))
    permuted = PENALTIES[name](value[order], Bounds(bounds.lower[order], bounds.upper[order]), scale)
    torch.testing.assert_close(permuted, PENALTIES[name](value, bounds, scale)[order])


@every
def test_gradient_matches_finite_differences(name: str) -> None:
    value = torch.tensor([1.0, 5.0, 9.0, 3.0, 3.0], dtype=torch.float64, requires_grad=True)
    bounds = Bounds(
        torch.tensor([2.0, 2.0, 2.0, -INF, 4.0], dtype=torch.float64),
        torch.tensor([7.0, 7.0, 7.0, 2.5, 4.0], dtype=torch.float64),
    )
    assert torch.autograd.gradcheck(lambda v: PENALTIES[name](v, bounds, 2.0), value)
    scale = torch.full((5,), 2.0, dtype=torch.float64)
    torch.testing.assert_close(PENALTIES[name](value, bounds, scale), PENALTIES[name](value, bounds, 2.0))


@every
@given(st.data())
def test_a_scale_that_is_learned_has_a_finite_gradient(name: str, data: st.DataObject) -> None:
    value, bounds, scale = data.draw(cases(name))
    learned = torch.full_like(value, scale, requires_grad=True)
    cost = PENALTIES[name](value, bounds, learned)
    assert torch.autograd.grad(cost.sum(), learned)[0].isfinite().all()


@every
def test_vmap_equals_a_loop(name: str) -> None:
    value = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bounds = Bounds(torch.tensor([0.3, -INF, -INF]).double(), torch.tensor([0.5, 0.2, INF]).double())

    def cost(v: Tensor) -> Tensor:
        return PENALTIES[name](v, bounds, 0.1).sum()

    torch.testing.assert_close(torch.func.vmap(cost)(value), torch.stack([cost(row) for row in value]))
    slopes = torch.func.vmap(torch.func.grad(cost))(value)
    torch.testing.assert_close(slopes, torch.stack([torch.func.grad(cost)(row) for row in value]))


@every
def test_no_value_is_looked_at(name: str) -> None:
    """Tensors without content: to read one, as to wait for a device, is an error."""
    value, lower, upper = torch.empty(3, 4, 2, device="meta").unbind(-1)[0], *torch.empty(2, 3, 4, device="meta")
    scale = torch.empty(3, 1, device="meta")
    assert PENALTIES[name](value, Bounds(lower, upper), scale).shape == (3, 4)


def test_all_compile_into_one_graph() -> None:
    run_plain(
        """
        import warnings
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import torch
        from boundseg.constraints import PENALTIES, Bounds
        from boundseg.constraints.penalties import log_barrier

        value = torch.rand(4, 3, requires_grad=True)
        unknown = torch.full((4, 3), torch.inf)
        bounds = Bounds(torch.full((4, 3), 0.4).index_fill(1, torch.tensor([1]), -torch.inf),
                        torch.full((4, 3), 0.5).index_fill(1, torch.tensor([2]), torch.inf))
        for penalty in PENALTIES.values():
            compiled = torch.compile(penalty, fullgraph=True, backend="aot_eager")
            eager, graph = penalty(value, bounds, 0.1), compiled(value, bounds, 0.1)
            torch.testing.assert_close(graph, eager)
            slopes = [torch.autograd.grad(cost.sum(), value)[0] for cost in (graph, eager)]
            torch.testing.assert_close(*slopes)

        graphs = []

        def count(graph, inputs):
            graphs.append(graph)
            return graph

        compiled = torch.compile(log_barrier, fullgraph=True, backend=count)
        for epoch in range(4):
            t = torch.tensor(5 * 1.1**epoch)
            torch.testing.assert_close(compiled(value, bounds, 0.1, t), log_barrier(value, bounds, 0.1, t))
        assert len(graphs) == 1, "a schedule of t compiles nothing again"
        """
    )
