"""What is measured: functions of sums over voxels. One file per family."""

from boundseg.constraints.descriptors.descriptor import Descriptor
from boundseg.constraints.descriptors.size import SIZE_UNITS, Size, SizeUnit

DESCRIPTORS: dict[str, type[Size]] = {"size": Size}

__all__ = ["DESCRIPTORS", "SIZE_UNITS", "Descriptor", "Size", "SizeUnit"]
