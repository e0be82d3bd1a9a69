"""Proposals: the distribution closest to a prediction among those that keep its bounds."""

from boundseg.constraints.projection.ascent import Stop, ascend
from boundseg.constraints.projection.exact import project
from boundseg.constraints.projection.problem import fractional_form
from boundseg.constraints.projection.proposal import Hardening, Proposal

__all__ = ["Hardening", "Proposal", "Stop", "ascend", "fractional_form", "project"]
