"""Volumes as their files store them say the same as volumes read as float32."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from boundseg.data import stored
from boundseg.data.dataset import read_channels
from boundseg.data.prepare import Intensity, intensities_of, normalise
from boundseg.data.stored import StoredSlices, read_stored
from boundseg.errors import VolumeError
from tests.conftest import oblique_affine

SHAPE = (7, 9, 11)


def written(path: Path, dtype: str, scaling: tuple[float, float] | None = None, seed: int = 0) -> Path:
    """Numbers of that type; ``dtype`` with ``>`` is a file of the other byte order."""
    kind = np.dtype(dtype)
    numbers = np.random.default_rng(seed).integers(0, 200, SHAPE).astype(kind)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    image = nib.Nifti1Image(numbers, oblique_affine(), header)
    image.header.set_data_dtype(kind)
    if scaling:
        image.header.set_slope_inter(*scaling)
    nib.save(image, path)
    return path


FILES = [
    ("uint8", None),
    ("int16", None),
    (">i2", None),
    ("uint16", (0.37, -1024)),
    ("int16", (-2.5, 7)),
    ("float32", None),
    (">f4", (0.5, 1)),
    ("float64", None),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slices of 7 x 9 at once, and the last block holds fewer."""
    monkeypatch.setattr(stored, "BLOCK", 3 * 63 + 5)


@pytest.mark.parametrize(("dtype", "scaling"), FILES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axis", [0, 2])
def test_any_part_is_that_of_the_volume_read_as_a_whole(
    tmp_path: Path, dtype: str, scaling: tuple[float, float] | None, ending: str, axis: int
) -> None:
    paths = [written(tmp_path / f"{seed}{ending}", dtype, scaling, seed) for seed in (1, 2)]
    whole, image = read_channels(paths)
    whole = np.moveaxis(whole, axis + 1, 1)
    slices, volume = read_stored(paths, axis)
    assert slices.shape == whole.shape[1:]
    assert np.array_equal(volume.affine, image.affine)
    assert volume.array.shape == SHAPE
    assert volume.array.dtype.itemsize == np.dtype(dtype).itemsize
    assert slices[2:5].dtype == np.float32
    assert np.array_equal(slices[2:5], whole[:, 2:5])
    assert np.array_equal(np.concatenate(list(slices.blocks()), axis=1), whole)
    assert max(block.shape[1] for block in slices.blocks()) == (3 if axis == 2 else (3 * 63 + 5) // 99)
    least = whole.min((1, 2, 3)).tolist()
    assert slices.least().tolist() == least


@pytest.mark.parametrize(("dtype", "scaling"), FILES)
@pytest.mark.parametrize("intensity", ["zscore", "minmax", "none"])
def test_intensities_are_those_that_preparation_finds(
    tmp_path: Path, dtype: str, scaling: tuple[float, float] | None, intensity: Intensity
) -> None:
    paths = [written(tmp_path / f"{seed}.nii", dtype, scaling, seed) for seed in (1, 2)]
    whole, _ = read_channels(paths)
    found = np.array(read_stored(paths, 2)[0].intensities(intensity))
    expected = np.array(intensities_of(whole, intensity))
    if scaling is None:
        assert np.array_equal(found[:, 0], expected[:, 0])  # sums of integers are exact
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=0)
    centre, width = found.T[:, :, None, None, None]
    assert np.array_equal(((whole - centre) / width).astype(np.float32), normalise(whole, intensity))


@pytest.mark.parametrize("intensity", ["zscore", "minmax"])
def test_a_constant_channel_becomes_0(intensity: Intensity) -> None:
    constant = StoredSlices.of(np.full((1, 5, 4, 4), 7, np.uint16))
    assert constant.intensities(intensity) == ((7.0, 1.0),)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e39])
def test_voxels_that_are_not_finite_are_counted_and_their_file_named(tmp_path: Path, wrong: float) -> None:
    paths = [written(tmp_path / f"{seed}.nii.gz", "float64", None, seed) for seed in (1, 2)]
    numbers = np.zeros(SHAPE)
    numbers[2, 3, [1, 10]] = wrong
    nib.save(nib.Nifti1Image(numbers, oblique_affine()), paths[1])
    with np.errstate(over="ignore"), pytest.raises(VolumeError) as caught:
        read_stored(paths, 2)
    assert str(caught.value).startswith(f"2.nii.gz holds 2 voxels of {numbers.size} that are NaN or infinite.")


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{seed}.nii.gz", "int16") for seed in (1, 2)]
    nib.save(nib.Nifti1Image(np.zeros((7, 9, 10), np.int16), oblique_affine()), paths[1])
    with pytest.raises(VolumeError, match=r"2\.nii\.gz has the shape \(7, 9, 10\), its image \(7, 9, 11\)"):
        read_stored(paths, 2)
