"""Slices as text within a page: images as WebP, label maps as deflated bytes; browsers unpack both by themselves."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8

QUALITY = 80  # of WebP: about 5 kB for a slice of 216 x 256 pixels; what is measured never reads these pictures


def grey_range(volume: Float[np.ndarray, "S H W *colours"]) -> tuple[float, float]:
    """The intensities that become black and white: one pair a volume, so that nothing flickers from slice to slice.

    Of a picture in colours one pair for all three, which keeps its hues.
    """
    low, high = np.percentile(volume, (1, 99.5))
    return float(low), float(high)


def pack_image(image: Float[np.ndarray, "H W *colours"], low: float, high: float) -> str:
    """A slice as WebP in base64: 8 bits, ``low`` and less is black, ``high`` and more is white. Not exact."""
    from PIL import Image

    shown = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    written = BytesIO()
    Image.fromarray(np.rint(255 * shown).astype(np.uint8)).save(written, format="WEBP", quality=QUALITY)
    return b64encode(written.getvalue()).decode()


def pack_labels(labels: UInt8[np.ndarray, "H W"]) -> str:
    """A label map as zlib's stream of its bytes, row by row, in base64; exact. Nothing but zeros is an empty text."""
    if not labels.any():
        return ""
    return b64encode(zlib.compress(np.ascontiguousarray(labels).tobytes(), 9)).decode()


def unpack_labels(text: str, shape: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """The inverse of :func:`pack_labels`, as the page's script does it."""
    content = zlib.decompress(b64decode(text)) if text else bytes(shape[0] * shape[1])
    return np.frombuffer(content, np.uint8).reshape(shape)
