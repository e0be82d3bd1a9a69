"""The largest connected part of a class, where an organ is known to be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from boundseg.errors import InputError
from boundseg.nearest import did_you_mean

ALL = "all"


def regions_named(names: Sequence[str], labels: Mapping[str, int]) -> list[tuple[int, ...]]:
    """The values of classes and unions, or of each class where ``all`` is named.

    Raises:
        InputError: A name is no class.
    """
    classes = [name for name, value in labels.items() if value]
    regions = []
    for name in names:
        for part in classes if name == ALL and ALL not in labels else [name]:
            for one in part.split("+"):
                if one not in classes:
                    near = did_you_mean(one, classes)
                    remedy = f"Name {', '.join(classes)}, a union such as A+B, or {ALL}."
                    raise InputError(f"--largest-component {name}: {one!r} is no class{near}", remedy=remedy)
            regions.append(tuple(labels[one] for one in part.split("+")))
    return regions


def largest_components(
    labels: UInt8[np.ndarray, "S H W"], regions: Sequence[Sequence[int]]
) -> UInt8[np.ndarray, "S H W"]:
    """A label map in which each region keeps its largest connected part, and the rest of it is background.

    Voxels are connected where they share a face, an edge or a corner, across slices too. Of parts of one size, the
    first in the array's order is kept.
    """
    if not regions:
        return labels
    from scipy import ndimage

    labels = labels.copy()
    for region in regions:
        inside = np.isin(labels, region)
        parts, count = ndimage.label(inside, np.ones((3,) * labels.ndim))
        if count > 1:
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            labels[inside & (parts != sizes.argmax())] = 0
    return labels
