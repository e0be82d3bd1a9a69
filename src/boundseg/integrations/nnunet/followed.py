"""nnU-Net's augmentation, followed: where each voxel of an augmented patch came from.

nnU-Net scales, turns and mirrors patches at random and says nothing of it. Its own transforms are applied as they are;
of those that move voxels, the parameters that were drawn are read, and composed into one affine map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform, SegOnlyTransform
from batchgeneratorsv2.transforms.nnunet.seg_to_onehot import MoveSegAsOneHotToDataTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import OneOfTransform, RandomTransform
from jaxtyping import Float

from boundseg.errors import ConfigError

# of these, none moves a voxel
STILL = (
    ImageOnlyTransform,
    SegOnlyTransform,
    MaskImageTransform,
    MoveSegAsOneHotToDataTransform,
)
Map = Float[np.ndarray, "D columns"]


def follow(transform: BasicTransform, sample: dict[str, Any]) -> tuple[dict[str, Any], Map]:
    """Applies nnU-Net's transforms to a sample.

    Args:
        transform: What ``get_training_transforms`` or ``get_validation_transforms`` gave.
        sample: ``image`` and ``segmentation`` of a patch, ``[C, *space]``.

    Returns:
        The transformed sample, and ``[A | b]``: its voxel i is voxel ``A i + b`` of the patch that went in.

    Raises:
        ConfigError: A transform that moves voxels by no affine map, or may do so for all that is known.
    """
    return _follow(transform, sample, identity(sample["image"].ndim - 1))


def identity(axes: int) -> Map:
    """The map that leaves every voxel where it is."""
    return np.eye(axes, axes + 1)


def compose(outer: Map, inner: Map) -> Map:
    """The map that takes an index through ``inner`` and then ``outer``."""
    linear: np.ndarray = outer[:, :-1] @ inner
    linear[:, -1] += outer[:, -1]
    return linear


def require_followed(transform: BasicTransform) -> None:
    """Refuses transforms that cannot be followed, before anything is trained.

    Raises:
        ConfigError: See :func:`follow`.
    """
    if isinstance(transform, ComposeTransforms):
        for part in transform.transforms:
            require_followed(part)
    elif isinstance(transform, RandomTransform):
        require_followed(transform.transform)
    elif isinstance(transform, OneOfTransform):
        for part in transform.list_of_transforms:
            require_followed(part)
    elif isinstance(transform, SpatialTransform):
        if transform.p_elastic_deform > 0 or transform.align_corners:
            raise ConfigError(
                "the augmentation deforms patches elastically, and no weight of a voxel is known then.",
                "SpatialTransform",
                "Use p_elastic_deform=0, as nnU-Net's default does, and align_corners=False.",
            )
    elif not isinstance(transform, (MirrorTransform, Convert2DTo3DTransform, Convert3DTo2DTransform, *STILL)):
        raise ConfigError(
            f"the augmentation holds {type(transform).__name__}, of which it is not known whether it moves voxels.",
            "get_training_transforms",
            "Use the transforms of nnU-Net's default trainer.",
        )


def _follow(transform: BasicTransform, sample: dict[str, Any], so_far: Map) -> tuple[dict[str, Any], Map]:
    if isinstance(transform, ComposeTransforms):
        for part in transform.transforms:
            sample, so_far = _follow(part, sample, so_far)
        return sample, so_far
    if isinstance(transform, RandomTransform):
        if transform.get_parameters(**sample)["apply_transform"]:
            return _follow(transform.transform, sample, so_far)
        return sample, so_far
    if isinstance(transform, OneOfTransform):
        chosen = transform.list_of_transforms[np.random.randint(len(transform.list_of_transforms))]
        return _follow(chosen, sample, so_far)
    if not isinstance(transform, (SpatialTransform, MirrorTransform)):
        return transform(**sample), so_far
    size = sample["image"].shape[1:]
    drawn = transform.get_parameters(**sample)
    moved = transform.apply(sample, **drawn)
    if isinstance(transform, MirrorTransform):
        return moved, compose(so_far, _in_all_axes(_mirrored(drawn["axes"], size), len(so_far)))
    return moved, compose(so_far, _in_all_axes(_warped(transform, drawn, size), len(so_far)))


def _mirrored(axes: Sequence[int], size: Sequence[int]) -> Map:
    found = identity(len(size))
    for axis in axes:
        found[axis, axis], found[axis, -1] = -1, size[axis] - 1
    return found


def _warped(transform: SpatialTransform, drawn: dict[str, Any], size: Sequence[int]) -> Map:
    """The map from the patch to the crop of that size from which SpatialTransform samples it."""
    crop, patch = np.asarray(size, float), np.asarray(transform.patch_size, float)
    centre = np.asarray(drawn["center_location_in_pixels"], float)
    if drawn["grid"] is None:  # it cuts out whole voxels
        return np.concatenate([np.eye(len(size)), (np.floor(centre) - patch // 2)[:, None]], axis=1)
    assert drawn["elastic_offsets"] is None, "refused by require_followed"
    linear = np.eye(len(size)) if drawn["affine"] is None else np.asarray(drawn["affine"], float)
    # voxel i of the patch lies at A (i - (patch - 1) / 2), counted from the middle of the crop; grid_sample without
    # aligned corners has the crop's middle at (crop - 1) / 2
    offset = (centre - crop / 2) + (crop - 1) / 2 - linear @ ((patch - 1) / 2)
    return np.concatenate([linear, offset[:, None]], axis=1)


def _in_all_axes(found: np.ndarray, axes: int) -> np.ndarray:
    """Of a patch whose first axis was put among the channels (dummy 2D augmentation), with that axis again."""
    if len(found) == axes:
        return found
    whole = identity(axes)
    whole[1:, 1:] = found
    return whole
