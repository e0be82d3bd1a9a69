"""Where training starts: at the shares of an image that labels and bounds lead to expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from boundseg.data.dataset import Dataset
from boundseg.losses import two_channels
from boundseg.training.first_bias import SMALLEST_SHARE, expected_shares, start_at
from boundseg.training.supervision import teach

from .cases import entry, tiny

PIXELS = 24 * 24


def shares(folder: Path, *entries: dict[str, Any], **sections: dict[str, Any]) -> list[float] | None:
    dataset = Dataset.open(folder)
    return expected_shares(teach(tiny(folder, *entries, **sections), dataset), 3, dataset.ignore)


def sizes_px(folder: Path, value: int) -> list[list[int]]:
    """The true size in every slice of every training case."""
    dataset = Dataset.open(folder)
    masks = [dataset.read_labels(c, "full", dataset.read_image(c)[1]) for c in dataset.cases_of("train")]
    return [(dataset.to_slices(mask) == value).sum((1, 2)).tolist() for mask in masks]


def test_full_masks_give_the_mean_frequencies(tiny_dataset: Path) -> None:
    found = shares(tiny_dataset, entry("full"))
    true = [np.mean(sizes_px(tiny_dataset, value)) / PIXELS for value in (1, 2)]
    assert found == pytest.approx([1 - sum(true), *true])


@pytest.mark.parametrize("unit", ["px", "grid_px", "fraction", "mm2", "mL"])
def test_between_gives_its_geometric_mean_in_any_unit(tiny_dataset: Path, unit: str) -> None:
    dataset = Dataset.open(tiny_dataset)
    _, image = dataset.read_image("patient1_frame01")
    rows_mm, columns_mm, between_mm = dataset.slice_spacing_mm(image)
    slice_px = float(np.prod(image.array.shape[:2]))
    one_px = {
        "px": 1,
        "grid_px": 1,
        "fraction": 1 / slice_px,
        "mm2": rows_mm * columns_mm,
        "mL": rows_mm * columns_mm * between_mm / 1000,
    }[unit]
    asked = {"size": {"class": "LV", "between": [20 * one_px, 45 * one_px], "unit": unit}}
    found = shares(tiny_dataset, entry("seeds", "patient1_frame01", [asked]))
    assert found is not None
    assert found[1] == pytest.approx(30 / PIXELS, rel=1e-4)


def test_individual_bounds_give_about_the_true_share(tiny_dataset: Path) -> None:
    found = shares(tiny_dataset, entry("seeds", "train", [{"size": {"class": "LV", "set": "individual"}}]))
    assert found is not None
    true = np.mean(sizes_px(tiny_dataset, 1)) / PIXELS
    # the geometric mean of 0.9 and 1.1 is 0.995; nothing is known of the second class, which takes the same share
    assert found[1] == pytest.approx(np.sqrt(0.9 * 1.1) * true, rel=1e-4)
    assert found == pytest.approx([1 - 2 * found[1], found[1], found[1]])


def test_volume_bounds_give_the_share_of_a_slice(tiny_dataset: Path) -> None:
    asked = [{"size": {"class": name, "set": "volume"}} for name in ("LV", "Myo")]
    found = shares(tiny_dataset, entry("seeds", "train", asked))
    true = [np.sqrt(0.9 * 1.1) * np.mean(sizes_px(tiny_dataset, value)) / PIXELS for value in (1, 2)]
    assert found == pytest.approx([1 - sum(true), *true], rel=1e-4)


def test_a_grid_of_another_scale_has_the_same_shares(tiny_dataset: Path) -> None:
    asked = entry("seeds", "train", [{"size": {"class": "LV", "set": "individual"}}])
    small = shares(tiny_dataset, asked, data={"fit": "resize", "size": [16, 16]})
    large = shares(tiny_dataset, asked, data={"fit": "resize", "size": [32, 48]})
    assert small == pytest.approx(large)


def test_shares_of_one_pixel_and_of_everything_stay_within_reach(tiny_dataset: Path) -> None:
    absent = {"size": {"class": "LV", "between": [0, 0]}}
    everything = {"size": {"class": "Myo", "between": [1e9, 1e9]}}
    found = shares(tiny_dataset, entry("seeds", "train", [absent, everything]))
    assert found == pytest.approx([0.55 - SMALLEST_SHARE, SMALLEST_SHARE, 0.45])


def test_where_nothing_is_known_nothing_is_expected(tiny_dataset: Path) -> None:
    assert shares(tiny_dataset, entry("seeds")) is None
    one_sided = {"size": {"class": "LV", "between": [None, 80]}}
    assert shares(tiny_dataset, entry("seeds", "train", [one_sided])) is None


@given(st.lists(st.floats(1e-4, 0.3), min_size=1, max_size=3))
@settings(deadline=None)
def test_zero_features_then_give_these_shares(foreground: list[float]) -> None:
    expected = [1 - sum(foreground), *foreground]
    head = nn.Conv2d(4, len(expected), 1)
    start_at(head.bias, expected)  # type: ignore[arg-type]
    found = head(torch.zeros(1, 4, 2, 2)).softmax(1)
    torch.testing.assert_close(found[0, :, 1, 1], torch.tensor(expected))


def test_one_channel_starts_at_its_share_as_well() -> None:
    head = nn.Conv2d(4, 1, 1)
    start_at(head.bias, [0.97, 0.03])  # type: ignore[arg-type]
    found = two_channels(head(torch.zeros(1, 4, 2, 2))).softmax(1)
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([0.97, 0.03]))


def test_spare_outputs_share_the_background() -> None:
    bias = nn.Parameter(torch.zeros(5))
    start_at(bias, [0.9, 0.08, 0.02])
    torch.testing.assert_close(bias.softmax(0), torch.tensor([0.3, 0.08, 0.02, 0.3, 0.3]))
