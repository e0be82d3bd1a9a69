"""What may be asked of a prediction: pure tensors in, tensors out. Needs torch and nothing of the rest."""

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.constraint import Constraint, Relative, Scope, Softening, Term
from boundseg.constraints.descriptors import DESCRIPTORS, SIZE_UNITS, Descriptor, Size, SizeUnit
from boundseg.constraints.frame import Frame
from boundseg.constraints.groups import Groups
from boundseg.constraints.penalties import PENALTIES, Penalty, log_hinge, quadratic, relative_scale

__all__ = [
    "DESCRIPTORS",
    "PENALTIES",
    "SIZE_UNITS",
    "Bounds",
    "Constraint",
    "Descriptor",
    "Frame",
    "Groups",
    "Penalty",
    "Relative",
    "Scope",
    "Size",
    "SizeUnit",
    "Softening",
    "Term",
    "log_hinge",
    "quadratic",
    "relative_scale",
]
