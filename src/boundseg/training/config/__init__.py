"""A training as data: YAML in, checked, every default written back."""

from boundseg.training.config.config import (
    Config,
    GatedCrfConfig,
    NetworkConfig,
    RegulariseConfig,
    SelectionConfig,
    SupervisionConfig,
    overridden,
)
from boundseg.training.config.data import DataConfig
from boundseg.training.config.training import (
    STEEPEST,
    BarrierConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
)

__all__ = [
    "STEEPEST",
    "BarrierConfig",
    "Config",
    "DataConfig",
    "GatedCrfConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "RegulariseConfig",
    "ScheduleConfig",
    "SelectionConfig",
    "SupervisionConfig",
    "TrainingConfig",
    "overridden",
]
