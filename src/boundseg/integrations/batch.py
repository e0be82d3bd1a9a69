"""A batch as a dictionary, as loaders of other libraries make them: what of it says what is known.

==========  ==========================================================================================================
key         content
==========  ==========================================================================================================
``label``   class indices, ``[B, *space]`` or ``[B, 1, *space]``, the ignore value where nothing is known
``bounds``  for each constraint's name, lower and upper bounds ``[B, R, 2]``; an infinite side is unknown. A constraint
            that is not named knows nothing here. A list of two tensors is all lower and all upper bounds, as loaders
            collate pairs of numbers, also where the batch has two images: stack pairs of single images yourself
``frame``   where predicted voxels lie in their cases: what :class:`boundseg.integrations.monai.AddFramed` writes
``volume``  for each image the name of its volume, where constraints speak of volumes that are predicted by slices;
            bounds then have a row for each volume. The batch holds all slices of each, once: twice, they would be
            added twice; where the frame counts the case's slices, as that of
            :class:`boundseg.integrations.monai.AddFramed` does, some may be missing, and then only upper bounds on
            what grows hold
``rows``    for multipliers (:class:`~boundseg.losses.Lagrangian`): ``slice`` and ``volume`` say of each image, and of
            each volume, which of all that are trained it is
``image``   what the network saw; read where there is a gated CRF
==========  ==========================================================================================================

All but ``label`` may be left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from boundseg.constraints import Bounds, Frame, Groups, Term
from boundseg.errors import InputError
from boundseg.losses import Loss, Objective, Rows

KEYS = ("label", "bounds", "frame", "volume", "rows")


@dataclass(frozen=True)
class Known:
    """What is known about the images of a batch, as :class:`~boundseg.losses.Objective` takes it.

    Attributes:
        labels: ``[B, *space]``.
        bounds: By the constraints' names.
        frame: None: predicted voxels are those of the case.
        volumes: None: images are by themselves.
        rows: Of multipliers; empty: there are none.
    """

    labels: Integer[Tensor, "B *space"]
    bounds: dict[str, Bounds]
    frame: Frame | None = None
    volumes: Groups | None = None
    rows: Rows = field(default_factory=dict)

    @classmethod
    def of(cls, target: Tensor | Mapping[str, Any], logits: Tensor, complete: Sequence[int] = ()) -> Known:
        """Reads a batch, or labels alone.

        Args:
            target: Labels, or a dictionary as above.
            logits: ``[B, K, *space]``, whose device and number of classes decide.
            complete: Classes that are whole in every image, though it is a crop: what was cut off holds none of them.

        Raises:
            InputError: There are no labels, something has another shape than the logits ask for, or bounds or frames
                come in half precision.
        """
        content: Mapping[str, Any] = target if isinstance(target, Mapping) else {"label": target}
        if "label" not in content:
            raise InputError(
                f"the batch has no 'label'; it has {', '.join(map(str, content)) or 'nothing'}.",
                remedy="Give labels, the ignore value wherever nothing is known.",
            )
        labels = _labels(content["label"], logits)
        frame = content.get("frame")
        names = content.get("volume")
        names = None if names is None else _names(names)
        if names is not None and len(names) != len(logits):
            raise InputError(f"the batch names the volume of {len(names)} images, and has {len(logits)}.")
        return cls(
            labels,
            {name: _bounds(name, pair, logits) for name, pair in _by_name(content.get("bounds")).items()},
            # of one channel, the objective makes two
            None if frame is None else frame_of(frame, max(2, logits.shape[1]), complete).to(logits.device),
            None if names is None else _volumes(names, frame).to(logits.device),
            {scope: torch.as_tensor(rows).to(logits.device) for scope, rows in (content.get("rows") or {}).items()},
        )


def loss(
    objective: Objective, logits: Tensor, target: Tensor | Mapping[str, Any], complete: Sequence[int] = ()
) -> Loss:
    """The objective of a batch; see :meth:`Known.of`."""
    images = target.get("image") if isinstance(target, Mapping) else None
    return priced(objective, logits, Known.of(target, logits, complete), images)


def priced(objective: Objective, logits: Tensor, known: Known, images: Tensor | None = None) -> Loss:
    """The objective of what is known of a batch; ``images`` are what the network saw, for a gated CRF."""
    seen = None if images is None else torch.as_tensor(images).as_subclass(Tensor)
    return objective(
        logits, known.labels, known.bounds, known.frame, known.volumes, images=seen, rows=known.rows or None
    )


def frame_of(content: Mapping[str, Tensor] | Frame, classes: int, complete: Sequence[int] = ()) -> Frame:
    """The frame of a batch from what :class:`boundseg.integrations.monai.AddFramed` wrote for each image.

    Args:
        content: ``affine`` ``[B, D, columns]``, ``weight`` ``[B, *space]``, ``spacing_mm`` ``[B, D]`` and ``whole``
            ``[B]``; of slices also ``slices`` ``[B]``, how many their cases have. A frame that somebody made is taken
            as it is.
        classes: How many there are, the background among them.
        complete: As for :meth:`Known.of`.

    Raises:
        InputError: Something is missing or in half precision, or no such class is complete.
    """
    strange = sorted(c for c in complete if not 0 <= c < classes)
    if strange:
        raise InputError(f"class {strange[0]} is said to be complete, and the network has {classes}, from 0.")
    if isinstance(content, Frame):
        _require_digits("frame", content.weight, content.affine, content.spacing_mm)
        return content
    missing = [name for name in ("affine", "weight", "spacing_mm", "whole") if name not in content]
    if missing:
        raise InputError(f"the frame has no {missing[0]!r}.", remedy="AddFramed writes one; or give a Frame.")
    _require_digits("frame", content["affine"], content["weight"], content["spacing_mm"])
    whole = content["whole"].bool().unsqueeze(1).repeat(1, classes)
    whole[:, list(complete)] = True
    return Frame(content["weight"].float(), content["spacing_mm"].float(), whole, content["affine"].float())


@torch.no_grad()
def figures(found: Loss) -> dict[str, Float[Tensor, ""]]:
    """What a loss was made of, to log: ``cross_entropy``, and for each constraint's name ``NAME/value`` and, where
    they are known, ``NAME/lower`` and ``NAME/upper`` (means over the groups), ``NAME/satisfied`` (a share) and
    ``NAME/cost`` (weighted; NaN where no bound is known, as the others are).

    Nothing is read from the device. A constraint of which the batch knows nothing is left out where that shows without
    reading, and NaN elsewhere.
    """
    told = {"cross_entropy": found.cross_entropy.detach()}
    for name, term in found.terms.items():
        told |= {f"{name}/{what}": value for what, value in _of_term(term).items()}
        if name in found.parts:
            cost = found.parts[name].detach()
            told[f"{name}/cost"] = cost.where(term.bounds.known.any(), torch.nan)
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


def require_logits(logits: Any) -> None:
    """Refuses what a network with deep supervision gives.

    Raises:
        InputError: It is no tensor.
    """
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the network gave a {type(logits).__name__}, and no logits [B, K, *space].",
            remedy="Of deep supervision, hand over the output of full resolution.",
        )


def require_classes(labels: Any) -> None:
    """Refuses labels that something has interpolated.

    Only where they lie on the CPU, for elsewhere it would wait for the device: to be called before they are moved.

    Raises:
        InputError: A label is no whole number.
    """
    if not isinstance(labels, Tensor) or not labels.is_floating_point() or labels.device.type != "cpu":
        return
    if (labels != labels.round()).any():
        raise InputError(
            "labels lie between classes: something has interpolated them.",
            remedy='Resample them by the nearest: Spacingd(["image", "label"], …, mode=("bilinear", "nearest")).',
        )


def _labels(content: Any, logits: Any) -> Tensor:
    require_logits(logits)
    if content is None:
        raise InputError("the batch's labels are None.", remedy="Give labels, the ignore value where nothing is known.")
    labels = torch.as_tensor(content)
    space = logits.shape[2:]
    if labels.ndim == logits.ndim and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.shape != (len(logits), *space):
        raise InputError(
            f"labels of shape {list(labels.shape)} meet logits of shape {list(logits.shape)}.",
            remedy="Give class indices [B, *space] or [B, 1, *space], no one-hot masks.",
        )
    require_classes(labels)
    # plain tensors: a MONAI MetaTensor would carry its metadata through every operation
    return labels.as_subclass(Tensor).to(logits.device).long()


def require_once(content: Mapping[str, Any]) -> None:
    """Refuses a volume of which the batch holds a slice twice, where frames number slices.

    Only where they lie on the CPU, as :func:`require_classes`.

    Raises:
        InputError: It names the slice.
    """
    if content.get("volume") is not None:
        _volumes(_names(content["volume"]), content.get("frame"))


def _names(volumes: Any) -> list[Any]:
    return volumes.tolist() if isinstance(volumes, Tensor) else list(volumes)


def _volumes(names: Sequence[Any], frame: Any) -> Groups:
    """Which images are slices of one volume, and how many slices that has: those of the batch, unless frames count."""
    groups = Groups.by_name(names, dict(Counter(names)))
    if not isinstance(frame, Mapping) or "slices" not in frame:
        return groups
    slices, number, weight = (torch.as_tensor(frame[name]) for name in ("slices", "affine", "weight"))
    groups, number = groups.to(slices.device), number[:, -1, -1].round()
    # slices that lie outside of the case, and those that were drawn before, do not stand for missing ones
    outside = weight.flatten(1).amax(1) == 0
    same = (groups.index == groups.index.unsqueeze(1)) & (number == number.unsqueeze(1))
    again = same.tril(-1).any(1)
    if again.device.type == "cpu" and (again & ~outside).any():  # elsewhere, looking would wait for the device
        row = int((again & ~outside).nonzero()[0, 0])
        raise InputError(
            f"the batch holds slice {int(number[row])} of the volume {names[row]!r} twice, which would be added twice.",
            remedy="Draw the slices of a volume without replacement.",
        )
    spare = groups.add((outside | again).float()).long()
    return Groups(groups.index, groups.mean(slices.float()).round().long() + spare)


def _require_digits(what: str, *tensors: Tensor | None) -> None:
    """Refuses half precision, in which 1037 is 1040 and 70000 infinite, which is to say unknown."""
    if any(tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16) for tensor in tensors):
        raise InputError(
            f"the batch's {what} came in half precision, which changes numbers.",
            remedy="Keep it in float32. Lightning's bf16-true and 16-true cast whole batches: train with bf16-mixed or "
            "16-mixed.",
        )


def _by_name(content: Any) -> Mapping[str, Any]:
    if content is not None and not isinstance(content, Mapping):
        raise InputError(
            f"the batch's bounds are a {type(content).__name__}.",
            remedy="Give a dictionary: for each constraint's name its bounds [B, R, 2].",
        )
    return content or {}


def _bounds(name: str, pair: Any, logits: Tensor) -> Bounds:
    if isinstance(pair, Bounds):
        _require_digits("bounds", pair.lower, pair.upper)
        return pair.to(logits.device)
    if pair is None or (isinstance(pair, Sequence) and any(side is None for side in pair)):
        raise InputError(f"a bound of {name!r} is None.", remedy="Write an unknown side as -inf or inf.")
    if isinstance(pair, Sequence) and len(pair) != 2 and any(isinstance(side, Tensor) for side in pair):
        raise InputError(
            f"the bounds of {name!r} are a list of {len(pair)} tensors.",
            remedy="Stack those of the images to [B, R, 2]; two tensors would be all lower and all upper bounds.",
        )
    if isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(side, Tensor) for side in pair):
        _require_digits("bounds", *pair)
        pair = torch.stack([side.float() for side in pair], dim=-1)  # as loaders collate pairs of numbers
    if isinstance(pair, Tensor):
        _require_digits("bounds", pair)
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
