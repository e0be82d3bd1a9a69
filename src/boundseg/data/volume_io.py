"""One volume in, one volume out: NIfTI by nibabel, pictures by Pillow, everything else by SimpleITK."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from boundseg.data.atomic import replacing
from boundseg.data.picture_io import PICTURE_ENDINGS, Picture, read_picture, write_picture
from boundseg.errors import VolumeError

NIFTI_ENDINGS = (".nii.gz", ".nii")
ITK_ENDINGS = (".mha", ".mhd", ".nrrd")
ENDINGS = NIFTI_ENDINGS + ITK_ENDINGS + PICTURE_ENDINGS
_NOT_MM = {1: "metres", 3: "micrometres"}  # of NIfTI's xyzt_units; 0 is unknown, which all take for mm
SKEW = 0.02  # the cosine between two axes up to which they are at right angles: exporters round the affine


@dataclass(frozen=True)
class Volume:
    """An array as it lies in its file, and where it lies in the world.

    Attributes:
        array: Voxels in the file's axis order, 3D.
        affine: Voxel indices to RAS+ world coordinates in mm, ``[4, 4]``.
        header: What else the file said (nibabel's header; None for SimpleITK's formats).
        measured: Whether the file says how large its voxels are; of a picture that does not they are taken as 1 mm.
    """

    array: Shaped[np.ndarray, "X Y Z"]
    affine: Shaped[np.ndarray, "4 4"]
    header: Any = None
    measured: bool = True

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Size of a voxel along each of the array's axes, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Scaling:
    """From the numbers of a file to intensities, as nibabel computes it: ``slope * number + inter``."""

    slope: float = 1.0
    inter: float = 0.0

    def __call__(self, stored: Shaped[np.ndarray, "*n"]) -> Shaped[np.ndarray, "*n"]:
        """Intensities of stored numbers, which are given back where they are the intensities."""
        if (self.slope, self.inter) == (1, 0):
            return stored
        from nibabel.volumeutils import apply_read_scaling

        # float64, as nibabel's own proxy has them
        return np.asarray(apply_read_scaling(stored, np.float64(self.slope), np.float64(self.inter)))


def ending(path: Path) -> str | None:
    """The known ending of a volume's file name, or None."""
    return next((e for e in ENDINGS if path.name.lower().endswith(e)), None)


def stem(path: Path) -> str:
    """The file name without the volume's ending."""
    return path.name[: -len(ending(path) or "")] if ending(path) else path.stem


def require_ending(path: Path) -> None:
    """Raises VolumeError where a file is not there and its name is none of a volume, or only the second."""
    if ending(path):
        return
    if not path.exists():
        raise _missing(path)
    raise VolumeError(
        f"{path.name} has no ending of a volume that boundseg reads.",
        str(path.parent),
        f"Convert it to one of {', '.join(ENDINGS)}.",
    )


def _missing(path: Path) -> VolumeError:
    return VolumeError(f"{path.name} is not there.", str(path.parent), "Check the name and the folder.")


def read(path: Path) -> Volume:
    """Reads a volume.

    Raises:
        VolumeError: The file is missing, unreadable, not 3D, of colours or complex numbers, not in mm, or of a format
            that is not known; its affine is :func:`require_grid`'s.
    """
    volume, scaling = read_stored(path)
    return replace(volume, array=scaling(volume.array))


def read_stored(path: Path) -> tuple[Volume, Scaling]:
    """Reads a volume whose array are the numbers that the file stores, and what makes intensities of them.

    Raises:
        VolumeError: As :func:`read`.
    """
    if not path.is_file():
        raise _missing(path)
    require_ending(path)
    known = ending(path)
    if known in PICTURE_ENDINGS:
        # a label map may have a palette: its numbers are the indices
        channels = _of_picture(read_picture(path, palette="index"))
        if len(channels) > 1:
            raise VolumeError(
                f"{path.name} has {len(channels)} channels, and one is expected here.",
                str(path.parent),
                "Save a label map with one number per pixel; boundseg convert images makes a file per channel.",
            )
        return channels[0], Scaling()
    volume, scaling = _read_nifti(path) if known in NIFTI_ENDINGS else (_read_itk(path), Scaling())
    if volume.array.dtype.kind not in "iufb":
        held = "complex numbers" if volume.array.dtype.kind == "c" else "colours"
        remedy = "Save one number per voxel, a file for each channel (CASE_0000, CASE_0001, …)."
        raise VolumeError(f"{path.name} holds {held}.", str(path.parent), remedy)
    require_grid(volume.affine, path.name, str(path.parent))
    return volume, scaling


def read_affine(path: Path) -> Shaped[np.ndarray, "4 4"]:
    """The affine of a NIfTI, NRRD or MetaImage file, from its header alone.

    Raises:
        VolumeError: The header cannot be read.
    """
    if ending(path) in NIFTI_ENDINGS:
        import nibabel as nib

        try:
            affine: Any = nib.load(path).affine  # type: ignore[attr-defined]
        except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as error:
            raise VolumeError(
                f"{path.name} cannot be read as NIfTI: {error}", str(path.parent), "Export or copy it again."
            ) from error
        return np.asarray(affine, dtype=np.float64)
    reader = itk().ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise VolumeError(
            f"{path.name} cannot be read: {reason}", str(path.parent), "Export or copy it again."
        ) from error
    return _affine_of_itk(reader)


def require_grid(affine: Shaped[np.ndarray, "4 4"], name: str, where: str) -> None:
    """Refuses voxels that are no boxes: sizes, distances and surfaces in mm are those of axes at right angles.

    Args:
        affine: Of a volume.
        name: Of the volume, for the message.
        where: Its folder.

    Raises:
        VolumeError: An axis has no length or is not finite, or two of them are more than a degree from a right angle.
    """
    steps_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not steps_mm.all():
        size = " x ".join(f"{step:.4g}" for step in steps_mm)
        remedy = "Export it again with its spacing, orientation and origin, or write them into its header."
        raise VolumeError(f"{name} has no usable affine: a voxel of {size} mm.", where, remedy)
    axes = affine[:3, :3] / steps_mm
    skew = float(np.abs(np.triu(axes.T @ axes, 1)).max())
    if skew > SKEW:
        fact = f"{name} has axes that are not at right angles, but {np.degrees(np.arcsin(min(skew, 1))):.3g}° off."
        raise VolumeError(fact, where, "Resample it onto a straight grid first, for example in 3D Slicer.")


def read_stored_channels(path: Path) -> list[tuple[Volume, Scaling]]:
    """The channels of an image's file: those of a picture, of all other formats one.

    Raises:
        VolumeError: As :func:`read`.
    """
    if ending(path) in PICTURE_ENDINGS and path.is_file():
        return [(volume, Scaling()) for volume in _of_picture(read_picture(path))]
    return [read_stored(path)]


def _of_picture(picture: Picture) -> list[Volume]:
    """Volumes of one slice, a millimetre thick, whose first axis runs down the rows."""
    affine = np.diag([*picture.spacing_mm, 1.0, 1.0])
    measured = bool(picture.told)
    return [Volume(picture.channels[..., c, None], affine, None, measured) for c in range(picture.channels.shape[2])]


def _write_picture(path: Path, array: np.ndarray, like: Volume) -> None:
    if array.shape[2] != 1:
        raise VolumeError(f"{path.name}: a picture has one slice, and there are {array.shape[2]}.")
    write_picture(path, array[..., 0], like.spacing_mm[:2] if like.measured else None)


def write(path: Path, array: Shaped[np.ndarray, "X Y Z"], like: Volume) -> None:
    """Writes an array onto the grid of another volume: its affine, shape and orientation, the array's type.

    Raises:
        VolumeError: The shapes differ, the ending is not known, or the disk refuses the file, of which nothing is
            left then.
    """
    if array.shape != like.array.shape:
        raise VolumeError(f"{path.name}: an array of shape {array.shape} does not fit the grid {like.array.shape}.")
    known = _known_ending(path)
    with _naming(path), replacing(path) as temporary:
        _writer(known)(temporary, array, like)


@contextmanager
def writing(
    path: Path, like: Volume, dtype: type[np.generic], slice_axis: int
) -> Iterator[Callable[[Shaped[np.ndarray, "B H W"]], None]]:
    """Writes a volume a few slices at a time; gives the function that takes the next ones.

    The file is that of :func:`write`, and is there when the block ends without an error. NIfTI whose slices are
    stacked along the last axis is written as it comes, nothing of it is held. Else the slices go to a temporary file
    beside it, from which the volume is written in the end.

    Args:
        path: The file.
        like: The volume on whose grid it lies.
        dtype: Of the voxels.
        slice_axis: The array axis along which slices are stacked.

    Raises:
        VolumeError: As :func:`write`.
    """
    known = _known_ending(path)
    nifti = known in NIFTI_ENDINGS
    with _naming(path), replacing(path) as temporary, ExitStack() as stack:
        if nifti and slice_axis == 2:
            take = stack.enter_context(_nifti(temporary, like, np.dtype(dtype)))
        else:
            kept = stack.enter_context(TemporaryFile(dir=temporary.parent))

            def take(slices: np.ndarray) -> None:
                kept.write(np.ascontiguousarray(slices, dtype).data)

        written = 0

        def take_next(slices: Shaped[np.ndarray, "B H W"]) -> None:
            nonlocal written
            with _naming(path):
                take(slices)
            written += len(slices)

        yield take_next
        slice_shape = list(like.array.shape)
        assert written == slice_shape.pop(slice_axis), (written, like.array.shape)
        if not (nifti and slice_axis == 2):
            kept.flush()
            array = np.memmap(kept, dtype, "r", shape=(written, *slice_shape))
            _writer(known)(temporary, np.moveaxis(array, 0, slice_axis), like)


def _writer(known: str) -> Callable[[Path, np.ndarray, Volume], None]:
    if known in PICTURE_ENDINGS:
        return _write_picture
    return _write_nifti if known in NIFTI_ENDINGS else _write_itk


def _known_ending(path: Path) -> str:
    known = ending(path)
    if known is None:
        raise VolumeError(f"{path.name} has no ending of a volume.", remedy=f"Use one of {', '.join(ENDINGS)}.")
    return known


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Says which file the disk refuses, and why: full, read-only, no folder."""
    try:
        yield
    except OSError as error:
        raise VolumeError(
            f"{path.name} cannot be written: {error.strerror or error}.",
            str(path.parent),
            "Make room there, or choose another folder.",
        ) from error


def _read_nifti(path: Path) -> tuple[Volume, Scaling]:
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        array = image.dataobj.get_unscaled()
    except (
        OSError,
        EOFError,
        ValueError,
        zlib.error,
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
    ) as error:
        raise VolumeError(
            f"{path.name} cannot be read as NIfTI: {error}", str(path.parent), "Export or copy it again."
        ) from error
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise VolumeError(
            f"{path.name} has {array.ndim} dimensions {list(array.shape)}, not 3.",
            str(path.parent),
            "Split it into one file per time point or channel (CASE_0000, CASE_0001, …)."
            if array.ndim > 3
            else f"Save it as a volume of one slice, {[*array.shape, 1]}.",
        )
    if unit := _NOT_MM.get(int(image.header["xyzt_units"]) % 8):
        raise VolumeError(
            f"{path.name} is in {unit}, says its header (xyzt_units), and not in mm.",
            str(path.parent),
            "Write its affine in mm, or mend the header if it is.",
        )
    volume = Volume(array, np.asarray(image.affine, dtype=np.float64), image.header)
    return volume, Scaling(float(image.dataobj.slope), float(image.dataobj.inter))


def _write_nifti(path: Path, array: np.ndarray, like: Volume) -> None:
    with _nifti(path, like, array.dtype) as take:
        for plane in np.moveaxis(array, 2, 0):
            take(plane[None])


@contextmanager
def _nifti(path: Path, like: Volume, dtype: np.dtype[Any]) -> Iterator[Callable[[np.ndarray], None]]:
    """A file that has its header and takes planes ``[B, X, Y]`` of the last axis, in their order."""
    import nibabel as nib

    header = like.header.copy() if like.header is not None else None
    # the header is made for an array of that shape and type, which costs no memory
    logger: Any = nib.imageglobals.logger
    logger.disabled, before = True, logger.disabled  # of a NIfTI-2 header it says that it becomes one of NIfTI-1
    try:
        image = nib.Nifti1Image(np.broadcast_to(np.zeros((), dtype), like.array.shape), like.affine, header)
    finally:
        logger.disabled = before
    # the intensity scaling and display range of the image are not those of a label map written on its grid
    image.header.set_slope_inter(1, 0)
    image.header["cal_min"] = image.header["cal_max"] = 0
    image.header.set_data_dtype(dtype)
    image.update_header()
    start = BytesIO()
    image.header.write_to(start)
    stored = image.header.get_data_dtype()
    with path.open("wb") as file, _compressed(file, dtype) if _gzipped(path) else nullcontext(file.write) as write:
        write(start.getvalue().ljust(image.header.get_data_offset(), b"\0"))

        def take(planes: np.ndarray) -> None:
            # the first axis runs fastest
            write(np.ascontiguousarray(planes.swapaxes(1, 2), stored).tobytes())

        yield take


def _gzipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


@contextmanager
def _compressed(file: BinaryIO, dtype: np.dtype[Any]) -> Iterator[Callable[[bytes], object]]:
    """Compresses as gzip does at its fastest; digits of probabilities do not repeat, and are not searched for it."""
    strategy = zlib.Z_RLE if dtype.kind == "f" else zlib.Z_DEFAULT_STRATEGY
    # 31: a gzip header, and a window of 2^15 bytes
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31, zlib.DEF_MEM_LEVEL, strategy)
    yield lambda content: file.write(compressor.compress(content))
    file.write(compressor.flush())


_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk(need: str = "MetaImage and NRRD files need SimpleITK") -> Any:
    """SimpleITK; raises VolumeError, which says what needs it, where it is not installed."""
    try:
        import SimpleITK
    except ImportError as error:
        raise VolumeError(
            f"{need}, which is not installed.",
            remedy="Install it with: pip install 'boundseg[itk]'",
        ) from error
    return SimpleITK


def _read_itk(path: Path) -> Volume:
    library = itk()
    try:
        image = library.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise VolumeError(
            f"{path.name} cannot be read: {reason}", str(path.parent), "Export or copy it again."
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise VolumeError(f"{path.name} is not one 3D volume.", str(path.parent), "Export one file per channel.")
    return of_itk(image, library)


def of_itk(image: Any, library: Any) -> Volume:
    """A 3D image of SimpleITK, whose world is LPS+."""
    return Volume(library.GetArrayFromImage(image).transpose(2, 1, 0), _affine_of_itk(image))


def _affine_of_itk(image: Any) -> Shaped[np.ndarray, "4 4"]:
    """Of a 3D image, or of a reader that knows its header."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return _LPS_TO_RAS @ affine


def _write_itk(path: Path, array: np.ndarray, like: Volume) -> None:
    library = itk()
    affine = _LPS_TO_RAS @ like.affine
    spacing = np.asarray(like.spacing_mm)
    image = library.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    try:
        library.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error
