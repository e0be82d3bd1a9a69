import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import SIZE_UNITS, Bounds, Constraint, Frame, Groups, Size
from tests.constraints.cases import blocks, random_frame, soft
from tests.plain import run_plain


@given(blocks())
def test_the_size_of_a_hard_region_is_its_number_of_voxels(case: tuple[Tensor, Tensor]) -> None:
    probs, sizes = case
    assert torch.equal(Size()(probs), sizes)
    assert torch.equal(Size("grid_px")(probs), sizes)
    torch.testing.assert_close(Size("fraction")(probs), sizes / probs[0, 0].numel())


@given(soft(), st.sampled_from(["px", "grid_px", "mm2", "mL", "fraction"]), st.integers(0, 99))
def test_sums_of_parts_add_up_to_the_whole(probs: Tensor, unit: str, seed: int) -> None:
    size, frame = Size(unit), random_frame(probs, seed)
    half = probs.shape[2] // 2
    parts = [
        (probs[:, :, :half], Frame(frame.weight[:, :half], frame.spacing_mm)),
        (probs[:, :, half:], Frame(frame.weight[:, half:], frame.spacing_mm)),
    ]
    together = sum(size.sums(p, f) for p, f in parts)
    torch.testing.assert_close(size.value(together), size(probs, frame))


def test_units_by_hand() -> None:
    # 4 predicted pixels, each of which stands for 2.5 of the file's, 2 x 3 mm, slices 10 mm apart
    probs = torch.full((1, 2, 2, 2), 0.5)
    frame = Frame(torch.full((1, 1, 1), 2.5), torch.tensor([[2.0, 3.0, 10.0]]))
    expected = {"px": 5.0, "grid_px": 2.0, "mm2": 30.0, "mL": 0.3, "fraction": 0.5}
    for unit, value in expected.items():
        torch.testing.assert_close(Size(unit)(probs, frame), torch.full((1, 2), value))
        per_voxel = Size(unit).per_voxel(frame, 4)
        torch.testing.assert_close(per_voxel, torch.tensor([value / 2]), msg=unit)


def test_padding_counts_for_nothing_but_in_grid_px() -> None:
    probs = torch.ones(1, 1, 2, 3)
    weight = torch.ones(1, 2, 3)
    weight[..., 2] = 0
    frame = Frame(weight, torch.ones(1, 3))
    assert Size()(probs, frame) == 4
    assert Size("grid_px")(probs, frame) == 6
    assert Size("fraction")(probs, frame) == 1
    assert Size("fraction").per_voxel(frame, 6) == 0.25


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 1, 10), (1, 8, 10)])
def test_a_voxel_adds_its_share_whichever_axes_of_the_weight_stand_for_all(shape: tuple[int, ...]) -> None:
    """By the slope of the value along a prediction that grows voxel by voxel."""
    weight = torch.full(shape, 1.5)
    weight[:, 6:] = 0
    weight[..., 9:] = 0
    frame, full = Frame(weight), Frame(weight.expand(1, 8, 10).clone())
    probs = torch.zeros(1, 1, 8, 10, requires_grad=True)
    inside = full.weight > 0
    for unit in SIZE_UNITS[:2] + SIZE_UNITS[-1:]:  # those that need no spacing
        (slope,) = torch.autograd.grad(Size(unit)(probs, frame).sum(), probs)
        per_voxel = Size(unit).per_voxel(frame, 80)
        torch.testing.assert_close(slope[:, 0][inside], per_voxel.expand(int(inside.sum())))
        torch.testing.assert_close(per_voxel, Size(unit).per_voxel(full, 80))
    known = Bounds.at_most(torch.tensor([[0.2]]))
    terms = [Constraint("share", Size("fraction"), ((0,),))(probs + 0.5, known, f) for f in (frame, full)]
    torch.testing.assert_close(terms[0].cost, terms[1].cost)
    torch.testing.assert_close(terms[0].tolerance, terms[1].tolerance)


def test_a_foreground_of_half_precision_is_counted_in_single() -> None:
    probs = torch.ones(1, 1, 300, 300)
    for dtype in (torch.float16, torch.bfloat16):
        size = Size()(probs.to(dtype))
        assert size.dtype == torch.float32
        assert size == 90_000
    with torch.autocast("cpu", torch.bfloat16):
        assert Size()(probs) == 90_000
    assert Size()(probs.double()).dtype == torch.float64


def test_mm_need_a_spacing_and_units_must_exist() -> None:
    with pytest.raises(ValueError, match="needs the frame's spacing_mm"):
        Size("mL")(torch.ones(1, 1, 2, 2))
    said = run_plain(
        """
        from boundseg.constraints import Size
        try:
            Size("cm3")
        except ValueError as error:
            print(error)
        """
    )
    assert said.startswith("a size has no unit 'cm3': choose one of px, grid_px")


def test_groups_add_slices_to_volumes_and_know_when_one_is_incomplete() -> None:
    groups = Groups.by_name(["a", "b", "a"], {"a": 2, "b": 3})
    assert groups.add(torch.tensor([[1.0], [10.0], [2.0]])).tolist() == [[3], [10]]
    seen = torch.tensor([[True, True], [True, True], [True, False]])
    assert groups.whole(seen).tolist() == [[True, False], [False, False]]
    assert Groups.each(3).whole(seen).tolist() == seen.tolist()
    torch.testing.assert_close(groups.mean(torch.tensor([1.0, 5.0, 3.0])), torch.tensor([2.0, 5.0]))
