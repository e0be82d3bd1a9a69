from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import (
    Bounds,
    Centroid,
    Constraint,
    Descriptor,
    Frame,
    Groups,
    Penalty,
    Ratio,
    Relative,
    Size,
    Spread,
    Traits,
    Voxels,
    log_hinge,
    measure,
    quadratic,
    size_divergence,
)
from boundseg.errors import BoundsError
from tests.constraints.cases import random_frame, soft
from tests.plain import run_plain

INF = torch.inf


@given(soft(classes=3), st.integers(0, 99))
def test_a_union_is_the_sum_of_its_classes(probs: Tensor, seed: int) -> None:
    frame = random_frame(probs, seed)
    constraint = Constraint("union", Size(), ((1,), (1, 2)))
    value = constraint.measure(probs, frame, Groups.each(len(probs)))
    each = Size()(probs, frame)
    torch.testing.assert_close(value, torch.stack([each[:, 1], each[:, 1] + each[:, 2]], 1))


@given(soft(batch=4, classes=2))
def test_a_volume_costs_the_same_in_one_batch_whatever_the_order_of_its_slices(probs: Tensor) -> None:
    constraint = Constraint("volume", Size(), ((1,),), scope="volume")
    bounds = Bounds(torch.tensor([[1e3], [1e3]]), torch.tensor([[2e3], [2e3]]))
    names = ["a", "a", "b", "a"]
    term = constraint(probs, bounds, groups=Groups.by_name(names, {"a": 3, "b": 1}))
    order = [3, 2, 0, 1]
    shuffled = constraint(probs[order], bounds, groups=Groups.by_name([names[i] for i in order], {"a": 3, "b": 1}))
    torch.testing.assert_close(term.cost, shuffled.cost)
    torch.testing.assert_close(term.value[0], Size()(probs)[[0, 1, 3], 1].sum().reshape(1))


@pytest.mark.parametrize("unit", ["px", "grid_px", "mm2", "mL", "fraction"])
def test_the_published_scale_is_the_same_in_every_unit(unit: str) -> None:
    """C / |Ω| with violations in grid pixels, however the bounds are written."""
    probs = torch.rand(2, 2, 8, 8, dtype=torch.float64).softmax(1)
    frame = Frame(torch.full((2, 1, 1), 1.7), torch.tensor([[1.4, 1.4, 8.0]] * 2))
    in_unit = Size(unit).per_voxel(frame, 64).double().unsqueeze(1)
    bounds_grid_px = Bounds(torch.tensor([[40.0], [0.0]]), torch.tensor([[50.0], [0.0]]))
    bounds = Bounds(bounds_grid_px.lower * in_unit, bounds_grid_px.upper * in_unit)
    term = Constraint("size", Size(unit), ((1,),))(probs, bounds, frame)
    violation = bounds_grid_px.violation(probs[:, 1:].sum((2, 3)))
    torch.testing.assert_close(term.cost, violation.square() / 64, rtol=1e-5, atol=1e-8)


def test_what_is_seen_in_part_keeps_absence_and_loses_lower_bounds() -> None:
    probs = torch.full((2, 2, 4, 4), 0.5)
    cropped = Frame(torch.ones(2, 1, 1), whole=torch.tensor([[True, False]] * 2))
    bounds = Bounds(torch.tensor([[12.0], [0.0]]), torch.tensor([[14.0], [0.0]]))
    term = Constraint("size", Size(), ((1,),))(probs, bounds, cropped)
    assert term.cost.tolist() == [[0], [64 / 16]]
    declared_whole = Frame(torch.ones(2, 1, 1), whole=torch.tensor([[True, True]] * 2))
    assert Constraint("size", Size(), ((1,),))(probs, bounds, declared_whole).cost[0] == 16 / 16
    half_a_volume = Groups.by_name(["a", "a"], {"a": 4})
    volume = Bounds(torch.tensor([[100.0]]), torch.tensor([[120.0]]))
    assert Constraint("size", Size(), ((1,),), "volume")(probs, volume, groups=half_a_volume).cost == 0


def test_the_gradient_on_logits_matches_finite_differences() -> None:
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    bounds = Bounds(torch.tensor([[9.0, 0.0]], dtype=torch.float64), torch.tensor([[INF, 0.0]], dtype=torch.float64))
    groups = Groups.by_name(["a", "a"], {"a": 2})
    for scale in ("image", Relative(2.0), 3.0):
        constraint = Constraint("size", Size(), ((1,), (2,)), "volume", scale=scale)

        def cost(x: Tensor, constraint: Constraint = constraint) -> Tensor:
            return constraint(x.softmax(1), bounds, groups=groups).mean

        # the relative scale is a constant of the violated side, so that the cost stays a square
        assert torch.autograd.gradcheck(cost, logits)


def test_kept_means_to_one_voxel() -> None:
    probs = torch.tensor([0.2, 0.9]).reshape(1, 2, 1, 1).expand(1, 2, 1, 2)
    bounds = Bounds(torch.zeros(1, 2), torch.zeros(1, 2))
    term = Constraint("absent", Size(), ((0,), (1,)))(probs, bounds)
    assert term.satisfied.tolist() == [[True, False]]


@given(soft(classes=3), st.sampled_from([1.5, 2.0, 4.0]))
def test_a_sharpened_size_is_that_of_sharpened_logits(probs: Tensor, sharpness: float) -> None:
    constraint = Constraint("size", Size(), ((1,), (1, 2)), sharpness=sharpness)
    value = constraint.measure(probs, Frame.plain(len(probs), probs.ndim - 2), Groups.each(len(probs)))
    sharp = Size()((sharpness * probs.log()).softmax(1))
    torch.testing.assert_close(value, torch.stack([sharp[:, 1], sharp[:, 1:].sum(1)], 1))


@pytest.mark.parametrize("unit", ["px", "grid_px", "mm2", "mL"])
def test_the_softening_is_the_same_in_every_unit(unit: str) -> None:
    probs = torch.rand(2, 2, 8, 8, dtype=torch.float64).softmax(1)
    frame = Frame(torch.full((2, 1, 1), 1.7), torch.tensor([[1.4, 1.4, 8.0]] * 2))
    in_unit = Size(unit).per_voxel(frame, 64).double().unsqueeze(1)
    bounds = Bounds(torch.tensor([[40.0], [0.0]]) * in_unit, torch.tensor([[50.0], [0.0]]) * in_unit)
    term = Constraint("size", Size(unit), ((1,),), penalty=log_hinge, scale=Voxels(10))(probs, bounds, frame)
    size_px = probs[:, 1:].sum((2, 3))
    in_px = Bounds(torch.tensor([[40.0], [0.0]]).double(), torch.tensor([[50.0], [0.0]]).double())
    torch.testing.assert_close(term.cost, log_hinge(size_px, in_px, 10.0), rtol=1e-5, atol=1e-8)


def test_scales_that_do_not_go_with_a_penalty_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size: the scale 'image' does not go with log_hinge of Size: give Voxels"):
        Constraint("size", Size(), ((1,),), penalty=log_hinge, scale="image")
    with pytest.raises(
        ValueError, match=r"'image' does not go with quadratic of Centroid: give Relative\(…\) or a numb"
    ):
        Constraint("centre", Centroid(), ((1,),), scale="image")
    with pytest.raises(ValueError, match=r"log_hinge of Spread needs a scale in the unit of the bounds: give a number"):
        Constraint("spread", Spread(), ((1,),), penalty=log_hinge)
    with pytest.raises(ValueError, match=r"sharpness = 0\.5: probabilities are sharpened by 1"):
        Constraint("size", Size(), ((1,),), sharpness=0.5)


def test_a_penalty_outside_of_its_domain_names_those_that_go() -> None:
    with pytest.raises(ValueError, match=r"centre: log_hinge prices values that are never negative, and those of Cent"):
        Constraint("centre", Centroid(), ((1,),), penalty=log_hinge, scale=1.0)
    with pytest.raises(ValueError, match=r"size_divergence prices shares of a whole, .*: use quadratic, linear, huber"):
        Constraint("size", Size("mL"), ((1,),), penalty=size_divergence)
    assert Constraint("share", Size("fraction"), ((0,), (1,)), penalty=size_divergence)


def test_pairs_are_asked_for_in_pairs() -> None:
    with pytest.raises(ValueError, match=r"ratio: it measures regions by 2, and was given 1"):
        Constraint("ratio", Ratio(), ((1,),))


@pytest.mark.parametrize("unit", ["px", "grid_px", "mm2", "mL", "fraction"])
@pytest.mark.parametrize("penalty", [quadratic, log_hinge])
def test_a_volume_costs_the_same_in_every_unit(unit: str, penalty: Penalty) -> None:
    """Violations are counted in grid pixels, and softened by so many, of whole volumes as of slices."""
    probs = torch.rand(5, 2, 8, 8, dtype=torch.float64).softmax(1)
    frame = Frame(torch.full((5, 1, 1), 1.7), torch.tensor([[1.4, 1.4, 8.0]] * 5))
    volumes = Groups.by_name(["a", "a", "b", "a", "b"], {"a": 3, "b": 2})
    value = measure(Size(unit), probs[:, 1:], frame, volumes)
    term = Constraint("size", Size(unit), ((1,),), "volume", penalty)(probs, Bounds.at_most(value / 2), frame, volumes)
    value_px = measure(Size("grid_px"), probs[:, 1:], frame, volumes)
    in_px = Constraint("size", Size("grid_px"), ((1,),), "volume", penalty)
    torch.testing.assert_close(
        term.cost, in_px(probs, Bounds.at_most(value_px / 2), frame, volumes).cost, rtol=1e-5, atol=1e-8
    )


@pytest.mark.parametrize("shape", [(4,), (4, 2), (3, 1), (4, 1, 2)])
def test_bounds_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    probs = torch.rand(4, 2, 5, 5).softmax(1)
    with pytest.raises(BoundsError, match=r"size: bounds of shape .* meet values of shape \[4, 1\]"):
        Constraint("size", Size(), ((1,),))(probs, Bounds.at_most(torch.ones(shape)))
    with pytest.raises(BoundsError, match=r"values of shape \[4, 1, 2\].*\n.*then the components"):
        Constraint("centre", Centroid(), ((1,),))(probs, Bounds.at_most(torch.ones(4, 1)))


def test_a_group_without_images_costs_nothing() -> None:
    probs = torch.rand(2, 2, 5, 5).softmax(1).requires_grad_()
    groups = Groups(torch.tensor([0, 2]), torch.tensor([1, 3, 1]))
    for penalty in (quadratic, log_hinge):
        constraint = Constraint("size", Size("mL"), ((1,),), "volume", penalty)
        frame = Frame(torch.ones(2, 1, 1), torch.tensor([[1.0, 1.0, 5.0]] * 2))
        term = constraint(probs, Bounds.at_most(torch.zeros(3, 1)), frame, groups)
        assert torch.isfinite(term.cost).all()
        assert term.cost[1] == 0


def test_what_no_constraint_can_be_says_why() -> None:
    """Without the tests' type checks, as users meet it."""
    run_plain(
        """
        from boundseg.constraints import Constraint, Size

        for options, message in (
            ({"scope": "volumes"}, "there is no scope 'volumes': choose slice or volume"),
            ({"penalty": "linear"}, "'linear' is no penalty: give PENALTIES[…] of quadratic"),
            ({"weight": -1.0}, "weight = -1.0: give a number of 0 or more"),
            ({"regions": (1, 2)}, "regions = (1, 2): give a tuple of classes for each"),
            ({"regions": ()}, "give a tuple of classes for each"),
            ({"regions": ((-1,),)}, "the region (-1,) is none: give classes, 0 or more, each of them once"),
            ({"regions": ((1, 1),)}, "the region (1, 1) is none"),
            ({"regions": (("1",),)}, "the region ('1',) is none"),
            ({"scale": -1.0}, "scale = -1"),
            ({"weight": "1"}, "weight = 1: give a number of 0 or more"),
            ({"descriptor": Size}, "descriptor = Size is a class: give Size(…)"),
        ):
            try:
                Constraint(**{"name": "size", "descriptor": Size(), "regions": ((1,),), **options})
                raise SystemExit(f"{options} was taken")
            except ValueError as error:
                assert message in str(error), error
        assert Constraint("size", Size(), [[1], [1, 2]]).regions == ((1,), (1, 2))
        """
    )


def test_a_class_that_the_network_lacks_is_no_constraint_without_a_cost() -> None:
    constraint = Constraint("size", Size(), ((2,),))
    with pytest.raises(ValueError, match="size: class 2 is none of the network's 2, which count from 0"):
        constraint(torch.rand(3, 2, 4, 4), Bounds.unknown(3, 1))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(torch.ones(3, 1, 4, 4)), r"weight of shape \[3, 1, 4, 4\] meets predictions of 3 images of 4x4"),
        (Frame(torch.ones(3, 4, 5)), r"weight of shape \[3, 4, 5\] meets"),
        (Frame(torch.ones(1, 1, 1)), "the frame's weight: of 1 images, and there are 3 predictions"),
    ],
)
def test_a_frame_of_other_images_is_refused(frame: Frame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Constraint("size", Size(), ((1,),))(torch.rand(3, 2, 4, 4), Bounds.unknown(3, 1), frame)
    with pytest.raises(ValueError, match=message):
        Size()(torch.rand(3, 2, 4, 4), frame)


def test_what_a_frame_says_of_one_image_is_not_taken_for_all() -> None:
    """Without the tests' type checks, as users meet it."""
    run_plain(
        """
        import torch
        from boundseg.constraints import Bounds, BoxSize, Constraint, Frame, box_bands

        outside = Constraint("outside", BoxSize("outside"), ((1,),))
        probs, absent = torch.rand(2, 2, 4, 4), Bounds.at_most(torch.zeros(2, 1))
        bands = box_bands(torch.tensor([[[0, 2], [0, 2]]]), (4, 4), 2)
        for name, tensor in {"bands": bands, "centre": torch.ones(1, 1, 2), "piece": torch.ones(1)}.items():
            frame = Frame(torch.ones(2, 1, 1), **{"bands": bands.expand(2, -1, -1, -1), name: tensor})
            try:
                outside(probs, absent, frame)
                raise SystemExit(f"{name} was taken")
            except ValueError as error:
                assert str(error) == f"the frame's {name}: of 1 images, and there are 2 predictions", error
        outside(probs, absent, Frame(torch.ones(2, 1, 1), bands=bands.expand(2, -1, -1, -1)))
        """
    )


@pytest.mark.parametrize("descriptor", [Size(), Size("fraction"), Centroid(axis=0), Spread(axis=0)])
def test_a_batch_of_nothing_costs_nothing(descriptor: Descriptor) -> None:
    constraint = Constraint("it", descriptor, ((1,),))
    term = constraint(torch.rand(0, 2, 4, 4, requires_grad=True), Bounds.unknown(0, 1))
    assert term.value.shape == (0, 1)
    assert float(term.mean.detach()) == 0


def test_a_volume_needs_its_images_named() -> None:
    with pytest.raises(ValueError, match="size speaks of volumes: give groups"):
        Constraint("size", Size(), ((1,),), "volume")(torch.rand(2, 2, 4, 4), Bounds.unknown(1, 1))


def test_descriptors_of_ones_own_share_nothing_by_mistake() -> None:
    """Two kinds that compare equal, or have no hash, are still two."""

    class Own(NamedTuple):
        power: float = 1.0
        traits = Traits()

        def sums(self, probs: Tensor, frame: Frame) -> Tensor:
            return probs.pow(self.power).flatten(2).sum(2, keepdim=True)

        def value(self, sums: Tensor) -> Tensor:
            return sums[..., 0]

    class Twice(Own):
        def value(self, sums: Tensor) -> Tensor:
            return 2 * sums[..., 0]

        def sums(self, probs: Tensor, frame: Frame) -> Tensor:
            return 3 * super().sums(probs, frame)

    probs, memo = torch.rand(1, 2, 4, 4), {}
    frame, groups = Frame.plain(1, 2), Groups.each(1)
    one, other = (Constraint("own", kind(), ((1,),)).measure(probs, frame, groups, memo) for kind in (Own, Twice))
    torch.testing.assert_close(other, 6 * one)
