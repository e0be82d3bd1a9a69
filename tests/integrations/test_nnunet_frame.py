"""Patches of cases whose voxels are their place in the file: nnU-Net reads, crops, transposes, resamples and augments
them, and the frame says where everything went."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from boundseg.constraints import Frame, Groups, Size
from boundseg.constraints.descriptors.measure import group_sums
from boundseg.errors import DatasetError
from tests.conftest import oblique_affine

pytest.importorskip("nnunetv2", reason="pip install 'boundseg[nnunet]'")

from batchgenerators.dataloading import nondet_multi_threaded_augmenter
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from boundseg.integrations.nnunet.case_grid import CaseGrid
from boundseg.integrations.nnunet.followed import identity
from boundseg.integrations.nnunet.loader import BoundedDataLoader, Reading
from boundseg.integrations.nnunet.patch import Located, Patch

from .test_nnunet_followed import spatial

SHAPE, SPACING_MM = (30, 26, 9), (1.25, 1.5, 6.0)
BORDER = ((3, 4), (2, 5), (1, 2))  # of zeros, which nnU-Net crops
READERS = [SimpleITKIO, NibabelIO, NibabelIOWithReorient]
ORDER = {0: [1, 2, 0], 2: [0, 1, 2]}  # of positions, by the slice axis


class OneCase:
    """What nnU-Net's loader asks of its data: one case, preprocessed as its preprocessor does, by its functions."""

    identifiers = ("case",)

    def __init__(self, folder: Path, reader: type, transpose: tuple[int, ...], shape: tuple[int, ...] | None) -> None:
        inside = tuple(slice(first, n - last) for n, (first, last) in zip(SHAPE, BORDER, strict=True))
        target = np.zeros(SHAPE, np.uint8)
        target[10:20, 8:18, 3:6] = 1
        self.voxels = int(target.sum())
        paths = []
        for channel, place in enumerate(np.indices(SHAPE)):
            array = np.zeros(SHAPE, np.float32)
            array[inside] = place[inside] + 1
            paths.append(str(folder / f"case_{channel:04d}.nii.gz"))
            nib.save(nib.Nifti1Image(array, oblique_affine(SPACING_MM)), paths[-1])
        nib.save(nib.Nifti1Image(target, oblique_affine(SPACING_MM)), folder / "case.nii.gz")
        data, self.properties = reader().read_images(paths)
        seg, _ = reader().read_seg(str(folder / "case.nii.gz"))
        order = [0, *(axis + 1 for axis in transpose)]
        data, seg = data.transpose(order), seg.transpose(order)
        self.properties["shape_before_cropping"] = data.shape[1:]
        data, seg, self.properties["bbox_used_for_cropping"] = crop_to_nonzero(data, seg)
        self.properties["shape_after_cropping_and_before_resampling"] = data.shape[1:]
        if shape is not None:
            unit = (1.0, 1.0, 1.0)
            data = resample_data_or_seg_to_shape(data, shape, unit, unit, is_seg=False, order=1)
            seg = resample_data_or_seg_to_shape(seg, shape, unit, unit, is_seg=True, order=1)
        self.data, self.seg = data.astype(np.float32), np.maximum(seg, 0).astype(np.int16)
        places = np.argwhere(self.seg == 1)
        self.properties["class_locations"] = {1: places, (-1, 0, 1): places}

    def load_case(self, case: str) -> tuple[Any, Any, None, dict[str, Any]]:
        return self.data, self.seg, None, self.properties


def loader(
    case: OneCase, reader: type, transpose: tuple[int, ...], axis: int, initial: Any, final: Any, transforms: Any
) -> BoundedDataLoader:
    labels = loading_labels()
    reading = Reading(transpose, reader.__name__, axis)
    options = {"oversample_foreground_percent": 0.5, "transforms": transforms}
    return BoundedDataLoader(case, 4, initial, final, labels, reading=reading, **options)


def moves(patch: tuple[int, ...]) -> ComposeTransforms:
    return ComposeTransforms([spatial(patch), MirrorTransform(tuple(range(len(patch))))])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("shape", [None, (11, 17, 25)])
def test_preprocessed_voxels_lie_where_the_grid_says(
    tmp_path: Path, reader: type, transpose: tuple[int, ...], shape: tuple[int, ...] | None
) -> None:
    case = OneCase(tmp_path, reader, transpose, shape)
    grid = CaseGrid.of(case.properties, case.data.shape[1:], transpose, reader.__name__, 2, "case")
    said = np.tensordot(grid.affine[:, :3], np.indices(grid.shape), 1) + grid.affine[:, 3].reshape(3, 1, 1, 1)
    read = [(first, n - last - 1) for n, (first, last) in zip(SHAPE, BORDER, strict=True)]
    # beyond the centres of the outermost voxels resampling repeats them
    assert (case.data - 1) == pytest.approx(
        np.stack([np.clip(at, *ends) for at, ends in zip(said, read, strict=True)]), abs=1e-3
    )
    assert grid.spacing_mm == pytest.approx(SPACING_MM, rel=1e-5)
    assert grid.slices == SHAPE[2]
    assert grid.keeps_slices == (shape is None)


@pytest.mark.parametrize("axis", [0, 2])
def test_the_slice_axis_of_the_file_is_the_last_of_positions(tmp_path: Path, axis: int) -> None:
    case = OneCase(tmp_path, NibabelIO, (0, 1, 2), None)
    grid = CaseGrid.of(case.properties, case.data.shape[1:], (0, 1, 2), "NibabelIO", axis, "case")
    assert grid.slices == SHAPE[axis]
    assert grid.spacing_mm == pytest.approx([SPACING_MM[i] for i in ORDER[axis]])
    assert grid.slice_axis == 2 - axis


def test_a_reader_that_is_not_known_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"case: it is not known how Tiff3DIO turns[\s\S]*SimpleITKIO"):
        CaseGrid.of({}, (1, 1, 1), (0, 1, 2), "Tiff3DIO", 2, "case")


PATCHES = [
    pytest.param((20, 24), (14, 15), id="slices"),
    pytest.param((44, 46), (40, 40), id="whole slices"),
    pytest.param((8, 20, 24), (5, 14, 15), id="patches"),
    pytest.param((14, 44, 46), (12, 40, 40), id="whole volumes"),
]


def located(batch: dict[str, Any], final: tuple[int, ...]) -> tuple[Located, torch.Tensor, torch.Tensor]:
    """Where a batch lies, its images and its labels, with slices along the last axis."""
    found = Located.of(batch["patches"], final, 2, torch.device("cpu"))
    image, labels = batch["data"] - 1, batch["target"]
    if found.along >= 0:
        image, labels = (x.movedim(2 + found.along, -1) for x in (image, labels))
    return found, image, labels


def well_inside(found: Located, said: torch.Tensor) -> torch.Tensor:
    """Where no voxel from beyond the crop, or from beyond what was read, is mixed in."""
    axes = [1] * (said.ndim - 2)
    grids, seen = (
        torch.from_numpy(np.stack([getattr(p, name) for p in found.patches])) for name in ("to_grid", "seen")
    )
    at = Frame(torch.ones(len(said), *axes), affine=grids.float()).coordinates(said.shape[2:])
    first, last = seen.float().reshape(len(said), 3, 2, *axes).unbind(2)
    rest = torch.tensor([(low + 1, n - high - 2) for n, (low, high) in zip(SHAPE, BORDER, strict=True)])
    low, high = rest.reshape(1, 3, 2, *axes).unbind(2)
    return ((at >= first) & (at <= last) & (said > low) & (said < high)).all(1)


@pytest.mark.parametrize("shape", [None, (6, 17, 25)])
@pytest.mark.parametrize(("initial", "final"), PATCHES)
def test_augmented_patches_lie_where_the_frame_says(
    tmp_path: Path, initial: tuple[int, ...], final: tuple[int, ...], shape: tuple[int, ...] | None
) -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    case = OneCase(tmp_path, SimpleITKIO, (0, 1, 2), shape)
    loading = loader(case, SimpleITKIO, (0, 1, 2), 2, initial, final, moves(final))
    assert sum(voxels_that_lie_where_they_say(next(loading), final) for _ in range(3)) > 100


@pytest.mark.parametrize(
    "method",
    [
        # of Linux up to Python 3.13, and of everything else; the latter imports nnU-Net in each process
        pytest.param("fork", marks=pytest.mark.skipif(sys.platform == "win32", reason="there is none")),
        pytest.param("spawn", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of a process with threads, as pytest's is
# their thread may find its queue closed where much else is computed; lost workers are told by next()
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_patches_of_background_processes_lie_where_their_frames_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    context: Any = multiprocessing.get_context(method)
    for name in ("Process", "Queue", "Event"):
        monkeypatch.setattr(nondet_multi_threaded_augmenter, name, getattr(context, name))
    case = OneCase(tmp_path, SimpleITKIO, (0, 1, 2), None)
    (initial, final), *_ = (patch.values for patch in PATCHES if patch.id == "patches")
    loading = loader(case, SimpleITKIO, (0, 1, 2), 2, initial, final, moves(final))
    batches = NonDetMultiThreadedAugmenter(loading, None, 2, wait_time=0.002)
    try:
        # of both: they take turns in no order
        assert sum(voxels_that_lie_where_they_say(next(batches), final) for _ in range(8)) > 100
    finally:
        batches._finish(timeout=60)


def voxels_that_lie_where_they_say(batch: dict[str, Any], final: tuple[int, ...]) -> int:
    """How many voxels were looked at: each holds its own place."""
    found, image, _ = located(batch, final)
    said = found.frame.coordinates(image.shape[2:])
    clear = (found.frame.weight > 0) & well_inside(found, said)
    assert not clear.any() or (said - image).abs().amax(1)[clear].max() < 2e-2
    return int(clear.sum())


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize(("initial", "final"), [PATCHES[1].values, PATCHES[3].values])
def test_what_is_seen_whole_has_the_size_it_has_in_the_file(
    tmp_path: Path, initial: tuple[int, ...], final: tuple[int, ...], axis: int
) -> None:
    np.random.seed(2)
    torch.manual_seed(2)
    transpose = (0, 1, 2) if axis == 2 or len(final) == 3 else (2, 0, 1)
    case = OneCase(tmp_path, SimpleITKIO, transpose, None)
    for transforms in (None, moves(final)):
        start = final if transforms is None else initial
        for _ in range(3):
            loading = loader(case, SimpleITKIO, transpose, axis, start, final, transforms)
            found, _, labels = located(next(loading), final)
            mask = (labels == 1).float()
            if len(final) == 3:
                assert transforms is not None or all(patch.whole for patch in found.patches)
                sizes = group_sums(Size(), mask, found.frame, Groups.each(len(mask)))[:, 0, 0]
                for size, patch in zip(sizes.tolist(), found.patches, strict=True):
                    assert not patch.whole or size == pytest.approx(
                        case.voxels, rel=1e-5 if transforms is None else 0.1
                    )
            if transforms is None:  # slices are those of the file, with its sizes
                full = nib.load(tmp_path / "case.nii.gz").get_fdata()
                of_slices = full.sum(tuple(i for i in range(3) if i != axis))
                shown = found.frame.of_slices() if len(final) == 3 else found.frame
                images = found.frame.slices.of(mask) if len(final) == 3 else mask
                sizes = group_sums(Size(), images, shown.in_plane(), Groups.each(len(images)))[:, 0, 0]
                assert shown.whole.all()
                assert sizes.tolist() == pytest.approx([of_slices[index] for _, _, index in found.slices])


def test_seeds_alone_do_not_keep_patches_from_empty_slices(tmp_path: Path) -> None:
    np.random.seed(3)
    case = OneCase(tmp_path, SimpleITKIO, (0, 1, 2), None)
    first, final = BORDER[2][0], (40, 40)
    loading = loader(case, SimpleITKIO, (0, 1, 2), 2, final, final, None)
    drawn = [patch.slices[0] - first for _ in range(20) for patch in next(loading)["patches"]]
    assert set(drawn) == set(range(SHAPE[2] - sum(BORDER[2])))
    labelled = sum(3 - first <= index < 6 - first for index in drawn) / len(drawn)
    assert labelled > 0.6, "half of the patches hold foreground, and of the others three of six"
    theirs = nnUNetDataLoader(case, 4, final, final, loading_labels(), 0.5)
    own = {float(batch[2].max()) for _ in range(20) for batch in next(theirs)["data"]}
    assert own == {4.0, 5.0, 6.0}, "nnU-Net draws none"


def test_a_batch_of_volumes_that_were_reoriented_from_different_axes_is_refused(tmp_path: Path) -> None:
    patches = []
    for case, order in (("axial", (0, 1, 2)), ("sagittal", (1, 2, 0))):
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        affine[list(order), range(3)] = SPACING_MM
        nib.save(nib.Nifti1Image(np.ones((16, 14, 6), np.float32), affine), tmp_path / f"{case}.nii.gz")
        data, properties = NibabelIOWithReorient().read_images([str(tmp_path / f"{case}.nii.gz")])
        shape = data.shape[1:]
        properties |= {"shape_before_cropping": shape, "shape_after_cropping_and_before_resampling": shape,
                       "bbox_used_for_cropping": [[0, n] for n in shape]}  # fmt: skip
        grid = CaseGrid.of(properties, shape, (0, 1, 2), "NibabelIOWithReorient", 2, case)
        patches.append(Patch.of(case, grid, [(0, 16)] * 3, identity(3), (16, 16, 16)))
    with pytest.raises(DatasetError, match=r"slices of axial lie along axis 0 .* of sagittal along axis 2"):
        Located.of(patches, (16, 16, 16), 2, torch.device("cpu"))


def loading_labels() -> SimpleNamespace:
    return SimpleNamespace(all_labels=[0, 1], has_ignore_label=True)
