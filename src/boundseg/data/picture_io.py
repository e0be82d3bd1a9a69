"""Pictures of two dimensions: PNG, TIFF and what else Pillow reads, to the last bit, with the size of a pixel."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from boundseg.errors import InputError, VolumeError

PICTURE_ENDINGS = (".png", ".tif", ".tiff")
LOSSY = (".jpg", ".jpeg")
# what else holds pictures: passed over in silence, one would be missed
UNREAD_PICTURES = (".gif", ".webp", ".jp2", ".heic", ".svs", ".ndpi", ".czi", ".nd2", ".lif")
COLOURS = ("red", "green", "blue")
# mm of one; µ may be either of two characters
MM = {"nm": 1e-6, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3, "mm": 1.0, "cm": 10.0}
MM |= {"inch": 25.4, "m": 1000.0}
_BITS, _SAMPLE_FORMAT, _SIGNED = 258, 339, 2  # tags of TIFF, and what the second says of integers below 0
TIFF_UNITS = {2: 25.4, 3: 10.0}  # of ResolutionUnit: inch and centimetre
# what programs write where nobody told them a resolution
MEANINGLESS_DPI = (72.0, 96.0)


@dataclass(frozen=True)
class Picture:
    """A picture as it lies in its file.

    Attributes:
        channels: Rows, columns, channels; of the file's own type.
        spacing_mm: Between rows and between columns; 1 where the file says nothing.
        told: What says the spacing; empty where nothing does.
    """

    channels: Shaped[np.ndarray, "H W C"]
    spacing_mm: tuple[float, float] = (1.0, 1.0)
    told: str = ""


def read_picture(path: Path, palette: Literal["colour", "index"] = "colour") -> Picture:
    """Reads a picture, upright as its EXIF data have it; alpha that is opaque everywhere says nothing and is left out.

    Args:
        path: PNG, TIFF, or whatever else Pillow reads. 16 bits of colour need SimpleITK.
        palette: Whether the numbers of a palette's picture are its colours, or, of a label map, its indices.

    Raises:
        VolumeError: It cannot be read to the last bit, has several pages, or is transparent somewhere.
    """
    from PIL import ExifTags, ImageOps

    with _opened(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise VolumeError(
                f"{path.name} holds {image.n_frames} pages, and a picture is one.",
                str(path.parent),
                "Export one file per picture; of channels CASE_0000.tif, CASE_0001.tif, …; of a stack NIfTI.",
            )
        spacing, told = _spacing_mm(image)
        tags = image.tag_v2 if image.format == "TIFF" else {}
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1)
            if turned > 4:  # rows lie where columns were
                spacing = spacing[::-1]
                image.filename = ""  # an uncompressed TIFF would be mapped into memory with the two confused
            if _is_deep_colour(path, image):
                return Picture(_opaque(_by_itk(path, turned), path), spacing, told)
            image.load()  # which turns TIFF by itself; Pillow 10.0 leaves the tag, and would be turned back
            if image.format != "TIFF":
                ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "P" and palette == "colour":
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
                image = image.convert("RGB")
            array = np.asarray(image)
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(path, error) from error
    if image.format == "PNG" and image.mode == "I":
        array = array.astype(np.uint16)  # what earlier versions of Pillow make of 16 bits
    if tags.get(_BITS, (1,))[0] == 8 and tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        array = array.view(np.int8).astype(np.int32)  # of which Pillow makes 0 to 255
    if array.dtype == np.int32 and tags.get(_SAMPLE_FORMAT, (1,))[0] != _SIGNED and (array < 0).any():
        raise VolumeError(
            f"{path.name} holds numbers above {np.iinfo(np.int32).max}.",
            str(path.parent),
            "Save it with fewer bits, or as float32.",
        )
    array = array.astype(np.uint8) if array.dtype == bool else array.astype(array.dtype.newbyteorder("="))
    return Picture(_opaque(array if array.ndim == 3 else array[..., None], path), spacing, told)


def count_channels(path: Path) -> int:
    """How many channels :func:`read_picture` gives, from the file's header; raises VolumeError where it is broken."""
    with _opened(path) as image:
        bands = len(image.getbands())
        return 3 if image.mode in ("P", "CMYK") else bands - (bands in (2, 4))


def read_pixel_mm(path: Path) -> tuple[float, float] | None:
    """The two sides of a pixel, from the file's header; None where nothing says them. Raises as count_channels."""
    with _opened(path) as image:
        sides_mm, told = _spacing_mm(image)
        return sides_mm if told else None


def write_picture(path: Path, array: Shaped[np.ndarray, "H W"], spacing_mm: Sequence[float] | None) -> None:
    """Writes one channel as it is: PNG of 8 or 16 bits, TIFF also of 32 and of float32, with the size of a pixel.

    Nothing says that size where the spacing is None. PNG counts whole pixels per metre.

    Raises:
        VolumeError: The format has no such numbers.
        OSError: The disk refuses the file.
    """
    from PIL import Image

    array = array.astype(np.uint8) if array.dtype == bool else array
    modes = ("uint8", "uint16") if path.suffix.lower() == ".png" else ("uint8", "uint16", "int32", "float32")
    if array.dtype.name not in modes:
        raise VolumeError(
            f"{path.name} cannot hold {array.dtype.name}.", str(path.parent), f"It takes {', '.join(modes)}."
        )
    options: dict[str, Any] = {} if path.suffix.lower() == ".png" else {"compression": "tiff_deflate"}
    if spacing_mm is not None:
        rows_mm, columns_mm = spacing_mm
        if path.suffix.lower() == ".png":
            options["dpi"] = (25.4 / columns_mm, 25.4 / rows_mm)
        else:
            options |= {"resolution_unit": "cm", "x_resolution": 10 / columns_mm, "y_resolution": 10 / rows_mm}
    Image.fromarray(np.ascontiguousarray(array)).save(path, **options)


def _opened(path: Path) -> Any:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # slides are large, and are no attack
        try:
            return Image.open(path)
        except Image.DecompressionBombError as error:
            raise VolumeError(f"{path.name} is too large: {error}", str(path.parent), "Cut it into tiles.") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> VolumeError:
    return VolumeError(f"{path.name} cannot be read as a picture: {error}", str(path.parent), "Export it again.")


def _opaque(channels: np.ndarray, path: Path) -> np.ndarray:
    """Without an alpha channel that is opaque everywhere."""
    if channels.shape[2] not in (2, 4):
        return channels
    alpha = channels[..., -1]
    if (alpha != np.iinfo(alpha.dtype).max).any():
        raise VolumeError(
            f"{path.name} is transparent in {int((alpha != np.iinfo(alpha.dtype).max).sum())} of {alpha.size} pixels.",
            str(path.parent),
            "An alpha channel is no image: save it without one (flattened, as RGB or grey).",
        )
    return channels[..., :-1]


def _is_deep_colour(path: Path, image: Any) -> bool:
    """Whether it has more than 8 bits in several channels, of which Pillow would keep 8 without a word."""
    if len(image.getbands()) == 1:
        return False
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24] > 8  # of the header: its bit depth
    if image.format == "TIFF":
        return any(bits > 8 for bits in image.tag_v2.get(_BITS, (8,)))
    return False


def _by_itk(path: Path, turned: int) -> np.ndarray:
    from boundseg.data.volume_io import itk

    library = itk("Colours of 16 bits need SimpleITK")
    library.ProcessObject.SetGlobalWarningDisplay(False)  # of the forms that are refused below
    try:
        array = np.asarray(library.GetArrayFromImage(library.ReadImage(str(path))))
    except RuntimeError as error:
        raise _unreadable(path, RuntimeError(str(error).strip().splitlines()[-1])) from error
    finally:
        library.ProcessObject.SetGlobalWarningDisplay(True)
    # of TIFF in tiles, or with a plane for each colour, it keeps 8 bits
    if turned > 1 or array.dtype.itemsize == 1:
        raise VolumeError(
            f"{path.name} has colours of more than 8 bits in a form that cannot be read to the last bit.",
            str(path.parent),
            "Save it as TIFF in strips (no tiles), colours side by side, upright; or each channel as a grey picture.",
        )
    return array


def _spacing_mm(image: Any) -> tuple[tuple[float, float], str]:
    """Spacing of rows and of columns, and what says it."""
    if image.format == "TIFF":
        return _tiff_spacing(image.tag_v2)
    dpi = image.info.get("dpi")
    if dpi and all(value > 0 for value in dpi):
        return (25.4 / float(dpi[1]), 25.4 / float(dpi[0])), _called([25.4 / float(value) for value in dpi])
    return (1.0, 1.0), ""


def _tiff_spacing(tags: Any) -> tuple[tuple[float, float], str]:
    """By OME's description, by ImageJ's unit, or by the resolution tags alone."""
    # Pillow reads ASCII as Latin-1, and writers put UTF-8 there
    description = str(tags.get(270, "")).encode("latin-1", "replace").decode("utf-8", "replace")
    sizes = [_ome(description, axis) for axis in "YX"]
    if sizes[0] and sizes[1]:
        return (sizes[0], sizes[1]), "OME description"
    x, y = (float(tags[tag]) if tags.get(tag) else 0.0 for tag in (282, 283))
    if not (x > 0 and y > 0):
        return (1.0, 1.0), ""
    unit = re.search(r"^unit=(.*)$", description, re.M) if description.startswith("ImageJ") else None
    named = unit[1].strip().replace(r"\u00B5", "µ") if unit else ""
    if named in MM:
        return (MM[named] / y, MM[named] / x), "ImageJ description"
    of = TIFF_UNITS.get(int(tags.get(296, 2)))
    # without a unit, the tags tell the shape of a pixel and not its size
    return ((of / y, of / x), _called([of / x, of / y])) if of else ((1.0, 1.0), "")


def _ome(description: str, axis: str) -> float | None:
    size = re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"', description)
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', description)
    factor = MM.get(unit[1]) if unit else MM["um"]  # OME's default
    return float(size[1]) * factor if size and factor and float(size[1]) > 0 else None


def _called(steps_mm: Sequence[float]) -> str:
    dpi = [25.4 / step for step in steps_mm]
    for known in MEANINGLESS_DPI:
        if all(abs(value - known) < 0.05 for value in dpi):
            return f"resolution tags: {known:g} dpi, which programs write that know none"
    return "resolution tags"


def parse_spacing(text: str) -> tuple[float, float]:
    """Spacing of rows and of columns in mm, from a text such as ``0.5um``, ``1.25x1.5mm``.

    Raises:
        VolumeError: It is no length, or does not say its unit.
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(?:x\s*([0-9.eE+-]+))?\s*(\S*)\s*", text)
    number: Callable[[str], float] = float
    try:
        values = [number(part) for part in (match[1], match[2] or match[1])] if match else []
    except ValueError:
        values = []
    remedy = "Give 0.5um, or 1.25x1.5mm (rows, columns)."
    if match and values and not match[3]:
        raise VolumeError(f"--spacing {text} does not say its unit.", remedy=remedy)
    if not match or match[3] not in MM or not all(0 < value < np.inf for value in values):
        raise VolumeError(f"--spacing {text!r} is no length.", remedy=remedy)
    return values[0] * MM[match[3]], values[1] * MM[match[3]]
