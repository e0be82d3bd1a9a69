"""How volumes lie in their files: a training takes them as they are, so what differs from case to case is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Shaped

from boundseg.data import volume_io
from boundseg.data.dataset import Dataset
from boundseg.data.picture_io import PICTURE_ENDINGS, read_pixel_mm
from boundseg.data.volume_io import Volume

THICKER = 1.5  # an axis that is so much thicker than that of the slices was probably meant as theirs
FINER = 5  # pixels that differ so much show organs of other sizes
SHOWN = 4


def axis_codes(affine: Shaped[np.ndarray, "4 4"]) -> str:
    """Where the file's axes point, as ``LPS``: to the left, to the back, to the head; oblique axes by the nearest."""
    from nibabel.orientations import aff2axcodes

    return "".join(str(code) for code in aff2axcodes(affine))  # type: ignore[no-untyped-call]


def by_orientation(affines: Mapping[str, Shaped[np.ndarray, "4 4"]]) -> dict[str, list[str]]:
    """The cases of each orientation, the most common one first."""
    found: dict[str, list[str]] = defaultdict(list)
    for case, affine in affines.items():
        found[axis_codes(affine)].append(case)
    return dict(sorted(found.items(), key=lambda of: -len(of[1])))


def orientations(dataset: Dataset, cases: Collection[str]) -> list[str]:
    """The axis codes that occur among cases, from their files' headers; none of pictures, which lie nowhere.

    Raises:
        VolumeError: A header cannot be read.
    """
    if dataset.file_ending in PICTURE_ENDINGS:
        return []
    affines = {case: volume_io.read_affine(dataset.image_paths(case)[0]) for case in cases}
    return list(by_orientation(affines))


def pixels_mm(dataset: Dataset, cases: Collection[str]) -> list[float]:
    """The shortest and the longest side of cases' pixels, from their files' headers; empty where none says them.

    Raises:
        VolumeError: A header cannot be read.
    """
    sides: list[float] = []
    for case in cases:
        path = dataset.image_paths(case)[0]
        if dataset.file_ending in PICTURE_ENDINGS:
            sides += read_pixel_mm(path) or ()
        else:
            spacing = np.linalg.norm(volume_io.read_affine(path)[:3, :3], axis=0)
            sides += np.delete(spacing, dataset.slice_axis).tolist()
    return [min(sides), max(sides)] if sides else []


def differences(dataset: Dataset, grids: Mapping[str, Volume]) -> list[str]:
    """What a training would take as it lies in the files and somebody may not have meant, a sentence each.

    Args:
        dataset: The folder.
        grids: Of each case; their voxels are not looked at.
    """
    if not grids or dataset.file_ending in PICTURE_ENDINGS:
        return []
    found = []
    of = by_orientation({case: volume.affine for case, volume in grids.items()})
    if len(of) > 1:
        shown = "; ".join(f"{codes} {len(cases)} ({few(cases)})" for codes, cases in of.items())
        found.append(
            f"the images' axes point in several directions: {shown}. Nothing is turned: bring images and labels to "
            "one, for example with nibabel.as_closest_canonical."
        )
    spacings_mm = {case: dataset.slice_spacing_mm(volume) for case, volume in grids.items()}
    thin = [case for case, (rows, columns, step) in spacings_mm.items() if max(rows, columns) > THICKER * step]
    if thin:
        sizes = " x ".join(f"{size:.4g}" for size in grids[thin[0]].spacing_mm)
        found.append(
            f"slices are stacked along axis {dataset.slice_axis}, which is not the thickest axis of {few(thin)} "
            f"(voxels of {sizes} mm). Was another slice_axis meant in dataset.json?"
        )
    in_plane_mm = {case: min(spacing[:2]) for case, spacing in spacings_mm.items()}
    finest, coarsest = min(in_plane_mm, key=in_plane_mm.__getitem__), max(in_plane_mm, key=in_plane_mm.__getitem__)
    if in_plane_mm[coarsest] > FINER * in_plane_mm[finest]:
        found.append(
            f"pixels measure {in_plane_mm[finest]:.4g} mm in {finest} and {in_plane_mm[coarsest]:.4g} mm in "
            f"{coarsest}. Mend a spacing that is wrong, or set data.spacing_mm."
        )
    return found


def few(cases: Collection[str]) -> str:
    """The first of some names, and how many more there are."""
    shown = list(cases)[:SHOWN]
    return ", ".join(shown) + (f" and {len(cases) - len(shown)} more" if len(cases) > len(shown) else "")
