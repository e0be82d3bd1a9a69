"""Augmentation of volumes and patches: voxels and slices change places, and every bound finds what it speaks of."""

from __future__ import annotations

import pytest
import torch

from boundseg.constraints import Bounds, Centroid, Constraint, Frame, Size
from boundseg.data.augment import AUGMENTATIONS, Even, IntensityChange, Noise, mirror, transpose
from boundseg.data.patches import cut
from boundseg.data.placement import Grid
from boundseg.data.taught import Batch

from .volumes import VOLUME_CONSTRAINTS, taught

COUNT = 40


def drawn(rows: int = 4, columns: int = 4, count: int = COUNT) -> Batch:
    """Many copies of a patch whose channels are the file's coordinates, partly padding."""
    case = taught((6, 3, 7), Grid((rows, columns, 3), patches=True), image=True)
    return cut([case], [(0, (1, 0, 2))] * count, VOLUME_CONSTRAINTS, (rows, columns, 3))


def test_coordinates_follow_and_every_position_is_drawn() -> None:
    torch.manual_seed(0)
    after = drawn(count=150)
    for function in AUGMENTATIONS.values():
        after = function(after)
    # the image says where in the file a voxel lay, the frame says where it lies
    torch.testing.assert_close(after.frame.coordinates(after.images.shape[2:]), after.images)
    assert after.frame.image is not None
    assert torch.equal(after.frame.image, after.images)
    assert len({tuple(image.flatten().tolist()) for image in after.images}) == 16


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_labels_and_weights_go_with_the_image(name: str) -> None:
    torch.manual_seed(0)
    before = drawn()
    after = AUGMENTATIONS[name](before)
    where = {tuple(place): (int(label), float(weight)) for place, label, weight in _voxels(before)}
    assert all(where[tuple(place)] == (int(label), float(weight)) for place, label, weight in _voxels(after))


def _voxels(batch: Batch) -> list[tuple[list[float], torch.Tensor, torch.Tensor]]:
    places = batch.images.movedim(1, -1).reshape(-1, 3).tolist()
    return list(zip(places, batch.labels.flatten(), batch.frame.weight.expand_as(batch.labels).flatten(), strict=True))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_slices_keep_their_bounds_their_sizes_and_their_places(name: str) -> None:
    torch.manual_seed(0)
    before = drawn()
    after = AUGMENTATIONS[name](before)

    def found(batch: Batch, descriptor: Size | Centroid) -> torch.Tensor:
        # probabilities by the place in the file alone
        x, y, z = batch.images.unbind(1)
        foreground = torch.sigmoid(torch.sin(x + 2 * y) + 0.5 * z)
        probs = torch.stack([1 - foreground, foreground], 1)
        rows = len(batch.bounds["slice"].lower)
        return Constraint("slice", descriptor, ((1,),))(probs, Bounds.unknown(rows, 1), batch.frame).value

    torch.testing.assert_close(found(after, Size("mm2")), found(before, Size("mm2")))
    for axis in (0, 1):
        torch.testing.assert_close(found(after, Centroid("px", axis)), found(before, Centroid("px", axis)))
    assert after.bounds is before.bounds
    assert torch.equal(after.rows["slice"], before.rows["slice"])


def test_plain_frames_stay_plain() -> None:
    batch = drawn()
    plain = Frame.plain(COUNT, 3)
    for function in AUGMENTATIONS.values():
        assert torch.equal(function(Batch(**{**vars(batch), "frame": plain})).frame.weight, plain.weight)


def test_rows_and_columns_that_differ_cannot_be_exchanged() -> None:
    with pytest.raises(ValueError, match="a grid of 4x5 cannot be exchanged"):
        transpose(drawn(4, 5))


def test_intensities_change_and_what_bounds_read_does_not() -> None:
    torch.manual_seed(0)
    before = drawn()
    change = IntensityChange(Even(-0.1, 0.1), Even(-1, 1), Even(-0.2, 0.2))
    after = Noise(0.1)(change(before))
    assert after.images.shape == before.images.shape
    assert not torch.equal(after.images, before.images)
    assert after.frame is before.frame
    # padding gets no noise
    noisy = Noise(0.1)(before)
    there = (before.frame.weight > 0).unsqueeze(1).expand_as(before.images)
    assert torch.equal(noisy.images[~there], before.images[~there])
    assert (noisy.images != before.images)[there].all()


def test_the_generator_decides() -> None:
    torch.manual_seed(3)
    first = mirror(drawn())
    torch.manual_seed(3)
    assert torch.equal(mirror(drawn()).images, first.images)
