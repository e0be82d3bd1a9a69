"""Gradients of whole volumes in the memory of a few slices: exact in two passes, or from what was seen last."""

from boundseg.accumulate.chunk import Chunk, nothing_of
from boundseg.accumulate.exact import Step, accumulate
from boundseg.accumulate.ranks import Ranks
from boundseg.accumulate.streaming import Streaming

__all__ = ["Chunk", "Ranks", "Step", "Streaming", "accumulate", "nothing_of"]
