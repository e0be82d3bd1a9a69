"""Constraints in MONAI's trainings: transforms that carry bounds and frames, and a loss for its engines.

.. code-block:: python

    steps = [LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"]),
             AddBoundsd("ACDC_LV/priors.csv", [Sought(area, "LV", "individual")]),
             Spacingd(...), RandAffined(...), AddFramed("image")]
    trainer = SupervisedTrainer(..., loss_function=BoundedLoss([area]), prepare_batch=prepare_batch)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms.transform import MapTransform, Transform
from torch import Tensor
from torch.nn.modules.loss import _Loss

from boundseg.constraints import Constraint
from boundseg.constraints import descriptor as descriptor_of
from boundseg.data import priors, volume_io
from boundseg.errors import InputError, PriorsError
from boundseg.integrations import batch
from boundseg.losses import Average, Loss, Objective

OF_VOLUMES = "bounds_of_volumes"  # which constraints that measure images by themselves were given bounds of volumes
EDGE = 1e-3  # voxels: what rounding may move a position by


class BoundedLoss(_Loss):
    r"""Partial cross-entropy and the weighted cost of every constraint, as a loss of MONAI's.

    .. math:: H + \sum_c \lambda_c \, \operatorname{mean}_{\text{known}} C_c

    ``loss(input, target)`` takes logits ``[B, K, *space]`` and a batch's dictionary (see
    :mod:`boundseg.integrations.batch`), or labels alone, and gives a number. It is averaged as
    :class:`~boundseg.losses.Objective` does, over labelled pixels and known bounds, so there is no ``reduction``.

    Args:
        constraints: What is asked of the prediction.
        ignore: The label of pixels about which nothing is known.
        average: Of the cross-entropy, see :func:`~boundseg.losses.partial_cross_entropy`.
        complete: Classes of which crops are declared to leave out nothing; otherwise of a crop hold only upper bounds
            on what grows with the region.

    Attributes:
        found: What the last call found, detached; see :func:`boundseg.integrations.batch.figures`.
    """

    def __init__(
        self,
        constraints: Sequence[Constraint] = (),
        ignore: int = 255,
        average: Average = "image",
        complete: Sequence[int] = (),
    ) -> None:
        super().__init__(reduction="mean")
        self.objective = Objective(ignore=ignore, constraints=list(constraints), average=average)
        self.complete = tuple(complete)
        self.found: dict[str, Tensor] = {}

    def forward(self, input: Any, target: Tensor | Mapping[str, Any]) -> Tensor:
        """The loss of a batch.

        Raises:
            InputError: See :meth:`boundseg.integrations.batch.Known.of`; ``input`` is a list, as of deep supervision.
        """
        batch.require_logits(input)
        found: Loss = batch.loss(self.objective, input.as_subclass(Tensor), target, self.complete)
        self.found = batch.figures(found)
        return found.total


class BoundsLoss(BoundedLoss):
    r"""The weighted cost of every constraint alone, to stand beside any loss of labels.

    .. code-block:: python

        loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))(outputs, batch["label"])
        loss = loss + bounds(outputs[0], batch)  # of deep supervision, the output of full resolution

    .. math:: \sum_c \lambda_c \, \operatorname{mean}_{\text{known}} C_c

    ``loss(input, target)`` takes logits ``[B, K, *space]`` and a batch's dictionary, as :class:`BoundedLoss` does; its
    ``label``, if there is one, is not looked at.

    Args:
        constraints: What is asked of the prediction.
        complete: As for :class:`BoundedLoss`.
    """

    def __init__(self, constraints: Sequence[Constraint], complete: Sequence[int] = ()) -> None:
        super().__init__(constraints, complete=complete)

    def forward(self, input: Any, target: Tensor | Mapping[str, Any]) -> Tensor:
        """The cost of a batch.

        Raises:
            InputError: ``target`` is no dictionary, or see :meth:`BoundedLoss.forward`.
        """
        batch.require_logits(input)
        if not isinstance(target, Mapping):
            raise InputError(
                "labels alone say nothing of bounds.", remedy="Hand over the batch's dictionary, with 'bounds'."
            )
        space = (len(input), *input.shape[2:])
        nothing = torch.full(space, self.objective.ignore, dtype=torch.long, device=input.device)
        return super().forward(input, {**target, "label": nothing})


def prepare_batch(
    batchdata: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **_: Any
) -> tuple[Tensor, dict[str, Any]]:
    """The ``prepare_batch`` of MONAI's trainers: the image, and as its target what is known about it.

    A metric of the training finds the labels by :func:`from_bounded`. Evaluators, which know of no bounds, keep MONAI's
    own ``prepare_batch``.

    Raises:
        InputError: Labels lie between classes, or a volume holds a slice twice.
    """
    batch.require_classes(batchdata.get("label"))  # before they are moved: on a GPU it would wait for them
    batch.require_once(batchdata)
    image = batchdata["image"].to(device=device, non_blocking=non_blocking)
    return image, {name: _moved(batchdata[name], device, non_blocking) for name in batch.KEYS if name in batchdata}


def from_bounded(keys: KeysCollection = ("pred", "label")) -> Callable[[Any], Any]:
    """MONAI's ``from_engine``, where :func:`prepare_batch` has made the target: of it, ``label`` is the labels.

    .. code-block:: python

        MeanDice(num_classes=2, output_transform=from_bounded(["pred", "label"]))

    Args:
        keys: What the metric looks at, of each image where the engine decollates, else of the batch.
    """
    from monai.handlers.utils import from_engine  # with all of MONAI's handlers

    pick = from_engine(keys)
    return lambda output: pick([*map(_unpacked, output)] if isinstance(output, list) else _unpacked(output))


def _unpacked(output: Mapping[str, Any]) -> dict[str, Any]:
    target = output.get("label")
    return {**output, "label": target["label"]} if isinstance(target, Mapping) else dict(output)


def _moved(content: Any, device: str | torch.device | None, non_blocking: bool) -> Any:
    if isinstance(content, Tensor):
        return content.to(device=device, non_blocking=non_blocking)
    if isinstance(content, Mapping):
        return {name: _moved(value, device, non_blocking) for name, value in content.items()}
    return content


class StartFramed(MapTransform):
    """Remembers a case's grid, before anything moves it: right after it was loaded and given channels.

    Needed where no reader of MONAI's has given the image an affine, for those remember it by themselves: arrays, and
    files without one, such as PNG and ``.npy``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Writes it into the metadata of each image."""
        found = dict(data)
        for key in self.key_iterator(found):
            given = found[key]
            # made anew: MONAI 1.6 counts an image's axes when it is made, before a channel was added to an array, and
            # would leave the last axis out of the affine from then on
            image = (
                MetaTensor(given.as_tensor(), meta=dict(given.meta), applied_operations=given.applied_operations)
                if isinstance(given, MetaTensor)
                else MetaTensor(torch.as_tensor(given))
            )
            image.meta["case_affine"] = image.affine.clone()
            image.meta["case_shape"] = tuple(image.shape[1:])
            found[key] = image
        return found


class AddFramed(MapTransform):
    """Writes where the voxels of an image lie in their case, after all that moves them.

    Every transform of MONAI's that resamples, crops, pads, flips, turns, zooms or warps by an affine map keeps the
    image's affine; the one of the file, inverted, times that of now leads from the predicted voxel to the case's. A
    voxel that lies outside of the case has weight 0. Elastic and grid distortions leave no trace in the affine: leave
    them out where sizes are bounded. ``Transposed`` leaves none either, and is refused.

    ``frame`` then holds ``affine``, ``weight``, ``spacing_mm`` and ``whole`` of one image, which MONAI's loaders
    collate, and of a slice ``slices``: how many its case has.

    Args:
        keys: The image.
        slice_axis: For networks of slices: the axis along which this image is one slice; it must be of length 1, and is
            squeezed by a later transform (``SqueezeDimd``). Bounds are then those of slices, and so it must be one of
            the case's: neither resampled between them nor turned out of them.
        output: The key that is written.
        slice_output: The key under which the number of the slice is written, -1 in padding; ``AddBoundsd`` behind this
            one reads it as its ``slice_key``.

    Raises:
        InputError: The image has no affine that says where it lies, or is no slice of its case; or the bounds beside it
            are of volumes, and the constraint would measure this one slice.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        slice_axis: int | None = None,
        output: str = "frame",
        slice_output: str = "slice",
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise InputError(f"AddFramed looks at one image, and was given {len(self.keys)}.", remedy="Give one key.")
        self.slice_axis = slice_axis
        self.output = output
        self.slice_output = slice_output

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds the frame, and of a slice its number."""
        image = data[self.keys[0]]
        start, shape, now = self._grids(image)
        space = tuple(image.shape[1:])
        axes = len(space)
        to_case = (np.linalg.inv(start) @ now)[:axes]  # [D, D + 1]: voxel of now -> voxel of the case
        affine = np.concatenate([to_case[:, :axes], to_case[:, -1:]], axis=1)
        spacing = np.linalg.norm(start[:axes, :axes], axis=0)
        position = np.tensordot(affine[:, :axes], np.indices(space), 1) + affine[:, axes:].reshape(-1, *[1] * axes)
        last = np.asarray(shape).reshape(-1, *[1] * axes) - 0.5
        inside = ((position >= -0.5 - EDGE) & (position <= last + EDGE)).all(0)
        weight = abs(np.linalg.det(affine[:, :axes])) * inside
        whole = _holds(affine, space, shape)
        number: dict[Hashable, int] = {}
        counted: dict[str, Tensor] = {}
        if self.slice_axis is not None:
            affine, weight, spacing, whole, slices = self._slice(affine, weight, spacing, space, shape)
            index = round(float(affine[-1, -1]))
            number = {self.slice_output: index if weight.any() else -1}
            counted = {"slices": torch.tensor(slices)}
            _require_of_slices(data.get(OF_VOLUMES), slices)
        frame = {
            "affine": torch.from_numpy(affine.astype(np.float32)),
            "weight": torch.from_numpy(weight.astype(np.float32)),
            "spacing_mm": torch.from_numpy(spacing.astype(np.float32)),
            "whole": torch.tensor(whole),
            **counted,
        }
        return {**data, **number, self.output: frame}

    def _grids(self, image: Any) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
        """The file's affine and shape, and the affine of now."""
        meta = image.meta if isinstance(image, MetaTensor) else {}
        start, shape = meta.get("case_affine"), meta.get("case_shape")
        if start is None:
            start, shape = meta.get("original_affine"), meta.get("spatial_shape")
        if start is None or shape is None:
            raise InputError(
                f"nothing says where the image {self.keys[0]!r} lay before it was transformed.",
                remedy="Put StartFramed right behind what loads it and gives it channels; a PersistentDataset keeps "
                "what it wrote only with track_meta=True and weights_only=False.",
            )
        for step in image.applied_operations:
            if str(step.get("class", "")).startswith("Transpose"):
                raise InputError(
                    f"the image {self.keys[0]!r} was transposed, and its affine does not say so.",
                    remedy="Put Transposed before StartFramed, or turn axes by Orientationd.",
                )
        shape, axes = tuple(int(n) for n in shape), image.ndim - 1
        if getattr(image, "spatial_ndim", axes) < axes:
            raise InputError(
                f"MONAI counts {image.spatial_ndim} axes of the image {self.keys[0]!r}, which has {axes}: "
                "its affine lacks the others.",
                remedy="Put StartFramed right behind what gives it channels.",
            )
        if len(shape) != axes:
            raise InputError(
                f"the image {self.keys[0]!r} has {axes} axes, and its case {len(shape)}.",
                remedy="Put AddFramed before the transform that takes an axis away, and name it as slice_axis.",
            )
        # lazy transforms of 2D images leave affines of two axes, others those of three
        first, now = (to_affine_nd(axes, np.asarray(affine, np.float64)) for affine in (start, image.affine))
        return first, shape, now

    def _slice(
        self,
        affine: np.ndarray,
        weight: np.ndarray,
        spacing: np.ndarray,
        space: tuple[int, ...],
        shape: tuple[int, ...],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool, int]:
        """The same as a slice by itself: its axes, in the file's order, and then the one between slices; and how many
        slices there are."""
        axis = self.slice_axis
        if axis is None or not -len(space) <= axis < len(space) or space[axis] != 1:
            raise InputError(
                f"axis {axis} of an image of {'x'.join(map(str, space))} voxels is not that of one slice.",
                remedy="Crop one slice first, such as by RandSpatialCropd with 1 along that axis.",
            )
        axis %= len(space)
        between = int(np.abs(affine[:, axis]).argmax())  # of the file's axes, the one that is stepped along
        rows = [i for i in range(len(shape)) if i != between]
        columns = [i for i in range(len(space)) if i != axis]
        step, place = affine[between, axis], affine[between, -1]
        tilted = max(abs(affine[between, columns]).max() * max(space), abs(affine[rows, axis]).max())
        if max(abs(abs(step) - 1), abs(place - round(place)), tilted) > EDGE:
            raise InputError(
                f"the slice of {self.keys[0]!r} is none of its case's, and bounds of slices say nothing of it: the "
                f"volume was {'resampled between' if tilted <= EDGE else 'turned out of'} its slices.",
                remedy="Keep the spacing between slices (Spacingd, Resized), and turn volumes about that axis only.",
            )
        in_plane = affine[rows][:, [*columns, -1]]
        whole = _holds(in_plane, [space[i] for i in columns], [shape[i] for i in rows])
        order = [*rows, between]
        return affine[order][:, [*columns, axis, -1]], weight.squeeze(axis), spacing[order], whole, shape[between]


def _require_of_slices(names: str | None, slices: int) -> None:
    """Refuses bounds of volumes where constraints measure single slices.

    Args:
        names: Of such constraints.
        slices: How many the case has; of one, its slice is the volume.
    """
    if names and slices > 1:
        raise InputError(
            f"the bounds of {names} are of volumes, and the image is one of {slices} slices, which would have to keep "
            "them by itself.",
            remedy="Look up bounds of slices (AddBoundsd behind AddFramed, with slice_key), give the constraint "
            'scope="volume" and name the volumes of a batch, or train a 3D network.',
        )


def _holds(affine: np.ndarray, space: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether the centres of all voxels of a case lie within the grid."""
    axes = len(space)
    inverse = np.linalg.inv(affine[:, :axes])
    corners = np.stack(np.meshgrid(*[(0.0, n - 1.0) for n in shape], indexing="ij")).reshape(len(shape), -1)
    index = inverse @ (corners - affine[:, axes:])
    return bool(((index >= -0.5 - EDGE) & (index <= np.asarray(space)[:, None] - 0.5 + EDGE)).all())


@dataclass(frozen=True)
class Sought:
    """Which rows of ``priors.csv`` bound a constraint.

    Attributes:
        constraint: Of one region (or pair), whose descriptor measures the quantity in the unit.
        region: The class, as the file names it.
        set: The set.
        quantity: What is bounded.
        unit: Of the bounds, which the constraint's descriptor measures in.
    """

    constraint: Constraint
    region: str
    set: str
    quantity: str = "size"
    unit: str = "px"

    def __post_init__(self) -> None:
        name, own, count = self.constraint.name, self.constraint.descriptor, len(self.constraint.regions)
        if count != own.traits.arity:
            raise InputError(
                f"{name!r} measures {count} regions, and the bounds of {self.region} are of one.",
                remedy="Make a constraint for each.",
            )
        wanted = descriptor_of(self.quantity, self.unit)
        told = {field: getattr(wanted, field) for field in vars(wanted) if not field.startswith("ax")}
        # an axis of the file is the descriptor's by its place in what was predicted, of which nothing is known here
        if not isinstance(own, type(wanted)) or any(getattr(own, field) != value for field, value in told.items()):
            raise InputError(
                f"{name!r} measures {own}, and {self.quantity} in {self.unit} is {wanted}.",
                remedy="Give the constraint that descriptor, or name its own quantity and unit.",
            )


class AddBoundsd(Transform):
    """Looks up what ``priors.csv`` knows of each case, and writes it as ``bounds``.

    Args:
        table: The file.
        sought: For each constraint, which rows; those of volumes where ``slice_key`` is left out, those of slices where
            it is given.
        case_key: Where the case's name stands; left out, it is the image's file without ``_0000`` and its ending.
        slice_key: Where the number of the slice in its case stands.
        image_key: The image whose file names the case.
        output: The key that is written: for each constraint's name a pair, infinite where nothing is known.

    Raises:
        PriorsError: The file cannot be read, or holds no such rows in that unit.
    """

    def __init__(
        self,
        table: str | Path,
        sought: Sequence[Sought],
        case_key: str | None = None,
        slice_key: str | None = None,
        image_key: str = "image",
        output: str = "bounds",
    ) -> None:
        rows = priors.read(Path(table))
        self.table = Path(table)
        self.case_key, self.slice_key, self.image_key, self.output = case_key, slice_key, image_key, output
        self.missed = False
        self.known = {one.constraint.name: self._known(Path(table), rows, one) for one in sought}
        alone = [one.constraint.name for one in sought if slice_key is None and one.constraint.scope == "slice"]
        self.of_volumes = ", ".join(map(repr, alone))

    def _known(self, table: Path, rows: Sequence[priors.Prior], one: Sought) -> Mapping[str, Any]:
        of_volume = self.slice_key is None
        facts = priors.look_up(rows, set=one.set, quantity=one.quantity, region=one.region)
        fitting = [fact for fact in facts if fact.unit == one.unit and fact.of_volume == of_volume]
        if not fitting:
            there = [f"{fact.unit}, per {'volume' if fact.of_volume else 'slice'}" for fact in facts]
            raise PriorsError(
                f"no {one.quantity} of {one.region} in the set {one.set!r}, {one.unit}, per "
                f"{'volume' if of_volume else 'slice'}; there is {' and '.join(there) or 'nothing'}.",
                str(table),
                "Name what is there, or derive it with boundseg priors.",
            )
        return fitting[0].bounds

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds the bounds of one image.

        Raises:
            InputError: The case has no name; or the image is a slice, as AddFramed says, and the bounds are not.
        """
        case = str(data[self.case_key]) if self.case_key else self._case_of(data[self.image_key])
        if not self.missed and self.known and not any(case in known for known in self.known.values()):
            self.missed = True
            warnings.warn(
                f"{self.table} knows nothing of the case {case!r}: it trains without bounds (said once)", stacklevel=2
            )
        index = None if self.slice_key is None else int(data[self.slice_key])
        unknown = (-math.inf, math.inf)
        found = {name: known.get(case, {}).get(index, unknown) for name, known in self.known.items()}
        frame = data.get("frame")
        if isinstance(frame, Mapping) and "slices" in frame:
            _require_of_slices(self.of_volumes, int(frame["slices"]))
        # for AddFramed, which may stand behind this one; another one's mark went with its bounds
        mark: dict[Hashable, Any] = {OF_VOLUMES: self.of_volumes} if self.of_volumes else {}
        rest = {key: value for key, value in data.items() if key != OF_VOLUMES}
        return {**rest, **mark, self.output: {name: torch.tensor([pair]) for name, pair in found.items()}}

    def _case_of(self, image: Any) -> str:
        meta = getattr(image, "meta", {})
        if "filename_or_obj" not in meta:
            raise InputError(
                f"nothing says which case the image {self.image_key!r} is.",
                remedy="Put AddBoundsd behind LoadImaged, or give case_key.",
            )
        return volume_io.stem(Path(str(meta["filename_or_obj"]))).removesuffix("_0000")
