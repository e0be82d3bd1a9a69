"""Batches: every slice once, and beside each slice what is known about it and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boundseg.constraints import Size
from boundseg.data.batches import Batch, BatchOf, TaughtCase, batches, collate, order
from boundseg.data.dataset import Dataset
from boundseg.data.prepare import Grid, Placement, PreparedCase, prepare
from tests.conftest import WriteDataset

H, W = 4, 6
VOLUME_CONSTRAINTS = frozenset({"volume"})


GRID = Grid((H, W))


def taught(
    number: int, slices: int, *, shape: tuple[int, int] = (H, W), grid: Grid = GRID, channels: int = 1
) -> TaughtCase:
    """A case each of whose slices says ``100 * number + slice``, in the image, the labels and the bounds."""
    said = 100 * number + np.arange(slices)
    images = np.broadcast_to(said[:, None, None, None], (slices, channels, H, W)).astype(np.float16)
    images = images * np.arange(1, channels + 1, dtype=np.float16)[:, None, None]
    labels = np.broadcast_to((said % 251)[:, None, None], (slices, H, W)).astype(np.uint8)
    placement = Placement.of(shape, (1.0, 1.0), grid)
    of_slices = np.stack([said, said + 0.5]).astype(np.float32)[:, :, None]
    of_slices[0, 0] = -np.inf
    return TaughtCase(
        PreparedCase(f"case{number}", placement, (1.0 + number, 2.0, 3.0), images, ((0.0, 1.0),) * channels, {}),
        labels,
        {"slice": of_slices, "volume": np.array([[[100.0 * number]], [[np.inf]]], np.float32)},
        (True, number % 2 == 0),
    )


counts = st.lists(st.integers(1, 6), min_size=1, max_size=5)
kinds = st.sampled_from(["slices", "volumes"])


@given(counts, kinds, st.integers(1, 9), st.none() | st.integers(0, 99))
def test_a_pass_shows_every_slice_exactly_once(
    slices: Sequence[int], of: BatchOf, batch_size: int, seed: int | None
) -> None:
    cases = [taught(i, n) for i, n in enumerate(slices)]
    rng = None if seed is None else np.random.default_rng(seed)
    chunks = order(cases, of, batch_size, rng)
    flat = [pair for chunk in chunks for pair in chunk]
    everything = [(i, s) for i, n in enumerate(slices) for s in range(n)]
    assert sorted(flat) == everything
    if rng is None:
        assert flat == everything
    sizes = [len(c) if of == "slices" else len({i for i, _ in c}) for c in chunks]
    assert all(size == batch_size for size in sizes[:-1])
    assert 1 <= sizes[-1] <= batch_size


@given(counts, st.integers(1, 3), st.integers(0, 99))
def test_a_volume_is_never_torn_apart_nor_its_slices_shuffled(slices: Sequence[int], size: int, seed: int) -> None:
    cases = [taught(i, n) for i, n in enumerate(slices)]
    for chunk in order(cases, "volumes", size, np.random.default_rng(seed)):
        for i in {i for i, _ in chunk}:
            assert [s for j, s in chunk if j == i] == list(range(slices[i]))


@given(counts, kinds, st.integers(1, 4), st.integers(0, 99))
def test_the_order_is_a_function_of_the_generator_alone(
    slices: Sequence[int], of: BatchOf, batch_size: int, seed: int
) -> None:
    cases = [taught(i, n) for i, n in enumerate(slices)]
    rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
    np.random.seed(seed)  # the global generators, which must not matter
    torch.manual_seed(seed)
    for _ in range(3):
        first = order(cases, of, batch_size, rng)
        np.random.random(7)
        assert order(cases, of, batch_size, same) == first
    assert rng.bit_generator.state == same.bit_generator.state


def test_two_passes_of_one_generator_differ() -> None:
    cases, rng = [taught(0, 30)], np.random.default_rng(0)
    assert order(cases, "slices", 4, rng) != order(cases, "slices", 4, rng)


def numbers(batch: Batch) -> list[int]:
    return [100 * int(case.removeprefix("case")) + s for case, s in batch.slices]


@given(counts, kinds, st.integers(1, 7), st.integers(0, 99))
def test_what_is_known_stands_beside_its_own_slice_and_volume(
    slices: Sequence[int], of: BatchOf, batch_size: int, seed: int
) -> None:
    cases = [taught(i, n) for i, n in enumerate(slices)]
    for batch in batches(cases, of, batch_size, VOLUME_CONSTRAINTS, np.random.default_rng(seed)):
        said = torch.tensor(numbers(batch))
        case_of = said // 100
        assert torch.equal(batch.images[:, 0, 0, 0], said.float())
        assert torch.equal(batch.labels[:, -1, -1], (said % 251).byte())
        # one row a slice; the first of every volume is unknown below
        bounds = batch.bounds["slice"]
        lower = said.float().where(said % 100 > 0, -torch.inf)
        assert torch.equal(bounds.lower[:, 0], lower)
        assert torch.equal(bounds.upper[:, 0], said + 0.5)
        # one row a volume, in the order in which the groups are numbered
        volume = batch.bounds["volume"]
        assert volume.lower.shape == (len(batch.volumes.parts), 1) == (len(set(case_of.tolist())), 1)
        assert torch.equal(volume.lower[batch.volumes.index, 0], 100.0 * case_of)
        assert (volume.upper == torch.inf).all()
        # a part of a volume is known as one
        assert torch.equal(batch.volumes.parts[batch.volumes.index], torch.tensor(slices)[case_of])
        seen = batch.volumes.whole(torch.ones(len(said), 1, dtype=torch.bool))[:, 0]
        whole = [(case_of == c).sum() == slices[c] for c in dict.fromkeys(case_of.tolist())]
        assert seen.tolist() == whole
        assert of == "slices" or all(whole)
        # the frame is that of the slice's case
        assert batch.frame.spacing_mm is not None
        assert torch.equal(batch.frame.spacing_mm[:, 0], 1.0 + case_of)
        assert batch.frame.whole is not None
        assert torch.equal(batch.frame.whole, torch.stack([case_of >= 0, case_of % 2 == 0], 1))


def test_slices_of_a_volume_belong_together_wherever_they_stand() -> None:
    cases = [taught(0, 3), taught(1, 2), taught(2, 4)]
    batch = collate(cases, [(2, 3), (0, 1), (2, 0), (1, 1), (0, 0), (1, 0)], VOLUME_CONSTRAINTS)
    assert batch.slices == (("case2", 3), ("case0", 1), ("case2", 0), ("case1", 1), ("case0", 0), ("case1", 0))
    assert batch.volumes.index.tolist() == [0, 1, 0, 2, 1, 2]
    assert batch.volumes.parts.tolist() == [4, 3, 2]
    assert batch.bounds["volume"].lower[:, 0].tolist() == [200, 0, 100]
    assert batch.volumes.whole(torch.ones(6, 1, dtype=torch.bool))[:, 0].tolist() == [False, False, True]


def test_weights_are_one_number_a_slice_until_some_slice_is_padded() -> None:
    plain, stretched = taught(0, 2), taught(1, 2, shape=(2 * H, 2 * W), grid=Grid((H, W), "resize"))
    batch = collate([plain, stretched], [(0, 0), (1, 1)], VOLUME_CONSTRAINTS)
    assert batch.frame.weight.shape == (2, 1, 1)
    assert batch.frame.weight.flatten().tolist() == [1, 4]
    padded = taught(2, 2, shape=(H - 1, W - 2))
    mixed = collate([plain, stretched, padded], [(0, 0), (1, 1), (2, 0)], VOLUME_CONSTRAINTS)
    assert mixed.frame.weight.shape == (3, H, W)
    assert mixed.frame.weight.sum((1, 2)).tolist() == [H * W, 4 * H * W, (H - 1) * (W - 2)]
    # the same size by either form
    probs = torch.rand(3, 2, H, W)
    torch.testing.assert_close(Size()(probs, mixed.frame)[:2], Size()(probs[:2], batch.frame))


def test_several_channels_stay_in_their_order() -> None:
    batch = collate([taught(1, 2, channels=3)], [(0, 1)], VOLUME_CONSTRAINTS)
    assert batch.images.shape == (1, 3, H, W)
    assert batch.images.dtype == torch.float32
    assert batch.images[0, :, 0, 0].tolist() == [101, 202, 303]


def test_a_moved_batch_is_the_same_batch() -> None:
    batch = collate([taught(0, 3)], [(0, 0), (0, 2)], VOLUME_CONSTRAINTS)
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.images, batch.images)
    assert torch.equal(moved.labels, batch.labels)
    assert torch.equal(moved.volumes.parts, batch.volumes.parts)
    assert moved.bounds.keys() == batch.bounds.keys()
    assert moved.slices == batch.slices


@pytest.mark.parametrize("grid", [Grid((32, 29)), Grid((32, 29), "crop")])
@pytest.mark.parametrize("slice_axis", [0, 2])
def test_true_masks_in_a_batch_have_the_sizes_of_the_files(
    write_dataset: WriteDataset, grid: Grid, slice_axis: int
) -> None:
    """From the files on disk to the value that a bound is compared with."""
    dataset = Dataset.open(write_dataset(slice_axis=slice_axis, patients={"train": 2}))
    prepared = prepare(dataset, grid, [(case, ["full"]) for case in dataset.cases])
    cases = [TaughtCase(on_grid, on_grid.labels["full"], {}, (True,) * 3) for on_grid in prepared.values()]
    for batch in batches(cases, "slices", 3, frozenset(), np.random.default_rng(0)):
        probs = torch.stack([batch.labels == value for value in range(3)], 1).float()
        size_ml = Size("mL")(probs, batch.frame)
        for row, (case, index) in zip(size_ml, batch.slices, strict=True):
            _, image = dataset.read_image(case)
            mask = dataset.to_slices(dataset.read_labels(case, "full", image))[index]
            voxel_ml = np.prod(image.spacing_mm) / 1000
            assert row[1:].tolist() == pytest.approx([voxel_ml * (mask == value).sum() for value in (1, 2)], rel=1e-5)


def test_prepared_cases_are_read_from_the_disk(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    on_grid = prepare(dataset, Grid((32, 32)), [("patient1_frame01", ["seeds"])])["patient1_frame01"]
    case = TaughtCase(on_grid, on_grid.labels["seeds"], {}, (True,) * 3)
    assert len(case) == 5
    batch = collate([case], [(0, 2)], frozenset())
    np.testing.assert_array_equal(batch.images[0], on_grid.images[2].astype(np.float32))
    np.testing.assert_array_equal(batch.labels[0], on_grid.labels["seeds"][2])
