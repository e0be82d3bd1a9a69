"""What a network descends: cross-entropy over the labelled pixels, and what constraints add to it by some method."""

from boundseg.losses.cross_entropy import Average, full_cross_entropy, partial_cross_entropy, two_channels
from boundseg.losses.elsewhere import Elsewhere, Share
from boundseg.losses.method import Asked, Lagrangian, Method, Penalties, Rows
from boundseg.losses.objective import Loss, Objective
from boundseg.losses.proposals import Proposals

__all__ = [
    "Asked",
    "Average",
    "Elsewhere",
    "Lagrangian",
    "Loss",
    "Method",
    "Objective",
    "Penalties",
    "Proposals",
    "Rows",
    "Share",
    "full_cross_entropy",
    "partial_cross_entropy",
    "two_channels",
]
