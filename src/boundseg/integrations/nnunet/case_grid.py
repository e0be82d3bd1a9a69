"""Where a preprocessed voxel lies in the file: what nnU-Net's reader, crop and resampling did to a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from boundseg.errors import DatasetError

EXACT = 1e-6  # voxels; rounding of the affine maps in float64

# readers whose arrays have the file's axes in reverse; the reorienting one keeps both affines
REVERSED = ("SimpleITKIO", "NibabelIO")
REORIENTED = "NibabelIOWithReorient"


@dataclass(frozen=True)
class CaseGrid:
    """The preprocessed grid of a case.

    Positions in the case are in voxels of the file, the two axes of a slice first and then the one between slices, as
    :class:`boundseg.constraints.Frame` has them; 0 is the centre of the first voxel.

    Attributes:
        affine: ``[A | b]``: preprocessed index i lies at ``A i + b``.
        shape: Of the preprocessed array. What nnU-Net has cropped away holds nothing, in training as in prediction:
            it predicts background there.
        slices: How many slices the file has.
        spacing_mm: Of the file, in the order of positions.
        slice_axis: The preprocessed axis along which the file's slices are stacked.
    """

    affine: Float[np.ndarray, "3 4"]
    shape: tuple[int, int, int]
    slices: int
    spacing_mm: tuple[float, float, float]
    slice_axis: int

    @classmethod
    def of(
        cls,
        properties: Mapping[str, Any],
        shape: Sequence[int],
        transpose: Sequence[int],
        reader: str,
        slice_axis: int,
        case: str = "",
    ) -> CaseGrid:
        """From what nnU-Net writes beside a preprocessed case.

        Args:
            properties: Its ``.pkl``.
            shape: Of the preprocessed array, without channels.
            transpose: ``transpose_forward`` of the plans.
            reader: Name of the reader that the plans use.
            slice_axis: Of the file, as ``dataset.json`` says it.
            case: For messages.

        Raises:
            DatasetError: A reader of which it is not known how it turns axes.
        """
        to_file = _reader_to_file(reader, properties, case)
        before, cropped = properties["shape_before_cropping"], properties["shape_after_cropping_and_before_resampling"]
        first = [side[0] for side in properties["bbox_used_for_cropping"]]
        # resampled voxel i is centred at (i + 1/2) old / new - 1/2, as all of its resampling functions have it
        step = np.asarray(cropped, float) / np.asarray(shape, float)
        to_transposed = np.concatenate([np.diag(step), (step / 2 - 0.5 + np.asarray(first, float))[:, None]], axis=1)
        back = np.argsort(transpose)  # reader axis r is transposed axis back[r]
        to_reader = to_transposed[back]
        in_file = to_file[:, :3] @ to_reader
        in_file[:, 3] += to_file[:, 3]
        order = [axis for axis in range(3) if axis != slice_axis] + [slice_axis]
        affine = in_file[order]
        spacing = np.abs(to_file[:, :3]).round().astype(int) @ np.asarray(properties["spacing"], float)
        lengths = np.abs(to_file[:, :3]).round().astype(int) @ np.asarray(before)[back]
        return cls(
            affine,
            (int(shape[0]), int(shape[1]), int(shape[2])),
            int(lengths[slice_axis]),
            (float(spacing[order[0]]), float(spacing[order[1]]), float(spacing[order[2]])),
            int(np.abs(affine[2, :3]).argmax()),
        )

    @property
    def keeps_slices(self) -> bool:
        """Whether its slices are those of the file, and not resampled between them."""
        step = np.delete(self.affine[2, :3], self.slice_axis)
        first = self.affine[2, 3]
        return bool(
            np.abs(step).max() < EXACT
            and abs(abs(self.affine[2, self.slice_axis]) - 1) < EXACT
            and abs(first - round(first)) < EXACT
        )


def _reader_to_file(reader: str, properties: Mapping[str, Any], case: str) -> Float[np.ndarray, "3 4"]:
    """From an index of the reader's array to one of the file's."""
    swap = np.eye(3)[::-1]
    if reader in REVERSED:
        return np.concatenate([swap, np.zeros((3, 1))], axis=1)
    affines = properties.get("nibabel_stuff", {})
    if reader == REORIENTED and "reoriented_affine" in affines:
        turned = np.linalg.inv(affines["original_affine"]) @ affines["reoriented_affine"]
        return np.concatenate([turned[:3, :3] @ swap, turned[:3, 3:]], axis=1)
    raise DatasetError(
        f"{case}: it is not known how {reader} turns the axes of a file.",
        remedy=f"Bounds go with {', '.join(REVERSED)} and {REORIENTED}, which read NIfTI, NRRD and MetaImage.",
    )
