"""What is measured: functions of sums over voxels. One file per family."""

from boundseg.constraints.descriptors.boundary import BoundaryLength, Compactness
from boundseg.constraints.descriptors.box import BoxSize, BoxTightness, box_bands, box_bounds
from boundseg.constraints.descriptors.descriptor import Descriptor, Traits
from boundseg.constraints.descriptors.fractional import Fractional, Potential
from boundseg.constraints.descriptors.intensity import Intensity
from boundseg.constraints.descriptors.measure import measure
from boundseg.constraints.descriptors.position import Centroid, Distance
from boundseg.constraints.descriptors.ratio import Leak, Ratio
from boundseg.constraints.descriptors.shape import Elongation, Moment, Spread
from boundseg.constraints.descriptors.size import SIZE_UNITS, Size, SizeUnit, converted

__all__ = [
    "SIZE_UNITS",
    "BoundaryLength",
    "BoxSize",
    "BoxTightness",
    "Centroid",
    "Compactness",
    "Descriptor",
    "Distance",
    "Elongation",
    "Fractional",
    "Intensity",
    "Leak",
    "Moment",
    "Potential",
    "Ratio",
    "Size",
    "SizeUnit",
    "Spread",
    "Traits",
    "box_bands",
    "box_bounds",
    "converted",
    "measure",
]
