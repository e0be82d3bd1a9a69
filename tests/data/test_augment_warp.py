"""Moving the grid moves no bound: what is measured of a region is what it was before."""

from __future__ import annotations

import math
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from boundseg.constraints import (
    BoxSize,
    BoxTightness,
    Centroid,
    Distance,
    Elongation,
    Frame,
    Groups,
    Intensity,
    Size,
    Spread,
    box_bands,
)
from boundseg.data.augment import FOLDS_AT, Elastic, Even, IntensityChange, Noise, Warp, mirror, transpose
from boundseg.data.augment.intensity import NONE
from boundseg.data.batches import Batch

IGNORE, COUNT, SPACE = 3, 24, (96, 88)
SPACING_MM = (1.0, 1.3, 8.0)  # voxels of the case are no squares
ALL = (True, True, True)
AFFINE = Warp(IGNORE, ALL, Even(-30, 30), Even(math.log(0.8), math.log(1.25)), Even(-5, 5))
ELASTIC = Elastic(displacement=6, spacing=20)
WARPS = {
    "turn": Warp(IGNORE, ALL, turn=Even(-180, 180)),
    "zoom": Warp(IGNORE, ALL, zoom=Even(math.log(0.7), math.log(1.4))),
    "shift": Warp(IGNORE, ALL, shift=Even(-8, 8)),
    "elastic": Warp(IGNORE, ALL, elastic=ELASTIC),
    "all": replace(AFFINE, elastic=ELASTIC),
}


def drawn(count: int = COUNT, *, broadcast: bool = False, padding: int = 0) -> Batch:
    """Two smooth, lopsided blobs far from the border (channels 1 and 2 of the images), on pixels half as large again.

    The images' first channel slopes; the frame's image is that in other units.
    """
    row, column = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SPACE), indexing="ij")

    def blob(at: tuple[float, float], wide: tuple[float, float]) -> Tensor:
        r, c = (row - at[0]) / wide[0], (column - at[1]) / wide[1]
        return torch.sigmoid(3 * (1 - (r + 0.3 * c) ** 2 - c**2 + 0.2 * r * c**2))

    one, other = blob((44, 40), (9, 6)), blob((52, 49), (5, 8))
    slope = 0.01 * row - 0.02 * column
    labels = torch.where(one > 0.5, 1, torch.where(other > 0.5, 2, 0)).to(torch.uint8)
    affine = torch.tensor([[1.5, 0, 0, 2], [0, 1.5, 0, 1], [0, 0, 1, 4]])
    weight = torch.full((count, 1, 1) if broadcast else (count, *SPACE), 2.25)
    if padding:
        weight[:, :padding] = weight[:, -padding:] = 0
        weight[..., :padding] = weight[..., -padding:] = 0
    return Batch(
        images=torch.stack([slope, one, other]).repeat(count, 1, 1, 1),
        labels=labels.repeat(count, 1, 1),
        frame=Frame(
            weight,
            torch.tensor([SPACING_MM]).repeat(count, 1),
            torch.ones(count, 3, dtype=torch.bool),
            affine.repeat(count, 1, 1),
            100 + 50 * slope.repeat(count, 1, 1, 1),
            box_bands(torch.tensor([[[24, 66], [22, 64]]]), SPACE, 14).repeat(count, 1, 1, 1),
        ),
        volumes=Groups.each(count),
        bounds={},
        slices=tuple(("case", i) for i in range(count)),
    )


def blobs(batch: Batch) -> Tensor:
    return batch.images[:, 1:]


def same(one: Batch, other: Batch) -> bool:
    def equal(a: Tensor | None, b: Tensor | None) -> bool:
        return (a is None and b is None) or torch.equal(*torch.broadcast_tensors(a, b))

    fields = ("weight", "spacing_mm", "whole", "affine", "image", "bands")
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        and all(equal(getattr(one.frame, name), getattr(other.frame, name)) for name in fields)
    )


@pytest.mark.parametrize("name", WARPS)
@pytest.mark.parametrize("broadcast", [True, False], ids=["one weight", "weights"])
def test_sizes_and_mean_intensities_stay_what_they_are(name: str, broadcast: bool) -> None:
    torch.manual_seed(0)
    before = drawn(broadcast=broadcast)
    after = WARPS[name](before)
    for unit in ("px", "mm2", "mL"):
        size = Size(unit)
        torch.testing.assert_close(
            size(blobs(after), after.frame), size(blobs(before), before.frame), rtol=0.01, atol=0
        )
    bright = Intensity()
    torch.testing.assert_close(
        bright(blobs(after), after.frame), bright(blobs(before), before.frame), rtol=2e-3, atol=0
    )
    # of the sloping image itself: 0.1 px of its steepest slope
    assert (bright(blobs(after), after.frame) - bright(blobs(before), before.frame)).abs().max() < 0.1


@pytest.mark.parametrize("name", ["turn", "zoom", "shift"])
def test_places_and_shapes_stay_what_they_are(name: str) -> None:
    torch.manual_seed(0)
    before = drawn()
    after = WARPS[name](before)
    for measured, off in (
        (Centroid("px"), 0.05),
        (Distance("px"), 0.05),
        (Spread("px"), 0.1),
        (Elongation("mm"), 0.02),
    ):
        frames = after.frame.in_plane(), before.frame.in_plane()
        error = measured(blobs(after), frames[0]) - measured(blobs(before), frames[1])
        assert error.abs().max() < off, type(measured).__name__


@pytest.mark.parametrize("name", WARPS)
def test_bands_of_boxes_hold_what_they_held(name: str) -> None:
    torch.manual_seed(0)
    before = drawn()
    after = WARPS[name](before)
    for measured in (BoxTightness(3), BoxSize("inside"), BoxSize("inside", "fraction")):
        found = measured(blobs(after), after.frame)
        expected = measured(blobs(before), before.frame)
        # bands go to the nearest voxel, which moves their border by half a voxel at most
        assert (found - expected).abs().max() < 0.08 * expected.max(), type(measured).__name__


@pytest.mark.parametrize("name", WARPS)
def test_labels_are_those_that_were_there_and_lie_where_the_image_does(name: str) -> None:
    torch.manual_seed(0)
    before = drawn()
    scribble = torch.full_like(before.labels, IGNORE)
    scribble[:, 40:43, 38:41], scribble[:, 2, 2] = 1, 0
    before = replace(before, labels=torch.where(torch.rand(COUNT, 1, 1) < 0.5, scribble, before.labels))
    after = WARPS[name](before)
    assert after.labels.dtype == torch.uint8
    assert set(after.labels.unique().tolist()) <= {0, 1, 2, IGNORE}
    assert (after.labels[after.frame.weight == 0] == IGNORE).all()
    full = (before.labels != IGNORE).flatten(1).all(1)
    mask, sure = after.labels[full] == 1, (after.images[full, 1] - 0.5).abs() > 0.2
    assert torch.equal(mask[sure], (after.images[full, 1] > 0.5)[sure])


def positions(count: int) -> Tensor:
    """Every voxel's own index, as the frame's image: so it is known afterwards where a voxel came from."""
    lines = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SPACE), indexing="ij")
    return torch.stack(lines).repeat(count, 1, 1, 1)


def marked(batch: Batch, marks: Tensor) -> Batch:
    return replace(batch, frame=replace(batch.frame, image=marks))


def inside(came_from: Tensor) -> Tensor:
    """Voxels that came from between the centres of others."""
    (row, column), (rows, columns) = came_from.unbind(1), SPACE
    found = (row > 0) & (row < rows - 1) & (column > 0) & (column < columns - 1)
    assert found.float().mean() > 0.3
    return found


@pytest.mark.parametrize("name", WARPS)
def test_agrees_with_scipy(name: str) -> None:
    """The same positions, given to another interpolation, of images and of labels."""
    torch.manual_seed(0)
    before = drawn(4)
    after = WARPS[name](marked(before, positions(4)))
    for sample, within in enumerate(inside(after.frame.image).numpy()):
        came_from = after.frame.image[sample].double().numpy()
        for channel in range(3):
            expected = ndi.map_coordinates(before.images[sample, channel].double().numpy(), came_from, order=1)
            np.testing.assert_allclose(after.images[sample, channel].numpy()[within], expected[within], atol=2e-4)
        expected = ndi.map_coordinates(before.labels[sample].numpy(), came_from, order=0)
        # but for positions half way between two voxels, to float32
        assert (after.labels[sample].numpy() == expected)[within].mean() > 0.999


def test_weights_are_the_jacobian_of_where_voxels_came_from() -> None:
    torch.manual_seed(0)
    after = WARPS["all"](marked(drawn(6), positions(6)))
    row, column = after.frame.image.double().unbind(1)
    down = [torch.gradient(x, dim=1)[0] for x in (row, column)]
    right = [torch.gradient(x, dim=2)[0] for x in (row, column)]
    numeric = 2.25 * (down[0] * right[1] - down[1] * right[0])
    outer = (~inside(after.frame.image)).float()
    interior = torch.nn.functional.max_pool2d(outer, 3, 1, 1) == 0
    error = (after.frame.weight - numeric).abs()[interior] / 2.25
    assert error.max() < 0.05
    assert error.mean() < 0.005
    assert (after.frame.weight >= 0).all()


def test_affine_maps_say_where_voxels_came_from() -> None:
    torch.manual_seed(0)
    before, shape = drawn(), torch.Size(SPACE)
    after = AFFINE(mirror(marked(before, torch.cat([before.frame.coordinates(shape)[:, :2], positions(COUNT)], 1))))
    told, came_from = after.frame.image.split(2, 1)
    where = after.frame.coordinates(shape)
    assert (where[:, :2] - told).abs().amax(1)[inside(came_from)].max() < 1e-3
    assert (where[:, 2] == 4).all()


def test_a_turn_is_one_in_mm_so_that_discs_stay_discs() -> None:
    torch.manual_seed(0)
    before = drawn(8)
    after = Warp(IGNORE, ALL, turn=Even(-90, 90))(before)

    def lengths_and_angle(batch: Batch) -> Tensor:
        steps_mm = batch.frame.affine[:, :2, :2].double() * batch.frame.spacing_mm[:, :2, None]
        return steps_mm.mT @ steps_mm

    assert not torch.equal(after.frame.affine, before.frame.affine)
    torch.testing.assert_close(lengths_and_angle(after), lengths_and_angle(before), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("quarter", [-90.0, 90.0, 180.0])
def test_a_quarter_turn_is_what_exact_ones_make_of_it(quarter: float) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 1, 32, 32)
    batch = replace(
        drawn(2),
        images=images,
        labels=(4 * images[:, 0]).to(torch.uint8),
        frame=Frame(torch.rand(2, 32, 32), torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)),
    )
    after = Warp(IGNORE, ALL, turn=Even(quarter, quarter))(batch)
    for x, moved in ((images, after.images), (batch.labels, after.labels), (batch.frame.weight, after.frame.weight)):
        exact = torch.rot90(x, round(quarter / 90), (-2, -1))
        torch.testing.assert_close(moved, exact, atol=1e-4, rtol=0)
    assert after.frame.whole.all()


@pytest.mark.parametrize(
    "still",
    [
        Warp(IGNORE, (False,) * 3),
        Warp(IGNORE, (False,) * 3, Even(0, 0), Even(0, 0), Even(0, 0)),
        Warp(IGNORE, (False,) * 3, Even(-9, 9, 0), Even(-1, 1, 0), Even(-9, 9, 0), Elastic(6, 20, 0)),
        IntensityChange(Even(-1, 1, 0), Even(-1, 1, 0), Even(-1, 1, 0)),
        Noise(0.0),
        Noise(1.0, probability=0),
    ],
    ids=str,
)
@pytest.mark.parametrize("broadcast", [True, False], ids=["one weight", "weights"])
def test_what_changes_nothing_leaves_every_bit(still: Warp, broadcast: bool) -> None:
    before = drawn(4, broadcast=broadcast)
    assert same(still(before), before)


def test_samples_are_drawn_for_themselves_and_by_the_seed() -> None:
    before = drawn(8)
    steps = [
        Warp(IGNORE, ALL, turn=Even(-30, 30, 0.5), elastic=Elastic(6, 20, 0.5)),
        IntensityChange(Even(-0.2, 0.2), Even(-0.2, 0.2), Even(-0.2, 0.2)),
        Noise(0.1),
    ]

    def augmented() -> Batch:
        torch.manual_seed(3)
        after = before
        for step in steps:
            after = step(after)
        return after

    assert same(augmented(), augmented())
    torch.manual_seed(1)
    warped = steps[0](before)
    still = (warped.images == before.images).flatten(1).all(1)
    assert 0 < still.sum() < 8
    assert len({tuple(image.flatten().tolist()) for image in warped.images}) == 8 - int(still.sum()) + 1


@pytest.mark.filterwarnings("ignore:.*CPU autocast")
def test_autocast_and_gradients_are_left_out() -> None:
    before = drawn(4)
    step = WARPS["all"]
    torch.manual_seed(0)
    plain = step(before)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        after = step(replace(before, images=before.images.requires_grad_()))
    assert same(after, plain)
    assert not after.images.requires_grad
    assert after.images.dtype == torch.float32


def test_bending_keeps_the_border_folds_nothing_and_moves_as_far_as_it_says() -> None:
    torch.manual_seed(0)
    steepest = Elastic(displacement=FOLDS_AT * 16, spacing=16)
    space = torch.Size((64, 48))
    # the worst that can be drawn: every control point at one end or the other
    control = steepest.draw(2000, space, torch.device("cpu")).sign() * steepest.displacement
    displacement, larger = steepest.bend(control, space)
    assert displacement.abs().max() <= steepest.displacement
    assert larger.min() > 0
    assert larger.mean((1, 2)).sub(1).abs().max() < 5e-3, "the grid is mapped onto itself"
    # half a voxel from the border, where u is 0
    at_border = displacement[..., 0].abs().max()
    assert at_border < 1.5 / 16 * steepest.displacement
    common = Elastic(4, 32)
    found, _ = common.bend(common.draw(200, torch.Size((256, 256)), torch.device("cpu")), torch.Size((256, 256)))
    assert 0.2 < found.square().mean().sqrt() / 4 < 0.28


@pytest.mark.parametrize(("displacement", "spacing"), [(10.0, 20.0), (3.0, 6.0)])
def test_what_may_fold_is_refused(displacement: float, spacing: float) -> None:
    with pytest.raises(ValueError, match="may fold the image: use"):
        Elastic(displacement, spacing)
    with pytest.raises(ValueError, match="leave none inside of 30 px: use 15 at most"):
        Elastic(1, 20).cells(30)


CUTTING = [
    Warp(IGNORE, (True, False, True), turn=Even(20, 20)),
    Warp(IGNORE, (True, False, True), zoom=Even(0.2, 0.2)),
    Warp(IGNORE, (True, False, True), shift=Even(-3, -3)),
]


@pytest.mark.parametrize("warp", CUTTING, ids=["turn", "zoom", "shift"])
def test_a_class_is_whole_where_nothing_was_lost_or_was_declared_to_lie_elsewhere(warp: Warp) -> None:
    torch.manual_seed(0)
    some = replace(warp, turn=replace(warp.turn, probability=warp.turn.probability / 2))
    cut = warp(drawn(broadcast=True)).frame.whole
    assert torch.equal(cut, torch.tensor([warp.complete]).expand(COUNT, 3))
    assert warp(drawn(padding=32)).frame.whole.all(), "padding holds nothing"
    was_not = drawn()
    was_not = replace(was_not, frame=replace(was_not.frame, whole=~was_not.frame.whole))
    assert not some(was_not).frame.whole.any(), "what a crop has cut stays cut"
    assert some(replace(was_not, frame=replace(was_not.frame, whole=None))).frame.whole.shape == (COUNT, 3)


@pytest.mark.parametrize(
    "warp",
    [
        Warp(IGNORE, (False,) * 3, zoom=Even(-0.3, 0)),
        Warp(IGNORE, (False,) * 3, elastic=ELASTIC),
        Warp(IGNORE, (False,) * 3, turn=Even(180, 180)),
    ],
    ids=["smaller", "bent", "upside down"],
)
def test_nothing_is_lost_where_the_grid_holds_it_all(warp: Warp) -> None:
    torch.manual_seed(0)
    after = warp(drawn(broadcast=True))
    assert after.frame.whole.all()
    # every voxel of the case is still counted
    found = Size("px")(torch.ones(COUNT, 1, *SPACE), after.frame)
    torch.testing.assert_close(found, torch.full_like(found, 2.25 * SPACE[0] * SPACE[1]), rtol=0.01, atol=0)


def test_what_is_beyond_the_grid_looks_like_padding_and_is_unknown() -> None:
    batch = drawn(2)
    after = Warp(IGNORE, ALL, shift=Even(10, 10))(batch)
    assert (after.labels[:, :10] == IGNORE).all()
    assert (after.frame.weight[:, :10] == 0).all()
    assert (after.frame.bands[:, :, :10] == 0).all()
    least = batch.images.amin((2, 3), keepdim=True)
    torch.testing.assert_close(after.images[:, :, :10], least.expand(-1, -1, 10, SPACE[1]))
    torch.testing.assert_close(after.images[:, :, 10:, 10:], batch.images[:, :, :-10, :-10])


def test_intensities_change_in_the_image_and_not_in_the_frame() -> None:
    torch.manual_seed(0)
    before = drawn(padding=8)
    after = IntensityChange(gain=Even(0.5, 0.5), shift=Even(2, 2))(before)
    torch.testing.assert_close(after.images, 1.5 * before.images + 2)
    raised = IntensityChange(gamma=Even(math.log(2), math.log(2)))(before).images
    unit = (before.images - before.images.amin((2, 3), keepdim=True)) / (
        before.images.amax((2, 3), keepdim=True) - before.images.amin((2, 3), keepdim=True)
    )
    again = (raised - raised.amin((2, 3), keepdim=True)) / (
        raised.amax((2, 3), keepdim=True) - raised.amin((2, 3), keepdim=True)
    )
    torch.testing.assert_close(again, unit**2, atol=1e-5, rtol=1e-4)
    noisy = Noise(0.3)(before)
    difference = noisy.images - before.images
    there = (before.frame.weight > 0).unsqueeze(1).expand_as(difference)
    assert (difference[~there] == 0).all()
    assert float(difference[there].std()) == pytest.approx(0.3, rel=0.01)
    for changed in (after, noisy):
        assert changed.frame is before.frame
        assert changed.labels is before.labels
    constant = replace(before, images=torch.ones_like(before.images))
    assert torch.equal(IntensityChange(gamma=Even(-1, 1))(constant).images, constant.images)


def test_mirrors_and_warps_compose() -> None:
    torch.manual_seed(0)
    batch = drawn()
    square = replace(batch, images=batch.images[..., :88, :], labels=batch.labels[:, :88])
    square = replace(
        square,
        frame=replace(
            batch.frame,
            weight=batch.frame.weight[:, :88],
            image=batch.frame.image[:, :, :88],
            bands=batch.frame.bands[:, :, :88],
        ),
    )
    after = replace(AFFINE, elastic=None)(transpose(mirror(square)))
    centres = Centroid("mm")
    error = centres(blobs(after), after.frame.in_plane()) - centres(blobs(square), square.frame.in_plane())
    assert error.abs().max() < 0.1
    assert NONE.draw(2, 2, torch.device("cpu")).eq(0).all()


def test_the_picture_of_the_docs_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Path(__file__).parents[2] / "docs" / "draw_augmentation.py"
    monkeypatch.setattr(sys, "argv", [script.name, "--out", str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    assert [path.name for path in tmp_path.iterdir()] == ["augmentation.png"]
