"""One slice as a small picture for a page: the image, regions filled half transparently and outlined."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO

import numpy as np
from jaxtyping import Bool, Float, Integer

from boundseg.report.pictures import colour_of

SIDE_PX = 220  # of the written picture, about
MOST_PX = 360  # a larger part of a slice is scaled down: pictures of microscopes have thousands of pixels
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
    image: Float[np.ndarray, "H W *colours"],
    labels: Integer[np.ndarray, "H W"] | None,
    classes: Mapping[str, int],
    spacing_mm: tuple[float, float] = (1.0, 1.0),
) -> str:
    """A PNG as a data address, as high and wide as the slice is in mm.

    Args:
        image: Intensities, or those of red, green and blue; the 1st and the 99.5th percentile become black and white.
        labels: What is drawn over it; other values than those of ``classes`` stay plain. None draws nothing.
        classes: Names and values.
        spacing_mm: Of rows and columns.
    """
    from PIL import Image

    size = _size(image.shape[:2], spacing_mm)
    low, high = np.percentile(image, (1, 99.5))
    shown = np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    channels = np.moveaxis(np.atleast_3d(shown), -1, 0)
    # a box is the mean where pixels are joined, and the pixel itself where it is enlarged
    scaled = [np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BOX)) for channel in channels]
    picture = np.stack(scaled if len(scaled) == 3 else 3 * scaled, axis=2)
    for value in classes.values() if labels is not None else ():
        mask = np.asarray(Image.fromarray(np.asarray(labels == value)).resize(size, Image.Resampling.NEAREST))
        colour = np.array([int(colour_of(value)[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        picture[mask] = 0.6 * picture[mask] + 0.4 * colour
        picture[mask & ~_inside(mask)] = colour
    written = BytesIO()
    Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(written, format="PNG", optimize=True)
    return "data:image/png;base64," + b64encode(written.getvalue()).decode()


def _size(shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> tuple[int, int]:
    """Columns and rows of the picture: the smaller side of a pixel is enlarged by a whole number."""
    extents = [count * side / min(spacing_mm) for count, side in zip(shape, spacing_mm, strict=True)]
    longest = max(extents)
    scale = max(1, round(SIDE_PX / longest)) if longest <= MOST_PX else MOST_PX / longest
    rows, columns = (max(1, round(extent * scale)) for extent in extents)
    return columns, rows


def _inside(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    padded = np.pad(mask, 1)
    inside: np.ndarray = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside
