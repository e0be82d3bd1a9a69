"""Chunks of a case: every voxel and slice in one of them, and sums over all of them those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from boundseg.constraints import BoundaryLength, Bounds, Centroid, Constraint, Descriptor, Intensity, Size, Spread
from boundseg.data.batches import collate
from boundseg.data.chunks import chunks_of_patches, chunks_of_slices
from boundseg.data.patches import CORNER, cut
from boundseg.data.placement import Grid, Placement
from boundseg.data.prepare import PreparedCase
from boundseg.data.taught import Batch, TaughtCase

from .volumes import IGNORE, SPACING_MM, VOLUME_CONSTRAINTS, taught

lengths = st.integers(1, 8)
sizes = st.tuples(lengths, lengths, lengths)
MEASURED: dict[str, Descriptor] = {
    "px": Size(),
    "mL": Size("mL"),
    "grid_px": Size("grid_px"),
    "fraction": Size("fraction"),
    "centroid": Centroid("mm"),
    "spread": Spread("px", 2),
    "intensity": Intensity(),
    "surface": BoundaryLength("mm"),
}


def field(batch: Batch) -> torch.Tensor:
    """Probabilities that depend on where in the file a voxel lies, and on nothing else."""
    space = batch.images.shape[2:]
    place = batch.frame.coordinates(space).double()
    if batch.frame.affine is not None and place.shape[1] == 3:
        x, y, z = place.unbind(1)
        foreground = torch.sigmoid(torch.sin(x) + torch.cos(0.7 * y) - 0.3 * z)
    return torch.stack([1 - foreground, foreground], 1)


def summed(descriptor: Descriptor, batches: list[Batch]) -> torch.Tensor:
    constraint = Constraint("it", descriptor, ((1,),), "volume")
    return torch.stack([constraint.sums(field(batch), batch.frame).sum(0) for batch in batches]).sum(0)


def sliced(shape: tuple[int, int, int], grid: Grid) -> TaughtCase:
    """A case that was prepared as slices."""
    placement = Placement.of(shape[:2], SPACING_MM[:2], grid)
    count = shape[2]
    images = np.random.default_rng(0).random((count, 1, *placement.size)).astype(np.float32)
    bounds = {
        "slice": np.stack([np.arange(count), np.arange(count) + 9.0]).astype(np.float32)[:, :, None],
        "volume": np.array([[[1.0]], [[2.0]]], np.float32),
    }
    labels = np.zeros((count, *placement.size), np.uint8)
    prepared = PreparedCase("case", placement, SPACING_MM, images, ((0.0, 1.0),), {})
    return TaughtCase(prepared, labels, bounds, (True, True), with_image=True)


@given(sizes, st.tuples(*[st.integers(3, 8)] * 3), sizes, st.integers(0, 2))
@settings(max_examples=30)
def test_weights_of_all_patches_add_up_to_the_voxels_of_the_file(
    shape: tuple[int, int, int], size: tuple[int, int, int], sides: tuple[int, int, int], overlap: int
) -> None:
    spacing_mm = (2 / sides[0], 3 / sides[1], 8.0)
    for grid in (Grid(size, patches=True), Grid(size, spacing_mm=spacing_mm, patches=True)):
        case = taught(shape, grid)
        chunks = [chunk() for chunk in chunks_of_patches([case], 0, VOLUME_CONSTRAINTS, size, IGNORE, overlap)]
        weight = sum(float(b.frame.owned(b.frame.weight.expand(1, *size)).double().sum()) for b in chunks)
        assert weight == pytest.approx(np.prod(shape), rel=1e-5 if grid.spacing_mm else 0, abs=0)
        labelled = sum(int((batch.labels != IGNORE).sum()) for batch in chunks)
        assert labelled == (case.labels != IGNORE).sum()


@pytest.mark.parametrize("name", MEASURED)
@given(sizes, st.tuples(*[st.integers(2, 8)] * 3))
@settings(max_examples=10)
def test_sums_over_patches_are_those_of_the_volume(
    name: str, shape: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    case = taught(shape, Grid(size, patches=True), image=True)
    overlap = 1 if name == "surface" else 0
    chunks = [chunk() for chunk in chunks_of_patches([case], 0, VOLUME_CONSTRAINTS, size, IGNORE, overlap)]
    whole = cut([case], [(0, CORNER)], VOLUME_CONSTRAINTS)
    torch.testing.assert_close(summed(MEASURED[name], chunks), summed(MEASURED[name], [whole]), rtol=1e-5, atol=1e-4)


@given(sizes, st.tuples(*[st.integers(2, 8)] * 3))
@settings(max_examples=15)
def test_a_volume_in_patches_is_priced_as_the_volume(shape: tuple[int, int, int], size: tuple[int, int, int]) -> None:
    # by the voxels of an image: of the whole one, however it was cut, and wherever there is nothing but padding
    constraint = Constraint("size", Size("mL"), ((1,),), "volume")
    case = taught(shape, Grid(size, patches=True))
    terms = []
    for batches in (
        [chunk() for chunk in chunks_of_patches([case], 0, VOLUME_CONSTRAINTS, size, IGNORE)],
        [cut([case], [(0, CORNER)], VOLUME_CONSTRAINTS)],
    ):
        parts = [constraint.totals(field(batch), batch.frame).grouped(batch.volumes) for batch in batches]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole + part
        terms.append(constraint.price(whole, Bounds.at_most(torch.zeros(1, 1)), batches[0].volumes.parts))
    for ours, theirs in ((terms[0].cost, terms[1].cost), (terms[0].tolerance, terms[1].tolerance)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(MEASURED) - {"surface"}))
@given(sizes, st.integers(1, 4))
@settings(max_examples=15)
def test_sums_over_runs_of_slices_are_those_of_the_volume(name: str, shape: tuple[int, int, int], slices: int) -> None:
    case = sliced(shape, Grid((9, 9)))
    chunks = [chunk() for chunk in chunks_of_slices([case], 0, VOLUME_CONSTRAINTS, slices)]
    assert [len(batch.images) for batch in chunks[:-1]] == [slices] * (len(chunks) - 1)
    whole = collate([case], [(0, s) for s in range(shape[2])], VOLUME_CONSTRAINTS)
    torch.testing.assert_close(summed(MEASURED[name], chunks), summed(MEASURED[name], [whole]), rtol=1e-5, atol=1e-4)


@given(sizes, sizes)
@settings(max_examples=40)
def test_a_chunk_is_a_part_of_its_volume_and_all_of_them_are_the_whole(
    shape: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    cases = [taught((3, 3, 3), Grid(size, patches=True)), taught(shape, Grid(size, patches=True), 1)]
    chunks = [chunk() for chunk in chunks_of_patches(cases, 1, VOLUME_CONSTRAINTS, size, IGNORE)]
    for batch in chunks:
        assert batch.volumes.parts.tolist() == [len(chunks)]
        assert batch.frame.whole is not None
        assert batch.frame.whole.all()
        assert batch.volumes.whole(batch.frame.whole).all() == (len(chunks) == 1)
        assert batch.bounds["volume"].upper.tolist() == [[21]]
        assert batch.rows["volume"].tolist() == [1]


@given(sizes, sizes)
@settings(max_examples=40)
def test_a_slice_is_seen_whole_by_one_chunk_or_else_by_none(
    shape: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    case = taught(shape, Grid(size, patches=True))
    seen: dict[int, list[bool]] = {}
    for chunk in chunks_of_patches([case], 0, VOLUME_CONSTRAINTS, size, IGNORE):
        batch = chunk()
        slices = batch.frame.slices
        assert slices is not None
        assert slices.whole is not None
        assert torch.equal(batch.bounds["slice"].lower[:, 0], 1000.0 + batch.rows["slice"])
        for row, whole in zip(batch.rows["slice"].tolist(), slices.whole[:, 1].tolist(), strict=True):
            seen.setdefault(row, []).append(whole)
    in_plane = size[0] >= shape[0] and size[1] >= shape[1]
    assert sorted(seen) == list(range(shape[2]))
    for found in seen.values():
        assert found == [True] if in_plane else not any(found)


@given(sizes)
@settings(max_examples=15)
def test_patches_of_one_voxel_make_up_a_volume_as_well(shape: tuple[int, int, int]) -> None:
    case = taught(shape, Grid((1, 2, 1), patches=True))
    chunks = [chunk() for chunk in chunks_of_patches([case], 0, VOLUME_CONSTRAINTS, (1, 2, 1), IGNORE)]
    assert sum(float(batch.frame.owned(batch.frame.weight.expand(1, 1, 2, 1)).sum()) for batch in chunks) == np.prod(
        shape
    )


def test_patches_that_cannot_share_are_refused() -> None:
    case = taught((4, 4, 4), Grid((1, 4, 4), patches=True))
    with pytest.raises(
        ValueError, match=r"patches of 1x4x4 cannot share 1 voxel\(s\) along every axis of 4x4x4: use lar"
    ):
        chunks_of_patches([case], 0, VOLUME_CONSTRAINTS, (1, 4, 4), IGNORE, overlap=1)


def test_a_chunk_is_read_when_it_is_asked_for() -> None:
    case = sliced((4, 4, 6), Grid((4, 4)))
    first, *_ = chunks_of_slices([case], 0, VOLUME_CONSTRAINTS, 4)
    case.prepared.images[0] = 7
    assert (first().images[0] == 7).all()
