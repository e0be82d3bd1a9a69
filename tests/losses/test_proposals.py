"""Proposals as a method: what is taught, by which target, and what is left to the labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from boundseg.constraints import Bounds, Centroid, Compactness, Constraint, Frame, Groups, Intensity, Size
from boundseg.constraints.projection import ascend, project
from boundseg.losses import Objective, Proposals, partial_cross_entropy
from tests.plain import run_plain

SIDE = 12
SIZE = Constraint("size", Size(), ((1,),))


def batch(images: int = 2, classes: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.full((images, SIDE, SIDE), 255)
    labels[:, 6, 6] = 1
    return torch.randn(images, classes, SIDE, SIDE, dtype=torch.float64, requires_grad=True), labels


def known(*pairs: tuple[float, float]) -> dict[str, Bounds]:
    lower, upper = torch.tensor(pairs).T
    return {"size": Bounds(lower[:, None], upper[:, None])}


def taught(method: Proposals, *args: Any, constraints: Any = (SIZE,), **options: Any) -> Any:
    return Objective(255, constraints, method=method)(*args, **options)


@pytest.mark.parametrize("targets", ["argmax", "best", "soft"])
def test_it_is_the_cross_entropy_to_the_projection(targets: Any) -> None:
    logits, labels = batch()
    bounds = known((20.0, 22.0), (30.0, 40.0))
    loss = taught(Proposals(targets=targets, weight=0.7), logits, labels, bounds)
    proposal = project(logits, bounds["size"], ((1,),), labels=labels)
    target = proposal.probs if targets == "soft" else proposal.harden(targets)
    expected = partial_cross_entropy(logits, labels) + 0.7 * F.cross_entropy(logits, target)
    torch.testing.assert_close(loss.total, expected)
    (ours,) = torch.autograd.grad(loss.total, logits)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs)
    assert loss.figures["proposal feasible"] == (2, 2)


@pytest.mark.parametrize("stop", ["never", "published", "both"])
def test_the_published_ascent_is_a_solver(stop: Any) -> None:
    logits, labels = batch()
    bounds = known((20.0, 22.0), (0.0, 0.0))
    loss = taught(Proposals("ascent", stop=stop, step=1e-3), logits, labels, bounds)
    proposal = ascend(logits, bounds["size"], (1,), labels=labels, stop=stop, step=1e-3)
    expected = partial_cross_entropy(logits, labels) + F.cross_entropy(logits, proposal.harden())
    torch.testing.assert_close(loss.total, expected)


def test_as_published_labels_are_pixels_of_the_proposal_like_others() -> None:
    logits, labels = batch(3)
    # nothing is known of the third, which its label alone teaches
    bounds = known((20.0, 22.0), (30.0, 40.0), (-torch.inf, torch.inf))
    loss = taught(Proposals(partial=False), logits, labels, bounds)
    target = project(logits, bounds["size"], ((1,),), labels=labels).harden()
    assert (target[:2, 6, 6] == 1).all()
    expected = F.cross_entropy(logits[:2], target[:2]) + partial_cross_entropy(logits[2:], labels[2:])
    torch.testing.assert_close(loss.total, expected)
    (ours,) = torch.autograd.grad(loss.total, logits)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(loss.cross_entropy, partial_cross_entropy(logits, labels).detach())
    torch.testing.assert_close(sum(loss.parts.values()), loss.total)


def test_images_without_bounds_and_without_a_solution_learn_from_labels_alone() -> None:
    logits, labels = batch(3)
    # the third has a seed, and is said to be empty
    bounds = known((20.0, 22.0), (-torch.inf, torch.inf), (0.0, 0.0))
    loss = taught(Proposals(), logits, labels, bounds)
    (from_labels,) = torch.autograd.grad(loss.cross_entropy, logits, retain_graph=True)
    (both,) = torch.autograd.grad(loss.total, logits)
    assert torch.equal(both[1:], from_labels[1:]) and not torch.equal(both[0], from_labels[0])
    feasible, count = loss.figures["proposal feasible"]
    assert (int(feasible), int(count)) == (1, 2)


def test_padding_is_not_taught() -> None:
    logits, labels = batch(1)
    weight = torch.ones(1, SIDE, SIDE)
    weight[:, :, 8:] = 0
    loss = taught(Proposals(targets="soft"), logits, labels, known((20.0, 22.0)), Frame(weight))
    (gradient,) = torch.autograd.grad(loss.total, logits)
    assert gradient[..., 8:].eq(0).all() and gradient[..., :8].ne(0).all()


def test_a_volume_is_projected_as_one() -> None:
    logits, labels = batch(4)
    size = Constraint("size", Size(), ((1,),), scope="volume")
    volumes = Groups(torch.tensor([0, 0, 0, 1]), torch.tensor([3, 1]))
    bounds = known((60.0, 70.0), (20.0, 22.0))
    loss = taught(Proposals(targets="best"), logits, labels, bounds, volumes=volumes, constraints=[size])
    target = project(logits, bounds["size"], ((1,),), labels=labels, groups=volumes).harden("best")
    sizes = (target == 1).flatten(1).sum(1)
    assert 60 <= int(sizes[:3].sum()) <= 70 and 20 <= int(sizes[3]) <= 22
    torch.testing.assert_close(loss.total, partial_cross_entropy(logits, labels) + F.cross_entropy(logits, target))


def test_a_volume_that_is_seen_in_part_keeps_its_upper_bound_only() -> None:
    logits, labels = batch(2)
    size = Constraint("size", Size(), ((1,),), scope="volume")
    volumes = Groups(torch.tensor([0, 0]), torch.tensor([5]))
    loss = taught(Proposals(targets="soft"), logits, labels, known((1e3, 2e3)), volumes=volumes, constraints=[size])
    assert loss.terms["size"].bounds.upper.item() == 2e3
    assert loss.figures["proposal feasible"] == (1, 1)


def test_a_warm_up_holds_for_proposals() -> None:
    logits, labels = batch()
    bounds = known((20.0, 22.0), (30.0, 40.0))
    full, half = (taught(Proposals(), logits, labels, bounds, strength=s) for s in (1.0, 0.5))
    torch.testing.assert_close(full.total - full.cross_entropy, 2 * (half.total - half.cross_entropy))
    before = taught(Proposals(partial=False), logits, labels, bounds, strength=0.0)
    torch.testing.assert_close(before.total, partial_cross_entropy(logits, labels))


def test_means_are_kept_as_well() -> None:
    logits, labels = batch(2, 3)
    frame = Frame(torch.ones(2, 1, 1), image=torch.rand(2, 1, SIDE, SIDE))
    constraints = [
        SIZE,
        Constraint("row", Centroid(axis=0), ((1,),)),
        Constraint("light", Intensity(), ((2,),)),
    ]
    bounds = known((20.0, 22.0), (30.0, 40.0)) | {
        "row": Bounds(torch.tensor([[2.0], [3.0]]), torch.tensor([[2.5], [4.0]])),
        "light": Bounds.at_least(torch.tensor([[0.6], [0.7]])),
    }
    loss = taught(Proposals(targets="soft"), logits, labels, bounds, frame, constraints=constraints)
    total, count = loss.figures["proposal residual"]
    assert count == 2 and total < 1e-6


def test_a_batch_that_is_asked_nothing_is_taught_by_its_labels() -> None:
    logits, labels = batch()
    loss = taught(Proposals(), logits, labels, {})
    assert torch.equal(loss.total, loss.cross_entropy)


@pytest.mark.parametrize(
    ("constraints", "method", "message"),
    [
        ([Constraint("form", Compactness(), ((1,),))], Proposals(), "form: it measures Compactness, and a projection"),
        ([Constraint("sharp", Size(), ((1,),), sharpness=2)], Proposals(), "sharp: its sharpness is 2"),
        ([SIZE, Constraint("all", Size(), ((1,),), "volume")], Proposals(), "bounds of slices or bounds of volumes"),
        ([SIZE, Constraint("two", Size(), ((0,),))], Proposals("ascent"), "takes one bounded region, and there are 2"),
    ],
)
def test_what_no_proposal_can_keep_is_refused(constraints: Any, method: Proposals, message: str) -> None:
    logits, labels = batch()
    bounds = {c.name: Bounds.at_most(torch.full((2, 1), 5.0)) for c in constraints}
    volumes = Groups.each(2)
    with pytest.raises(ValueError, match=message):
        taught(method, logits, labels, bounds, volumes=volumes, constraints=constraints)


def test_a_name_that_is_none_is_told() -> None:
    shown = run_plain(
        """
        from boundseg.losses import Proposals
        for wrong in ({"solver": "newton"}, {"targets": "hard"}, {"stop": "first"}):
            try:
                Proposals(**wrong)
            except ValueError as error:
                print(error)
        """
    )
    assert [line.partition(" = ")[0] for line in shown.splitlines()] == ["solver", "targets", "stop"]
    assert "choose one of argmax, best, soft" in shown
