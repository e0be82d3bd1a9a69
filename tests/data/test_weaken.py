import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from boundseg.data.weaken import METHODS, Statistics, case_generator, disc, erosion, on_grid, statistics
from boundseg.errors import InputError

IGNORE = 9


def blobs(seed: int, shape=(3, 40, 36), coarse=1.0) -> np.ndarray:
    """Smooth random regions of classes 0 … 3, some touching the image's edge, some of one pixel."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), (0, 5 * coarse, 5 * coarse))
    target = np.digitize(smooth, np.quantile(smooth, [0.4, 0.6, 0.8])).astype(np.uint8)
    target[0, 0, 0] = 3
    target[-1][target[-1] == 1] = 0
    return target


def erosions():
    return st.fixed_dictionaries({"reading": st.sampled_from(["published", "text"]), "kernel": st.integers(1, 12)}).map(
        lambda options: (erosion, options)
    )


def discs():
    options = {"radius_px": st.sampled_from([0, 1, 2.5, 4, 30]), "centre": st.sampled_from(["random", "centroid"])}
    return st.fixed_dictionaries(options).map(lambda options: (disc, options))


def methods():
    return st.one_of(erosions(), discs())


@given(st.integers(0, 2**32), methods(), st.sampled_from([(1,), (1, 3), (3, 2, 1)]))
@settings(deadline=None)
def test_labels_lie_inside_the_masks_and_every_slice_has_one(seed, method, classes):
    weaken, options = method
    target = blobs(seed)
    labels = weaken(target, classes=classes, ignore=IGNORE, rng=np.random.default_rng(seed), **options)
    assert labels.dtype == target.dtype
    known = labels != IGNORE
    assert np.array_equal(labels[known], target[known])
    assert set(np.unique(labels)) <= {IGNORE, *classes}
    assert not any(statistics(labels, target, classes=classes).unlabelled_slices.values())


@given(
    st.integers(0, 2**32),
    methods(),
    st.sampled_from([(40, 36), (256, 256), (17, 53), (5, 4), (1, 1)]),
)
@settings(deadline=None, max_examples=50)
def test_on_any_grid_the_same_two_laws_hold(seed, method, size):
    weaken, options = method
    target = blobs(seed)
    rng = np.random.default_rng(seed)
    labels = on_grid(weaken, target, size, classes=(1, 2, 3), ignore=IGNORE, rng=rng, **options)
    assert labels.shape == target.shape
    assert labels.dtype == target.dtype
    known = labels != IGNORE
    assert np.array_equal(labels[known], target[known])
    assert not any(statistics(labels, target, classes=(1, 2, 3)).unlabelled_slices.values())


@pytest.mark.parametrize("weaken", METHODS.values(), ids=METHODS)
def test_the_own_grid_changes_nothing(weaken):
    target = blobs(1)
    direct = weaken(target, classes=(2,), ignore=IGNORE, rng=np.random.default_rng(3))
    gridded = on_grid(weaken, target, (40, 36), classes=(2,), ignore=IGNORE, rng=np.random.default_rng(3))
    assert np.array_equal(direct, gridded)


@pytest.mark.parametrize("weaken", METHODS.values(), ids=METHODS)
def test_volumes_without_the_class_or_without_slices_stay_unlabelled(weaken):
    for shape in [(1, 8, 8), (0, 8, 8), (2, 0, 4)]:
        empty = np.zeros(shape, np.int16)
        labels = weaken(empty, classes=(1,), ignore=-1, rng=np.random.default_rng(0))
        assert labels.shape == shape
        assert (labels == -1).all()


@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([0.3, 1.0, 2.0]))
@settings(deadline=None, max_examples=50)
def test_published_erosion_is_the_square_iterated_and_less_where_nothing_is_left(seed, kernel, coarse):
    target = blobs(seed, coarse=coarse)
    labels = erosion(target, classes=(2,), ignore=IGNORE, kernel=kernel)
    for mask, got in zip(target == 2, labels == 2, strict=True):
        for iterations in range(kernel, -1, -1):
            expected = mask
            for _ in range(iterations):
                expected = ndimage.binary_erosion(expected, np.ones((3, 3)), border_value=0)
            if expected.any():
                break
        assert np.array_equal(got, expected)


@given(st.integers(0, 2**32), st.sampled_from([0.3, 1.0, 2.0]))
@settings(deadline=None, max_examples=50)
def test_text_erosion_is_one_erosion_by_a_square(seed, coarse):
    target = blobs(seed, coarse=coarse)
    labels = erosion(target, classes=(2,), ignore=IGNORE, reading="text")
    for mask, got in zip(target == 2, labels == 2, strict=True):
        for side in (10, 7, 6, 5, 4, 3, 2, 1):
            expected = ndimage.binary_erosion(mask, np.ones((side, side)), border_value=0)
            if expected.any():
                break
        assert np.array_equal(got, expected)


def test_the_even_square_is_anchored_at_its_index_5():
    target = np.zeros((1, 30, 30), np.uint8)
    target[0, 8:18, 3:13] = 1
    labels = erosion(target, classes=(1,), ignore=IGNORE, reading="text")
    assert np.argwhere(labels == 1).tolist() == [[0, 8 + 5, 3 + 5]]


def test_outside_of_the_image_counts_as_background():
    full = np.ones((1, 30, 40), np.uint8)
    published = erosion(full, classes=(1,), ignore=IGNORE)
    text = erosion(full, classes=(1,), ignore=IGNORE, reading="text")
    around = disc(full[:, :1], classes=(1,), ignore=IGNORE, rng=np.random.default_rng(0))
    assert (published == 1).sum() == (30 - 20) * (40 - 20)
    assert (text == 1).sum() == (30 - 9) * (40 - 9)
    assert (around == 1).sum() == 1


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2.5, 4, 30]))
@settings(deadline=None)
def test_a_disc_is_all_pixels_around_a_seed_and_clear_of_the_border(seed, radius_px):
    target = blobs(seed)
    labels = disc(target, classes=(2,), ignore=IGNORE, rng=np.random.default_rng(seed), radius_px=radius_px)
    for mask, got in zip(target == 2, labels == 2, strict=True):
        if not mask.any():
            continue
        outside = np.argwhere(~np.pad(mask, 1)) - 1
        inside = np.argwhere(mask)

        def distances(p, pixels):
            return np.hypot(*(pixels - p).T)

        def disc_at(p, inside=inside, outside=outside):
            from_p = distances(p, inside)
            return inside[(from_p <= radius_px) & (from_p < distances(p, outside).min())]

        marked = np.argwhere(got)
        # A disc is symmetric: its mean is the seed.
        assert np.array_equal(marked, disc_at(marked.mean(0)))


def test_every_pixel_of_a_mask_may_be_the_seed():
    target = np.zeros((4000, 5, 5), np.uint8)
    target[:, 1:4, 2] = 1
    labels = disc(target, classes=(1,), ignore=IGNORE, rng=np.random.default_rng(0), radius_px=0)
    share = (labels == 1).mean(0)
    assert np.allclose(share[1:4, 2], 1 / 3, atol=0.03)
    assert share.sum() == pytest.approx(1)


def test_a_disc_in_the_middle_is_where_the_centroid_is_or_the_mask_next_to_it():
    target = np.zeros((2, 11, 11), np.uint8)
    target[0, 1:10, 2:9] = 1  # its centroid is one of its pixels
    target[1, 1:10, 2:5] = target[1, 8:10, 2:10] = 1  # an L: its centroid, about (6.1, 4.2), lies inside its upright
    ones = [
        disc(target, classes=(1,), ignore=IGNORE, rng=np.random.default_rng(seed), radius_px=0, centre="centroid")
        for seed in range(2)
    ]
    assert np.array_equal(*ones), "nothing is drawn"
    assert np.argwhere(ones[0] == 1).tolist() == [[0, 5, 5], [1, 6, 4]]


def test_a_doubled_grid_reads_every_pixel_twice_and_comes_back_exactly():
    target = blobs(5)
    seen = []

    def watch(masks, **_):
        seen.append(masks)
        return masks

    back = on_grid(watch, target, (80, 72), classes=(1, 2, 3), ignore=IGNORE)
    assert np.array_equal(seen[0], target.repeat(2, 1).repeat(2, 2))
    assert np.array_equal(back[back != IGNORE], target[back != IGNORE])
    assert np.array_equal(back != IGNORE, np.ones_like(back, bool))


def test_a_coarse_grid_reads_the_pixels_under_its_centres():
    seen = []

    def watch(masks, **_):
        seen.append(masks)
        return masks

    on_grid(watch, np.arange(100, dtype=np.int16).reshape(1, 10, 10), (2, 3), classes=(), ignore=-1)
    # ⌊(i + ½) 10 / 2⌋ = 2, 7 and ⌊(i + ½) 10 / 3⌋ = 1, 5, 8
    assert seen[0].tolist() == [[[21, 25, 28], [71, 75, 78]]]


def test_what_is_lost_on_the_way_back_leaves_its_centre():
    target = np.zeros((2, 10, 10), np.uint8)
    target[0, 2:7, 3:8] = 1
    target[1, 4, 0] = 1  # read by no pixel of a 2 × 2 grid

    def one_pixel(masks, **_):
        labels = np.full_like(masks, IGNORE)
        labels[0, 47, 57] = 1  # of 100 × 100; the file's pixels read 5, 15, …, 95
        labels[0, 48, 58] = 1
        return labels

    labels = on_grid(one_pixel, target, (100, 100), classes=(1,), ignore=IGNORE)
    assert np.argwhere(labels == 1).tolist() == [[0, 4, 5], [1, 4, 0]]
    labels = on_grid(erosion, target[1:], (2, 2), classes=(1,), ignore=IGNORE)
    assert np.argwhere(labels == 1).tolist() == [[0, 4, 0]]


def test_a_case_draws_the_same_whatever_the_order():
    draws = {case: case_generator(7, case).random(3).tolist() for case in ["a", "b"]}
    again = {case: case_generator(7, case).random(3).tolist() for case in ["b", "a"]}
    assert draws == again
    assert draws["a"] != draws["b"]
    assert draws["a"] != case_generator(8, "a").random(3).tolist()


def test_statistics_of_a_volume_counted_by_hand():
    target = np.zeros((3, 2, 2), np.uint8)
    target[0], target[1, 0] = 1, 2
    labels = np.full_like(target, IGNORE)
    labels[0, 0] = 1
    counted = statistics(labels, target, classes=(1, 2))
    assert counted == Statistics(12, {1: 2, 2: 0}, {1: 1, 2: 1}, {1: 0, 2: 1})
    assert counted.share == 2 / 12
    assert counted + counted == Statistics(24, {1: 4, 2: 0}, {1: 2, 2: 2}, {1: 0, 2: 2})
    assert np.isnan(statistics(labels[:0], target[:0], classes=(1,)).share)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: erosion(t, classes=(0, 1), ignore=IGNORE), "Class 0, the background"),
        (lambda t: erosion(t, classes=(1,), ignore=1), "The value 1 is both a class"),
        (lambda t: erosion(t, classes=(1,), ignore=-1), "does not fit the masks' type uint8"),
        (lambda t: erosion(t, classes=(1,), ignore=IGNORE, kernel=0), "Use 1 or more"),
        (lambda t: on_grid(erosion, t, (0, 4), classes=(1,), ignore=IGNORE), "A grid of 0×4 pixels"),
        (
            lambda t: disc(t, classes=(1,), ignore=IGNORE, rng=np.random.default_rng(0), radius_px=-1),
            "The radius of the disc is -1 px",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call(blobs(0))


def test_shares_on_acdc():
    folder = os.environ.get("BOUNDSEG_DATA")
    if not folder or not (Path(folder) / "acdc").is_dir():
        pytest.skip("BOUNDSEG_DATA names no folder that contains acdc/")
    shares = {"published": Statistics(0, {}, {}, {}), "text": Statistics(0, {}, {}, {})}
    for path in sorted((Path(folder) / "acdc").glob("patient*/*_gt.nii.gz")):
        target = np.moveaxis(np.asarray(nib.load(path).dataobj), 2, 0)
        for reading in shares:
            labels = erosion(target, classes=(3,), ignore=4, reading=reading)
            shares[reading] += statistics(labels, target, classes=(3,))
    assert shares["published"].share == pytest.approx(0.0012, rel=0.15)
    assert shares["text"].share == pytest.approx(0.0053, rel=0.15)
    assert not any(s.unlabelled_slices[3] for s in shares.values())
