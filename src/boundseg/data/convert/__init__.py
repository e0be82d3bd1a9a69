"""Somebody's download to a dataset folder: one file per layout."""

from boundseg.data.convert.acdc import convert_acdc

CONVERTERS = {"acdc": convert_acdc}

__all__ = ["CONVERTERS", "convert_acdc"]
