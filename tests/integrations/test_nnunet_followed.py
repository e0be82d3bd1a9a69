"""nnU-Net's own transforms move an image whose voxels are their coordinates, and the map says where they went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from boundseg.errors import ConfigError

pytest.importorskip("nnunetv2", reason="pip install 'boundseg[nnunet]'")

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import OneOfTransform, RandomTransform

from boundseg.integrations.nnunet.followed import Map, follow, require_followed


def ramp(size: Sequence[int]) -> torch.Tensor:
    return torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in size], indexing="ij"))


def spatial(patch: Sequence[int], **options: Any) -> SpatialTransform:
    settings = {"p_rotation": 1, "rotation": (-0.6, 0.6), "p_scaling": 1, "scaling": (0.7, 1.4), "random_crop": False}
    return SpatialTransform(tuple(patch), 0, padding_mode_image="border", **(settings | options))


def applied(transform: BasicTransform, size: Sequence[int]) -> tuple[np.ndarray, Map]:
    sample = {"image": ramp(size), "segmentation": torch.zeros(1, *size, dtype=torch.int16)}
    moved, found = follow(transform, sample)
    return moved["image"].numpy(), found


def lies_where_it_says(image: np.ndarray, found: Map, size: Sequence[int]) -> bool:
    index = np.indices(image.shape[1:]).reshape(len(size), -1)
    said = found[:, :-1] @ index + found[:, -1:]
    last = np.asarray(size)[:, None] - 1
    inside = ((said >= 0) & (said <= last)).all(0)
    assert inside.mean() > 0.2, "something is seen"
    return bool(np.abs(said - image.reshape(len(size), -1))[:, inside].max() < 1e-3)


@pytest.mark.parametrize(
    ("size", "patch", "options"),
    [
        ((24, 31), (24, 31), {}),
        ((40, 37), (20, 24), {}),
        ((40, 37), (20, 24), {"random_crop": True}),
        ((17, 24, 20), (12, 15, 20), {}),
        ((17, 24, 20), (12, 15, 20), {"p_synchronize_scaling_across_axes": 0}),
        ((40, 37), (20, 24), {"p_rotation": 0, "p_scaling": 0}),
        ((41, 36), (20, 25), {"p_rotation": 0, "p_scaling": 0}),
        ((10, 12), (20, 25), {"p_rotation": 0, "p_scaling": 0}),
    ],
)
def test_a_warped_and_mirrored_image_lies_where_the_map_says(
    size: tuple[int, ...], patch: tuple[int, ...], options: dict[str, Any]
) -> None:
    np.random.seed(0)  # nnU-Net draws from it
    torch.manual_seed(0)
    transform = ComposeTransforms([spatial(patch, **options), MirrorTransform(tuple(range(len(size))))])
    if patch > size:
        transform.transforms[0].padding_mode_image = "zeros"
    for _ in range(4):
        assert lies_where_it_says(*applied(transform, size), size)


def test_dummy_2d_augmentation_leaves_slices_where_they_are() -> None:
    np.random.seed(0)
    size, patch = (5, 30, 33), (20, 24)
    moves = [RandomTransform(spatial(patch), 1), OneOfTransform([MirrorTransform((0, 1))])]
    transform = ComposeTransforms([Convert3DTo2DTransform(), *moves, Convert2DTo3DTransform()])
    image, found = applied(transform, size)
    assert lies_where_it_says(image, found, size)
    assert found[0].tolist() == [1, 0, 0, 0]
    assert found[1:, 0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("transform", "told"),
    [
        (Rot90Transform({1: 1.0}), "Rot90Transform, of which it is not known"),
        (spatial((8, 8), p_elastic_deform=0.2), "deforms patches elastically"),
        (OneOfTransform([RandomTransform(Rot90Transform({1: 1.0}))]), "Rot90Transform"),
    ],
)
def test_what_cannot_be_followed_is_refused(transform: BasicTransform, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        require_followed(ComposeTransforms([transform]))
