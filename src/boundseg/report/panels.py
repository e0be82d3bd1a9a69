"""One slice as a small picture for a page: the image in grey, regions filled half transparently and outlined."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO

import numpy as np
from jaxtyping import Bool, Float, Integer

from boundseg.report.pictures import colour_of

SIDE_PX = 220  # of the written picture
LEAST = 64  # pixels of the slice that are shown at least
MARGIN = 0.4  # around what is shown, as a share of its extent


def window(masks: Bool[np.ndarray, "H W"]) -> tuple[slice, slice]:
    """A square part of a slice around whatever is marked in it, as far as the slice goes."""
    rows, columns = np.nonzero(masks) if masks.any() else np.nonzero(np.ones_like(masks))
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    side = int(max(LEAST, extent * (1 + 2 * MARGIN)))
    parts = []
    for places, length in zip((rows, columns), masks.shape, strict=True):
        start = int(np.clip((places.min() + places.max() - side) // 2, 0, max(length - side, 0)))
        parts.append(slice(start, min(start + side, length)))
    return parts[0], parts[1]


def panel(
    image: Float[np.ndarray, "H W"], labels: Integer[np.ndarray, "H W"] | None, classes: Mapping[str, int]
) -> str:
    """A PNG as a data address.

    Args:
        image: Intensities; the 1st and the 99.5th percentile become black and white.
        labels: What is drawn over it; other values than those of ``classes`` stay plain. None draws nothing.
        classes: Names and values.
    """
    from PIL import Image

    scale = max(1, round(SIDE_PX / max(image.shape)))
    low, high = np.percentile(image, (1, 99.5))
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    picture = np.repeat(_enlarged(grey, scale)[..., None], 3, axis=2)
    for value in classes.values() if labels is not None else ():
        assert labels is not None
        mask = _enlarged(labels == value, scale)
        colour = np.array([int(colour_of(value)[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        picture[mask] = 0.6 * picture[mask] + 0.4 * colour
        picture[mask & ~_inside(mask)] = colour
    written = BytesIO()
    Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(written, format="PNG", optimize=True)
    return "data:image/png;base64," + b64encode(written.getvalue()).decode()


def _enlarged(array: np.ndarray, scale: int) -> np.ndarray:
    return array.repeat(scale, axis=0).repeat(scale, axis=1)


def _inside(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    padded = np.pad(mask, 1)
    inside: np.ndarray = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside
