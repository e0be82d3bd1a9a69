"""Weak labels from full masks: a few pixels of every slice that shows a class, nothing elsewhere.

A method takes a volume of masks, slices first, and returns labels of the same shape and type that hold
``ignore`` wherever nothing is known. Two laws hold for each of them: a pixel is labelled with a class only
where the mask has that class, and every slice that shows a class keeps at least one labelled pixel of it.
Only foreground is labelled: that something is background is said by bounds, never by labels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

from boundseg.errors import InputError


def erosion(
    target: Integer[np.ndarray, "Z H W"],
    *,
    classes: Sequence[int],
    ignore: int,
    rng: np.random.Generator | None = None,
    reading: Literal["published", "text"] = "published",
    kernel: int = 10,
) -> Integer[np.ndarray, "Z H W"]:
    """What is left of each slice's mask after erosion, by less where nothing would be left.

    Kervadec et al. 2019, section 4.2, who label about 0.1 % of the pixels so. The two readings:

    - ``published``, as their code does it: the 3×3 square, iterated ``kernel`` times (a 21×21 square for
      10); where nothing is left once less, and so on down to the mask itself.
    - ``text``, as the paper says it: one square of ``kernel`` × ``kernel`` pixels; where nothing is left
      7×7 (or the next below ``kernel``), 6×6, and so on down to 1×1, the mask itself. It labels about four
      times as many pixels.

    A square of even side has no middle pixel. Its anchor is scipy's, index ``kernel // 2``: pixel i
    survives a side of 10 where i − 5 … i + 4 all lie in the mask, along both axes. Outside the image
    counts as background. Pixels are those of the given grid; see ``on_grid``.

    Args:
        target: Class of every pixel.
        classes: The classes to label, never 0.
        ignore: The value that says "nothing known".
        rng: Not used; all methods are called alike.
        reading: Which of the two.
        kernel: How often the 3×3 square is iterated, or the side of the square; at least 1.

    Returns:
        The labels, in the type of ``target``.
    """
    erode = {"published": _erode_in_steps, "text": _erode_at_once}.get(reading)
    if erode is None:
        raise InputError(f"There is no reading {reading!r} of the erosion.", remedy="Use published or text.")
    if kernel < 1:
        raise InputError(f"The kernel of the erosion is {kernel}.", remedy="Use 1 or more; 10 is the paper's.")
    return _per_slice(target, classes, ignore, lambda mask: erode(mask, kernel))


def disc(
    target: Integer[np.ndarray, "Z H W"],
    *,
    classes: Sequence[int],
    ignore: int,
    rng: np.random.Generator,
    radius_px: int | float = 4,
    centre: Literal["random", "centroid"] = "random",
) -> Integer[np.ndarray, "Z H W"]:
    r"""A disc around a pixel of each slice's mask, drawn at random or in its middle, never over the mask's border.

    .. math:: \{q : |q - p| \le r,\; |q - p| < d(p)\}

    p is drawn evenly from the mask's pixels (``random``: Kervadec et al. 2019, section 4.2, for vertebrae and
    prostate), or is the one nearest to their centroid, as somebody would click it (``centroid``). r is
    ``radius_px``, and d(p) the Euclidean distance from p to the nearest pixel outside of the mask (or of the
    image). With d(p) = 1 the disc is p alone.

    Args:
        target: Class of every pixel.
        classes: The classes to label, never 0; drawn slice by slice in this order.
        ignore: The value that says "nothing known".
        rng: Where chance comes from; ``case_generator`` makes it independent of the order of cases.
        radius_px: Largest radius in pixels of the given grid, 0 or more.
        centre: How p is chosen.

    Returns:
        The labels, in the type of ``target``.
    """
    if radius_px < 0:
        raise InputError(f"The radius of the disc is {radius_px} px.", remedy="Use 0 or more.")
    if centre not in ("random", "centroid"):
        raise InputError(f"There is no centre {centre!r} of the disc.", remedy="Use random or centroid.")

    def seed(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        inside = np.argwhere(mask)
        if centre == "random":
            p = inside[rng.integers(len(inside))]
        else:
            p = inside[((inside - inside.mean(0)) ** 2).sum(1).argmin()]
        border = ndimage.distance_transform_edt(np.pad(mask, 1))[p[0] + 1, p[1] + 1]
        rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
        # Squares of integers compare exactly; the distance itself is a root, hence rounded back.
        squared = (rows - p[0]) ** 2 + (columns - p[1]) ** 2
        return np.asarray((squared <= radius_px**2) & (squared < round(border**2)))

    return _per_slice(target, classes, ignore, seed)


METHODS: dict[str, Callable[..., np.ndarray]] = {"erosion": erosion, "disc": disc}


def on_grid(
    weaken: Callable[..., np.ndarray],
    target: Integer[np.ndarray, "Z H W"],
    size: tuple[int, int],
    *,
    classes: Sequence[int],
    ignore: int,
    rng: np.random.Generator | None = None,
    **options: Any,
) -> Integer[np.ndarray, "Z H W"]:
    """A method applied to slices of another size, its labels brought back onto the file's grid.

    The paper counts kernels and radii in pixels of its 256×256 slices. Masks are resized by nearest
    neighbour, output pixel i of h reading input pixel ⌊(i + ½) H / h⌋ of H, and labels come back by the
    same rule with the sizes exchanged. What comes back outside of the mask (a slice that was shrunk) is
    dropped. A slice that shows a class but comes back without a label of it gets one: the pixel of the mask
    nearest to the centre of the weak region, or of the mask where the smaller grid had lost that already.

    Args:
        weaken: A method, such as those in ``METHODS``.
        target: Class of every pixel.
        size: Rows and columns of the grid on which the method works.
        classes: The classes to label, never 0.
        ignore: The value that says "nothing known".
        rng: Handed to the method.
        options: Handed to the method.

    Returns:
        The labels on the grid of ``target``, in its type.
    """
    if min(size) < 1:
        raise InputError(f"A grid of {size[0]}×{size[1]} pixels.", remedy="Use at least one row and column.")
    shape = target.shape[1:]
    there = weaken(_resize(target, size), classes=classes, ignore=ignore, rng=rng, **options)
    labels = _resize(there, shape)
    labels[labels != target] = ignore
    scale = np.array(shape) / np.array(size)
    for z, c in np.ndindex(len(target), len(classes)):
        mask = target[z] == classes[c]
        if mask.any() and not (labels[z] == classes[c]).any():
            inside, weak = np.argwhere(mask), np.argwhere(there[z] == classes[c])
            centre = (weak.mean(0) + 0.5) * scale - 0.5 if len(weak) else inside.mean(0)
            nearest = inside[((inside - centre) ** 2).sum(1).argmin()]
            labels[z, nearest[0], nearest[1]] = classes[c]
    return labels


def case_generator(seed: int, case: str) -> np.random.Generator:
    """The random numbers of one case: the same whatever other cases there are, in whatever order."""
    return np.random.default_rng([seed, zlib.crc32(case.encode())])


@dataclass(frozen=True)
class Statistics:
    """How much of a volume is labelled. Those of several volumes add up.

    Attributes:
        pixels: All pixels.
        labelled: Labelled pixels of each class.
        slices: Slices that show each class.
        unlabelled_slices: Those of them without any label of that class.
    """

    pixels: int
    labelled: dict[int, int]
    slices: dict[int, int]
    unlabelled_slices: dict[int, int]

    @property
    def share(self) -> float:
        """Labelled pixels of all classes over all pixels; NaN without pixels."""
        return sum(self.labelled.values()) / self.pixels if self.pixels else float("nan")

    def __add__(self, other: Statistics) -> Statistics:
        def total(a: dict[int, int], b: dict[int, int]) -> dict[int, int]:
            return {c: a.get(c, 0) + b.get(c, 0) for c in (*a, *b)}

        return Statistics(
            self.pixels + other.pixels,
            total(self.labelled, other.labelled),
            total(self.slices, other.slices),
            total(self.unlabelled_slices, other.unlabelled_slices),
        )


def statistics(
    labels: Integer[np.ndarray, "Z H W"],
    target: Integer[np.ndarray, "Z H W"],
    *,
    classes: Sequence[int],
) -> Statistics:
    """Count labelled pixels and the slices that got none, for each of the classes.

    Args:
        labels: Weak labels; whatever is none of the classes counts as not labelled.
        target: The full masks they belong to.
        classes: The classes to count.
    """
    labelled = {c: (labels == c) for c in classes}
    shown = {c: (target == c).any((1, 2)) for c in classes}
    return Statistics(
        pixels=labels.size,
        labelled={c: int(labelled[c].sum()) for c in classes},
        slices={c: int(shown[c].sum()) for c in classes},
        unlabelled_slices={c: int((shown[c] & ~labelled[c].any((1, 2))).sum()) for c in classes},
    )


def _per_slice(
    target: np.ndarray,
    classes: Sequence[int],
    ignore: int,
    weaken: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    if 0 in classes:
        raise InputError(
            "Class 0, the background, is among the classes to label.",
            remedy="Leave it out; what is background is said by upper bounds.",
        )
    if ignore in classes:
        raise InputError(
            f"The value {ignore} is both a class and what says 'nothing known'.",
            remedy="Give ignore a value that is no class.",
        )
    if not np.iinfo(target.dtype).min <= ignore <= np.iinfo(target.dtype).max:
        raise InputError(
            f"The ignore value {ignore} does not fit the masks' type {target.dtype}.",
            remedy="Use a value of that type, or convert the masks to a wider one.",
        )
    labels = np.full_like(target, ignore)
    for z, c in np.ndindex(len(target), len(classes)):
        mask = target[z] == classes[c]
        if mask.any():
            labels[z][weaken(mask)] = classes[c]
    return labels


def _erode_in_steps(mask: np.ndarray, iterations: int) -> np.ndarray:
    # A pixel survives k erosions by the 3×3 square exactly when its chessboard distance to the nearest
    # pixel outside exceeds k, so that "k, or less where nothing is left" is one threshold.
    distance = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    return np.asarray(distance > min(iterations, distance.max() - 1))


def _erode_at_once(mask: np.ndarray, side: int) -> np.ndarray:
    for smaller in (side, *range(min(7, side - 1), 0, -1)):
        # For a square of ones the running minimum is the erosion, and separable.
        eroded: np.ndarray = ndimage.minimum_filter(mask, size=smaller, mode="constant", cval=0)
        if eroded.any():
            break
    return eroded


def _resize(volume: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    # In integers, ⌊(2i + 1) H / 2h⌋: no rounding decides which pixel is read.
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, volume.shape[1:], strict=True)
    )
    return volume[:, rows[:, None], columns]
