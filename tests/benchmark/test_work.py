"""What is timed: a step that is one, on bounds that press, and that leaves everything as it was."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from boundseg.benchmark.blobs import IGNORE, SHARE, blobs, pressing_bounds
from boundseg.benchmark.step_time import ROWS, Row
from boundseg.benchmark.work import Work
from boundseg.constraints import Size
from boundseg.errors import ConfigError
from boundseg.losses import Lagrangian

CPU = torch.device("cpu")


def work(classes: int = 1, batch: int = 2, chunk: int | None = None) -> Work:
    return Work("enet", batch, classes, (32, 48), CPU, chunk=chunk)


@pytest.mark.parametrize("classes", [1, 3, 16])
def test_a_batch_shows_every_class_and_labels_a_few_pixels_of_it(classes: int) -> None:
    drawn = blobs(3, classes, (128, 96), seed=1)
    assert drawn.images.shape == (3, 1, 128, 96)
    for seeds, mask in zip(drawn.seeds, drawn.masks, strict=True):
        labelled = seeds != IGNORE
        assert set(seeds[labelled].tolist()) == set(range(1, classes + 1))
        assert torch.equal(seeds[labelled], mask[labelled])
        assert labelled.sum() < 0.2 * (mask > 0).sum()
    inside = drawn.masks > 0
    assert drawn.images[:, 0][inside].mean() > 2 * drawn.images[:, 0][~inside].mean()
    assert torch.equal(blobs(3, classes, (128, 96), seed=1).images, drawn.images)


def test_one_disc_fills_its_share_of_the_image() -> None:
    masks = blobs(50, 1, (128, 128)).masks
    # a disc at the border is cut
    assert masks.flatten(1).sum(1).amax() / 128**2 == pytest.approx(SHARE, rel=0.02)


@pytest.mark.parametrize("classes", [1, 2, 16])
def test_bounds_press_on_a_fresh_network(classes: int) -> None:
    fresh = work(classes)
    sizes = Size().value(fresh.logits.softmax(1)[:, 1:].flatten(2).sum(-1, keepdim=True))
    for sides in (1, 2):
        bounds = fresh.bounds[sides]
        assert bounds.upper.shape == (2, classes)
        assert (bounds.violation(sizes) > 0).all()
        assert (bounds.lower.isfinite() == (sides == 2)).all()
    assert (fresh.bounds[2].upper <= 1.1 * SHARE * 32 * 48 + 1e-3).all()


def test_bounds_are_half_of_what_is_seen_where_that_is_less() -> None:
    probs = torch.tensor([0.9, 0.1]).reshape(1, 2, 1, 1).expand(1, 2, 10, 10)
    bounds = pressing_bounds(probs.contiguous(), 2)
    torch.testing.assert_close(torch.cat([bounds.lower, bounds.upper], 1), torch.tensor([[4.5, 5.5]]))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_step_gives_every_weight_a_gradient_and_moves_none(row: Row) -> None:
    once = work()
    before = deepcopy([weight.detach() for weight in once.network.parameters()])
    step = once.step(row.method(once), row.sides, row.full)
    step()
    step()
    for weight, old in zip(once.network.parameters(), before, strict=True):
        assert torch.equal(weight, old)
        assert weight.grad is not None and weight.grad.isfinite().all()
    assert once.optimizer.state[next(once.network.parameters())]["step"] == 2
    once.loss(row.method(once), row.sides, row.full)()
    assert once.logits.grad is None, "the next loss begins from the same logits"


def test_multipliers_ascend_in_a_step() -> None:
    once = work()
    method = once.lagrangian(1.0)
    assert isinstance(method, Lagrangian)
    once.step(method, 2)()
    lower, upper = method.multipliers.of("size")
    assert (upper > 0).all()
    assert (lower == 0).all()


def test_logits_of_chunks_are_those_of_each_chunk() -> None:
    whole, chunked = work(batch=3), work(batch=3, chunk=1)
    assert chunked.logits.shape == whole.logits.shape
    assert torch.equal(chunked.batch.images, whole.batch.images)


def test_what_cannot_be_timed_is_told() -> None:
    with pytest.raises(ConfigError, match=r"Unknown network 'enett'; did you mean 'enet'\?"):
        Work("enett", 1, 1, (32, 32), CPU)
    with pytest.raises(ConfigError, match=r"the network unet fails on a batch of 1 x 30 x 33: Sizes of tensors"):
        Work("unet", 1, 1, (30, 33), CPU)
