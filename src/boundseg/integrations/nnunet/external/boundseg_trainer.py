"""What nnU-Net v2 finds in the folder that ``nnUNet_extTrainer`` names.

A class by any name that begins with ``nnUNetTrainerBoundseg`` is there: ``nnUNetTrainerBoundseg_volumes`` reads
``boundseg_volumes.yaml`` and has a results folder of its own.
"""

from boundseg.integrations.nnunet.trainer import named, nnUNetTrainerBoundseg

__all__ = ["nnUNetTrainerBoundseg"]


def __getattr__(name: str) -> type:
    if name.startswith("nnUNetTrainerBoundseg_"):
        return named(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
