"""Bounds in any unit, on whatever is linear, as a projection takes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from boundseg.constraints import Bounds, Centroid, Constraint, Frame, Groups, Intensity, Size, measure
from boundseg.constraints.projection import linear_form, project

SPACE = (10, 12)


def frame() -> Frame:
    weight = torch.tensor([2.0, 2.0, 0.5]).reshape(3, 1, 1)
    affine = torch.zeros(3, 3, 4)
    affine[:, 0, 0], affine[:, 1, 1], affine[:, 2, 2] = 1.25, 1.6, 1
    return Frame(weight, torch.tensor([[1.5, 1.5, 8.0]]).repeat(3, 1), affine=affine, image=torch.rand(3, 1, *SPACE))


def logits() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 3, *SPACE, dtype=torch.float64)


VOLUMES = Groups(torch.tensor([0, 0, 1]), torch.tensor([2, 1]))


@pytest.mark.parametrize("unit", ["px", "grid_px", "mm2", "mL", "fraction"])
@pytest.mark.parametrize("scope", ["slice", "volume"])
def test_a_size_is_kept_in_its_own_unit(unit: Any, scope: Any) -> None:
    groups = VOLUMES if scope == "volume" else Groups.each(3)
    size = Constraint("size", Size(unit), ((1,), (1, 2)), scope)
    now = measure(Size(unit), torch.stack([(p := logits().softmax(1))[:, 1], p[:, 1:].sum(1)], 1), frame(), groups)
    bounds = Bounds.around(now * torch.tensor([0.4, 0.7]), relative=0.01)
    form = linear_form([size], [bounds], frame(), groups, SPACE)
    assert form.potentials is None and form.regions == ((1,), (1, 2))
    found = project(logits(), form.bounds, form.regions, frame=frame(), groups=groups).probs
    value = measure(Size(unit), torch.stack([found[:, 1], found[:, 1:].sum(1)], 1), frame(), groups)
    assert (bounds.violation(value).abs() <= 1e-5 * now).all()
    torch.testing.assert_close(value, bounds.upper.to(value), rtol=1e-4, atol=0)


@pytest.mark.parametrize("scope", ["slice", "volume"])
@pytest.mark.parametrize("unit", ["px", "grid_px", "fraction"])
def test_sizes_are_kept_where_voxels_weigh_unlike_and_some_images_are_padding(unit: Any, scope: Any) -> None:
    groups = VOLUMES if scope == "volume" else Groups.each(3)
    weight = frame().weight * (1 + 0.6 * torch.sin(torch.arange(10.0))).reshape(1, 10, 1)
    weight[0] = 0 if scope == "volume" else weight[0]
    own = Frame(weight)
    inside = (weight > 0).unsqueeze(1)
    probs = logits().softmax(1) * inside
    now = measure(Size(unit), probs[:, 1:2], own, groups)
    bounds = Bounds.around(0.5 * now, relative=0.01)
    form = linear_form([Constraint("size", Size(unit), ((1,),), scope)], [bounds], own, groups, SPACE)
    found = project(logits(), form.bounds, form.regions, frame=own, groups=groups, potentials=form.potentials)
    value = measure(Size(unit), found.probs[:, 1:2] * inside, own, groups)
    torch.testing.assert_close(value, bounds.upper.to(value), rtol=1e-5, atol=0)


def test_bounds_on_one_region_become_the_narrower() -> None:
    sets = [Constraint(name, Size(unit), ((2, 1),)) for name, unit in (("a", "px"), ("b", "mm2"), ("c", "px"))]
    bounds = [
        Bounds(torch.tensor([[10.0], [10.0], [10.0]]), torch.tensor([[50.0], [50.0], [50.0]])),
        Bounds(torch.tensor([[-torch.inf], [45.0], [2.25]]), torch.tensor([[90.0], [torch.inf], [4.5]])),
        Bounds.unknown(3, 1),
    ]
    form = linear_form(sets, bounds, frame(), Groups.each(3), SPACE)
    assert form.regions == ((1, 2),)
    # 90 mm² are 40 pixels of 1.5 x 1.5 mm; the third says 1 to 2 and 10 to 50
    torch.testing.assert_close(form.bounds.lower[:, 0], torch.tensor([10.0, 20.0, -torch.inf]))
    torch.testing.assert_close(form.bounds.upper[:, 0], torch.tensor([40.0, 50.0, torch.inf]))
    assert form.contradictory.tolist() == [False, False, True]


@pytest.mark.parametrize("scope", ["slice", "volume"])
def test_means_are_kept_beside_sizes(scope: Any) -> None:
    groups = VOLUMES if scope == "volume" else Groups.each(3)
    own = frame() if scope == "volume" else frame().in_plane()
    axes = 3 if scope == "volume" else 2
    constraints = [
        Constraint("size", Size("mL"), ((1,),), scope),
        Constraint("row", Centroid("mm", 0), ((1,),), scope),
        Constraint("centre", Centroid("px"), ((2,),), scope),
        Constraint("light", Intensity(), ((1,),), scope),
    ]
    probs = logits().softmax(1)[:, 1:]
    centre = measure(Centroid("px"), probs[:, 1:], own, groups)
    count = len(groups.parts)
    bounds = [
        Bounds.around(0.5 * measure(Size("mL"), probs[:, :1], own, groups), 0.01),
        Bounds.around(measure(Centroid("mm", 0), probs[:, :1], own, groups) + 1.5, absolute=0.01),
        Bounds.around(centre, absolute=0.02),
        Bounds.at_least(torch.full((count, 1), 0.55)),
    ]
    form = linear_form(constraints, bounds, own, groups, SPACE)
    assert form.potentials is not None and len(form.regions) == len(form.potentials) == 1 + 2 + 2 * axes + 2
    found = project(logits(), form.bounds, form.regions, frame=own, groups=groups, potentials=form.potentials)
    assert found.feasible.all() and (found.residual < 1e-6).all()
    kept = found.probs[:, 1:]
    for constraint, known in zip(constraints, bounds, strict=True):
        column = kept[:, 1:] if constraint.regions == ((2,),) else kept[:, :1]
        value = measure(constraint.descriptor, column, own, groups)
        assert (known.violation(value).abs() < 1e-4).all(), constraint.name
