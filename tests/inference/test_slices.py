"""A network on its grid and volumes on theirs: nothing is lost, moved or seen twice on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from boundseg.data.prepare import Fit, Grid, Intensity, normalise
from boundseg.data.stored import StoredSlices
from boundseg.inference import Predictor, label_map, most_probable
from boundseg.losses import two_channels
from boundseg.networks import build

CPU = torch.device("cpu")


class Threshold(nn.Module):
    """Sees one pixel at a time: logits that grow with its intensity, steeper for every further class."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classes, self.seen = classes, list[tuple[int, ...]]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return torch.cat([images.sum(1, keepdim=True) * k - k**2 for k in range(self.classes)], 1)


class OneChannel(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return 3 * images[:, :1] - 1


def volume(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Channels and slices of integers that float16 holds exactly."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def grid(size: tuple[int, int], fit: Fit = "pad", spacing_mm: tuple[float, float] | None = None) -> Grid:
    return Grid(size, fit, spacing_mm, "none")


def expected(image: np.ndarray, network: nn.Module) -> np.ndarray:
    """What a network of single pixels says of a volume, without any grid."""
    with torch.no_grad():
        logits = network(torch.from_numpy(image).movedim(1, 0))
    logits = torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
    return np.asarray(logits.softmax(1).movedim(1, 0))


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([(16, 16), (8, 24), (32, 12)]),
    st.integers(1, 5),
)
@settings(max_examples=60)
def test_padding_and_tiling_change_nothing_for_a_network_that_sees_single_pixels(
    shape: tuple[int, int, int, int], size: tuple[int, int], batch_size: int
) -> None:
    image, network = volume(shape), Threshold()
    found = Predictor(network, grid(size), CPU, batch_size)(image, (1.0, 1.0))
    assert found.shape == (3, *shape[1:])
    np.testing.assert_allclose(found, expected(image, network), atol=2e-5)
    assert {seen[2:] for seen in network.seen[:-1]} <= {size}  # the last call is that of `expected`


def test_one_channel_is_read_as_two_also_in_tiles() -> None:
    for shape in ((1, 2, 10, 12), (1, 2, 30, 12)):
        image = volume(shape)
        found = Predictor(OneChannel(), grid((16, 16)), CPU)(image, (1.0, 1.0))
        np.testing.assert_allclose(found, expected(image, OneChannel()), atol=2e-5)


def test_tiles_of_a_network_that_sees_neighbours_agree_away_from_their_edges() -> None:
    """A mean over 3 x 3 pixels differs at a tile's edge only, where tiles count least."""

    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            mean = nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
            return torch.cat([mean, -mean], 1)

    image = volume((1, 1, 48, 16), seed=1)
    tiled = Predictor(Mean(), grid((16, 16)), CPU)(image, (1.0, 1.0))
    whole = Predictor(Mean(), grid((48, 16)), CPU)(image, (1.0, 1.0))
    difference = np.abs(tiled - whole).max((0, 1))
    edges = [7, 8, 15, 16, 23, 24, 31, 32, 39, 40]  # first and last rows of tiles, half over each other
    assert np.delete(difference, edges, axis=0).max() < 1e-5
    # at the image's sides all tiles count little, and so their edges count as much as their middle
    assert difference[:, 4:-4].max() < 0.02


@pytest.mark.parametrize("fit", ["pad", "crop", "resize"])
@pytest.mark.parametrize("spacing_mm", [None, (0.7, 2.0)])
def test_probabilities_sum_to_1_with_the_background(fit: Fit, spacing_mm: tuple[float, float] | None) -> None:
    image = volume((1, 3, 21, 34))
    found = Predictor(Threshold(), grid((16, 24), fit, spacing_mm), CPU)(image, (1.25, 1.5))
    assert found.shape == (3, 3, 21, 34)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_a_crop_predicts_its_centre_and_background_outside() -> None:
    image, network = volume((1, 2, 20, 30)), Threshold()
    predictor = Predictor(network, grid((8, 10), "crop"), CPU)
    found = predictor(image, (1.0, 1.0))
    np.testing.assert_allclose(found[:, :, 6:14, 10:20], expected(image, network)[:, :, 6:14, 10:20], atol=2e-5)
    found[:, :, 6:14, 10:20] = np.array([1, 0, 0])[:, None, None, None]
    assert np.array_equal(found[0], np.ones((2, 20, 30)))
    assert predictor.cuts((2, 20, 30), (1.0, 1.0)) == (
        "trained on centre crops: predicts the central 8x10 of 20x30 pixels, background outside"
    )
    assert predictor.cuts((2, 8, 10), (1.0, 1.0)) is None
    assert Predictor(network, grid((8, 10)), CPU).cuts((2, 20, 30), (1.0, 1.0)) is None


def test_resizing_and_resampling_lead_back_to_the_files_grid() -> None:
    """A bright half of the image is found where it lies, to a pixel at its border."""
    image = np.zeros((1, 2, 40, 30), np.float32)
    image[..., 15:] = 4
    for chosen in (grid((20, 20), "resize"), grid((64, 48), "resize"), grid((64, 64), "pad", (0.8, 0.8))):
        found = label_map(Predictor(Threshold(2), chosen, CPU)(image, (1.0, 1.0)))
        assert found.shape == (2, 40, 30)
        assert not found[..., :14].any()
        assert found[..., 16:].all()


@pytest.mark.parametrize("slices", [1, 7, 8, 9])
def test_the_batch_size_makes_no_difference(slices: int) -> None:
    image = volume((1, slices, 12, 12))
    torch.manual_seed(0)
    network = nn.Conv2d(1, 2, 3, padding=1)
    one, eight = (Predictor(network, grid((16, 16)), CPU, size)(image, (1.0, 1.0)) for size in (1, 8))
    np.testing.assert_allclose(one, eight, atol=1e-6)


def test_the_network_is_put_into_evaluation_mode_and_gives_no_gradients() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout(0.9)).train()
    predictor = Predictor(network, grid((16, 16)), CPU)
    image = volume((1, 2, 12, 12))
    assert np.array_equal(predictor(image, (1.0, 1.0)), predictor(image, (1.0, 1.0)))
    assert not network.training
    slices = volume((2, 1, 16, 16)).astype(np.float16)
    assert all(not probs.requires_grad for probs in predictor.probabilities(slices))


def test_a_label_map_is_the_most_probable_class_as_unsigned_bytes() -> None:
    probs = np.array([[0.5, 0.2, 0.3], [0.3, 0.5, 0.3], [0.2, 0.3, 0.4]], np.float32).reshape(3, 1, 1, 3)
    found = label_map(probs)
    assert found.dtype == np.uint8
    assert found.tolist() == [[[0, 1, 2]]]


def test_equals_go_to_the_first_and_spare_outputs_to_the_background() -> None:
    """numpy's argmax says which comes first; tenths make many equals."""
    probs = torch.randint(0, 4, (5, 6, 4, 3), generator=torch.Generator().manual_seed(0)) / 10
    expected = probs.numpy().argmax(1)
    assert np.array_equal(most_probable(probs), expected)
    assert np.array_equal(most_probable(probs, 4), np.where(expected < 4, expected, 0))
    assert np.array_equal(label_map(probs.numpy().swapaxes(0, 1), 4), most_probable(probs, 4))


def in_one_array(predictor: Predictor, image: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Probabilities by way of the whole volume in float32, with the functions that prepare a training's volumes."""
    placement = predictor.place(image.shape[2:], spacing_mm)  # type: ignore[arg-type]
    normal = normalise(image.astype(np.float32), predictor.grid.intensity)
    placed = np.stack([placement.place_image(c, float(c.min())) for c in normal], axis=1).astype(predictor.grid.stored)
    parts = []
    for start in range(0, len(placed), 8):
        images = torch.from_numpy(placed[start : start + 8]).float()
        with torch.no_grad():
            parts.append(two_channels(predictor._logits(images)).softmax(1).numpy().swapaxes(0, 1))
    return placement.restore(np.concatenate(parts, axis=1))


@pytest.mark.parametrize("intensity", ["zscore", "minmax", "none"])
@pytest.mark.parametrize(
    "chosen",
    [
        ((48, 40), "pad", None),
        ((16, 24), "pad", None),
        ((40, 40), "pad", (0.7, 2.0)),
        ((16, 24), "crop", None),
        ((24, 16), "crop", (1.0, 2.5)),
        ((16, 24), "resize", None),
        ((21, 34), "resize", None),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_volume_in_parts_is_the_volume_in_one_array(
    intensity: Intensity, chosen: tuple[tuple[int, int], Fit, tuple[float, float] | None], dtype: type[np.generic]
) -> None:
    """Probabilities and label maps, voxel by voxel and bit by bit; 11 slices are a batch of 8 and one of 3."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1)).eval()
    predictor = Predictor(network, Grid(*chosen, intensity), CPU)
    image = np.random.default_rng(0).integers(0, 250, (2, 11, 21, 34)).astype(dtype)
    expected = in_one_array(predictor, image, (1.25, 1.5))
    assert np.array_equal(predictor(image, (1.25, 1.5)), expected)
    labels = np.where(expected.argmax(0) < 2, expected.argmax(0), 0)
    # as a NIfTI file lies in memory: the slices last, the first axis fastest
    stored = tuple(np.moveaxis(np.asfortranarray(np.moveaxis(c, 0, 2)), 2, 0) for c in image)
    assert np.array_equal(
        predictor.labels(StoredSlices(stored, StoredSlices.of(image).scalings), (1.25, 1.5), 2), labels
    )
    assert len(np.unique(labels)) == 2


@pytest.mark.parametrize(
    ("size", "slices", "expected"),
    [
        ((16, 16), 11, [8, 3]),
        ((128, 128), 8, [4, 4]),
        ((256, 256), 8, [2, 2, 2, 2]),
        ((256, 256), 11, [2, 2, 2, 2, 3]),
        ((256, 256), 13, [2, 2, 2, 2, 3, 2]),
        ((256, 256), 9, [2, 2, 2, 2, 1]),
    ],
)
def test_on_a_cpu_large_batches_are_split_and_no_slice_of_them_is_alone(
    size: tuple[int, int], slices: int, expected: list[int]
) -> None:
    network = Threshold()
    predictor = Predictor(network, grid(size), CPU)
    placement = predictor.place((9, 12), (1.0, 1.0))
    assert sum(len(probs) for probs in predictor.on_grid(volume((1, slices, 9, 12)), placement)) == slices
    assert [seen[0] for seen in network.seen] == expected


def test_small_batches_are_rounded_as_large_ones_are() -> None:
    torch.manual_seed(0)
    network = build("enet", 1, 3).eval()
    predictor = Predictor(network, grid((160, 128)), CPU)
    images = torch.randn(8, 1, 160, 128)
    with torch.inference_mode():
        assert torch.equal(predictor._logits(images), network(images))
