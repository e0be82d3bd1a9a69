from dataclasses import replace

import pytest
import torch

from boundseg.constraints import Frame, Groups, Size
from boundseg.data.augment import AUGMENTATIONS, transpose
from boundseg.data.batches import Batch


def drawn(rows: int = 6, columns: int = 6, count: int = 32) -> Batch:
    labels = torch.arange(rows * columns, dtype=torch.uint8).reshape(1, rows, columns).repeat(count, 1, 1)
    weight = labels.float() + 1
    return Batch(
        images=labels.unsqueeze(1).float(),
        labels=labels,
        frame=Frame(
            weight,
            torch.tensor([[1.0, 2.0, 8.0]]).repeat(count, 1),
            affine=torch.eye(3, 4).repeat(count, 1, 1),
        ),
        volumes=Groups.each(count),
        bounds={},
        slices=tuple(("case", i) for i in range(count)),
    )


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_images_labels_and_weights_move_together_and_nothing_is_interpolated(name: str) -> None:
    torch.manual_seed(0)
    before = drawn()
    after = AUGMENTATIONS[name](before)
    assert torch.equal(after.images[:, 0], after.labels.float())
    assert torch.equal(after.frame.weight, after.labels.float() + 1)
    assert torch.equal(after.labels.flatten(1).sort().values, before.labels.flatten(1))
    moved = (after.labels != before.labels).flatten(1).any(1)
    assert 0 < moved.sum() < len(moved)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("unit", ["px", "mm2", "mL", "fraction"])
def test_no_size_changes(name: str, unit: str) -> None:
    torch.manual_seed(0)
    batch = drawn()
    probs = (batch.images > 20).float()
    after = AUGMENTATIONS[name](replace(batch, images=probs))
    torch.testing.assert_close(Size(unit)(after.images, after.frame), Size(unit)(probs, batch.frame))


def test_both_together_draw_all_eight_positions_and_the_frame_says_which() -> None:
    torch.manual_seed(0)
    after = drawn(count=200)
    for function in AUGMENTATIONS.values():
        after = function(after)
    assert len({tuple(image.flatten().tolist()) for image in after.images}) == 8
    # an image that holds the number of each pixel says where the pixel was
    row, column = after.frame.coordinates(after.labels.shape[1:])[:, :2].unbind(1)
    assert torch.equal(6 * row + column, after.labels.float())


def test_broadcast_weights_stay_as_they_are() -> None:
    batch = drawn()
    plain = replace(batch, frame=Frame.plain(len(batch.images), 2))
    for function in AUGMENTATIONS.values():
        assert torch.equal(function(plain).frame.weight, plain.frame.weight)


def test_a_grid_that_is_not_square_cannot_be_transposed() -> None:
    with pytest.raises(ValueError, match="6x4 cannot be exchanged"):
        transpose(drawn(6, 4))
