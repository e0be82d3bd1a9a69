"""Augmentation of whole batches, on the device: each sample drawn for itself, labels and frame following.

``AUGMENTATIONS`` exchange voxels and are exact. A :class:`Warp` turns, zooms, shifts and bends by one sampling grid, so
that an image is interpolated once. An :class:`IntensityChange` and :class:`Noise` change what the network sees, and
never the frame's image. All of them take a batch and give a batch, and draw from torch's own generator.
"""

from boundseg.data.augment.draw import Even
from boundseg.data.augment.elastic import FOLDS_AT, Elastic
from boundseg.data.augment.exact import AUGMENTATIONS, mirror, transpose
from boundseg.data.augment.intensity import IntensityChange, Noise
from boundseg.data.augment.warp import Warp

__all__ = [
    "AUGMENTATIONS",
    "FOLDS_AT",
    "Elastic",
    "Even",
    "IntensityChange",
    "Noise",
    "Warp",
    "mirror",
    "transpose",
]
