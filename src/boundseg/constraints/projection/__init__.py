"""Proposals: the distribution closest to a prediction among those that keep its bounds."""

from boundseg.constraints.projection.ascent import Stop, ascend
from boundseg.constraints.projection.exact import project
from boundseg.constraints.projection.linear_form import LinearForm, linear_form, require_linear
from boundseg.constraints.projection.problem import fractional_form
from boundseg.constraints.projection.proposal import Hardening, Proposal

__all__ = [
    "Hardening",
    "LinearForm",
    "Proposal",
    "Stop",
    "ascend",
    "fractional_form",
    "linear_form",
    "project",
    "require_linear",
]
