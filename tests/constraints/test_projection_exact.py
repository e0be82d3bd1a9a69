"""The exact projection: optimal by its own conditions and by scipy, on borders, beyond them, and over volumes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from boundseg.constraints import Bounds, Frame, Groups, Size
from boundseg.constraints.projection import Proposal, fractional_form, problem, project
from boundseg.constraints.projection.proposal import measured
from boundseg.constraints.projection.several import Sides

from ..plain import run_plain

IGNORE = 255
INFINITE = torch.inf


@dataclass(frozen=True)
class Case:
    logits: Tensor
    bounds: Bounds
    regions: list[tuple[int, ...]]
    labels: Tensor
    weight: Tensor
    groups: Groups
    potentials: Tensor | None

    def project(self, **options: object) -> Proposal:
        return project(
            self.logits,
            self.bounds,
            self.regions,
            frame=Frame(self.weight),
            groups=self.groups,
            labels=self.labels,
            potentials=self.potentials,
            **options,
        )

    def factors(self) -> Tensor:
        """What class k of voxel p adds to constraint j, [J, B, K, *space]."""
        held = torch.zeros(len(self.regions), self.logits.shape[1], dtype=torch.float64)
        for j, region in enumerate(self.regions):
            held[j, list(region)] = 1
        potentials = 1 if self.potentials is None else self.potentials.unsqueeze(2)
        return held[:, None, :, None, None] * self.weight[:, None] * potentials

    def sums(self, probs: Tensor) -> Tensor:
        return torch.stack([self.groups.add((f * probs).flatten(1).sum(1)) for f in self.factors()], 1)

    def residual(self, found: Proposal) -> float:
        """KKT, from the proposal and its multipliers alone."""
        sums, a, b, nu = self.sums(found.probs), self.bounds.lower, self.bounds.upper, found.multipliers
        violation = torch.maximum((a - sums).relu() / a.abs().clamp(min=1), (sums - b).relu() / b.abs().clamp(min=1))
        at_lower = ((sums - a).abs() / a.abs().clamp(min=1)).where((nu > 0) & nu.isfinite(), 0)
        at_upper = ((sums - b).abs() / b.abs().clamp(min=1)).where((nu < 0) & nu.isfinite(), 0)
        return max(float(x.nan_to_num(0).max()) for x in (violation, at_lower, at_upper))


def random_case(seed: int, space: tuple[int, int] | None = None, batch: int | None = None) -> Case:
    """Two to six classes, one to five constraints of every kind, all kept by some distribution."""
    generator = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    classes, constraints = integer(2, 6), integer(1, 5)
    batch = batch or integer(1, 3)
    space = space or (integer(2, 8), integer(2, 8))
    logits = (normal(batch, classes, *space) * [0.1, 1, 3, 10, 50][integer(0, 4)]).clamp(-50, 50)
    if integer(0, 3) == 0:
        logits = 50 * logits.sign()
    regions = [
        tuple(torch.randperm(classes, generator=generator)[: integer(1, classes - 1)].tolist())
        for _ in range(constraints)
    ]
    labels = torch.full((batch, *space), IGNORE)
    seeds = uniform(batch, *space) < [0, 0, 0.05, 0.5, 1][integer(0, 4)]
    labels[seeds] = torch.randint(classes, labels.shape, generator=generator)[seeds]
    weight = torch.ones(batch, *space, dtype=torch.float64)
    if integer(0, 2) == 0:
        weight = uniform(batch, *space) + 0.5
        weight[..., -1] = 0
    together = batch > 1 and integer(0, 1)
    groups = Groups(torch.zeros(batch, dtype=torch.long), torch.tensor([batch])) if together else Groups.each(batch)
    potentials = normal(constraints, batch, *space) if integer(0, 3) == 0 else None
    case = Case(logits, Bounds.unknown(1), regions, labels, weight, groups, potentials)
    witness = (normal(batch, classes, *space) * [1, 5][integer(0, 1)]).softmax(1)
    sums = case.sums(held_at_seeds(witness, labels))
    room = 0.3 * sums.abs()
    kind = torch.randint(0, 6, sums.shape, generator=generator)
    room = room.where(kind != 0, 0).where(kind != 1, 1e-3 * sums.abs())
    lower, upper = sums - room * uniform(*sums.shape), sums + room * uniform(*sums.shape)
    lower = lower.where((kind != 2) & (kind != 4), -INFINITE)
    upper = upper.where((kind != 3) & (kind != 4), INFINITE)
    return replace(case, bounds=Bounds(lower, upper))


def held_at_seeds(probs: Tensor, labels: Tensor) -> Tensor:
    seeded = (labels != IGNORE).unsqueeze(1)
    known = torch.zeros_like(probs).scatter_(1, labels.where(labels != IGNORE, 0).unsqueeze(1), 1)
    return torch.where(seeded, known, probs)


def divergence(probs: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """KL of each image over the voxels that are no seeds."""
    nats = torch.special.xlogy(probs, probs) - probs * logits.log_softmax(1)
    return (nats.sum(1) * (labels == IGNORE)).flatten(1).sum(1)


def assert_optimal(case: Case, found: Proposal) -> None:
    assert found.feasible.all()
    assert float(found.residual.max()) <= 1e-5
    assert case.residual(found) <= 1e-5
    torch.testing.assert_close(case.sums(found.probs), found.sizes, rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(found.probs.sum(1), torch.ones_like(found.probs[:, 0]))
    torch.testing.assert_close(held_at_seeds(found.probs, case.labels), found.probs, rtol=0, atol=0)
    # stationary: Q is the softmax of logits shifted by the multipliers
    nu = found.multipliers[case.groups.index]
    if nu.isfinite().all():
        shift = torch.einsum("bj,jbkxy->bkxy", nu, case.factors())
        expected = held_at_seeds((case.logits + shift).softmax(1), case.labels)
        torch.testing.assert_close(found.probs, expected, rtol=1e-9, atol=1e-9)
    value = case.groups.add(divergence(found.probs, case.logits, case.labels))
    torch.testing.assert_close(found.value, value, rtol=1e-7, atol=1e-6)


SEEDS = [pytest.param(first, marks=[pytest.mark.slow] if first >= 500 else []) for first in range(0, 900, 100)]


@pytest.mark.parametrize("first", SEEDS)
def test_keeps_the_conditions_of_an_optimum_on_random_cases(first: int) -> None:
    for seed in range(first, first + 100):
        case = random_case(seed)
        assert_optimal(case, case.project())


def test_keeps_them_on_large_images() -> None:
    begin = time.monotonic()
    for seed in range(5000, 5020):
        case = random_case(seed, (256, 256), 1)
        assert_optimal(case, case.project())
        if time.monotonic() - begin > 12:
            break
    assert seed >= 5004


@pytest.mark.slow
@pytest.mark.parametrize("first", range(5020, 5120, 20))
def test_keeps_them_on_a_hundred_more_large_images(first: int) -> None:
    for seed in range(first, first + 20):
        case = random_case(seed, (256, 256), 1)
        assert_optimal(case, case.project())


def alike(case: Case) -> Case:
    """The same, where every voxel counts once: a witness shows that its bounds can be kept."""
    case = replace(case, weight=torch.ones_like(case.weight), potentials=None)
    sums = case.sums(held_at_seeds((case.logits / 2).softmax(1), case.labels))
    loose = 0.2 * sums * (torch.arange(sums.shape[1]) % 3)
    lower = (sums - loose).where(case.bounds.lower.isfinite(), -INFINITE)
    return replace(case, bounds=Bounds(lower, (sums + loose).where(case.bounds.upper.isfinite(), INFINITE)))


@pytest.mark.parametrize("space", [None, (96, 100)])
def test_voxels_that_count_alike_have_a_faster_way_to_the_same_end(
    space: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a frame, exponentials are taken once; with one of ones, in every pass. Extreme logits among them."""
    monkeypatch.setattr(problem, "CACHED", 1)  # several parts even of small images
    extreme = 0
    for seed in range(1000, 1012 if space else 1100):
        case = alike(random_case(seed, space))
        found = project(case.logits, case.bounds, case.regions, groups=case.groups, labels=case.labels)
        assert_optimal(case, found)
        torch.testing.assert_close(found.value, case.project().value, rtol=1e-6, atol=1e-5)
        extreme += float(case.logits.abs().max()) == 50
    assert extreme >= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [200.0, 300.0, 1e4])
@pytest.mark.parametrize("regions", [1, 2])
def test_a_class_that_is_far_from_likely_is_raised_to_its_size_all_the_same(
    dtype: torch.dtype, far: float, regions: int
) -> None:
    """Of logits that are the same everywhere, so is the closest distribution: bounds are shares."""
    logits = torch.zeros(1, 3, 16, 16, dtype=dtype)
    logits[:, 1] = -far
    lower, upper = torch.tensor([[20.0, 5.0]])[:, :regions], torch.tensor([[30.0, 6.0]])[:, :regions]
    found = project(logits, Bounds(lower, upper), ((1,), (2,))[:regions])
    sums = found.probs.double().sum((2, 3))
    expected = torch.tensor([[230.0, 20.0, 6.0]] if regions == 2 else [[118.0, 20.0, 118.0]]).double()
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.sizes, sums[:, 1 : 1 + regions], rtol=1e-6, atol=0)
    assert found.feasible.all()


@pytest.mark.parametrize("frame", [None, Frame(torch.ones(2, 96, 100))])
def test_parts_add_up_to_the_whole(frame: Frame | None, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.nn.functional.interpolate(prediction(2, 4, scale=5), (96, 100), mode="bilinear")
    sizes = logits.softmax(1).sum((2, 3))[:, 1:]
    found = []
    for cached in (2**30, 1):
        monkeypatch.setattr(problem, "CACHED", cached)
        found.append(project(logits, Bounds(0.5 * sizes, 0.7 * sizes), [(1,), (2,), (3,)], frame=frame))
    assert len(problem.blocks(logits.flatten(2))) == 5
    torch.testing.assert_close(found[0].probs, found[1].probs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[0].multipliers, found[1].multipliers, rtol=1e-9, atol=1e-12)


def test_solver_and_proposal_measure_the_same_residual() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes, middle, nu, seeded = (30 * torch.randn(4, 200, 3, generator=generator, dtype=torch.float64)).unbind(0)
    lower, upper = middle.where(nu > -20, -INFINITE), (middle + 5).where(nu < 20, INFINITE)
    nu = nu.where(lower.isfinite() & upper.isfinite(), 0).where(nu.abs() > 5, 0)
    whole = Bounds(lower + seeded, upper + seeded)
    expected = measured(sizes + seeded, nu, whole)
    torch.testing.assert_close(Sides.of(Bounds(lower, upper), seeded).residual(sizes, nu), expected)


def oracle(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Largest dual value and its distribution, for one group: scipy's L-BFGS-B on the multipliers of both sides."""
    factors = case.factors().movedim(0, -1).numpy()  # B K x y J
    free = (case.labels == IGNORE).numpy()
    log_probs = case.logits.log_softmax(1).numpy()
    known = held_at_seeds(torch.zeros_like(case.logits), case.labels).numpy() * ~free[:, None]
    fixed = np.einsum("bkxy,bkxyj->j", known, factors)
    lower, upper = case.bounds.lower[0].numpy() - fixed, case.bounds.upper[0].numpy() - fixed
    constraints = len(lower)

    def distribution(multipliers: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = log_probs + factors @ (multipliers[:constraints] - multipliers[constraints:])
        top = shifted.max(1, keepdims=True)
        mass = np.exp(shifted - top)
        total = mass.sum(1, keepdims=True)
        return float(((top + np.log(total))[:, 0] * free).sum()), mass / total

    def negative_dual(multipliers: np.ndarray) -> tuple[float, np.ndarray]:
        logs, q = distribution(multipliers)
        sums = np.einsum("bkxy,bkxyj->j", q * free[:, None], factors)
        a, b = np.nan_to_num(lower, neginf=0), np.nan_to_num(upper, posinf=0)
        value = logs - a @ multipliers[:constraints] + b @ multipliers[constraints:]
        return value, np.concatenate([sums - a, b - sums])

    known_sides = np.concatenate([np.isfinite(lower), np.isfinite(upper)])
    limits = [(0, None if known_side else 0) for known_side in known_sides]
    best, start = None, np.zeros(2 * constraints)
    for _ in range(5):  # restarted, since its model of the curvature goes stale on plateaus
        options = {"ftol": 1e-16, "gtol": 1e-10, "maxiter": 5000, "maxfun": 20000}
        best = minimize(negative_dual, start, jac=True, method="L-BFGS-B", bounds=limits, options=options)
        start = best.x
    assert best is not None
    return -best.fun, np.where(free[:, None], distribution(best.x)[1], known)


def test_agrees_with_scipy_on_the_dual() -> None:
    compared = 0
    for seed in range(300, 420):
        case = random_case(seed)
        if len(case.groups.parts) > 1 or case.logits.abs().max() > 30:
            continue
        found = case.project()
        value, probs = oracle(case)
        assert float(found.value[0]) == pytest.approx(value, rel=1e-6, abs=1e-6)
        torch.testing.assert_close(found.probs, torch.from_numpy(probs), rtol=0, atol=2e-3)
        compared += 1
    assert compared >= 15


@pytest.mark.filterwarnings("ignore:Values in x were outside bounds")  # SLSQP of older versions, on its way
def test_agrees_with_scipy_on_the_primal() -> None:
    """SLSQP on the probabilities themselves, which knows nothing of the dual."""
    compared = 0
    for seed in range(600, 1400):
        case = random_case(seed, (2, 3), 1)
        if case.logits.abs().max() > 6 or (case.labels != IGNORE).any():
            continue
        shape = case.logits.shape
        log_probs = case.logits.log_softmax(1).numpy().ravel()
        factors = case.factors().flatten(1).numpy()
        a, b = case.bounds.lower[0].numpy(), case.bounds.upper[0].numpy()
        ones = np.eye(6).repeat(1, 0)
        one_each = np.tile(ones, (1, shape[1]))
        # SLSQP wants independent equalities, so that two sides are given even where they meet
        rules = [{"type": "eq", "fun": lambda q, m=one_each: m @ q - 1, "jac": lambda q, m=one_each: m}]
        for f, low, high in zip(factors, a, b, strict=True):
            if np.isfinite(low):
                rules.append({"type": "ineq", "fun": lambda q, f=f, v=low: f @ q - v, "jac": lambda q, f=f: f})
            if np.isfinite(high):
                rules.append({"type": "ineq", "fun": lambda q, f=f, v=high: v - f @ q, "jac": lambda q, f=f: -f})

        def objective(q: np.ndarray, log_probs: np.ndarray = log_probs) -> tuple[float, np.ndarray]:
            q = np.maximum(q, 1e-12)
            ratio = np.log(q) - log_probs
            return float(q @ ratio), ratio + 1

        start = case.logits.softmax(1).numpy().ravel()
        best = minimize(
            objective,
            start,
            jac=True,
            method="SLSQP",
            bounds=[(1e-12, 1)] * len(start),
            constraints=rules,
            options={"ftol": 1e-13, "maxiter": 500},
        )
        if not best.success:
            continue
        found = case.project()
        assert float(found.value[0]) == pytest.approx(best.fun, abs=1e-5)
        np.testing.assert_allclose(found.probs.numpy().ravel(), best.x, atol=2e-3)
        compared += 1
        if compared == 20:
            break
    assert compared == 20


def sized(lower: float, upper: float, groups: int = 1) -> Bounds:
    return Bounds(torch.full((groups, 1), float(lower)), torch.full((groups, 1), float(upper)))


def prediction(batch: int = 1, classes: int = 2, side: int = 8, seed: int = 0, scale: float = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, classes, side, side, generator=generator, dtype=torch.float64)


def test_shifts_the_logit_of_a_single_class_by_a_known_number() -> None:
    """Equal logits: V = 64 σ(ν), so that half of a third needs ν = log(1 / 5)."""
    found = project(torch.zeros(1, 2, 8, 8), sized(0, 64 / 6), [(1,)])
    assert float(found.multipliers) == pytest.approx(-np.log(5), rel=1e-6)
    assert float(found.value) == pytest.approx(64 * (np.log(2) + np.log(1 / 6) / 6 + 5 * np.log(5 / 6) / 6), rel=1e-6)
    torch.testing.assert_close(found.probs[:, 1], torch.full((1, 8, 8), 1 / 6))


def test_leaves_a_prediction_alone_that_keeps_its_bounds() -> None:
    logits = prediction(3, 4)
    regions = [(1,), (2, 3), (0, 1)]
    found = project(logits, Bounds(torch.zeros(3, 3), torch.full((3, 3), 64.0)), regions)
    assert (found.multipliers == 0).all() and (found.value.abs() < 1e-9).all()
    torch.testing.assert_close(found.probs, logits.softmax(1))


@pytest.mark.parametrize("others", [0, 2])
def test_masks_a_class_that_is_absent_and_one_that_is_everything(others: int) -> None:
    logits = prediction(2, 4, scale=20)
    labels = torch.full((2, 8, 8), IGNORE)
    labels[:, 0, :2] = 1
    regions = [(1,), (2,), (3,)][: others + 1]
    lower, upper = torch.full((2, others + 1), -INFINITE), torch.full((2, others + 1), INFINITE)
    lower[0, 0], upper[0, 0] = 2, 2  # no more than its two seeds
    lower[1, 0] = 64
    if others:
        lower[0, 1:] = 20
    found = project(logits, Bounds(lower, upper), regions, labels=labels)
    assert found.feasible.all() and float(found.residual.max()) <= 1e-8
    assert found.multipliers[:, 0].tolist() == [-INFINITE, INFINITE]
    free = labels[0] == IGNORE
    assert (found.probs[0, 1][free] == 0).all() and (found.probs[1, 1] == 1).all()
    assert (found.probs[0, 1][~free] == 1).all()
    # the mask is the limit of ever smaller bounds
    near = project(logits, Bounds(lower, upper.where(upper != 2, 2 + 1e-6)), regions, labels=labels)
    torch.testing.assert_close(found.probs[0], near.probs[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.value[0], near.value[0], rtol=1e-4, atol=1e-3)


def test_reports_bounds_that_cannot_be_kept() -> None:
    logits = prediction(3, 3)
    labels = torch.full((3, 8, 8), IGNORE)
    labels[:, 0] = 1  # eight seeds of class 1
    labels[:, 1, :4] = 2
    lower = torch.tensor([[-INFINITE], [61], [10]], dtype=torch.float64)
    upper = torch.tensor([[7], [INFINITE], [20]], dtype=torch.float64)
    found = project(logits, Bounds(lower, upper), [(1,)], labels=labels)
    assert found.feasible.tolist() == [[False], [False], [True]]
    torch.testing.assert_close(found.sizes, torch.tensor([[8], [60], [found.sizes[2, 0]]], dtype=torch.float64))
    torch.testing.assert_close(found.residual, torch.tensor([1 / 7, 1 / 61, 0], dtype=torch.float64), atol=1e-8, rtol=0)


@pytest.mark.parametrize("side", [8, 128])
def test_reports_bounds_that_exclude_each_other(side: int) -> None:
    image = side * side
    logits = prediction(3, 4, side)
    lower = torch.tensor([[0.6, 0.6, 0.1], [0.5, 0.3, 0.1], [0.5, 0.5, 0.001]], dtype=torch.float64) * image
    found = project(logits, Bounds.at_least(lower), [(1,), (2,), (3,)], max_iterations=60)
    assert found.feasible.tolist() == [[False, False, True], [True, True, True], [False, False, False]] or (
        not found.feasible[0, :2].any() and found.feasible[1].all() and not found.feasible[2].all()
    )
    assert float(found.residual[1]) <= 1e-8
    nested = Bounds(torch.tensor([[-INFINITE, 30.0]]), torch.tensor([[20.0, INFINITE]]))
    assert not project(prediction(1, 3), nested, [(1, 2), (1,)]).feasible.all()


def can_be_kept(case: Case) -> bool:
    """Whether any distribution keeps the bounds of a single group, by scipy's linear programming."""
    factors = case.factors().flatten(1).numpy()
    batch, _, *space = case.logits.shape
    voxels = batch * int(np.prod(space))
    of_voxel = torch.arange(voxels).reshape(batch, 1, *space).expand_as(case.logits).flatten().numpy()
    one_each = (of_voxel == np.arange(voxels)[:, None]).astype(float)
    known = held_at_seeds(torch.full_like(case.logits, torch.nan), case.labels).flatten().tolist()
    limits = [(0, 1) if q != q else (q, q) for q in known]
    a, b = case.bounds.lower[0].numpy(), case.bounds.upper[0].numpy()
    rows = np.concatenate([factors[np.isfinite(b)], -factors[np.isfinite(a)]])
    sides = np.concatenate([b[np.isfinite(b)], -a[np.isfinite(a)]])
    if not len(rows):
        return True
    nothing = np.zeros(factors.shape[1])
    found = linprog(nothing, A_ub=rows, b_ub=sides, A_eq=one_each, b_eq=np.ones(voxels), bounds=limits)
    return bool(found.status == 0)


def test_agrees_with_linear_programming_on_what_can_be_kept() -> None:
    outcomes = []
    for seed in range(40000, 40120):
        case = random_case(seed)
        if len(case.groups.parts) > 1 or case.logits.numel() > 300:
            continue
        generator = torch.Generator().manual_seed(seed)
        factor = 0.2 + 1.6 * torch.rand(case.bounds.lower.shape, generator=generator, dtype=torch.float64)
        lower, upper = case.bounds.lower * factor, case.bounds.upper * factor
        case = replace(case, bounds=Bounds(torch.minimum(lower, upper), torch.maximum(lower, upper)))
        found = case.project()
        outcomes.append(bool(found.feasible.all()))
        assert outcomes[-1] == can_be_kept(case)
        assert int(found.iterations.max()) < 100
        if outcomes[-1]:
            assert_optimal(case, found)
    assert outcomes.count(True) >= 10 and outcomes.count(False) >= 10


def test_bounds_that_leave_a_class_nothing_together_are_kept() -> None:
    """Each bound is inside of its own range; only both together are on the border."""
    found = project(prediction(1, 3, scale=5), Bounds.at_least(torch.full((1, 2), 32.0)), [(1,), (2,)])
    assert float(found.residual) <= 1e-5 and float(found.probs[:, 0].max()) <= 1e-3


def test_a_mean_is_bounded_by_its_linear_form() -> None:
    logits = prediction(2, 3)
    row = torch.arange(8.0, dtype=torch.float64)[None, :, None].expand(2, 8, 8)
    bounds = Bounds(torch.tensor([5.0, -INFINITE]), torch.tensor([INFINITE, 2.0]))
    potentials, linear = fractional_form(row, bounds)
    found = project(logits, linear, [(1,), (1,)], potentials=potentials)
    mean = (row * found.probs[:, 1]).sum((1, 2)) / found.probs[:, 1].sum((1, 2))
    torch.testing.assert_close(mean, torch.tensor([5.0, 2.0], dtype=torch.float64))
    one_volume = Groups(torch.zeros(2, dtype=torch.long), torch.tensor([2]))
    potentials, linear = fractional_form(row, Bounds(bounds.lower[:1], bounds.upper[:1]), one_volume)
    found = project(logits, linear, [(1,), (1,)], potentials=potentials, groups=one_volume)
    assert float((row * found.probs[:, 1]).sum() / found.probs[:, 1].sum()) == pytest.approx(5)


@pytest.mark.parametrize("regions", [[(1,)], [(1,), (2, 3)]])
def test_a_volume_is_its_slices_put_together(regions: list[tuple[int, ...]]) -> None:
    logits = prediction(6, 4)
    groups = Groups(torch.tensor([0, 1, 0, 1, 1, 0]), torch.tensor([3, 3]))
    bounds = Bounds(torch.full((2, len(regions)), 70.0), torch.full((2, len(regions)), 75.0))
    found = project(logits, bounds, regions, groups=groups)
    for volume in range(2):
        mine = groups.index == volume
        stacked = logits[mine].movedim(0, -1).unsqueeze(0)
        one = project(stacked, Bounds(bounds.lower[:1], bounds.upper[:1]), regions)
        torch.testing.assert_close(found.probs[mine], one.probs[0].movedim(-1, 0), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(found.value[volume], one.value[0])
        assert not found.multipliers.isinf().any()


@pytest.mark.parametrize("regions", [[(1,)], [(1,), (2,)]])
def test_the_order_of_images_does_not_matter(regions: list[tuple[int, ...]]) -> None:
    logits = prediction(5, 3)
    lower = torch.linspace(0, 30, 5, dtype=torch.float64)[:, None].expand(5, len(regions))
    bounds = Bounds(lower, lower)
    order = torch.tensor([3, 0, 4, 1, 2])
    found, moved = (
        project(logits, bounds, regions),
        project(logits[order], Bounds(lower[order], lower[order]), regions),
    )
    torch.testing.assert_close(found.probs[order], moved.probs)
    torch.testing.assert_close(found.multipliers[order], moved.multipliers)
    assert (found.iterations[order] - moved.iterations).abs().max() <= 1


@pytest.mark.parametrize("regions", [[(1,)], [(1,), (2,)]])
def test_no_gradient_flows_and_float32_is_kept(regions: list[tuple[int, ...]]) -> None:
    logits = prediction(2, 3).float().requires_grad_()
    found = project(logits, Bounds.at_least(torch.full((2, len(regions)), 28.0)), regions)
    assert not found.probs.requires_grad and not found.multipliers.requires_grad
    assert found.probs.dtype == torch.float32 and float(found.residual.max()) <= 1e-8
    torch.testing.assert_close(Size()(found.probs)[:, 1], torch.full((2,), 28.0), atol=1e-3, rtol=0)


def test_units_and_unions() -> None:
    """2 mL of classes 1 and 2 together, where a voxel has 0.05 mL, are 40 voxels."""
    logits = prediction(2, 3)
    found = project(logits, sized(2, 2, 2), [(1, 2)], per_voxel=torch.tensor(0.05))
    torch.testing.assert_close(found.probs[:, 1:].sum((1, 2, 3)), torch.full((2,), 40.0, dtype=torch.float64))
    torch.testing.assert_close(found.sizes, torch.full((2, 1), 2.0, dtype=torch.float64))
    # the classes of a region keep their proportions
    torch.testing.assert_close(found.probs[:, 1] / found.probs[:, 2], (logits[:, 1] - logits[:, 2]).exp())


def test_padding_and_halo_stay_as_they_are() -> None:
    logits = prediction(1, 2)
    weight = torch.ones(1, 8, 8)
    weight[..., 0] = 0
    found = project(logits, sized(0, 0), [(1,)], frame=Frame(weight, halo=(2, 0)))
    counted = torch.zeros(8, 8, dtype=torch.bool)
    counted[:6, 1:] = True
    torch.testing.assert_close(found.probs[0][:, ~counted], logits.softmax(1)[0][:, ~counted])
    assert (found.probs[0, 1][counted] == 0).all()


def test_argmax_loses_a_bound_that_the_best_voxels_keep() -> None:
    logits = prediction(3, 2, 16)
    logits[:, 1] -= 3
    lower = torch.tensor([[40.0], [41.3], [0.0]])
    labels = torch.full((3, 16, 16), IGNORE)
    labels[:2, 0, :3] = 1
    found = project(logits, Bounds(lower, lower + 0.9), [(1,)], labels=labels)
    best = found.harden("best")
    assert found.harden().flatten(1).sum(1)[0] < 40
    assert best.flatten(1).sum(1).tolist() == [40, 42, 0]
    assert (best[:2, 0, :3] == 1).all()
    margin = logits[0, 1] - logits[0, 0]
    free = labels[0] == IGNORE
    assert margin[free & (best[0] == 1)].min() >= margin[free & (best[0] == 0)].max()


def test_the_best_voxels_of_a_volume_and_of_several_regions() -> None:
    logits = prediction(4, 4)
    volumes = Groups(torch.tensor([0, 0, 1, 1]), torch.tensor([2, 2]))
    sizes = torch.tensor([[30.0, 20.0, 40.0], [0.0, 70.0, 12.0]])
    found = project(logits, Bounds(sizes, sizes), [(1,), (2,), (3,)], groups=volumes)
    best = found.harden("best")
    counted = torch.stack([volumes.add((best == k).flatten(1).sum(1).double()) for k in (1, 2, 3)], 1)
    torch.testing.assert_close(counted, sizes.double())
    weight = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    found = project(logits, Bounds.at_least(sizes[:, :1] + 10), [(1,)], frame=Frame(weight), groups=volumes)
    size = volumes.add(((found.harden("best") == 1) * weight).flatten(1).sum(1))
    assert (size - found.sizes[:, 0]).abs().max() <= weight.max() / 2 + 1e-6


def test_the_best_voxels_of_uneven_weight_beside_padding() -> None:
    weight = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    weight[:, 0] = 0
    found = project(prediction(2), sized(20, 20, 2), [(1,)], frame=Frame(weight))
    size = ((found.harden("best") == 1) * weight).flatten(1).sum(1)
    assert (size - 20).abs().max() <= weight.max() / 2 + 1e-6


@pytest.mark.parametrize(
    ("regions", "passes"), [("[(1,)]", 6), pytest.param("[(1,), (2,)]", 3, marks=pytest.mark.slow)]
)
def test_compiles_without_reading_values(regions: str, passes: int) -> None:
    shown = run_plain(f"""
        import torch
        from boundseg.constraints import Bounds
        from boundseg.constraints.projection import project

        regions = {regions}

        def run(logits, lower, upper):
            found = project(logits, Bounds(lower, upper), regions, max_iterations={passes})
            return found.probs, found.residual

        logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        lower, upper = torch.full((2, len(regions)), 3.0), torch.full((2, len(regions)), 18.0)
        probs, residual = torch.compile(run, fullgraph=True, backend="eager")(logits, lower, upper)
        torch.testing.assert_close(probs, run(logits, lower, upper)[0])
        print(float(residual.max()))
    """)
    assert float(shown) <= 0.01


@pytest.mark.parametrize("region", [(), (0, 1), (1, 1), (2,), (-1,)])
def test_a_region_that_is_none_is_refused(region: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not all of them"):
        project(prediction(), sized(0, 1), [region])


def test_bounds_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bounds of shape \[2, 1\] for 1 groups and 1 regions"):
        project(prediction(), sized(0, 1, 2), [(1,)])


def test_the_best_voxels_of_a_potential_are_refused() -> None:
    found = project(prediction(), sized(0, 1), [(1,)], potentials=torch.ones(1, 1, 8, 8))
    with pytest.raises(ValueError, match="use argmax"):
        found.harden("best")
