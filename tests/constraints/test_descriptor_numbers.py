"""Digits: what single precision, half precision and fast matrix products leave of a value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from boundseg.constraints import Constraint, Elongation, Frame, Groups, Intensity, Moment, Size, Spread, measure
from tests.constraints.cases import DESCRIPTORS, Situation, situation

every = pytest.mark.parametrize("name", DESCRIPTORS)


def singles(case: Situation) -> Situation:
    f = case.frame
    assert f.affine is not None and f.spacing_mm is not None and f.image is not None
    frame = replace(
        f, weight=f.weight.float(), affine=f.affine.float(), spacing_mm=f.spacing_mm.float(), image=f.image.float()
    )
    return Situation(case.probs.float(), frame)


def corner_blob(sd: float = 2.0) -> Tensor:
    """Far from where coordinates begin, where their squares have few digits left."""
    line = torch.arange(512, dtype=torch.float64)
    one, other = (-((line - 500) ** 2) / (2 * s * s) for s in (sd, 1.5 * sd))
    return (one.unsqueeze(1) + other).exp()[None, None]


@pytest.mark.parametrize(
    "descriptor",
    [Spread(), Spread("mm"), Elongation(), Elongation("mm"), Moment((2, 0)), Moment((4, 0)), Moment((2, 2), "mm")],
    ids=str,
)
def test_a_small_blob_in_the_corner_of_a_large_image_keeps_its_digits(descriptor: Spread | Elongation | Moment) -> None:
    probs = corner_blob()
    turn = torch.tensor([[[0.8, -0.6, 900.0], [0.6, 0.8, -700.0]]], dtype=torch.float64)
    exact = Frame.at(turn, 2, torch.tensor([[0.7, 1.4]], dtype=torch.float64))
    single = Frame.at(turn.float(), 2, torch.tensor([[0.7, 1.4]]))
    found = descriptor(probs.float(), single)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), descriptor(probs, exact), rtol=1e-4, atol=0)


def test_a_variance_keeps_its_digits_far_from_zero() -> None:
    probs = corner_blob(8.0)
    image = 10_000 + 10 * torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    variance = Intensity("variance")
    exact = variance(probs, Frame(torch.ones(1, 1, 1).double(), image=image))
    found = variance(probs.float(), Frame(torch.ones(1, 1, 1), image=image.float()))
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_a_volume_of_512_cubed_is_counted_in_half_precision(precision: torch.dtype) -> None:
    """134 million voxels as 512 slices, of which four differ."""
    logits = 3 * torch.randn(4, 2, 512, 512, generator=torch.Generator().manual_seed(0))
    size = Constraint("size", Size(), ((1,),), "volume")
    groups = Groups(torch.zeros(512, dtype=torch.long), torch.tensor([512]))
    with torch.autocast("cpu", precision):
        probs = logits.to(precision).float().softmax(1)
        sums = size.sums(probs, Frame.plain(4, 2)).repeat(128, 1, 1)
        found = Size().value(groups.add(sums))
    exact = 128 * logits.to(precision).double().softmax(1)[:, 1].sum()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-4)


@every
def test_single_precision_agrees_with_double(name: str) -> None:
    case = situation((6, 7), seed=3)
    descriptor = DESCRIPTORS[name].make(2)
    single = singles(case)
    found = measure(descriptor, single.probs, single.frame)
    assert found.dtype == torch.float32
    exact = measure(descriptor, case.probs, case.frame)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(found.double(), exact, rtol=2e-5, atol=2e-6)


@every
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dims", [2, 3])
def test_autocast_changes_no_value_and_no_gradient(name: str, precision: torch.dtype, dims: int) -> None:
    case = singles(situation((4, 5, 3)[:dims], seed=3))
    constraint = Constraint(name, DESCRIPTORS[name].make(dims), ((0,), (1,), (2,), (3,)))
    groups = Groups.each(len(case.probs))
    probs = case.probs.requires_grad_()

    outside = constraint.measure(probs, case.frame, groups)
    with torch.autocast("cpu", precision):
        inside = constraint.measure(probs, case.frame, groups)
    torch.testing.assert_close(inside, outside, rtol=1e-6, atol=1e-6)
    slopes = [torch.autograd.grad(found.sum(), probs)[0] for found in (inside, outside)]
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-6)


@every
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_comes_out_as_single(name: str, precision: torch.dtype) -> None:
    case = singles(situation((4, 5), seed=3))
    descriptor = DESCRIPTORS[name].make(2)
    halved = case.probs.to(precision)
    found = measure(descriptor, halved, case.frame)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, measure(descriptor, halved.float(), case.frame))


@pytest.fixture(params=["high", "medium"])
def fast_products(request: pytest.FixtureRequest) -> Iterator[str]:
    before = torch.get_float32_matmul_precision()
    yield request.param
    torch.set_float32_matmul_precision(before)


@every
@pytest.mark.parametrize("dims", [2, 3])
def test_fast_matrix_products_change_no_value(name: str, dims: int, fast_products: str) -> None:
    """As whoever trains a network on a GPU allows them."""
    case = singles(situation((5, 6, 4)[:dims], seed=5))
    descriptor = DESCRIPTORS[name].make(dims)
    exact = measure(descriptor, case.probs, case.frame)
    torch.set_float32_matmul_precision(fast_products)
    torch.testing.assert_close(measure(descriptor, case.probs, case.frame), exact, rtol=2e-5, atol=2e-6)
