"""One thing that is asked of a prediction: a descriptor of some regions, and what its violation costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.descriptors.descriptor import Descriptor
from boundseg.constraints.frame import Frame
from boundseg.constraints.groups import Groups
from boundseg.constraints.penalties import Penalty, log_hinge, quadratic, relative_scale

Scope = Literal["slice", "volume"]


@dataclass(frozen=True)
class Relative:
    """Costs relative to the violated bound; see :func:`~boundseg.constraints.relative_scale`."""

    floor: float


@dataclass(frozen=True)
class Softening:
    """The softening of :func:`~boundseg.constraints.log_hinge`, in predicted voxels whatever the bounds' unit."""

    voxels: float = 10.0


@dataclass(frozen=True)
class Term:
    """What a constraint found in a batch, a row per group and a column per region.

    Attributes:
        value: The descriptor's values.
        bounds: What holds for them; sides that do not hold of a part that was seen are unknown here.
        cost: The penalty.
        per_voxel: What one predicted voxel adds to the value, for each group.
    """

    value: Float[Tensor, "G R"]
    bounds: Bounds
    cost: Float[Tensor, "G R"]
    per_voxel: Float[Tensor, "G 1"]

    @property
    def mean(self) -> Float[Tensor, ""]:
        """The cost, averaged over the values with a known side."""
        return self.bounds.mean(self.cost)

    @property
    def satisfied(self) -> Bool[Tensor, "G R"]:
        """Where bounds are known and kept, to one predicted voxel: a soft size never reaches 0."""
        return self.bounds.known & self.bounds.satisfied(self.value, self.per_voxel)


@dataclass(frozen=True)
class Constraint:
    """A descriptor, the regions it measures, what belongs together, and what a violation costs.

    Args:
        name: How reports call it.
        descriptor: What is measured, such as :class:`~boundseg.constraints.Size`.
        regions: The measured regions, each a tuple of class indices: ``((3,),)`` is class 3, ``((2, 3),)``
            the union of classes 2 and 3.
        scope: Whether the bounds belong to single images (``slice``) or to all slices of a volume.
        penalty: What a violation costs.
        scale: What the cost is divided by. ``image``: violations are counted in predicted pixels, whatever
            the unit of the bounds, and the cost is divided by the pixels of one image, as in the published
            code. :class:`Relative`: by the violated bound. Or a number. For ``log_hinge``, what is added to
            value and bounds before their logarithm: :class:`Softening`, or a number in the unit of the bounds.
        weight: The factor λ; the paper's is 1e-2.
        sharpness: Exponent τ >= 1 of the probabilities that are measured, S^τ / Σ S^τ: the softmax
            of τ times the logits. A soft size leaks, since many faint pixels weigh as much as a few clear ones;
            with τ = 2 the measured region is closer to the hard one.

    Raises:
        ValueError: A scale that does not go with the penalty, or a sharpness below 1.
    """

    name: str
    descriptor: Descriptor
    regions: tuple[tuple[int, ...], ...]
    scope: Scope = "slice"
    penalty: Penalty = quadratic
    scale: Literal["image"] | Relative | Softening | float = "image"
    weight: float = 1e-2
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        if self.penalty is log_hinge and isinstance(self.scale, (Relative, str)):
            raise ValueError(f"the scale {self.scale!r} does not go with log_hinge: give Softening(…) or a number")
        if self.penalty is quadratic and isinstance(self.scale, Softening):
            raise ValueError(f'the scale {self.scale!r} goes with log_hinge: give "image", Relative(…) or a number')
        if not self.sharpness >= 1:
            raise ValueError(f"sharpness = {self.sharpness:g}: probabilities are sharpened by 1 (not at all) or more")

    def measure(self, probs: Float[Tensor, "B K *space"], frame: Frame, groups: Groups) -> Float[Tensor, "G R"]:
        """The descriptor's values, one per group and region."""
        return self.descriptor.value(groups.add(self.sums(probs, frame)))

    def sums(self, probs: Float[Tensor, "B K *space"], frame: Frame) -> Float[Tensor, "B R S"]:
        """The descriptor's sums, for each image and region; to be added within groups, chunks or ranks."""
        if self.sharpness != 1:
            # float32: squares of probabilities vanish in half precision
            powers = probs.pow(self.sharpness) if probs.dtype == torch.float64 else probs.float().pow(self.sharpness)
            probs = powers / powers.sum(1, keepdim=True)
        regions = torch.stack([_union(probs, classes) for classes in self.regions], dim=1)
        return self.descriptor.sums(regions, frame)

    def __call__(
        self,
        probs: Float[Tensor, "B K *space"],
        bounds: Bounds,
        frame: Frame | None = None,
        groups: Groups | None = None,
    ) -> Term:
        """Measures a batch and prices its violations.

        Args:
            probs: Probabilities of all classes, 2D or 3D.
            bounds: ``[G, R]``, a row per group and a column per region, in the descriptor's unit.
            frame: Where the voxels lie in their cases; left out, each counts once and all is seen.
            groups: What belongs together; left out, every image is by itself.
        """
        frame = frame or Frame.plain(len(probs), probs.ndim - 2, probs.device)
        groups = groups or Groups.each(len(probs), probs.device)
        value = self.measure(probs, frame, groups)
        bounds = bounds.seen_in_part(self._whole(frame, groups), grows=self.descriptor.grows)
        pixels = probs[0, 0].numel()
        per_voxel = groups.mean(self.descriptor.per_voxel(frame, pixels)).unsqueeze(1)
        scale = self._scale(value, bounds, pixels, per_voxel)
        return Term(value, bounds, self.penalty(value, bounds, scale), per_voxel)

    def _whole(self, frame: Frame, groups: Groups) -> Tensor:
        if frame.whole is None:
            seen = torch.ones(len(groups.index), len(self.regions), dtype=torch.bool, device=groups.index.device)
        else:
            seen = torch.stack([frame.whole[:, list(classes)].all(1) for classes in self.regions], dim=1)
        return groups.whole(seen)

    def _scale(self, value: Tensor, bounds: Bounds, pixels: int, per_voxel: Tensor) -> float | Tensor:
        if isinstance(self.scale, Relative):
            return relative_scale(value.detach(), bounds, self.scale.floor)
        if isinstance(self.scale, Softening):
            return self.scale.voxels * per_voxel
        return pixels * per_voxel.square() if self.scale == "image" else self.scale


def _union(probs: Tensor, classes: tuple[int, ...]) -> Tensor:
    return probs[:, classes[0]] if len(classes) == 1 else probs[:, list(classes)].sum(1)
