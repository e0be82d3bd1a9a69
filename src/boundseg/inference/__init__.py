"""A network and the grid it was trained on, applied to volumes on their own grids.

A :class:`Predictor` takes volumes slice by slice, a :class:`VolumePredictor` whole, through a sliding window, an
:class:`Ensemble` averages several. All give ``restored`` probabilities, slices first and a part at a time, ``labels``,
and say what a volume ``cuts``.
"""

from boundseg.inference.components import largest_components, regions_named
from boundseg.inference.ensemble import Ensemble
from boundseg.inference.maps import label_map, label_volume, most_probable, restore
from boundseg.inference.mirror import Mirrored
from boundseg.inference.slices import Predictor
from boundseg.inference.volumes import VolumePredictor, slide

__all__ = [
    "Ensemble",
    "Mirrored",
    "Predictor",
    "VolumePredictor",
    "label_map",
    "label_volume",
    "largest_components",
    "most_probable",
    "regions_named",
    "restore",
    "slide",
]
