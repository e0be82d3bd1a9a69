"""Segmentation networks from a few labelled pixels and bounds on sizes and shapes.

The verbs of the command line are functions here: ``train(config, folder) -> Run``, ``Run.predict(array, spacing)``,
``evaluate(run)``. For one constraint in a training of your own, see :mod:`boundseg.constraints` and
:mod:`boundseg.losses`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from boundseg.data.dataset import Dataset
    from boundseg.training.config import Config
    from boundseg.training.evaluate import evaluate
    from boundseg.training.loop import train
    from boundseg.training.run import Run

__all__ = ["Config", "Dataset", "Run", "__version__", "evaluate", "train"]

# imported when they are asked for: torch alone takes a second, and `import boundseg` should take none
_HOME = {
    "Config": "boundseg.training.config",
    "Dataset": "boundseg.data.dataset",
    "Run": "boundseg.training.run",
    "evaluate": "boundseg.training.evaluate",
    "train": "boundseg.training.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'boundseg' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
