"""One volume in, one volume out: NIfTI by nibabel, everything else by SimpleITK."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from boundseg.data.atomic import replacing
from boundseg.errors import VolumeError

NIFTI_ENDINGS = (".nii.gz", ".nii")
ITK_ENDINGS = (".mha", ".mhd", ".nrrd")
ENDINGS = NIFTI_ENDINGS + ITK_ENDINGS


@dataclass(frozen=True)
class Volume:
    """An array as it lies in its file, and where it lies in the world.

    Attributes:
        array: Voxels in the file's axis order, 3D.
        affine: Voxel indices to RAS+ world coordinates in mm, ``[4, 4]``.
        header: What else the file said (nibabel's header; None for SimpleITK's formats).
    """

    array: Shaped[np.ndarray, "X Y Z"]
    affine: Shaped[np.ndarray, "4 4"]
    header: Any = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Size of a voxel along each of the array's axes, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def ending(path: Path) -> str | None:
    """The known ending of a volume's file name, or None."""
    return next((e for e in ENDINGS if path.name.lower().endswith(e)), None)


def stem(path: Path) -> str:
    """The file name without the volume's ending."""
    return path.name[: -len(ending(path) or "")] if ending(path) else path.stem


def read(path: Path) -> Volume:
    """Reads a volume.

    Raises:
        VolumeError: The file is missing, unreadable, not 3D, or of a format that is not known.
    """
    if not path.is_file():
        raise VolumeError(f"{path.name} is not there.", str(path.parent), "Check the name and the folder.")
    known = ending(path)
    if known is None:
        raise VolumeError(
            f"{path.name} has no ending of a volume that boundseg reads.",
            str(path.parent),
            f"Convert it to one of {', '.join(ENDINGS)}.",
        )
    return _read_nifti(path) if known in NIFTI_ENDINGS else _read_itk(path)


def write(path: Path, array: Shaped[np.ndarray, "X Y Z"], like: Volume) -> None:
    """Writes an array onto the grid of another volume: its affine, shape and orientation, the array's type.

    Raises:
        VolumeError: The shapes differ, or the ending is not known.
    """
    if array.shape != like.array.shape:
        raise VolumeError(f"{path.name}: an array of shape {array.shape} does not fit the grid {like.array.shape}.")
    known = ending(path)
    if known is None:
        raise VolumeError(f"{path.name} has no ending of a volume.", remedy=f"Use one of {', '.join(ENDINGS)}.")
    with replacing(path) as temporary:
        if known in NIFTI_ENDINGS:
            _write_nifti(temporary, array, like)
        else:
            _write_itk(temporary, array, like)


def _read_nifti(path: Path) -> Volume:
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        array = np.asanyarray(image.dataobj)
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
            "Split it into one file per time point or channel (CASE_0000, CASE_0001, …).",
        )
    return Volume(array, np.asarray(image.affine, dtype=np.float64), image.header)


def _write_nifti(path: Path, array: np.ndarray, like: Volume) -> None:
    import nibabel as nib

    header = like.header.copy() if like.header is not None else None
    image = nib.Nifti1Image(array, like.affine, header)
    # the intensity scaling and display range of the image are not those of a label map written on its grid
    image.header.set_slope_inter(1, 0)
    image.header["cal_min"] = image.header["cal_max"] = 0
    image.header.set_data_dtype(array.dtype)
    nib.save(image, path)


_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise VolumeError(
            "MetaImage and NRRD files need SimpleITK, which is not installed.",
            remedy="Install it with: pip install 'boundseg[itk]'",
        ) from error
    return SimpleITK


def _read_itk(path: Path) -> Volume:
    itk = _itk()
    try:
        image = itk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise VolumeError(
            f"{path.name} cannot be read: {reason}", str(path.parent), "Export or copy it again."
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise VolumeError(f"{path.name} is not one 3D volume.", str(path.parent), "Export one file per channel.")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(itk.GetArrayFromImage(image).transpose(2, 1, 0), _LPS_TO_RAS @ affine)


def _write_itk(path: Path, array: np.ndarray, like: Volume) -> None:
    itk = _itk()
    affine = _LPS_TO_RAS @ like.affine
    spacing = np.asarray(like.spacing_mm)
    image = itk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    itk.WriteImage(image, str(path), True)
