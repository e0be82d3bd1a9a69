"""Whole volumes in one pass: what is not in a batch is what it was when it was seen last."""

from __future__ import annotations
