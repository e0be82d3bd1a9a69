"""Segmentation networks from a few labelled pixels and bounds on sizes and shapes."""

from __future__ import annotations

__version__ = "0.1.0"
