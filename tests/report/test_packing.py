"""Slices within a page come back: label maps exactly, images nearly."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from boundseg.report.packing import grey_range, pack_image, pack_labels, unpack_labels


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (64, 31)])
def test_label_maps_come_back_exactly(shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(unpack_labels(pack_labels(labels), shape), labels)
    across = labels.T  # as slices of another axis lie in memory
    assert np.array_equal(unpack_labels(pack_labels(across), across.shape), across)


def test_an_empty_slice_takes_no_room() -> None:
    labels = np.zeros((5, 4), np.uint8)
    assert pack_labels(labels) == ""
    assert np.array_equal(unpack_labels("", (5, 4)), labels)


def test_images_come_back_nearly_and_outliers_are_cut_off() -> None:
    rows, columns = np.mgrid[:48, :40]
    volume = np.stack([50 * np.sin(rows / 9) + 80 * np.cos(columns / 7)] * 3).astype(np.float32)
    volume[0, 0, 0] = 1e6
    low, high = grey_range(volume)
    assert high < 200
    read = np.asarray(Image.open(BytesIO(b64decode(pack_image(volume[1], low, high)))).convert("L"), float)
    wanted = 255 * np.clip((volume[1] - low) / (high - low), 0, 1)
    assert np.abs(read - wanted).mean() < 4


def test_colours_come_back_nearly() -> None:
    rows, columns = np.mgrid[:48, :40]
    volume = np.stack([rows * 5.0, columns * 6.0, 200.0 - rows - columns], axis=-1)[None].astype(np.float32)
    low, high = grey_range(volume)
    read = np.asarray(Image.open(BytesIO(b64decode(pack_image(volume[0], low, high)))).convert("RGB"), float)
    wanted = 255 * np.clip((volume[0] - low) / (high - low), 0, 1)
    assert np.abs(read - wanted).mean() < 4


def test_an_image_of_one_value_is_no_division_by_zero() -> None:
    volume = np.full((2, 8, 8), 3.0, np.float32)
    assert pack_image(volume[0], *grey_range(volume))
