"""From a prediction to values: add the sums of what belongs together, then take the value."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.constraints.descriptors.descriptor import Descriptor
from boundseg.constraints.frame import Frame
from boundseg.constraints.groups import Groups


def measure(
    descriptor: Descriptor, probs: Float[Tensor, "B R *space"], frame: Frame | None = None, groups: Groups | None = None
) -> Float[Tensor, "G values *components"]:
    """A descriptor's values of the regions of a batch.

    Args:
        descriptor: What is measured.
        probs: Soft or hard regions, 2D or 3D.
        frame: Where the voxels lie in their cases; left out, each counts once.
        groups: What belongs together; left out, every image is by itself.

    Raises:
        ValueError: The frame is of other images (one of a single image stands for no others), or lacks what the
            descriptor reads.
    """
    if frame is not None:
        frame.require_images(probs.shape)
    frame = frame or Frame.plain(len(probs), probs.ndim - 2, probs.device)
    groups = groups or Groups.each(len(probs), probs.device)
    return descriptor.value(group_sums(descriptor, probs, frame, groups))


def group_sums(
    descriptor: Descriptor, probs: Float[Tensor, "B R *space"], frame: Frame, groups: Groups
) -> Float[Tensor, "G R S"]:
    """The sums of each group, squares taken about the group's own centre."""
    arity = descriptor.traits.arity
    if probs.shape[1] % arity:
        raise ValueError(f"{type(descriptor).__name__} takes regions by {arity}, and was given {probs.shape[1]}")
    about = descriptor.traits.about
    if about is not None:
        # values do not depend on the centre, so that nothing is lost by its being a constant
        with torch.no_grad():
            centre = measure(about, probs, frame, groups)
        # no reshape to -1, which a batch of nothing leaves open
        frame = replace(frame, centre=centre[groups.index].unsqueeze(-1).flatten(2))
    return groups.add(descriptor.sums(probs, frame))
