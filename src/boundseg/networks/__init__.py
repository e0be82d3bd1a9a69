"""Networks: images in, logits on the same grid out. They know nothing of bounds or files."""

from __future__ import annotations

from boundseg.networks.build import NETWORKS, build, require_size
from boundseg.networks.enet import ENet
from boundseg.networks.final_bias import final_bias
from boundseg.networks.initialise import initialise
from boundseg.networks.prelu import PReLU
from boundseg.networks.residual_unet import ResidualUNet

__all__ = ["NETWORKS", "ENet", "PReLU", "ResidualUNet", "build", "final_bias", "initialise", "require_size"]
