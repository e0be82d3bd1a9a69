"""nnU-Net's loader, which says where its patches lie and looks at empty regions too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from boundseg.integrations.nnunet.case_grid import CaseGrid
from boundseg.integrations.nnunet.followed import Map, follow, identity
from boundseg.integrations.nnunet.patch import Patch


@dataclass
class Reading:
    """How nnU-Net reads the cases of a dataset.

    Attributes:
        transpose: ``transpose_forward`` of the plans.
        reader: Name of the reader.
        slice_axis: Of the file.
    """

    transpose: tuple[int, ...]
    reader: str
    slice_axis: int
    _grids: dict[str, CaseGrid] = field(default_factory=dict, repr=False)

    def grid(self, data: Any, case: str) -> CaseGrid:
        """The preprocessed grid of a case of nnU-Net's ``data``; it is read once."""
        if case not in self._grids:
            image, _, _, properties = data.load_case(case)
            self._grids[case] = CaseGrid.of(
                properties, image.shape[1:], self.transpose, self.reader, self.slice_axis, case
            )
        return self._grids[case]


class BoundedDataLoader(nnUNetDataLoader):  # type: ignore[misc]  # nnU-Net carries no types
    """nnU-Net's own batches with ``patches`` beside them: one :class:`Patch` for each image.

    With an ignore label nnU-Net centres every patch on an annotated voxel. Then regions without any are never drawn,
    and absence or the size of a whole volume are never asked where they matter. Here only the patches that must hold
    foreground are centred so; the others lie anywhere in the case.

    Args:
        *arguments: nnU-Net's.
        reading: How cases were read.
        **options: nnU-Net's.
    """

    transforms: Any
    has_ignore: bool

    def __init__(self, *arguments: Any, reading: Reading, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reading = reading
        self._own, self.transforms = self.transforms, self._followed
        self._boxes: list[list[tuple[int, int]]] = []
        self._maps: list[Map] = []

    def get_bbox(
        self, data_shape: Any, force_fg: bool, class_locations: Mapping[Any, Any] | None, *rest: Any, **options: Any
    ) -> tuple[list[int], list[int]]:
        """nnU-Net's, but anywhere unless foreground is asked for."""
        has_ignore, self.has_ignore = self.has_ignore, False
        try:
            sides = super().get_bbox(data_shape, force_fg, class_locations, *rest, **options)
        finally:
            self.has_ignore = has_ignore
        first, after = ([int(line) for line in side] for side in sides)
        self._boxes.append(list(zip(first, after, strict=True)))
        return first, after

    def generate_train_batch(self) -> dict[str, Any]:
        """nnU-Net's, with ``patches``."""
        self._boxes, self._maps = [], []
        batch: dict[str, Any] = super().generate_train_batch()
        size = batch["data"].shape[2:]
        found = zip(batch["keys"], self._boxes, self._maps, strict=True)
        batch["patches"] = [
            Patch.of(str(case), self.reading.grid(self._data, case), box, moved, size) for case, box, moved in found
        ]
        return batch

    def _followed(self, **sample: Any) -> dict[str, Any]:
        if self._own is None:
            self._maps.append(identity(np.ndim(sample["image"]) - 1))
            return sample
        sample, moved = follow(self._own, sample)
        self._maps.append(moved)
        return sample
