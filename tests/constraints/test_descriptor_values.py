"""Descriptors of shapes with a known answer, on grids that are longer one way, and of masks that others measure too."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import ndimage
from torch import Tensor

from boundseg.constraints import (
    BoundaryLength,
    BoxSize,
    BoxTightness,
    Centroid,
    Compactness,
    Constraint,
    Distance,
    Elongation,
    Frame,
    Groups,
    Intensity,
    Leak,
    Moment,
    Ratio,
    Size,
    Spread,
    box_bands,
    box_bounds,
)
from tests.constraints.cases import blocks

Case = tuple[Tensor, Tensor]


def ellipsoid(
    radii_mm: tuple[float, ...], spacing: tuple[float, ...], edge: float, shift: float = 0.0
) -> tuple[Tensor, Frame]:
    """A disc, ball, ellipse or ellipsoid, whose probability falls from 1 to 0 over so many mm; 0 is a hard mask."""
    lines = []
    for radius, step in zip(radii_mm, spacing, strict=True):
        n = int(radius / step + edge) + 3
        lines.append(torch.arange(-n, n + 1, dtype=torch.float64) * step + shift * step)
    x = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)
    radii = torch.tensor(radii_mm).double()
    scaled = (x / radii).norm(dim=-1)
    # the distance from the surface to first order, exact for a ball
    steepness = (x / radii.square()).norm(dim=-1) / scaled
    distance = torch.where(scaled > 0, (scaled - 1) / steepness, -min(radii_mm))
    region = (0.5 - distance / edge).clamp(0, 1) if edge else (distance <= 0).double()
    frame = Frame.plain(1, len(radii_mm))
    return region[None, None], Frame(frame.weight.double(), torch.tensor([spacing]).double())


def close(actual: Tensor, expected: float, rtol: float) -> None:
    assert actual.flatten().tolist() == pytest.approx([expected] * actual.numel(), rel=rtol)


# moments


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 2.0), (4.0, 1.0)])
def test_a_rectangle_has_the_moments_of_the_rectangle(spacing: tuple[float, float]) -> None:
    """To the last digit, though it be two voxels wide."""
    n, m = 6, 2
    probs = torch.zeros(1, 1, 9, 12, dtype=torch.float64)
    probs[..., 2 : 2 + n, 5 : 5 + m] = 1
    frame = Frame(torch.ones(1, 1, 1).double(), torch.tensor([spacing]).double())
    a, b = n * spacing[0], m * spacing[1]
    torch.testing.assert_close(
        Centroid("mm")(probs, frame)[0, 0], torch.tensor([4.5 * spacing[0], 5.5 * spacing[1]]).double()
    )
    torch.testing.assert_close(
        Spread("mm")(probs, frame)[0, 0], torch.tensor([a / sqrt(12), b / sqrt(12)], dtype=torch.float64)
    )
    close(Elongation("mm")(probs, frame), ((a * a - b * b) / (a * a + b * b)) ** 2, 1e-12)
    close(Moment((2, 0), "mm")(probs, frame), a * a / 12 / (a * b), 1e-12)
    close(Moment((0, 4), "mm")(probs, frame), b**4 / 80 / (a * b) ** 2, 1e-12)
    close(Moment((2, 2), "mm")(probs, frame), 1 / 144, 1e-12)
    for powers in ((1, 1), (3, 0), (1, 2), (1, 3)):
        assert Moment(powers, "mm")(probs, frame).abs() < 1e-12


def test_a_block_has_the_moments_of_the_block() -> None:
    probs = torch.zeros(1, 1, 5, 6, 7, dtype=torch.float64)
    probs[..., 1:3, 1:5, 3:4] = 1
    frame = Frame(torch.ones(1, 1, 1, 1).double(), torch.tensor([[1.0, 2.0, 4.0]]).double())
    sides = torch.tensor([2.0, 8.0, 4.0]).double()
    torch.testing.assert_close(Spread("mm")(probs, frame)[0, 0], sides / sqrt(12))
    close(Elongation("mm")(probs, frame), 1 - 64.0**2 / 28**3, 1e-12)  # of squares 4, 64 and 16, whose mean is 28
    close(Moment((0, 2, 0), "mm")(probs, frame), 64 / 12 / 64 ** (2 / 3), 1e-12)
    close(Moment((0, 2, 2), "mm")(probs, frame), 64 / 12 * 16 / 12 / 64 ** (4 / 3), 1e-12)
    close(Size("mL")(probs, frame), 0.064, 1e-12)


def test_a_triangle_tells_its_heavier_side_and_its_diagonal() -> None:
    """Corners 0, a along the first axis and a along the second, whose moments a textbook has."""
    a = 240
    line = torch.arange(a, dtype=torch.float64)
    below = line.unsqueeze(1) + line + 1
    probs = (a + 0.5 - below).clamp(0, 1)[None, None]
    close(Centroid(axis=0)(probs) + 0.5, a / 3, 2e-3)
    close(Spread(axis=1)(probs), a / sqrt(18), 2e-3)
    # covariance -a² / 36 over V = a² / 2; third moment a³ / 135 over V^(3/2)
    close(Moment((1, 1))(probs), -1 / 18, 5e-3)
    close(Moment((3, 0))(probs), 2 * sqrt(2) / 135, 1e-2)
    assert Moment((3, 0))(probs.flip(2)) < 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (0.25, 1.0)])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_discs_and_ellipses(spacing: tuple[float, float], shift: float) -> None:
    probs, frame = ellipsoid((12.0, 12.0), spacing, edge=1.0, shift=shift)
    close(Size("mm2")(probs, frame), pi * 144, 2e-3)
    close(Spread("mm")(probs, frame), 6.0, 5e-3)
    assert Elongation("mm")(probs, frame) < 1e-4
    probs, frame = ellipsoid((15.0, 5.0), spacing, edge=1.0, shift=shift)
    close(Spread("mm", 0)(probs, frame), 7.5, 1e-2)
    close(Elongation("mm")(probs, frame), ((225 - 25) / (225 + 25)) ** 2, 2e-2)
    close(Moment((4, 0), "mm")(probs, frame), 15**4 / 8 / (pi * 75) ** 2, 2e-2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 1.0), (1.0, 0.5, 2.0)])
def test_balls(spacing: tuple[float, float, float]) -> None:
    probs, frame = ellipsoid((8.0, 8.0, 8.0), spacing, edge=1.0)
    close(Size("mL")(probs, frame), 4 / 3 * pi * 0.512, 5e-3)
    close(Spread("mm")(probs, frame), 8 / sqrt(5), 1.5e-2)
    assert Elongation("mm")(probs, frame) < 1e-4


def test_a_distance_is_that_of_the_middles() -> None:
    probs = torch.zeros(1, 4, 8, 8)
    probs[:, 0, :2, :2] = probs[:, 1, 3:5, 4:6] = 1
    probs[:, 2:, :4, :4] = 1
    frame = Frame(torch.ones(1, 1, 1), torch.tensor([[1.0, 2.0]]))
    close(Distance()(probs, frame)[:, 0], 5, 1e-6)
    close(Distance("mm")(probs, frame)[:, 0], sqrt(9 + 64), 1e-6)
    probs.requires_grad_()
    together = Distance()(probs, frame)[:, 1]
    (slope,) = torch.autograd.grad(together.sum(), probs)
    assert together == 0
    assert (slope == 0).all()


def test_an_axis_or_powers_that_the_frame_has_not_are_named() -> None:
    probs = torch.ones(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"a centroid along axis 2 needs a frame with that axis, and this one has 2"):
        Centroid(axis=2)(probs)
    with pytest.raises(ValueError, match=r"powers = \(1, 1, 0\): give one for each of the 2 axes"):
        Moment((1, 1, 0))(probs)
    with pytest.raises(ValueError, match=r"powers = \(1, 0\): a central moment takes .* of order 1 the centroid"):
        Moment((1, 0))
    with pytest.raises(ValueError, match=r"channel 1 is not in an image of 1; count from 0"):
        Intensity(channel=1)(probs, Frame(torch.ones(1, 1, 1), image=torch.ones(1, 1, 2, 2)))
    with pytest.raises(ValueError, match=r"Compactness\(dims=3\) was given a prediction of 2 axes"):
        Compactness(3)(probs)


# boundaries


@pytest.mark.parametrize("radius", [4, 5, 8, 16, 30])
@pytest.mark.parametrize("edge", [1.0, 2.0])
def test_a_soft_circle_is_as_long_as_it_is_to_a_hundredth(radius: int, edge: float) -> None:
    for shift in (0.0, 0.25, 0.5):
        probs, frame = ellipsoid((radius, radius), (1.0, 1.0), edge, shift)
        close(BoundaryLength()(probs, frame), 2 * pi * radius, 0.01)


@pytest.mark.parametrize("radius", [4, 8, 16])
def test_a_soft_ball_has_its_surface_to_a_hundredth(radius: int) -> None:
    probs, frame = ellipsoid((radius,) * 3, (1.0, 1.0, 1.0), 1.0, shift=0.25)
    close(BoundaryLength()(probs, frame), 4 * pi * radius**2, 0.01)


@pytest.mark.parametrize(("spacing", "excess"), [((1.0, 1.0), 0.055), ((1.0, 2.0), 0.09), ((1.0, 4.0), 0.15)])
def test_a_hard_circle_comes_out_longer_by_what_is_said(spacing: tuple[float, float], excess: float) -> None:
    found = []
    for shift in (0.0, 0.2, 0.4):
        probs, frame = ellipsoid((30.0, 30.0), spacing, 0.0, shift)
        found.append(float(BoundaryLength("mm")(probs, frame)) / (2 * pi * 30) - 1)
    assert sum(found) / 3 == pytest.approx(excess, abs=0.01)


def test_edges_along_axes_and_diagonals_are_exact() -> None:
    probs = torch.zeros(1, 1, 10, 12, dtype=torch.float64)
    probs[..., :4, :] = 1
    close(BoundaryLength()(probs), 11, 1e-12)
    frame = Frame(torch.ones(1, 1, 1).double(), torch.tensor([[1.0, 4.0]]).double())
    close(BoundaryLength("mm")(probs, frame), 44, 1e-12)
    diagonal = torch.ones(1, 1, 9, 9, dtype=torch.float64).tril()
    close(BoundaryLength()(diagonal), 7.5 * sqrt(2), 1e-12)  # between the middles of the border's voxels
    chessboard = (torch.arange(8).unsqueeze(1) + torch.arange(8)).remainder(2).double()[None, None]
    assert BoundaryLength()(chessboard) == 0


def test_a_soft_edge_at_any_angle_is_as_long_as_it_is_on_any_grid() -> None:
    """S is linear across the whole image: total variation slope times area."""
    for spacing in ((1.0, 1.0), (2.0, 1.0), (4.0, 1.0)):
        for angle in (0.0, 0.4, 1.1):
            lines = [torch.arange(n).double() * s for n, s in zip((9, 13), spacing, strict=True)]
            x, y = torch.meshgrid(*lines, indexing="ij")
            probs = 0.5 + 0.01 * (np.cos(angle) * x + np.sin(angle) * y)[None, None]
            frame = Frame(torch.ones(1, 1, 1).double(), torch.tensor([spacing]).double())
            close(BoundaryLength("mm")(probs, frame), 0.01 * 8 * spacing[0] * 12 * spacing[1], 1e-9)


def test_compactness_is_one_of_a_disc_and_a_ball_and_less_of_the_rest() -> None:
    close(Compactness()(*ellipsoid((16.0, 16.0), (1.0, 1.0), 1.0)), 1, 0.02)
    close(Compactness(unit="mm")(*ellipsoid((16.0, 16.0), (0.5, 1.0), 1.5)), 1, 0.02)
    close(Compactness(3)(*ellipsoid((9.0, 9.0, 9.0), (1.0, 1.0, 1.0), 1.0)), 1, 0.03)
    square = torch.zeros(1, 1, 60, 60)
    square[..., 10:50, 10:50] = 1
    close(Compactness()(square), pi / 4, 0.02)
    assert Compactness()(*ellipsoid((30.0, 6.0), (1.0, 1.0), 1.0)) < 0.6


# boxes, ratios, intensities


def test_a_region_that_touches_its_box_is_tight_and_a_smaller_one_is_not() -> None:
    box, space = torch.tensor([[[2, 9], [3, 7]]]), (12, 10)
    frame = Frame(torch.ones(1, 1, 1), bands=box_bands(box, space, 2))
    bounds = box_bounds(box, 2, 3)
    assert bounds.lower.tolist() == [[[2, 2, 3, 2, 2, -torch.inf]]]
    tight = Constraint("box", BoxTightness(3), ((0,),))
    plus = torch.zeros(1, 1, *space)
    plus[..., 2:9, 5] = plus[..., 4, 3:7] = 1
    term = tight(plus, bounds, frame)
    assert term.value.tolist() == [[[2, 5, 3, 2, 8, 0]]]
    assert term.cost.sum() == 0
    dot = torch.zeros(1, 1, *space)
    dot[..., 4:7, 4:6] = 1
    assert (tight(dot, bounds, frame).cost > 0).tolist() == [[[True, False, True, False, False, False]]]
    close(BoxSize("inside")(plus, frame), 10, 0)
    close(BoxSize("inside", "fraction")(plus, frame), 10 / 28, 1e-6)
    plus[..., 0, 0] = 1
    close(BoxSize()(plus, frame), 1, 0)
    close(BoxSize(unit="fraction")(plus, frame), 1 / 92, 1e-6)


def test_bands_are_numbered_within_the_box_and_the_last_takes_what_is_left() -> None:
    bands = box_bands(torch.tensor([[[1, 6], [0, 2]], [[0, 0], [0, 0]]]), (7, 3), 2)
    assert bands[0, 0, :, 0].tolist() == [0, 1, 1, 2, 2, 2, 0]
    assert bands[0, 1, 1].tolist() == [1, 1, 0]
    assert (bands[1] == 0).all()
    unknown = box_bounds(torch.tensor([[[0, 0], [0, 0]]]), 2, 2)
    assert not unknown.known.any()


def test_more_bands_than_are_counted_are_told() -> None:
    box = torch.tensor([[[2, 30], [2, 30]]])
    frame = Frame(torch.ones(1, 1, 1), bands=box_bands(box, (32, 32), width=4))
    assert BoxTightness(7)(torch.ones(1, 1, 32, 32), frame).tolist() == [[[112.0] * 14]]
    with pytest.raises(ValueError, match=r"the frame's boxes have more bands than BoxTightness\(4\) is of \(index 5"):
        BoxTightness(4)(torch.ones(1, 1, 32, 32), frame)


def test_a_ratio_and_a_leak_by_hand() -> None:
    probs = torch.tensor([[0.9, 0.4, 0.2], [0.1, 0.6, 0.8]]).reshape(1, 2, 1, 3)
    close(Ratio()(probs), 1.0, 1e-6)
    assert Leak()(probs)[0].tolist() == pytest.approx([0.4, 1 / 15])
    weight = torch.tensor([1.0, 2.0, 0.0]).reshape(1, 1, 3)
    close(Ratio()(probs, Frame(weight)), 1.7 / 1.3, 1e-6)


# oracles on hard masks


@given(blocks())
def test_hard_masks_agree_with_scipy(case: Case) -> None:
    probs, _ = case
    image = torch.rand(probs.shape[0], 1, *probs.shape[2:], generator=torch.Generator().manual_seed(0)) * 100
    frame = Frame(torch.ones(len(probs), *[1] * (probs.ndim - 2)), image=image)
    found = {
        "centre": Centroid()(probs),
        "size": Size()(probs),
        "mean": Intensity()(probs, frame),
        "variance": Intensity("variance")(probs, frame),
        "spread": Spread()(probs),
    }
    for b, r in np.ndindex(*probs.shape[:2]):
        mask = probs[b, r].numpy()
        if not mask.any():
            continue
        values = image[b, 0].double().numpy()
        positions = np.argwhere(mask)
        expected = {
            "centre": ndimage.center_of_mass(mask),
            "size": ndimage.sum_labels(mask, mask, 1),
            "mean": ndimage.mean(values, mask, 1),
            "variance": ndimage.variance(values, mask, 1),
            "spread": np.sqrt(positions.var(0) + 1 / 12),
        }
        for name, known in expected.items():
            np.testing.assert_allclose(found[name][b, r].numpy(), known, rtol=2e-5, atol=1e-4, err_msg=name)


def blob(seed: int = 0) -> Tensor:
    """An irregular region without holes, well inside of its image."""
    noise = torch.randn(40, 48, generator=torch.Generator().manual_seed(seed)).numpy()
    rows, columns = np.mgrid[:40, :48]
    far = np.hypot((rows - 18) / 9, (columns - 22) / 14)
    mask = ndimage.binary_fill_holes(far + 4 * ndimage.gaussian_filter(noise, 4) < 1)
    labels, _ = ndimage.label(mask)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    return torch.from_numpy(labels == largest).double()[None, None]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_irregular_mask_agrees_with_numpy_moments(seed: int) -> None:
    """Of points: a voxel as a box adds 1/12 to a variance, a half of the variance to a fourth moment and 1/80."""
    mask = blob(seed)
    positions = np.argwhere(mask[0, 0].numpy()).astype(float)
    d, n = positions - positions.mean(0), len(positions)
    close(Moment((1, 1))(mask), (d[:, 0] * d[:, 1]).sum() / n**2, 1e-9)
    close(Moment((2, 1))(mask), (d[:, 0] ** 2 * d[:, 1]).sum() / n**2.5, 1e-9)
    close(Moment((0, 3))(mask), (d[:, 1] ** 3).sum() / n**2.5, 1e-9)
    close(Moment((4, 0))(mask), (d[:, 0] ** 4 + d[:, 0] ** 2 / 2 + 1 / 80).sum() / n**3, 1e-9)
    close(Moment((2, 2))(mask), ((d[:, 0] ** 2 + 1 / 12) * (d[:, 1] ** 2 + 1 / 12)).sum() / n**3, 1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_irregular_mask_agrees_with_scikit_image(seed: int) -> None:
    measure = pytest.importorskip("skimage.measure")
    mask = blob(seed)
    (region,) = measure.regionprops(mask[0, 0].numpy().astype(int))
    assert Centroid()(mask)[0, 0].tolist() == pytest.approx(region.centroid)
    n, normalized, central = region.area, region.moments_normalized, region.moments_central
    close(Moment((1, 1))(mask), normalized[1, 1], 1e-9)
    close(Moment((2, 0))(mask), (central[2, 0] + n / 12) / n**2, 1e-9)
    close(Moment((2, 1))(mask), normalized[2, 1], 1e-9)
    close(Moment((3, 0))(mask), normalized[3, 0], 1e-9)
    covariance = central[[[2, 1], [1, 0]], [[0, 1], [1, 2]]] / n + np.eye(2) / 12
    one, other = np.linalg.eigvalsh(covariance)
    close(Elongation()(mask), ((one - other) / (one + other)) ** 2, 1e-9)
    torch.testing.assert_close(Spread()(mask)[0, 0], torch.from_numpy(np.sqrt(np.diag(covariance))))
    # the same mask with a soft edge, since a hard one comes out longer
    soft = torch.from_numpy(ndimage.gaussian_filter(mask.numpy(), (0, 0, 0.7, 0.7)))
    close(BoundaryLength()(soft), measure.perimeter_crofton(mask[0, 0].numpy(), 4), 0.05)


def test_a_volume_of_two_slices_has_its_own_variance_and_not_the_mean_of_both() -> None:
    probs = torch.ones(2, 1, 2, 2)
    frame = Frame(torch.ones(2, 1, 1), image=torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 2.0)]))
    variance = Constraint("σ²", Intensity("variance"), ((0,),), "volume")
    close(variance.measure(probs, frame, Groups(torch.tensor([0, 0]), torch.tensor([2]))), 1.0, 1e-6)


def test_a_haze_has_no_compactness_and_a_faint_disc_has_one() -> None:
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    disc = torch.sigmoid(10 - ((y - 20) ** 2 + (x - 19) ** 2).sqrt())
    haze = 0.5 + 1e-3 * torch.randn(40, 40, generator=torch.Generator().manual_seed(0))
    sums = Compactness().sums(torch.stack([disc, 0.5 * disc, haze])[None], Frame.plain(1, 2))
    assert Compactness().defined(sums).tolist() == [[True, True, False]]
    value = Compactness().value(sums)[0]
    assert 0.9 < value[0] < 1.1
    torch.testing.assert_close(value[1], 2 * value[0])
    assert value[2] == 0
