"""What 3D Slicer writes into a ``.seg.nrrd`` beside the voxels: the names of its segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from boundseg.data.volume_io import itk
from boundseg.errors import Problem, VolumeError

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


def contradicted(
    path: Path,
    names: Mapping[int, str],
    by_number: Mapping[int, str],
    labels: Iterable[str],
    before: dict[int, tuple[str, str]],
) -> list[Problem]:
    """Segments whose number is mapped to another label than their name says, or carries another name elsewhere.

    3D Slicer numbers segments in the order in which they were made, which differs from file to file.

    Args:
        path: The file of the segments.
        names: Of its segments, see :func:`segment_names`.
        by_number: The label of each number that the map names and the file holds.
        labels: All that there are.
        before: For each number, the name and the file that had it first; this file's are added.
    """
    spelt = {label.casefold(): label for label in labels}
    by_name = ",".join(f"{names[n]}={spelt.get(names[n].casefold(), to)}" for n, to in by_number.items() if n in names)
    found = []
    for number, label in by_number.items():
        if number not in names:
            continue
        name = names[number]
        first, elsewhere = before.setdefault(number, (name, path.name))
        if spelt.get(name.casefold(), label) != label:
            fact = f"{path.name}: segment {number} is called {name!r}, and --map says {label}."
            found.append(Problem(fact, str(path.parent), f'Map by names: --map "{by_name}".'))
        elif name.casefold() != first.casefold():
            fact = f"{path.name}: segment {number} is called {name!r}, in {elsewhere} {first!r}."
            remedy = "Map by names, as ventricle=LV: numbers follow the order of drawing."
            found.append(Problem(fact, str(path.parent), remedy))
    return found
