"""What a method costs a training step: the paper's Table 5, and how that grows with classes and batches."""

from boundseg.benchmark.growth import Growth, GrowthPoint, growth
from boundseg.benchmark.step_time import ROWS, StepTime, StepTimes, step_time
from boundseg.benchmark.timing import Median

__all__ = ["ROWS", "Growth", "GrowthPoint", "Median", "StepTime", "StepTimes", "growth", "step_time"]
