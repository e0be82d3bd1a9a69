"""A 3D network applied to volumes: through a sliding window, and back onto the volumes' own grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from boundseg.data.placement import Grid, Lengths, Placement
from boundseg.data.prepare import as_seen, normalise
from boundseg.data.stored import StoredSlices
from boundseg.inference.maps import label_volume
from boundseg.losses import two_channels

WINDOW_OVERLAP = 0.25


def slide(
    network: Callable[[Tensor], Tensor], images: Float[Tensor, "B C x y z"], window: Lengths, windows: int = 1
) -> Float[Tensor, "B K x y z"]:
    """Logits of volumes through windows that overlap by a quarter, weighted by a Gaussian about each one's centre.

    Args:
        network: Takes windows, gives logits.
        images: None smaller than a window.
        window: Its size.
        windows: How many at once.
    """
    if tuple(images.shape[2:]) == tuple(window):
        return network(images)
    from monai.inferers.utils import sliding_window_inference

    logits = sliding_window_inference(images, window, windows, network, overlap=WINDOW_OVERLAP, mode="gaussian")
    assert isinstance(logits, Tensor)
    return logits


@dataclass(frozen=True)
class VolumePredictor:
    """Predicts volumes that were prepared as in training, and brings the predictions back.

    Args:
        network: Takes ``[B, C, x, y, z]``, gives logits ``[B, K, x, y, z]``; put into evaluation mode here.
        grid: The grid of the training, of three axes.
        device: Where the network lies.
        batch_size: How many windows at once.
        window: What the network sees at once; left out, a grid.
    """

    network: nn.Module
    grid: Grid
    device: torch.device
    batch_size: int = 1
    window: Lengths | None = None

    def place(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Placement:
        """Where a volume of that shape and spacing lies; one larger than the grid holds is tiled, not cut.

        Args:
            shape: Rows, columns and slices of the file.
            spacing_mm: Along them.
        """
        return Placement.of(shape, spacing_mm, self.grid, enlarge=True)

    def cuts(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> str | None:
        """Says what is not predicted where a network trained on centre crops sees its crop only.

        Args:
            shape: Slices, rows and columns of the file.
            spacing_mm: Of rows, columns and slices.
        """
        slices, rows, columns = shape
        placement = self.place((rows, columns, slices), spacing_mm)
        if not placement.cut:
            return None
        held, resampled = ("x".join(map(str, size)) for size in (placement.size, placement.resampled))
        return f"trained on centre crops: predicts the central {held} of {resampled} voxels, background outside"

    def on_grid(self, image: Float[np.ndarray, "C S H W"], placement: Placement) -> Float[Tensor, "1 K h w s"]:
        """Probabilities of a volume on the grid."""
        volume = as_seen(normalise(image, self.grid.intensity), self.grid)
        placed = np.stack([placement.place_image(c[0], float(c.min())) for c in volume])[None]
        # as prepared volumes are stored: prediction sees what training saw
        images = torch.from_numpy(placed.astype(self.grid.stored)).float().to(self.device)
        self.network.eval()
        with torch.inference_mode():
            return two_channels(slide(self.network, images, self.window or self.grid.size, self.batch_size)).softmax(1)

    def __call__(
        self, image: Float[np.ndarray, "C S H W"], spacing_mm: tuple[float, float, float]
    ) -> Float[np.ndarray, "K S H W"]:
        """Class probabilities of a volume, slices first, on its own grid.

        Args:
            image: Channels and slices, as they lie in the file.
            spacing_mm: Of a slice's rows and columns, and between slices.
        """
        _, slices, rows, columns = image.shape
        placement = self.place((rows, columns, slices), spacing_mm)
        probs = self.on_grid(image, placement)[0].cpu().numpy()
        return np.moveaxis(placement.restore(probs), -1, 1)

    def restored(
        self, image: StoredSlices | Shaped[np.ndarray, "C S H W"], spacing_mm: tuple[float, float, float]
    ) -> Iterator[Float[Tensor, "S K H W"]]:
        """The same slice by slice, in one part: a 3D network sees the volume as a whole."""
        intensities = image[:] if isinstance(image, StoredSlices) else np.asarray(image, np.float32)
        yield torch.from_numpy(np.ascontiguousarray(self(intensities, spacing_mm))).movedim(0, 1)

    def labels(
        self,
        image: StoredSlices | Shaped[np.ndarray, "C S H W"],
        spacing_mm: tuple[float, float, float],
        classes: int | None = None,
    ) -> UInt8[np.ndarray, "S H W"]:
        """The label map of a volume, on its own grid; see :func:`most_probable`."""
        return label_volume(self.restored(image, spacing_mm), classes)
