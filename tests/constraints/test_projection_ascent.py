"""The published ascent: its formula, its early stop, and where it goes when it is given time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from boundseg.constraints import Bounds, Frame, Groups
from boundseg.constraints.projection import Stop, ascend, project

from ..plain import run_plain


def prediction(batch: int, side: int, shift: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 2, side, side, generator=generator, dtype=torch.float64)
    logits[:, 1] += shift
    return logits


def with_size(size: float, side: int = 256) -> Tensor:
    """A prediction whose soft size is known."""
    found = project(prediction(1, side, -4), Bounds(*[torch.tensor([[float(size)]])] * 2), [(1,)])
    return found.probs.log()


def between(lower: float, upper: float, groups: int = 1) -> Bounds:
    return Bounds(torch.full((groups, 1), float(lower)), torch.full((groups, 1), float(upper)))


@pytest.mark.parametrize(
    ("stop", "size", "iterations"), [("published", 445, 1), ("both", 1800, None), ("never", 1800, 500)]
)
def test_the_published_stop_never_enforces_a_lower_bound(stop: Stop, size: float, iterations: int | None) -> None:
    found = ascend(with_size(445), between(1800, 2200), (1,), stop=stop)
    # the published stop is reached after a single step, of 5e-5 * 1355
    tolerance = {"published": 0.08, "both": 0.02, "never": 0.001}[stop]
    assert float(found.sizes) == pytest.approx(size, rel=tolerance)
    if iterations:
        assert found.iterations.tolist() == [iterations]


def test_agrees_with_the_update_written_as_a_loop_over_images() -> None:
    logits = prediction(3, 16, 0)
    lower, upper = torch.tensor([[200.0], [10.0], [-torch.inf]]), torch.tensor([[torch.inf], [20.0], [50.0]])
    found = ascend(logits, Bounds(lower, upper), (1,), step=1e-3, iterations=7)
    for image, expected in zip(logits, found.multipliers[:, 0].tolist(), strict=True):
        a, b = float(lower[0]), float(upper[0])
        lower, upper = lower[1:], upper[1:]
        beta1 = beta2 = 0.0
        size = float(image.softmax(0)[1].sum())
        for _ in range(7):
            beta1, beta2 = max(0.0, beta1 + 1e-3 * (size - b)), max(0.0, beta2 + 1e-3 * (a - size))
            odds = image.softmax(0)[1] * torch.tensor(beta2 - beta1).double().exp()
            size = float((odds / (odds + image.softmax(0)[0])).sum())
        assert beta2 - beta1 == pytest.approx(expected)


@pytest.mark.parametrize("step", [None, 1e-3])
def test_a_step_is_of_the_predicted_grid_whatever_the_file_counts(step: float | None) -> None:
    """A file of four times the voxels, whose bounds are four times as large, goes the same way."""
    logits, bounds = with_size(445, 64), between(1800, 2200)
    plain = ascend(logits, bounds, (1,), step=step, iterations=7)
    four = Frame(torch.full((1, 1, 1), 4.0))
    found = ascend(logits, bounds.times(torch.tensor([4.0])), (1,), frame=four, step=step, iterations=7)
    # the multiplier is of the file's voxels: four of them are added for one
    torch.testing.assert_close(4 * found.multipliers, plain.multipliers)
    torch.testing.assert_close(found.probs, plain.probs)
    assert plain.multipliers > 0


def test_left_out_the_step_is_the_published_one_on_its_grid() -> None:
    logits, bounds = with_size(445), between(1800, 2200)
    found, published = (ascend(logits, bounds, (1,), step=step, iterations=5) for step in (None, 5e-5))
    torch.testing.assert_close(found.multipliers, published.multipliers)


@pytest.mark.parametrize("volumes", [False, True])
def test_run_long_it_converges_to_the_exact_projection(volumes: bool) -> None:
    logits = prediction(4, 16, -1)
    labels = torch.full((4, 16, 16), 255)
    labels[:, 0, :5] = 1
    groups = Groups(torch.tensor([0, 0, 1, 1]), torch.tensor([2, 2])) if volumes else Groups.each(4)
    lower = torch.tensor([[130.0], [20.0]]) if volumes else torch.tensor([[150.0], [8.0], [40.0], [100.0]])
    bounds = Bounds(lower, lower * 1.1)
    options = {"groups": groups, "labels": labels}
    found = ascend(logits, bounds, (1,), step=1e-2, iterations=3000, **options)
    exact = project(logits, bounds, [(1,)], **options)
    torch.testing.assert_close(found.multipliers, exact.multipliers, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.probs, exact.probs, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.value, exact.value, rtol=1e-5, atol=1e-5)
    assert float(found.residual.max()) <= 1e-5 and found.feasible.all()


def test_absence_is_far_from_reached_after_the_published_iterations() -> None:
    """About 1 / (η t) = 40 px are left, whichever way absence is written."""
    logits = with_size(900)
    found = ascend(logits, between(0, 0), (1,))
    assert 20 < float(found.sizes) < 80
    as_it_stands = ascend(logits, between(0, 0), (1,), absent_below_zero=False)
    torch.testing.assert_close(found.multipliers, as_it_stands.multipliers)
    assert found.asked.bounds.lower.tolist() == [[-1]]


@pytest.mark.parametrize("stop", ["never", "published", "both"])
def test_images_do_not_see_one_another(stop: Stop) -> None:
    logits = prediction(4, 64, -2)
    bounds = Bounds(torch.tensor([[500.0], [0.0], [900.0], [10.0]]), torch.tensor([[600.0], [0.0], [900.0], [4000.0]]))
    together = ascend(logits, bounds, (1,), stop=stop, iterations=60)
    for i in range(4):
        alone = ascend(
            logits[i : i + 1], Bounds(bounds.lower[i : i + 1], bounds.upper[i : i + 1]), (1,), stop=stop, iterations=60
        )
        torch.testing.assert_close(together.probs[i], alone.probs[0])
        assert together.iterations[i] == alone.iterations[0]


def test_gives_a_label_map_without_gradient() -> None:
    logits = prediction(2, 16, 0).float().requires_grad_()
    found = ascend(logits, between(200, 210, 2), (1,), step=1e-2)
    assert not found.probs.requires_grad and found.probs.dtype == torch.float32
    assert set(found.harden().unique().tolist()) <= {0, 1}
    assert found.harden("best").flatten(1).sum(1).tolist() == [200, 200]


def test_an_unknown_stop_is_refused() -> None:
    shown = run_plain("""
        import torch
        from boundseg.constraints import Bounds
        from boundseg.constraints.projection import ascend

        try:
            ascend(torch.zeros(1, 2, 4, 4), Bounds.unknown(1, 1), (1,), stop="sometimes")
        except ValueError as error:
            print(error)
    """)
    assert shown == "stop = 'sometimes': choose one of never, published, both\n"
