"""Somebody's download to a dataset folder: one file per layout."""

from boundseg.data.convert.acdc import convert_acdc
from boundseg.data.convert.promise12 import convert_promise12
from boundseg.data.convert.vertebrae import convert_vertebrae

# each is called with the download, the dataset folder, the classes to keep, a report and a seed; returns the split told
CONVERTERS = {"acdc": convert_acdc, "zenodo-vertebrae": convert_vertebrae, "promise12": convert_promise12}

__all__ = ["CONVERTERS", "convert_acdc", "convert_promise12", "convert_vertebrae"]
