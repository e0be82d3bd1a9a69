"""Volumes: nibabel and SimpleITK, which wrote most of the world's files, say whether ours are right."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data import atomic, volume_io
from boundseg.data.volume_io import Volume
from boundseg.errors import InputError, VolumeError
from tests.conftest import oblique_affine

SHAPE = (5, 7, 3)
VOXELS = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def nifti(path: Path, array: np.ndarray = VOXELS, codes: tuple[int, int] = (1, 1), **header: Any) -> Path:
    """A file as nibabel writes it; ``codes`` are those of qform and sform."""
    image = nib.Nifti1Image(array, oblique_affine())
    image.set_qform(oblique_affine(), codes[0])
    image.set_sform(oblique_affine(), codes[1])
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def test_a_map_on_the_grid_of_a_nifti_2_file_is_written_without_a_word(tmp_path: Path) -> None:
    image, labels = tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz"
    nib.save(nib.Nifti2Image(VOXELS, oblique_affine()), image)
    # nibabel speaks to the stderr that it found when it was imported
    code = (
        "import sys; from pathlib import Path; from boundseg.data import volume_io\n"
        "image = volume_io.read(Path(sys.argv[1])); volume_io.write(Path(sys.argv[2]), image.array, image)"
    )
    command = [sys.executable, "-c", code, str(image), str(labels)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout + done.stderr == ""
    assert np.array_equal(volume_io.read(labels).array, VOXELS)


@pytest.fixture
def itk() -> Any:
    return pytest.importorskip("SimpleITK")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (3, 0), (1, 4), (0, 0)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_a_volume_written_on_the_grid_of_another_lies_where_that_one_lies(
    tmp_path: Path, ending: str, codes: tuple[int, int], dtype: str
) -> None:
    original = nifti(tmp_path / f"image{ending}", codes=codes, descrip=b"by the scanner", xyzt_units=10)
    volume = volume_io.read(original)
    assert np.array_equal(volume.array, VOXELS)
    array = (np.random.default_rng(0).random(SHAPE) * 100).astype(dtype)
    volume_io.write(tmp_path / f"labels{ending}", array, volume)
    theirs, ours = nib.load(original), nib.load(tmp_path / f"labels{ending}")
    assert np.array_equal(ours.affine, theirs.affine)
    assert ours.shape == theirs.shape
    assert ours.get_data_dtype() == dtype
    assert np.array_equal(np.asanyarray(ours.dataobj), array)
    for key in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim", "srow_x", "srow_y", "srow_z"):
        assert np.array_equal(ours.header[key], theirs.header[key]), key


def test_the_scaling_of_intensities_is_read_and_not_inherited_by_labels(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOXELS, oblique_affine())
    image.header.set_slope_inter(0.5, -3)
    image.header["cal_max"] = 40
    nib.save(image, tmp_path / "image.nii.gz")
    volume = volume_io.read(tmp_path / "image.nii.gz")
    assert np.array_equal(volume.array, VOXELS * 0.5 - 3)
    labels = (VOXELS % 4).astype(np.uint8)
    volume_io.write(tmp_path / "labels.nii.gz", labels, volume)
    written = nib.load(tmp_path / "labels.nii.gz")
    assert written.dataobj.slope == 1
    assert written.dataobj.inter == 0
    assert written.header["cal_max"] == 0
    assert np.array_equal(np.asanyarray(written.dataobj), labels)


def test_a_single_time_point_is_a_volume(tmp_path: Path) -> None:
    volume = volume_io.read(nifti(tmp_path / "image.nii.gz", VOXELS[..., None]))
    assert volume.array.shape == SHAPE
    volume_io.write(tmp_path / "labels.nii.gz", VOXELS, volume)
    assert nib.load(tmp_path / "labels.nii.gz").shape == SHAPE


def test_spacing_is_the_size_of_a_voxel_along_each_axis(tmp_path: Path) -> None:
    path = nifti(tmp_path / "image.nii.gz")
    assert volume_io.read(path).spacing_mm == pytest.approx(nib.load(path).header.get_zooms(), rel=1e-6)


@pytest.mark.parametrize("ending", volume_io.ITK_ENDINGS)
def test_a_voxel_of_metaimage_or_nrrd_is_at_one_place_for_both_libraries(tmp_path: Path, itk: Any, ending: str) -> None:
    path = tmp_path / f"volume{ending}"
    like = Volume(VOXELS, oblique_affine())
    volume_io.write(path, VOXELS, like)
    image, ours = itk.ReadImage(str(path)), volume_io.read(path)
    assert image.GetSize() == SHAPE
    assert ours.array.dtype == VOXELS.dtype
    assert np.array_equal(ours.array, VOXELS)
    np.testing.assert_allclose(ours.affine, like.affine, atol=1e-4)
    for index in [(0, 0, 0), (4, 6, 2), (1, 5, 0)]:
        left, back, up = image.TransformIndexToPhysicalPoint(index)  # ITK's world is LPS+
        np.testing.assert_allclose((ours.affine @ [*index, 1])[:3], [-left, -back, up], atol=1e-4)
        assert image[index] == ours.array[index] == VOXELS[index]


@pytest.mark.parametrize("ending", volume_io.ITK_ENDINGS)
def test_simpleitks_nifti_reader_agrees_about_every_format(tmp_path: Path, itk: Any, ending: str) -> None:
    """The same file through SimpleITK's own NIfTI reader, then through ours of another format."""
    image = itk.ReadImage(str(nifti(tmp_path / "image.nii.gz")))
    itk.WriteImage(image, str(tmp_path / f"image{ending}"))
    ours, theirs = volume_io.read(tmp_path / f"image{ending}"), volume_io.read(tmp_path / "image.nii.gz")
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    assert np.array_equal(ours.array, theirs.array)


@pytest.mark.parametrize("ending", (*volume_io.NIFTI_ENDINGS, *volume_io.ITK_ENDINGS))
def test_a_written_volume_can_be_moved_with_its_folder_and_leaves_nothing_hidden(
    tmp_path: Path, itk: Any, ending: str
) -> None:
    volume_io.write(tmp_path / "there" / f"case{ending}", VOXELS, Volume(VOXELS, oblique_affine()))
    names = {path.name for path in (tmp_path / "there").iterdir()}
    assert names == ({"case.mhd", "case.zraw"} if ending == ".mhd" else {f"case{ending}"})
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    assert np.array_equal(volume_io.read(tmp_path / "elsewhere" / f"case{ending}").array, VOXELS)


@pytest.mark.parametrize("before", [None, "the old text"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_what_was_there(
    tmp_path: Path, before: str | None, error: type[BaseException]
) -> None:
    path = tmp_path / "new" / "file.txt"
    if before is not None:
        atomic.write_text(path, before)
    with pytest.raises(error), atomic.replacing(path) as temporary:
        temporary.write_text("half of the new te")
        raise error
    assert [p.read_text() for p in path.parent.iterdir()] == ([] if before is None else [before])


def test_the_new_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "file.nii.gz"
    path.write_text("old")
    with atomic.replacing(path) as temporary:
        assert temporary.name.endswith(".nii.gz")  # writers choose the format by the name
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic.replacing(path):
        pass
    assert path.read_text() == "old"


def test_a_volume_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="int64"):  # nibabel refuses it
        volume_io.write(tmp_path / "labels.nii.gz", VOXELS.astype(np.int64), Volume(VOXELS, np.eye(4)))
    assert not list(tmp_path.iterdir())


def truncated(path: Path, kept: float = 0.6) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    return path


def another_datatype(path: Path) -> Path:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[70:72] = b"\xff\x7f"
    path.write_bytes(gzip.compress(bytes(content)))
    return path


def text(path: Path) -> Path:
    path.write_text("not a volume")
    return path


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def placed(path: Path, rows: np.ndarray) -> Path:
    """A file whose sform holds these rows, which nibabel would not write."""
    nifti(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, 252, 0, 1)  # qform_code, sform_code
    struct.pack_into("<12f", content, 280, *rows.ravel())
    path.write_bytes(content)
    return path


def test_an_affine_that_an_exporter_rounded_is_at_right_angles(tmp_path: Path) -> None:
    rows = np.eye(3, 4) + np.eye(3, 4, 1) / 100
    assert np.allclose(volume_io.read(placed(tmp_path / "x.nii", rows)).affine[:3], rows)


@pytest.mark.parametrize("ending", (*volume_io.NIFTI_ENDINGS, *volume_io.ITK_ENDINGS))
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_volume_written_a_few_slices_at_a_time_is_the_volume_written_at_once(
    tmp_path: Path, ending: str, axis: int, dtype: type[np.generic]
) -> None:
    if ending in volume_io.ITK_ENDINGS:
        pytest.importorskip("SimpleITK")
    like = volume_io.read(nifti(tmp_path / "image.nii", scl_slope=2, scl_inter=1, cal_max=9, descrip=b"cine"))
    array = (np.random.default_rng(0).random(SHAPE) * 3).astype(dtype)
    volume_io.write(tmp_path / f"once{ending}", array, like)
    slices = np.moveaxis(array, axis, 0)
    with volume_io.writing(tmp_path / "there" / f"once{ending}", like, dtype, axis) as write:
        write(slices[:2])
        assert not (tmp_path / "there" / f"once{ending}").exists()
        write(slices[2:])
    found = list((tmp_path / "there").iterdir())
    assert all(path.read_bytes() == (tmp_path / path.name).read_bytes() for path in found)
    assert len(found) == (2 if ending == ".mhd" else 1)
    assert np.array_equal(volume_io.read(tmp_path / f"once{ending}").array, array)


@pytest.mark.parametrize("endianness", "<>")
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_our_nifti_is_nibabels_byte_by_byte(tmp_path: Path, endianness: str, dtype: str) -> None:
    header = nib.Nifti1Header(endianness=endianness)
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"by the scanner"))
    nib.save(nib.Nifti1Image(VOXELS, oblique_affine(), header), tmp_path / "image.nii")
    like = volume_io.read(tmp_path / "image.nii")
    array = (np.random.default_rng(0).random(SHAPE) * 100).astype(dtype)
    theirs = nib.Nifti1Image(array, like.affine, like.header)
    theirs.header.set_data_dtype(dtype)
    theirs.header.set_slope_inter(1, 0)
    nib.save(theirs, tmp_path / "theirs.nii")
    expected = (tmp_path / "theirs.nii").read_bytes()
    for path in (tmp_path / "ours.nii", tmp_path / "ours.nii.gz"):
        volume_io.write(path, array, like)
        content = path.read_bytes()
        assert (gzip.decompress(content) if path.suffix == ".gz" else content) == expected


@pytest.fixture
def small_disk() -> Iterator[None]:
    """The system refuses to let a file grow beyond 1000 bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", (*volume_io.NIFTI_ENDINGS, *volume_io.ITK_ENDINGS))
@pytest.mark.parametrize("axis", [None, 0, 2])
def test_what_the_disk_refuses_is_one_message_and_no_half_of_a_file(
    tmp_path: Path, small_disk: None, ending: str, axis: int | None
) -> None:
    if ending in volume_io.ITK_ENDINGS:
        pytest.importorskip("SimpleITK")
    noise = np.random.default_rng(0).random((30, 30, 10)).astype(np.float32)
    (tmp_path / f"x{ending}").write_text("old")
    with pytest.raises(VolumeError, match=rf"^x{ending} cannot be written: .*\n  in .* Make room there, or") as caught:
        if axis is None:
            volume_io.write(tmp_path / f"x{ending}", noise, Volume(noise, np.eye(4)))
        else:
            with volume_io.writing(tmp_path / f"x{ending}", Volume(noise, np.eye(4)), np.float32, axis) as write:
                write(np.moveaxis(noise, axis, 0))
    assert str(tmp_path) in str(caught.value)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VolumeError, match=r"^x\.nii cannot be written: .*\n  in .*file"):
        volume_io.write(tmp_path / "file" / "x.nii", VOXELS, Volume(VOXELS, np.eye(4)))


NOISE = np.random.default_rng(1).integers(0, 1000, (30, 30, 10)).astype(np.int16)


@pytest.mark.parametrize(
    ("break_it", "name", "message"),
    [
        (lambda path: path, "missing.nii.gz", r"missing.nii.gz is not there\.\n.*Check the name"),
        (lambda path: text(path), "notes.txt", r"notes.txt has no ending of a volume .*\n.*\.nii\.gz, .*\.nrrd"),
        (lambda path: text(path), "x.nii.gz", r"x.nii.gz cannot be read as NIfTI: .*\n.*Export or copy it again"),
        (lambda path: truncated(nifti(path, NOISE)), "x.nii.gz", r"x.nii.gz cannot be read as NIfTI: "),
        (lambda path: truncated(nifti(path, NOISE)), "x.nii", r"x.nii cannot be read as NIfTI: "),
        (lambda path: truncated(nifti(path, NOISE), 0), "x.nii.gz", r"x.nii.gz cannot be read as NIfTI: "),
        (lambda path: another_datatype(nifti(path)), "x.nii.gz", r"x.nii.gz cannot be read as NIfTI: .*data code"),
        (
            lambda path: nifti(path, np.stack([VOXELS, VOXELS], 3)),
            "x.nii.gz",
            r"x.nii.gz has 4 dimensions \[5, 7, 3, 2\], not 3\.\n.*Split it",
        ),
        (
            lambda path: nifti(path, VOXELS[..., 0]),
            "x.nii.gz",
            r"x.nii.gz has 2 dimensions \[5, 7\], not 3\.\n.*a volume of one slice, \[5, 7, 1\]",
        ),
        (
            lambda path: nifti(path, VOXELS.astype(np.complex64)),
            "x.nii",
            r"x.nii holds complex numbers\.\n.*one number",
        ),
        (lambda path: nifti(path, np.zeros(VOXELS.shape, RGB)), "x.nii", r"x.nii holds colours\.\n.*one number"),
        (
            lambda path: nifti(path, xyzt_units=3),
            "x.nii",
            r"x.nii is in micrometres, says its header \(xyzt_units\), and not in mm",
        ),
        (lambda path: nifti(path, xyzt_units=1), "x.nii", r"x.nii is in metres, says its header"),
        (
            lambda path: placed(path, np.zeros((3, 4))),
            "x.nii",
            r"x.nii has no usable affine: a voxel of 0 x 0 x 0 mm\.",
        ),
        (lambda path: placed(path, np.eye(3, 4) * (1, 0, 1, 1)), "x.nii", r"no usable affine: a voxel of 1 x 0 x 1 mm"),
        (lambda path: placed(path, np.eye(3, 4) * np.nan), "x.nii", "no usable affine: a voxel of nan"),
        (lambda path: placed(path, np.eye(3, 4) + np.eye(3, 4, 1) / 2), "x.nii", "not at right angles, but 26.6° off"),
        (lambda path: placed(path, np.ones((3, 4))), "x.nii", "not at right angles, but 90° off"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_folder(
    tmp_path: Path, break_it: Callable[[Path], Path], name: str, message: str
) -> None:
    break_it(tmp_path / name)
    with pytest.raises(VolumeError, match=message) as raised:
        volume_io.read(tmp_path / name)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("ending", volume_io.ITK_ENDINGS)
def test_the_same_for_simpleitks_formats(tmp_path: Path, itk: Any, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    text(path)
    with pytest.raises(VolumeError, match=rf"x{ending} cannot be read: "):
        volume_io.read(path)
    itk.WriteImage(itk.Image([3, 4, 5], itk.sitkVectorUInt8, 2), str(path))
    with pytest.raises(VolumeError, match=rf"x{ending} is not one 3D volume\.\n.*one file per channel"):
        volume_io.read(path)


def test_a_wrong_shape_or_ending_is_not_written(tmp_path: Path) -> None:
    like = Volume(VOXELS, np.eye(4))
    with pytest.raises(InputError, match=r"shape \(5, 7, 2\) does not fit the grid \(5, 7, 3\)"):
        volume_io.write(tmp_path / "x.nii.gz", VOXELS[..., :2], like)
    with pytest.raises(InputError, match=r"x.jpg has no ending of a volume"):
        volume_io.write(tmp_path / "x.jpg", VOXELS, like)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "stem", "ending"),
    [
        ("a_0000.nii.gz", "a_0000", ".nii.gz"),
        ("a.b.nii", "a.b", ".nii"),
        ("Case00.MHD", "Case00", ".mhd"),
        ("notes.txt", "notes", None),
    ],
)
def test_endings(name: str, stem: str, ending: str | None) -> None:
    assert volume_io.stem(Path(name)) == stem
    assert volume_io.ending(Path(name)) == ending
