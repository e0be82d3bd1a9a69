import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from boundseg.data.phantom import LABELS, heart, patient, patients
from boundseg.errors import InputError

LV, MYO, RV = LABELS["LV"], LABELS["Myo"], LABELS["RV"]

# coarse pixels keep whole hearts in few of them
COARSE = {"shape": (40, 44), "spacing_mm": (3.0, 4.0)}


def volume_ml(phantom, label):
    return (phantom.target == label).sum() * np.prod(phantom.spacing_mm) / 1000


@pytest.fixture(scope="module")
def many():
    """Both phases of enough patients to speak of their spread."""
    return [patient([5, number]) for number in range(16)]


@given(st.integers(0, 2**40))
@settings(deadline=None, max_examples=15)
def test_a_seed_gives_the_same_volume_again_and_another_seed_another(seed):
    one, same, other = heart(seed, **COARSE), heart([seed], **COARSE), heart(seed + 1, **COARSE)
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.target, same.target)
    assert one.spacing_mm == same.spacing_mm
    assert one.image.shape != other.image.shape or not np.allclose(one.image, other.image)


def test_a_case_does_not_depend_on_how_many_were_asked_for():
    few, more = dict(patients(1, 3, **COARSE)), dict(patients(3, 3, **COARSE))
    assert list(more) == [f"patient0{i}_frame0{f}" for i in (1, 2, 3) for f in (1, 2)]
    for case in few:
        assert np.array_equal(few[case].image, more[case].image)
    assert np.array_equal(few["patient01_frame02"].target, patient([3, 1], **COARSE)[1].target)


@given(st.integers(0, 2**40), st.sampled_from([(4, 4), (6, 9), (12, 12)]))
@example(11342578, (12, 12))  # a tip that lies between the centres of pixels
@settings(deadline=None, max_examples=40)
def test_every_phase_has_one_to_three_slices_without_cavity_at_its_ends(seed, slices):
    for phantom in patient(seed, slices=slices, **COARSE):
        assert slices[0] <= len(phantom.target) <= slices[1]
        shown = np.flatnonzero((phantom.target == LV).any((1, 2)))
        assert 1 <= len(phantom.target) - len(shown) <= 3
        assert np.array_equal(shown, np.arange(shown[0], shown[-1] + 1))


def test_areas_fall_tenfold_from_base_to_apex(many):
    for phantom in (phase for phases in many for phase in phases):
        areas = (phantom.target == LV).sum((1, 2))
        areas = areas[areas > 0]
        assert areas[0] >= 10 * areas[-1]


def test_the_cavity_is_one_piece_inside_of_the_muscle(many):
    for phantom in (phase for phases in many for phase in phases):
        for slice_ in phantom.target:
            cavity = slice_ == LV
            if not cavity.any():
                continue
            assert ndimage.label(cavity)[1] == 1
            around = ndimage.binary_dilation(cavity) & ~cavity
            assert (slice_[around] == MYO).all()


def test_volumes_differ_between_patients_and_pixels_are_drawn_in_mm(many):
    volumes = np.array([volume_ml(ed, LV) for ed, _ in many])
    assert np.quantile(volumes, 0.9) > 2 * np.quantile(volumes, 0.1)
    assert volumes.min() > 10
    assert volumes.max() < 250
    pixels = np.array([ed.spacing_mm[1] for ed, _ in many])
    assert pixels.min() >= 1.2
    assert pixels.max() <= 1.8
    assert np.ptp(pixels) > 0.3
    assert all(8 <= ed.spacing_mm[0] <= 10 for ed, _ in many)


def test_the_same_patient_on_a_finer_grid_has_the_same_volume():
    coarse = heart(11, shape=(96, 96), spacing_mm=(1.6, 1.6))
    fine = heart(11, shape=(192, 192), spacing_mm=(0.8, 0.8))
    assert coarse.spacing_mm[0] == fine.spacing_mm[0]
    for label in (LV, MYO):
        assert volume_ml(fine, label) == pytest.approx(volume_ml(coarse, label), rel=0.03)


def test_contraction_shrinks_the_cavity_thickens_the_muscle_and_moves_nothing_else(many):
    for ed, es in many:
        assert ed.image.shape == es.image.shape
        assert ed.spacing_mm == es.spacing_mm
        assert 0.2 < volume_ml(es, LV) / volume_ml(ed, LV) < 0.85
        middle = (ed.target == LV).any((1, 2)).nonzero()[0].mean().astype(int)
        ring_ed, ring_es = ed.target[middle] == MYO, es.target[middle] == MYO
        inside_ed, inside_es = ed.target[middle] == LV, es.target[middle] == LV
        thickness_ed, thickness_es = (
            np.sqrt((ring | inside).sum()) - np.sqrt(inside.sum())
            for ring, inside in ((ring_ed, inside_ed), (ring_es, inside_es))
        )
        assert thickness_es > thickness_ed
        # far from either phase's heart the two images differ by noise alone
        far = ~ndimage.binary_dilation((ed.target > 0) | (es.target > 0), np.ones((3, 1, 1)), iterations=2)
        far &= ~ndimage.binary_dilation((ed.target + es.target).any(0), iterations=12)
        if far.sum() > 500:
            blurred = [ndimage.gaussian_filter(p.image, (0, 2, 2)) for p in (ed, es)]
            assert np.corrcoef(blurred[0][far], blurred[1][far])[0, 1] > 0.95


def test_brightness_alone_does_not_tell_the_cavity(many):
    for ed, _ in many:
        brightness = {name: ed.image[ed.target == label].mean() for name, label in LABELS.items()}
        assert brightness["RV"] == pytest.approx(brightness["LV"], rel=0.35)
        assert brightness["Myo"] < 0.7 * brightness["LV"]
        # the best threshold for this very volume still marks more that is not the cavity than is
        cavity = ed.target == LV
        dice = [
            2 * (cavity & above).sum() / (cavity.sum() + above.sum())
            for above in (ed.image > t for t in np.quantile(ed.image, np.linspace(0.5, 0.99, 25)))
        ]
        assert max(dice) < 0.6


def test_images_are_finite_positive_and_fit_sixteen_bits(many):
    for phantom in (phase for phases in many for phase in phases):
        assert phantom.image.min() >= 0
        assert 100 < phantom.image.max() < 4000
        assert set(np.unique(phantom.target)) == set(LABELS.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": (3, 9)}, "Use 4 or more, least first"),
        ({"slices": (9, 6)}, "Hearts of 9 to 6 slices"),
        ({"shape": (0, 96)}, "at least one row and column"),
        ({"spacing_mm": (0.0, 1.0)}, "positive distances"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(InputError, match=message):
        heart(0, **options)
