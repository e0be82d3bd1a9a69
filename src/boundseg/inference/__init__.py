"""A network and the grid it was trained on, applied to volumes on their own grids.

A :class:`Predictor` takes volumes slice by slice, a :class:`VolumePredictor` whole, through a sliding window.
Both give ``restored`` probabilities, slices first and a part at a time, ``labels``, and say what a volume ``cuts``.
"""

from boundseg.inference.maps import label_map, label_volume, most_probable, restore
from boundseg.inference.slices import Predictor
from boundseg.inference.volumes import VolumePredictor, slide

__all__ = ["Predictor", "VolumePredictor", "label_map", "label_volume", "most_probable", "restore", "slide"]
