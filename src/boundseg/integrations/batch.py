"""A batch as a dictionary, as loaders of other libraries make them: what of it says what is known.

==========  ==========================================================================================================
key         content
==========  ==========================================================================================================
``label``   class indices, ``[B, *space]`` or ``[B, 1, *space]``, the ignore value where nothing is known
``bounds``  for each constraint's name, lower and upper bounds ``[B, R, 2]``; an infinite side is unknown. A constraint
            that is not named knows nothing here
``frame``   where predicted voxels lie in their cases: what :class:`boundseg.integrations.monai.AddFramed` writes
``volume``  for each image the name of its volume, where constraints speak of volumes that are predicted by slices; the
            batch then holds all slices of each, and bounds have a row for each volume
==========  ==========================================================================================================

All but ``label`` may be left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from boundseg.constraints import Bounds, Frame, Groups, Term
from boundseg.errors import InputError
from boundseg.losses import Loss, Objective

KEYS = ("label", "bounds", "frame", "volume")


@dataclass(frozen=True)
class Known:
    """What is known about the images of a batch, as :class:`~boundseg.losses.Objective` takes it.

    Attributes:
        labels: ``[B, *space]``.
        bounds: By the constraints' names.
        frame: None: predicted voxels are those of the case.
        volumes: None: images are by themselves.
    """

    labels: Integer[Tensor, "B *space"]
    bounds: dict[str, Bounds]
    frame: Frame | None = None
    volumes: Groups | None = None

    @classmethod
    def of(cls, target: Tensor | Mapping[str, Any], logits: Tensor, complete: Sequence[int] = ()) -> Known:
        """Reads a batch, or labels alone.

        Args:
            target: Labels, or a dictionary as above.
            logits: ``[B, K, *space]``, whose device and number of classes decide.
            complete: Classes that are whole in every image, though it is a crop: what was cut off holds none of them.

        Raises:
            InputError: There are no labels, or something has another shape than the logits ask for.
        """
        content: Mapping[str, Any] = target if isinstance(target, Mapping) else {"label": target}
        if "label" not in content:
            raise InputError(
                f"the batch has no 'label'; it has {', '.join(map(str, content)) or 'nothing'}.",
                remedy="Give labels, the ignore value wherever nothing is known.",
            )
        labels = _labels(torch.as_tensor(content["label"]), logits)
        frame = content.get("frame")
        names = content.get("volume")
        return cls(
            labels,
            {name: _bounds(name, pair, logits) for name, pair in (content.get("bounds") or {}).items()},
            None if frame is None else frame_of(frame, logits.shape[1], complete).to(logits.device),
            None if names is None else Groups.by_name(list(names), dict(Counter(names))).to(logits.device),
        )


def loss(
    objective: Objective, logits: Tensor, target: Tensor | Mapping[str, Any], complete: Sequence[int] = ()
) -> Loss:
    """The objective of a batch; see :meth:`Known.of`."""
    known = Known.of(target, logits, complete)
    return objective(logits, known.labels, known.bounds, known.frame, known.volumes)


def frame_of(content: Mapping[str, Tensor], classes: int, complete: Sequence[int] = ()) -> Frame:
    """The frame of a batch from what :class:`boundseg.integrations.monai.AddFramed` wrote for each image.

    Args:
        content: ``affine`` ``[B, D, columns]``, ``weight`` ``[B, *space]``, ``spacing_mm`` ``[B, D]`` and ``whole``
            ``[B]``.
        classes: How many there are, the background among them.
        complete: As for :meth:`Known.of`.
    """
    whole = content["whole"].bool().unsqueeze(1).repeat(1, classes)
    whole[:, list(complete)] = True
    return Frame(content["weight"].float(), content["spacing_mm"].float(), whole, content["affine"].float())


@torch.no_grad()
def figures(found: Loss) -> dict[str, Float[Tensor, ""]]:
    """What a loss was made of, to log: ``cross_entropy``, and for each constraint's name ``NAME/value`` and, where
    they are known, ``NAME/lower`` and ``NAME/upper`` (means over the groups), ``NAME/satisfied`` (a share) and
    ``NAME/cost`` (weighted).

    Nothing is read from the device. A constraint of which the batch knows nothing is left out where that shows without
    reading, and NaN elsewhere.
    """
    told = {"cross_entropy": found.cross_entropy.detach()}
    for name, term in found.terms.items():
        told |= {f"{name}/{what}": value for what, value in _of_term(term).items()}
        if name in found.parts:
            told[f"{name}/cost"] = found.parts[name].detach()
    return told


def _of_term(term: Term) -> dict[str, Tensor]:
    known = term.bounds.known

    def mean(values: Tensor, where: Tensor) -> Tensor:
        count = where.sum()
        total = torch.where(where, values, torch.zeros_like(values)).sum()
        return torch.where(count > 0, total / count.clamp(min=1), torch.full_like(total, torch.nan))

    value = term.value.detach()
    return {
        "value": mean(value, known),
        "lower": mean(term.bounds.lower, term.bounds.lower.isfinite()),
        "upper": mean(term.bounds.upper, term.bounds.upper.isfinite()),
        "satisfied": mean(term.satisfied.to(value.dtype), known),
    }


def _labels(labels: Tensor, logits: Tensor) -> Tensor:
    space = logits.shape[2:]
    if labels.ndim == logits.ndim and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.shape != (len(logits), *space):
        raise InputError(
            f"labels of shape {list(labels.shape)} meet logits of shape {list(logits.shape)}.",
            remedy="Give class indices [B, *space] or [B, 1, *space], no one-hot masks.",
        )
    # plain tensors: a MONAI MetaTensor would carry its metadata through every operation
    return labels.as_subclass(Tensor).to(logits.device).long()


def _bounds(name: str, pair: Any, logits: Tensor) -> Bounds:
    sides = torch.as_tensor(pair, dtype=torch.float32).as_subclass(Tensor)
    if sides.ndim == 2:
        sides = sides.unsqueeze(1)  # of one region
    if sides.ndim < 3 or sides.shape[-1] != 2:
        raise InputError(
            f"the bounds of {name!r} have shape {list(sides.shape)}.",
            remedy="Give lower and upper bounds in the last dimension: [B, R, 2], or [B, 2] of one region.",
        )
    sides = sides.to(logits.device)
    return Bounds(sides[..., 0], sides[..., 1])
