"""Several trainings side by side, each in a process of its own."""

from boundseg.training.several.several import Interrupted, Outcome, train_several

__all__ = ["Interrupted", "Outcome", "train_several"]
