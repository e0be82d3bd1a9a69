"""Slices within 3D predictions: bounds ask of them what they ask of slices that are predicted by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boundseg.constraints import (
    BoundaryLength,
    Bounds,
    Centroid,
    Constraint,
    Descriptor,
    Frame,
    Intensity,
    Size,
    Slices,
    Spread,
)

B, K, X, Y, Z = 2, 3, 5, 6, 4
MEASURED: dict[str, Descriptor] = {
    "px": Size(),
    "mm2": Size("mm2"),
    "fraction": Size("fraction"),
    "grid_px": Size("grid_px"),
    "centroid": Centroid("mm", 1),
    "spread": Spread("px", 0),
    "boundary": BoundaryLength("mm"),
    "intensity": Intensity(),
}


def predicted(seed: int) -> tuple[torch.Tensor, Frame, list[tuple[int, int]]]:
    """Probabilities of two patches of two cases, their frame, and (image, slice) of the slices that are the case's."""
    rng = torch.Generator().manual_seed(seed)
    probs = torch.rand(B, K, X, Y, Z, generator=rng, dtype=torch.float64).softmax(1)
    affine = torch.zeros(B, 3, 4, dtype=torch.float64)
    affine[:, [0, 1, 2], [0, 1, 2]] = torch.tensor([1.5, 0.75, 1.0], dtype=torch.float64)
    affine[:, :, 3] = torch.tensor([[3.0, 1.0, 2.0], [0.0, -0.5, 7.0]], dtype=torch.float64)
    weight = torch.rand(B, X, Y, Z, generator=rng, dtype=torch.float64)
    weight[0, -1] = 0  # padding
    named = [(0, 1), (0, 2), (1, 0), (1, 3)]
    index = torch.tensor([b * Z + z for b, z in named])
    whole = torch.tensor([[True] * K, [True, False, True], [True] * K, [False] * K])
    image = torch.rand(B, 1, X, Y, Z, generator=rng, dtype=torch.float64)
    spacing = torch.tensor([[1.2, 1.4, 8.0], [0.9, 1.0, 5.0]], dtype=torch.float64)
    return probs, Frame(weight, spacing, affine=affine, image=image, slices=Slices(index, Z, whole)), named


def by_themselves(frame: Frame, named: list[tuple[int, int]]) -> Frame:
    """The frame of the same slices, written down slice by slice."""
    assert frame.affine is not None
    assert frame.image is not None
    assert frame.spacing_mm is not None
    assert frame.slices is not None
    return Frame(
        torch.stack([frame.weight[b, :, :, z] for b, z in named]),
        torch.stack([frame.spacing_mm[b] for b, _ in named]),
        frame.slices.whole,
        torch.stack([frame.affine[b, :2][:, [0, 1, 3]] for b, _ in named]),
        torch.stack([frame.image[b, :, :, :, z] for b, z in named]),
    )


@pytest.mark.parametrize("name", MEASURED)
@given(seed=st.integers(0, 99))
def test_a_slice_of_a_volume_is_asked_what_a_slice_is_asked(name: str, seed: int) -> None:
    probs, frame, named = predicted(seed)
    constraint = Constraint(name, MEASURED[name], ((1,), (1, 2)))
    lower = torch.rand(len(named), 2, dtype=torch.float64)
    bounds = Bounds(lower, lower + 0.5)
    found = constraint(probs, bounds, frame)
    slices = torch.stack([probs[b, ..., z] for b, z in named])
    true = constraint(slices, bounds, by_themselves(frame, named))
    torch.testing.assert_close(found.value, true.value)
    torch.testing.assert_close(found.cost, true.cost)
    assert torch.equal(found.bounds.lower, true.bounds.lower)
    assert torch.equal(found.bounds.upper, true.bounds.upper)
    torch.testing.assert_close(torch.as_tensor(found.tolerance), torch.as_tensor(true.tolerance))
    torch.testing.assert_close(
        constraint.sums(probs, frame), constraint.sums(slices, by_themselves(frame, named)), atol=1e-9, rtol=1e-9
    )


def test_where_a_slice_lies_along_the_volume_is_in_its_frame() -> None:
    _, frame, named = predicted(0)
    of_volume, of_slices = frame.coordinates(torch.Size((X, Y, Z))), frame.of_slices().coordinates(torch.Size((X, Y)))
    for place, (b, z) in zip(of_slices, named, strict=True):
        torch.testing.assert_close(place, of_volume[b, ..., z])


def test_without_slices_in_the_frame_an_image_is_the_volume() -> None:
    probs, frame, _ = predicted(0)
    term = Constraint("size", Size(), ((1,),))(probs, Bounds.unknown(B, 1), replace(frame, slices=None))
    torch.testing.assert_close(term.value[:, 0], (probs[:, 1] * frame.weight).sum((1, 2, 3)))


def test_bounds_of_volumes_do_not_look_at_slices() -> None:
    from boundseg.constraints import Groups

    probs, frame, _ = predicted(0)
    constraint = Constraint("size", Size(), ((1,),), "volume")
    term = constraint(probs, Bounds.unknown(B, 1), frame, Groups.each(B))
    torch.testing.assert_close(term.value[:, 0], (probs[:, 1] * frame.weight).sum((1, 2, 3)))


@given(st.integers(0, 99))
def test_reversed_slices_are_the_same_slices(seed: int) -> None:
    probs, frame, _ = predicted(seed)
    assert frame.slices is not None
    chosen = torch.tensor([True, False])
    turned = torch.where(chosen.reshape(-1, 1, 1, 1, 1), probs.flip(-1), probs)
    assert torch.equal(frame.slices.mirrored(chosen).of(turned), frame.slices.of(probs))
    uniform = torch.rand(B, 1, 1, 1)
    assert torch.equal(frame.slices.of(uniform), uniform[[0, 0, 1, 1], ..., 0])


def test_a_frame_without_slices_says_so() -> None:
    with pytest.raises(ValueError, match="does not say which slices of a 3D prediction are slices of the case"):
        Frame.plain(1, 3).of_slices()


def test_a_frame_goes_to_a_device_with_its_slices() -> None:
    _, frame, _ = predicted(0)
    moved = frame.to("cpu").slices
    assert moved is not None
    assert frame.slices is not None
    assert torch.equal(moved.index, frame.slices.index)
    assert moved.length == Z
