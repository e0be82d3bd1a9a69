"""A network and the grid it was trained on, applied to volumes on their own grids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from boundseg.data.prepare import Grid, Placement, normalise
from boundseg.losses import two_channels

TILE_OVERLAP = 0.5


@dataclass(frozen=True)
class Predictor:
    """Predicts slices that were prepared as in training, and brings the predictions back.

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

    def cuts(self, shape: tuple[int, int], spacing_mm: tuple[float, float]) -> str | None:
        """Says what is not predicted where a network trained on centre crops sees its crop only."""
        placement = self.place(shape, spacing_mm)
        if not placement.cut:
            return None
        rows, columns = placement.resampled[:2]
        height, width = placement.size[:2]
        return (
            f"trained on centre crops: predicts the central {height}x{width} of {rows}x{columns} pixels, "
            "background outside"
        )

    def on_grid(self, image: Float[np.ndarray, "C S H W"], placement: Placement) -> Iterator[Float[Tensor, "B K h w"]]:
        """Probabilities of a volume's slices on the grid, a few slices at a time."""
        normal = normalise(image, self.grid.intensity)
        placed = np.stack([placement.place_image(c, float(c.min())) for c in normal], axis=1)
        # as prepared slices are stored: prediction sees what training saw
        placed = placed.astype(self.grid.stored)
        yield from self.probabilities(placed)

    def probabilities(self, slices: np.ndarray) -> Iterator[Float[Tensor, "B K h w"]]:
        """Probabilities of slices ``[S, C, h, w]`` that are on the grid already."""
        self.network.eval()
        for start in range(0, len(slices), self.batch_size):
            images = torch.from_numpy(np.array(slices[start : start + self.batch_size])).float().to(self.device)
            with torch.inference_mode():
                probs = two_channels(self._logits(images)).softmax(1)
            yield probs

    def __call__(
        self, image: Float[np.ndarray, "C S H W"], spacing_mm: tuple[float, float]
    ) -> Float[np.ndarray, "K S H W"]:
        """Class probabilities of a volume, slices first, on its own grid.

        Args:
            image: Channels and slices, as they lie in the file.
            spacing_mm: In-plane spacing of the file.
        """
        placement = self.place((image.shape[2], image.shape[3]), spacing_mm)
        parts = [placement.restore(p.cpu().numpy().swapaxes(0, 1)) for p in self.on_grid(image, placement)]
        return np.concatenate(parts, axis=1)

    def _logits(self, images: Tensor) -> Tensor:
        if images.shape[2:] == self.grid.size:
            logits: Tensor = self.network(images)
            return logits
        from monai.inferers.utils import sliding_window_inference

        tiled = sliding_window_inference(
            images, self.grid.size, self.batch_size, self.network, overlap=TILE_OVERLAP, mode="gaussian"
        )
        assert isinstance(tiled, Tensor)
        return tiled


def label_map(probs: Float[np.ndarray, "K S H W"], classes: int | None = None) -> UInt8[np.ndarray, "S H W"]:
    """The most probable output of every voxel; those beyond the classes, which are spare, read as background."""
    values = probs.argmax(0)
    return np.asarray(values if classes is None else np.where(values < classes, values, 0), np.uint8)
