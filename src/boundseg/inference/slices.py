"""A 2D network and the grid it was trained on, applied to the slices of volumes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from boundseg.data.prepare import Grid, Placement
from boundseg.data.stored import StoredSlices
from boundseg.inference.maps import label_volume, restore
from boundseg.losses import two_channels

# of rows and columns; that between slices may follow and is not used
Spacing = tuple[float, float] | tuple[float, float, float]

TILE_OVERLAP = 0.5
CACHED = 80_000  # pixels that go through a network at once on a CPU; benchmarks/inference.py


@dataclass(frozen=True)
class Predictor:
    """Predicts slices that were prepared as in training, and brings the predictions back.

    A volume goes through a few slices at a time: beside the volume as it was given, memory holds one batch only.

    Args:
        network: Takes ``[B, C, h, w]``, gives logits ``[B, K, h, w]``; put into evaluation mode here.
        grid: The grid of the training.
        device: Where the network lies.
        batch_size: How many slices (or tiles) at once.
    """

    network: nn.Module
    grid: Grid
    device: torch.device
    batch_size: int = 8

    def place(self, shape: tuple[int, int], spacing_mm: tuple[float, float]) -> Placement:
        """Where slices of that shape and spacing lie; larger ones than the grid holds are tiled, not cut."""
        return Placement.of(shape, spacing_mm, self.grid, enlarge=True)

    def cuts(self, shape: tuple[int, int, int], spacing_mm: Spacing) -> str | None:
        """Says what is not predicted where a network trained on centre crops sees its crop only.

        Args:
            shape: Slices, rows and columns of the file.
            spacing_mm: Of rows and columns.
        """
        placement = self.place(shape[1:], spacing_mm[:2])
        if not placement.cut:
            return None
        rows, columns = placement.resampled[:2]
        height, width = placement.size[:2]
        return (
            f"trained on centre crops: predicts the central {height}x{width} of {rows}x{columns} pixels, "
            "background outside"
        )

    def placed(
        self, image: StoredSlices | Shaped[np.ndarray, "C S H W"], placement: Placement
    ) -> Iterator[Float[np.ndarray, "B C h w"]]:
        """A volume's slices, normalised and on the grid, a batch at a time."""
        slices = image if isinstance(image, StoredSlices) else StoredSlices.of(image)
        centre, width = np.array(slices.intensities(self.grid.intensity)).T[:, :, None, None, None]

        def normal(intensities: np.ndarray) -> np.ndarray:
            return intensities if self.grid.intensity == "none" else ((intensities - centre) / width).astype(np.float32)

        # padding is the volume's least intensity, not the batch's
        padding = normal(slices.least().reshape(-1, 1, 1, 1)).ravel().tolist()
        for start in range(0, slices.shape[0], self.batch_size):
            batch = normal(slices[start : start + self.batch_size])
            on_grid = [placement.place_image(c, p) for c, p in zip(batch, padding, strict=True)]
            # as prepared slices are stored: prediction sees what training saw
            yield np.stack(on_grid, axis=1).astype(self.grid.stored)

    def on_grid(
        self, image: StoredSlices | Shaped[np.ndarray, "C S H W"], placement: Placement
    ) -> Iterator[Float[Tensor, "B K h w"]]:
        """Probabilities of a volume's slices on the grid, a batch at a time."""
        for batch in self.placed(image, placement):
            yield from self.probabilities(batch)

    def probabilities(self, slices: np.ndarray) -> Iterator[Float[Tensor, "B K h w"]]:
        """Probabilities of slices ``[S, C, h, w]`` that are on the grid already."""
        if self.network.training:
            self.network.eval()  # it walks over all modules, which takes time in every batch
        for start in range(0, len(slices), self.batch_size):
            images = torch.from_numpy(np.array(slices[start : start + self.batch_size])).float().to(self.device)
            with torch.inference_mode():
                probs = two_channels(self._logits(images)).softmax(1)
            yield probs

    def restored(
        self, image: StoredSlices | Shaped[np.ndarray, "C S H W"], spacing_mm: Spacing
    ) -> Iterator[Float[Tensor, "B K H W"]]:
        """Probabilities of a volume's slices on its own grid, a batch at a time, on the device."""
        slices = image if isinstance(image, StoredSlices) else StoredSlices.of(image)
        placement = self.place(slices.shape[1:], spacing_mm[:2])
        for probs in self.on_grid(slices, placement):
            yield restore(probs, placement)

    def labels(
        self, image: StoredSlices | Shaped[np.ndarray, "C S H W"], spacing_mm: Spacing, classes: int | None = None
    ) -> UInt8[np.ndarray, "S H W"]:
        """The label map of a volume, on its own grid; see :func:`most_probable`."""
        return label_volume(self.restored(image, spacing_mm), classes)

    def __call__(self, image: Shaped[np.ndarray, "C S H W"], spacing_mm: Spacing) -> Float[np.ndarray, "K S H W"]:
        """Class probabilities of a volume, slices first, on its own grid; all of them at once.

        Args:
            image: Channels and slices, as they lie in the file.
            spacing_mm: In-plane spacing of the file; that between slices may follow.
        """
        whole, done = np.empty(0, np.float32), 0
        for probs in self.restored(image, spacing_mm):
            if not done:
                whole = np.empty((probs.shape[1], *image.shape[1:]), np.float32)
            whole[:, done : done + len(probs)] = probs.cpu().numpy().swapaxes(0, 1)
            done += len(probs)
        return whole

    def _logits(self, images: Tensor) -> Tensor:
        if images.shape[2:] == self.grid.size:
            return self._network(images)
        from monai.inferers.utils import sliding_window_inference

        tiled = sliding_window_inference(
            images, self.grid.size, self.batch_size, self._network, overlap=TILE_OVERLAP, mode="gaussian"
        )
        assert isinstance(tiled, Tensor)
        return tiled

    def _network(self, images: Tensor) -> Tensor:
        # a few slices whose activations stay in the caches are faster than many. Two at least, so that an odd batch
        # ends with three: alone, a slice is rounded in another way than among others
        parts = min(len(images) // 2, math.ceil(len(images) * images[0, 0].numel() / CACHED))
        if parts < 2 or images.device.type != "cpu":
            logits: Tensor = self.network(images)
            return logits
        return torch.cat([self.network(part) for part in images.tensor_split(parts)])
