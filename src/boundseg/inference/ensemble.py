"""Several networks, each with a preparation of its own, that predict as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from boundseg.data.stored import StoredSlices
from boundseg.inference.maps import label_volume
from boundseg.inference.slices import Predictor
from boundseg.inference.volumes import VolumePredictor


@dataclass(frozen=True)
class Ensemble:
    """The mean of several networks' probabilities on the scan's own grid, whatever grid each was trained on.

    Spare outputs are kinds of background: their probabilities count as the background's, so that networks with and
    without them may stand side by side.

    Args:
        members: Of the same classes and channels, on the same device.
        classes: How many there are, the background among them.
    """

    members: tuple[Predictor | VolumePredictor, ...]
    classes: int

    def cuts(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> str | None:
        """What the members do not predict, see :meth:`Predictor.cuts`."""
        told = [cut for member in self.members if (cut := member.cuts(shape, spacing_mm))]
        return f"{len(told)} of {len(self.members)} runs {told[0]}" if told else None

    def restored(
        self, image: StoredSlices | Shaped[np.ndarray, "C S H W"], spacing_mm: tuple[float, float, float]
    ) -> Iterator[Float[Tensor, "B K H W"]]:
        """Mean probabilities of a volume's slices, as many at a time as all members have given."""
        parts = [member.restored(image, spacing_mm) for member in self.members]
        waiting: list[Tensor | None] = [None] * len(parts)
        while True:
            for index, part in enumerate(parts):
                if waiting[index] is None:
                    waiting[index] = next(part, None)
            given = [probs for probs in waiting if probs is not None]
            if not given:
                return
            assert len(given) == len(parts), "all members give all slices"
            ready = min(map(len, given))
            yield torch.stack([self._of_classes(probs[:ready]) for probs in given]).mean(0)
            waiting = [probs[ready:] if len(probs) > ready else None for probs in given]

    def labels(
        self,
        image: StoredSlices | Shaped[np.ndarray, "C S H W"],
        spacing_mm: tuple[float, float, float],
        classes: int | None = None,
    ) -> UInt8[np.ndarray, "S H W"]:
        """The label map of a volume, on its own grid."""
        return label_volume(self.restored(image, spacing_mm), classes)

    def _of_classes(self, probs: Float[Tensor, "B outputs H W"]) -> Float[Tensor, "B K H W"]:
        own, spare = probs[:, : self.classes], probs[:, self.classes :]
        if not spare.shape[1]:
            return own
        return torch.cat([own[:, :1] + spare.sum(1, keepdim=True), own[:, 1:]], dim=1)
