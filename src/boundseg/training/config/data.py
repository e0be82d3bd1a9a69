"""The section ``data``: what is read, and how a network sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from boundseg.asked.section import Count, Positive, Section, Share
from boundseg.data.batches import BatchOf
from boundseg.data.patches import Patches
from boundseg.data.prepare import Fit, Grid, Intensity


class DataConfig(Section):
    """What is read, and the grid on which the network sees it; see :class:`boundseg.data.prepare.Grid`.

    ``complete`` declares classes of which neither a centre crop nor an augmentation that turns, zooms or shifts leaves
    out anything, so that their bounds hold: a list of classes, or for each the largest share of a slice's pixels that
    may be left out. It is tested against every full mask there is.

    With three numbers in ``size`` the network is 3D: ``batch: volumes`` shows it whole volumes on that grid, and
    ``batch: patches`` patches of that size, as :class:`boundseg.data.patches.Patches` draws them.

    Attributes:
        chunk: How much of a batch is in memory at once: so many of its images, or, of volumes of a 3D network, a patch
            of that size. The gradient is that of the whole batch; see :mod:`boundseg.accumulate`.
        remember: With ``batch: slices``, the other slices of a volume count with what they were when they were seen
            last, so that bounds of volumes hold; see :class:`boundseg.accumulate.Streaming`.
    """

    folder: Path
    size: tuple[Count, ...] = (256, 256)
    fit: Fit = "pad"
    spacing_mm: tuple[Positive | None, ...] | None = None
    intensity: Intensity = "zscore"
    batch: BatchOf | Literal["patches"] = "slices"
    patches_per_case: Count = 4
    foreground: Share = 0.33
    chunk: Count | tuple[Count, Count, Count] | None = None
    remember: bool = False
    complete: dict[str, Share] = Field(default_factory=dict)

    @field_validator("chunk", mode="before")
    @classmethod
    def _images_or_a_patch(cls, value: Any) -> Any:
        numbers = value if isinstance(value, (list, tuple)) and len(value) == 3 else [value]
        if value is not None and not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError(f"{value!r} is given: give a number of images, or three numbers, of a patch of a volume.")
        return value

    @field_validator("complete", mode="before")
    @classmethod
    def _list_means_no_loss(cls, value: Any) -> Any:
        return dict.fromkeys(value, 0.0) if isinstance(value, (list, tuple)) else value

    @field_validator("size", "spacing_mm")
    @classmethod
    def _of_two_axes_or_three(cls, numbers: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if numbers is not None and len(numbers) not in (2, 3):
            raise ValueError(
                f"{len(numbers)} number(s) are given: give two, of rows and columns, or slices as a third."
            )
        return numbers

    @model_validator(mode="after")
    def _one_kind_of_images(self) -> DataConfig:
        axes = len(self.size)
        if self.spacing_mm is not None and len(self.spacing_mm) != axes:
            raise ValueError(f"size has {axes} axes and spacing_mm {len(self.spacing_mm)}: give both the same.")
        if axes == 2 and self.batch == "patches":
            raise ValueError("batch: patches cuts volumes, and size has two numbers: give rows, columns and slices.")
        if axes == 3 and self.batch == "slices":
            raise ValueError(
                "batch: slices has no use for a third number in size: give two, or choose batch: patches or volumes, "
                "for a 3D network."
            )
        if self.batch == "patches" and self.fit != "pad":
            raise ValueError(f"batch: patches cuts from whole volumes, which fit: {self.fit} is not for: use pad.")
        if self.batch == "patches" and self.complete:
            raise ValueError(
                "complete says what a crop keeps, and batch: patches crops nothing: take it out. Which patch holds all "
                "of a case is known."
            )
        if isinstance(self.chunk, tuple) and not (axes == 3 and self.batch == "volumes"):
            raise ValueError(
                "chunk: three numbers are a patch of a volume: give batch: volumes and a size of three numbers, or a "
                "number of images."
            )
        if isinstance(self.chunk, tuple) and any(c > n for c, n in zip(self.chunk, self.size, strict=True)):
            raise ValueError(
                f"chunk: patches of {list(self.chunk)} do not fit into {list(self.size)}: use smaller ones."
            )
        if self.remember and (self.batch != "slices" or self.chunk is not None):
            raise ValueError(
                "remember stands in for slices that a batch does not hold: it goes with batch: slices, without chunk."
            )
        return self

    @property
    def grid(self) -> Grid:
        """The grid of the prepared slices or volumes."""
        size, spacing_mm = _lengths(self.size), None if self.spacing_mm is None else _lengths(self.spacing_mm)
        return Grid(size, self.fit, spacing_mm, self.intensity, patches=self.batch == "patches")

    @property
    def window(self) -> Any:
        """What a 3D network sees at once; of a 2D one, None."""
        if len(self.size) == 2:
            return None
        return self.chunk if isinstance(self.chunk, tuple) else self.size

    @property
    def drawn(self) -> BatchOf | Patches:
        """What a batch is made of."""
        if self.batch == "patches":
            return Patches(_lengths(self.size), self.patches_per_case, self.foreground)
        return self.batch


def _lengths(numbers: tuple[Any, ...]) -> Any:
    """Two or three, as was checked."""
    return numbers
