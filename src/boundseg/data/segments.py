"""What 3D Slicer writes into a ``.seg.nrrd`` beside the voxels: the names of its segments."""

from __future__ import annotations

from pathlib import Path

from boundseg.data.volume_io import itk
from boundseg.errors import VolumeError

SUFFIX = ".seg"


def segment_names(path: Path) -> dict[int, str]:
    """Names of the segments by their label value; empty where the file is none of Slicer's segmentations.

    Raises:
        VolumeError: Segments overlap, so that the file holds several layers; a label value is no number.
    """
    if not path.name.lower().endswith(f"{SUFFIX}.nrrd"):
        return {}
    reader = itk().ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return {}  # whoever reads its voxels says what is wrong
    if reader.GetNumberOfComponents() > 1 or reader.GetDimension() > 3:
        raise VolumeError(
            f"{path.name} holds segments that overlap.",
            str(path.parent),
            "Let none overlap, or export it from 3D Slicer as a label map (.nrrd, .nii.gz).",
        )
    names = {}
    for key in reader.GetMetaDataKeys():
        segment, _, what = key.rpartition("_")
        if what == "LabelValue" and reader.HasMetaDataKey(f"{segment}_Name"):
            try:
                value = int(reader.GetMetaData(key))
            except ValueError:
                raise VolumeError(
                    f"{path.name}: {key} is {reader.GetMetaData(key)!r}, which is no whole number.",
                    str(path.parent),
                    "Save it from 3D Slicer again, or export it as a label map (.nrrd, .nii.gz).",
                ) from None
            names[value] = reader.GetMetaData(f"{segment}_Name").strip()
    return names
