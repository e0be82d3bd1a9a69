"""Patches of volumes: drawn by seed and epoch alone, each beside what is known of it and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from boundseg.constraints import Bounds, Constraint, Frame, Size
from boundseg.data.batches import batches, count_batches, named, order
from boundseg.data.patches import CORNER, Patches, cut, draw, grid_of
from boundseg.data.placement import Grid
from boundseg.data.taught import Batch, TaughtCase

from .volumes import IGNORE, VOLUME_CONSTRAINTS, anywhere, taught

lengths = st.integers(1, 9)
sizes = st.tuples(lengths, lengths, lengths)
grids = st.builds(
    Grid,
    sizes,
    st.just("pad"),
    st.none() | st.tuples(st.floats(0.6, 2), st.floats(0.6, 2), st.none()),
    patches=st.just(True),
)


def patch_of(grid: Grid) -> tuple[int, int, int]:
    assert len(grid.size) == 3
    return grid.size


@given(st.lists(sizes, min_size=1, max_size=4), grids, st.integers(0, 99), st.floats(0, 1))
@settings(max_examples=50)
def test_patches_lie_inside_and_every_case_has_its_number(
    shapes: list[tuple[int, int, int]], grid: Grid, seed: int, foreground: float
) -> None:
    cases = [taught(shape, grid, i) for i, shape in enumerate(shapes)]
    drawn = draw(cases, Patches(patch_of(grid), 3, foreground), np.random.default_rng(seed))
    assert [i for i, _ in drawn] == [i for i in range(len(cases)) for _ in range(3)]
    for i, origin in drawn:
        assert all(0 <= o <= o + p <= n for o, p, n in zip(origin, patch_of(grid), grid_of(cases[i]), strict=True))


@given(st.integers(0, 99), st.integers(1, 5))
@settings(max_examples=30)
def test_patches_are_a_function_of_the_generator_alone_and_resumed_ones_are_the_same(seed: int, size: int) -> None:
    grid = Grid((4, 4, 2), patches=True)
    cases, patches = [taught((9, 8, 5), grid, i) for i in range(3)], Patches((4, 4, 2))
    np.random.seed(seed)  # the global generators, which must not matter
    torch.manual_seed(seed)
    chunks = order(cases, patches, size, np.random.default_rng([seed, 3]))
    np.random.random(7)
    assert order([*cases], patches, size, np.random.default_rng([seed, 3])) == chunks
    assert order(cases, patches, size, np.random.default_rng([seed, 4])) != chunks
    assert len(chunks) == count_batches(cases, patches, size)
    whole = list(batches(cases, patches, size, VOLUME_CONSTRAINTS, np.random.default_rng([seed, 3])))
    skipped = list(batches(cases, patches, size, VOLUME_CONSTRAINTS, np.random.default_rng([seed, 3]), 2))
    assert [batch.slices for batch in skipped] == [batch.slices for batch in whole[2:]]
    assert [torch.equal(a.images, b.images) for a, b in zip(skipped, whole[2:], strict=True)] == [True] * len(skipped)


def centres(case: TaughtCase, foreground: float, count: int = 3000) -> np.ndarray:
    """Centres of many patches of one voxel."""
    drawn = draw([case], Patches((1, 1, 1), count, foreground), np.random.default_rng(5))
    return np.array([origin for _, origin in drawn])


def test_a_share_of_the_patches_is_about_labelled_voxels_of_the_foreground() -> None:
    case = taught((9, 9, 9), Grid((1, 1, 1), patches=True))
    inside = 27 / 729
    for foreground in (0.0, 0.33, 1.0):
        found = centres(case, foreground)
        hit = (case.labels[0][tuple(found.T)] == 1).mean()
        expected = foreground + (1 - foreground) * inside
        assert abs(hit - expected) < 4 * (expected * (1 - expected) / len(found)) ** 0.5 + 1e-9


@pytest.mark.parametrize("foreground", [0.0, 0.5])
def test_every_voxel_is_met_as_often_as_another_of_its_kind(foreground: float) -> None:
    """No corner of a volume, and no labelled voxel, is favoured: counts are those of dice."""
    case = taught((6, 6, 3), Grid((1, 1, 1), patches=True))
    found = centres(case, foreground, 6000)
    counts = np.zeros((6, 6, 3))
    np.add.at(counts, tuple(found.T), 1)
    for kind in (0, 1):
        of_kind = counts[case.labels[0] == kind]
        chi2 = ((of_kind - of_kind.mean()) ** 2 / of_kind.mean()).sum()
        degrees = len(of_kind) - 1
        assert abs(chi2 - degrees) < 5 * (2 * degrees) ** 0.5


def test_where_only_background_is_labelled_that_is_the_centre_and_without_labels_any_voxel() -> None:
    case = taught((6, 6, 3), Grid((1, 1, 1), patches=True), labelled=False)
    assert len(np.unique(centres(case, 1.0), axis=0)) == 6 * 6 * 3
    labels = np.full((1, 6, 6, 3), IGNORE, np.uint8)
    labels[0, 4, 5, 1] = 0
    assert np.unique(centres(replace(case, labels=labels), 1.0), axis=0).tolist() == [[4, 5, 1]]


def test_the_labels_of_one_case_do_not_change_what_is_drawn_of_another() -> None:
    grid, patches = Grid((3, 3, 2), patches=True), Patches((3, 3, 2), 20, 0.5)
    other = taught((9, 8, 5), grid, 1)
    first, second = (
        draw([taught((9, 8, 5), grid, labelled=labelled), other], patches, np.random.default_rng(1))
        for labelled in (True, False)
    )
    assert first[20:] == second[20:]
    assert first[:20] != second[:20]


def test_patches_want_a_generator() -> None:
    with pytest.raises(ValueError, match="patches are drawn: give a generator"):
        order([taught((6, 6, 3), Grid((1, 1, 1), patches=True))], Patches((1, 1, 1)), 1)


@given(sizes, grids, st.data())
@settings(max_examples=60)
def test_coordinates_of_a_patch_are_those_in_the_file(
    shape: tuple[int, int, int], grid: Grid, data: st.DataObject
) -> None:
    case = taught(shape, grid, image=True)
    origin = data.draw(st.sampled_from(anywhere(case, patch_of(grid))))
    batch = cut([case], [(0, origin)], VOLUME_CONSTRAINTS, patch_of(grid))
    space = batch.images.shape[2:]
    torch.testing.assert_close(batch.frame.coordinates(space), batch.images, atol=1e-4, rtol=1e-4)
    assert batch.frame.image is not None
    torch.testing.assert_close(batch.frame.image, batch.images)
    window = tuple(slice(o, o + n) for o, n in zip(origin, space, strict=True))
    assert np.array_equal(batch.labels[0].numpy(), case.labels[0][window])
    weight = batch.frame.weight.expand(1, *space)[0]
    assert np.array_equal(weight.numpy(), case.prepared.placement.weight()[window])
    assert named([case], [(0, origin)]) == [f"case0 patch at {'x'.join(map(str, origin))}"]


@given(sizes, grids, st.data())
@settings(max_examples=60)
def test_the_slices_of_a_patch_are_those_of_the_file_and_carry_their_bounds(
    shape: tuple[int, int, int], grid: Grid, data: st.DataObject
) -> None:
    cases = [taught(shape, grid, 0), taught(shape, grid, 1)]
    places = [(i, data.draw(st.sampled_from(anywhere(cases[i], patch_of(grid))))) for i in (1, 0, 1)]
    batch = cut(cases, places, VOLUME_CONSTRAINTS, patch_of(grid))
    assert batch.frame.slices is not None
    of_slices = batch.frame.of_slices()
    # third coordinate of a slice's corner: its number in the file
    numbers = of_slices.coordinates(torch.Size(patch_of(grid)[:2]))[:, 2, 0, 0]
    assert torch.allclose(numbers, numbers.round(), atol=1e-3)
    assert ((numbers > -0.5) & (numbers < shape[2] - 0.5)).all()
    assert torch.equal(batch.bounds["slice"].lower[:, 0], 1000 + numbers.round())
    assert torch.equal(batch.bounds["slice"].upper[:, 0], 2000 + numbers.round())
    case_of = torch.tensor([places[b][0] for b in batch.frame.slices.image.tolist()])
    assert torch.equal(batch.rows["slice"], case_of * shape[2] + numbers.round().long())
    assert batch.bounds["volume"].lower[:, 0].tolist() == [11, 10, 11]
    assert batch.rows["volume"].tolist() == [1, 0, 1]
    held = [
        sum(o <= s + cases[i].prepared.placement.offset[2] < o + patch_of(grid)[2] for s in range(shape[2]))
        for i, (_, _, o) in places
    ]
    assert len(numbers) == sum(held)


def terms(batch: Batch, frame: Frame | None = None) -> dict[str, Bounds]:
    """The bounds that hold, of a slice and of the volume."""
    count, space = batch.images.shape[0], batch.images.shape[2:]
    probs, frame = torch.full((count, 2, *space), 0.5), frame or batch.frame
    asked = {
        "slice": Constraint("slice", Size(), ((1,),)),
        "volume": Constraint("volume", Size(), ((1,),), "volume"),
        "fraction": Constraint("fraction", Size("fraction"), ((1,),), "volume"),
    }
    known = {**batch.bounds, "fraction": batch.bounds["volume"]}
    return {name: c(probs, known[name], frame, batch.volumes).bounds for name, c in asked.items()}


@given(sizes, grids, st.data())
@settings(max_examples=80)
def test_bounds_hold_of_what_is_seen_whole_and_upper_ones_of_parts(
    shape: tuple[int, int, int], grid: Grid, data: st.DataObject
) -> None:
    case = taught(shape, grid)
    origin = data.draw(st.sampled_from(anywhere(case, patch_of(grid))))
    batch = cut([case], [(0, origin)], VOLUME_CONSTRAINTS, patch_of(grid))
    found = terms(batch)
    placement = case.prepared.placement
    seen = [
        set(range(o, o + n)) >= set(range(placement.size[axis])[placement.on_grid[axis]])
        for axis, (o, n) in enumerate(zip(origin, patch_of(grid), strict=True))
    ]
    assert torch.isfinite(found["volume"].lower).all() == all(seen)
    assert torch.equal(found["volume"].upper, batch.bounds["volume"].upper)
    assert torch.isfinite(found["slice"].lower).all() == all(seen[:2])
    assert torch.equal(found["slice"].upper, batch.bounds["slice"].upper)
    # a share of a part is another share
    assert found["fraction"].known.all() == all(seen)


def test_of_a_crop_bounds_hold_where_a_class_is_declared_to_be_whole() -> None:
    case = taught((9, 9, 5), Grid((6, 9, 5), "crop"))
    assert not torch.isfinite(terms(cut([case], [(0, CORNER)], VOLUME_CONSTRAINTS))["volume"].lower).any()
    declared = replace(case, complete=(False, True))
    assert torch.isfinite(terms(cut([declared], [(0, CORNER)], VOLUME_CONSTRAINTS))["volume"].lower).all()
    # slices that are not cut themselves are seen whole, whichever are left out
    between = taught((9, 9, 5), Grid((9, 9, 3), "crop"))
    found = terms(cut([between], [(0, CORNER)], VOLUME_CONSTRAINTS))
    assert torch.isfinite(found["slice"].lower).all()
    assert not torch.isfinite(found["volume"].lower).any()


def test_absence_holds_everywhere() -> None:
    case = taught((9, 9, 5), Grid((4, 4, 2), patches=True))
    absent = replace(case, bounds={**case.bounds, "volume": np.zeros((2, 1, 1), np.float32)})
    found = terms(cut([absent], [(0, (3, 2, 1))], VOLUME_CONSTRAINTS, (4, 4, 2)))["volume"]
    assert (float(found.lower), float(found.upper)) == (-np.inf, 0)


def test_two_patches_of_a_volume_are_not_added_up() -> None:
    case = taught((9, 9, 5), Grid((4, 4, 2), patches=True))
    batch = cut([case], [(0, (0, 0, 0)), (0, (1, 1, 0))], VOLUME_CONSTRAINTS, (4, 4, 2))
    assert batch.volumes.index.tolist() == [0, 1]
    assert batch.bounds["volume"].upper[:, 0].tolist() == [20, 20]


def test_whole_volumes_are_batches_of_their_own() -> None:
    grid = Grid((10, 10, 6))
    cases = [taught((9, 8, 5), grid, i) for i in range(3)]
    found = list(batches(cases, "volumes", 2, VOLUME_CONSTRAINTS, np.random.default_rng(0)))
    assert [len(batch.images) for batch in found] == [2, 1]
    assert sorted(case for batch in found for case, _ in batch.slices) == ["case0", "case1", "case2"]
    assert all(torch.isfinite(bounds.lower).all() for batch in found for bounds in terms(batch).values())


def test_boxes_lie_about_their_own_slices() -> None:
    case = taught((9, 9, 5), Grid((4, 9, 2), patches=True))
    boxes = np.zeros((5, 2, 2), np.int64)
    boxes[2] = [[1, 4], [2, 7]]
    batch = cut([replace(case, boxes=((boxes, 10),))], [(0, (2, 0, 1))], VOLUME_CONSTRAINTS, (4, 9, 2))
    bands = batch.frame.bands
    assert bands is not None
    assert bands.shape == (1, 2, 4, 9, 2)
    assert not bands[..., 0].any()
    expected = torch.zeros(4, 9, dtype=torch.long)
    expected[0:2, 2:7] = 1  # rows 1 to 3 of the file, of which the patch holds 2 and 3
    assert torch.equal(bands[0, 0, :, :, 1], expected)
    of_slices = batch.frame.of_slices().bands
    assert of_slices is not None
    assert torch.equal(of_slices[1, 0], expected)


def test_without_bounds_of_slices_nobody_looks_for_slices() -> None:
    case = taught((9, 9, 5), Grid((4, 9, 2), patches=True))
    alone = replace(case, bounds={"volume": case.bounds["volume"]})
    assert cut([alone], [(0, CORNER)], VOLUME_CONSTRAINTS, (4, 9, 2)).frame.slices is None
