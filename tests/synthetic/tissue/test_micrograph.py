"""The micrograph: one tissue whatever window and pixel, a truth that fits the picture, optics that do as told."""

import base64
import json
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from synthetic.tissue.make_golden import GOLDEN, block_means, golden_picture

from emseg.errors import UsageError
from emseg.synthetic.tissue import (
    ISBI_IMAGING,
    ISBI_LIKE,
    URISC_IMAGING,
    URISC_LIKE,
    Imaging,
    Tissue,
    fingerprint,
    synthesize_tissue,
    tissue_with_membrane_fraction,
)
from emseg.synthetic.tissue.micrograph import FRACTION_TOLERANCE

QUIET = replace(ISBI_IMAGING, dose_per_nm2=None)
NOTHING = replace(ISBI_LIKE, mitochondria_per_um2=0.0, vesicle_pools=0.0, reticulum=0.0, synapses=0.0)
FLAT = Imaging(
    cell_variation=0.0, grain=0.0, unevenness=0.0, tilt_degrees=0.0, point_spread_nm=0.0, dose_per_nm2=None
)  # nothing but membrane on an even ground


def isbi(shape=(256, 256), **changes):
    arguments = {"pixel_size_nm": 4.0, "seed": 3, "tissue": ISBI_LIKE, "imaging": QUIET, **changes}
    return synthesize_tissue(shape, **arguments)


def same(p, q):
    return all(
        np.array_equal(getattr(p, name), getattr(q, name)) for name in ("image", "membrane", "cells", "organelles")
    )


# One tissue


def test_the_same_seed_gives_the_same_picture_and_another_seed_another():
    noisy = {"imaging": ISBI_IMAGING}
    first, again, other = isbi(**noisy), isbi(**noisy), isbi(seed=4, **noisy)
    assert same(first, again)
    assert (first.membrane != other.membrane).mean() > 0.2
    assert abs(np.corrcoef(first.image.ravel(), other.image.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("imaging", [QUIET, ISBI_IMAGING], ids=["without noise", "with noise"])
def test_a_window_equals_the_same_place_of_a_larger_picture(imaging):
    whole = isbi((300, 320), imaging=imaging)
    part = isbi((90, 110), imaging=imaging, origin_nm=(4.0 * 117, 4.0 * 201))
    place = np.s_[117:207, 201:311]
    np.testing.assert_array_equal(part.image, whole.image[place])
    np.testing.assert_array_equal(part.membrane, whole.membrane[place])
    np.testing.assert_array_equal(part.organelles, whole.organelles[place])
    np.testing.assert_array_equal(part.cell_keys[part.cells], whole.cell_keys[whole.cells[place]])


@settings(max_examples=15, deadline=None)
@given(
    row=st.integers(-4000, 4000),
    column=st.integers(-4000, 4000),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    pixel_size_nm=st.sampled_from([1.0, 2.5, 4.0, 16.0]),
)
def test_any_window_of_any_size_is_cut_from_one_tissue(row, column, height, width, pixel_size_nm):
    origin = (row * pixel_size_nm, column * pixel_size_nm)
    part = isbi((height, width), pixel_size_nm=pixel_size_nm, origin_nm=origin)
    shifted = (origin[0] - 7 * pixel_size_nm, origin[1] - 5 * pixel_size_nm)
    whole = isbi((height + 9, width + 8), pixel_size_nm=pixel_size_nm, origin_nm=shifted)
    place = np.s_[7 : 7 + height, 5 : 5 + width]
    assert (part.membrane == whole.membrane[place]).mean() > 0.999  # positions may differ in their last bit
    assert np.abs(part.image.astype(int) - whole.image[place]).mean() < 0.1


def test_the_same_tissue_appears_at_2_18_and_at_4_nm_per_pixel():
    fine = isbi((705, 705), pixel_size_nm=2.18)
    coarse = isbi((384, 384))
    at = np.minimum(((np.arange(384) + 0.5) * 4.0 / 2.18).astype(int), 704)
    membrane = fine.membrane[np.ix_(at, at)]
    assert (membrane & coarse.membrane).sum() / (membrane | coarse.membrane).sum() > 0.94
    keys = fine.cell_keys[fine.cells[np.ix_(at, at)]]
    assert (keys == coarse.cell_keys[coarse.cells]).mean() > 0.98
    assert abs(fine.n_cells - coarse.n_cells) <= 2
    assert fine.membrane_fraction == pytest.approx(coarse.membrane_fraction, rel=0.01)
    grey = ndimage.gaussian_filter(fine.image.astype(float), 1.0)[np.ix_(at, at)]
    assert np.corrcoef(grey.ravel(), coarse.image.ravel())[0, 1] > 0.9


def test_the_golden_window_still_looks_the_same():
    golden = json.loads(GOLDEN.read_text())
    picture = golden_picture()
    bits = np.frombuffer(base64.b64decode(golden["membrane"]), np.uint8)
    membrane = np.unpackbits(bits, count=picture.membrane.size).reshape(picture.membrane.shape).astype(bool)
    assert (membrane != picture.membrane).mean() < 1e-3  # processors may disagree in the last bit of a position
    assert picture.n_cells == golden["n_cells"]
    assert picture.fingerprint() == golden["fingerprint"]
    np.testing.assert_allclose(
        np.bincount(picture.organelles.ravel(), minlength=4), golden["organelle_pixels"], atol=20
    )
    np.testing.assert_allclose(block_means(picture.image), golden["block_means"], atol=0.5)


# The truth


def test_cells_are_zero_exactly_on_membrane_and_numbered_without_gaps():
    picture = isbi((400, 400))
    np.testing.assert_array_equal(picture.cells == 0, picture.membrane)
    np.testing.assert_array_equal(np.unique(picture.cells), np.arange(picture.n_cells + 1))
    assert picture.cell_keys[0] == 0
    assert len(np.unique(picture.cell_keys)) == picture.n_cells + 1


def test_a_cell_is_one_piece():
    pieces = pixels = strays = broken = 0
    for seed in range(4):
        picture = isbi((400, 400), seed=seed)
        for cell, box in enumerate(ndimage.find_objects(picture.cells), start=1):
            parts, n = ndimage.label(picture.cells[box] == cell)
            sizes = np.bincount(parts.ravel())[1:]
            pieces += 1
            broken += n > 1
            pixels += sizes.sum()
            strays += sizes.sum() - sizes.max()
    assert pieces > 200
    assert broken / pieces < 0.03  # necks narrower than a membrane, and corners cut by the window's edge
    assert strays / pixels < 1e-3


def test_two_cells_never_touch_without_membrane_between_them():
    cells = isbi((400, 400)).cells
    for one, two in ((cells[1:], cells[:-1]), (cells[:, 1:], cells[:, :-1])):
        assert not np.any((one != two) & (one > 0) & (two > 0))


@pytest.mark.parametrize(
    ("pixel_size_nm", "tissue"),
    [(2.18, URISC_LIKE), (1.0, URISC_LIKE), (2.0, replace(ISBI_LIKE, membrane_thickness_nm=40.0))],
)
def test_the_membrane_has_the_thickness_asked_for(pixel_size_nm, tissue):
    picture = synthesize_tissue((1000, 1000), pixel_size_nm=pixel_size_nm, seed=8, tissue=tissue, imaging=QUIET)
    # Grow the cells into the membrane; where they meet is its middle, and the middle's distance from cells half of it.
    half, nearest = ndimage.distance_transform_edt(picture.membrane, return_indices=True)
    grown = picture.cells[tuple(nearest)]
    middle = (grown[:-1, 1:] != grown[:-1, :-1]) | (grown[1:, :-1] != grown[:-1, :-1])
    thickness_nm = 2.0 * pixel_size_nm * half[:-1, :-1][middle & picture.membrane[:-1, :-1]]
    assert len(thickness_nm) > 300
    assert np.median(thickness_nm) == pytest.approx(tissue.membrane_thickness_nm, abs=pixel_size_nm)
    assert np.percentile(thickness_nm, 10) > tissue.membrane_thickness_nm - 2.5 * pixel_size_nm


def test_organelles_lie_in_cells_and_clear_of_membrane():
    tissue = replace(ISBI_LIKE, cell_diameter_nm=600.0, mitochondria_per_um2=4.0, vesicle_pools=1.0, reticulum=1.0)
    picture = isbi((700, 700), tissue=tissue)
    counts = np.bincount(picture.organelles.ravel(), minlength=4)
    assert np.all(counts[1:] > 500)
    clearance_nm = 4.0 * ndimage.distance_transform_edt(~picture.membrane)
    assert clearance_nm[picture.organelles > 0].min() >= 4.0


def test_without_organelles_there_are_none():
    assert not isbi(tissue=NOTHING).organelles.any()


# The fraction


@pytest.mark.parametrize("fraction", [0.05, 0.22])
@pytest.mark.parametrize(("pixel_size_nm", "shape"), [(2.18, (1024, 900)), (4.0, (512, 512)), (8.0, (700, 800))])
def test_5_and_22_percent_of_membrane_are_both_reached(fraction, pixel_size_nm, shape):
    picture = isbi(shape, pixel_size_nm=pixel_size_nm, tissue=URISC_LIKE, membrane_fraction=fraction)
    assert picture.membrane_fraction == pytest.approx(fraction, rel=FRACTION_TOLERANCE + 0.02)
    assert replace(picture.tissue, cell_diameter_nm=1000.0) == replace(URISC_LIKE, cell_diameter_nm=1000.0)
    assert same(picture, isbi(shape, pixel_size_nm=pixel_size_nm, tissue=picture.tissue))


def test_the_presets_hold_the_fractions_of_their_data_sets():
    urisc = [
        synthesize_tissue((1245, 1245), pixel_size_nm=8 * 2.18, seed=seed, tissue=URISC_LIKE).membrane_fraction
        for seed in (1, 2)
    ]
    isbi_like = [isbi((512, 512), seed=seed).membrane_fraction for seed in range(12)]
    assert np.mean(urisc) == pytest.approx(0.0510, abs=0.005)
    assert np.mean(isbi_like) == pytest.approx(0.2196, abs=0.0238)


def test_a_fraction_out_of_reach_is_refused_with_what_can_be_reached():
    with pytest.raises(UsageError, match=r"`membrane_fraction` must be within reach .* nm across give"):
        tissue_with_membrane_fraction(0.9, ISBI_LIKE, shape=(100, 100), pixel_size_nm=4.0, seed=1)


# The picture


def test_membrane_is_darker_than_cytoplasm():
    for picture in (isbi(imaging=ISBI_IMAGING), isbi(tissue=URISC_LIKE, imaging=URISC_IMAGING, shape=(512, 512))):
        inside, outside = picture.image[picture.membrane].mean(), picture.image[~picture.membrane].mean()
        assert inside < outside - 30.0


def test_mitochondria_mimic_membrane_in_grey():
    tissue = replace(NOTHING, cell_diameter_nm=800.0, mitochondria_per_um2=4.0)
    picture = isbi((600, 600), tissue=tissue)
    grey = {label: picture.image[(picture.organelles == label) & ~picture.membrane].mean() for label in (0, 1)}
    assert picture.image[picture.membrane].mean() - 35.0 < grey[1] < grey[0] - 30.0


def test_an_even_picture_shows_membrane_alone():
    picture = isbi(tissue=NOTHING, imaging=FLAT)
    away = ndimage.distance_transform_edt(~picture.membrane) > 8
    assert away.any()
    assert np.ptp(picture.image[away].astype(int)) == 0


def test_more_dose_means_less_noise_as_poisson_says():
    clean = isbi(imaging=FLAT, tissue=NOTHING, shape=(300, 300)).image.astype(float)
    ground = clean == clean.max()
    for dose in (2.0, 8.0, 32.0):
        noisy = isbi(imaging=replace(FLAT, dose_per_nm2=dose), tissue=NOTHING, shape=(300, 300)).image
        expected = 255.0 * np.sqrt(FLAT.cytoplasm_grey / (dose * 16.0))
        assert noisy[ground].std() == pytest.approx(expected, rel=0.05)
        assert noisy[ground].mean() == pytest.approx(clean.max(), abs=1.0)


def test_noise_is_white_and_independent_of_the_tissue():
    noise = [
        isbi(imaging=replace(FLAT, dose_per_nm2=8.0), tissue=NOTHING, seed=seed, shape=(300, 300)).image.astype(float)
        - isbi(imaging=FLAT, tissue=NOTHING, seed=seed, shape=(300, 300)).image
        for seed in (1, 2)
    ]
    for shift in ((0, 1), (1, 0), (1, 1), (7, 0)):
        moved = np.roll(noise[0], shift, axis=(0, 1))
        assert abs(np.corrcoef(noise[0].ravel(), moved.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02


def test_point_spread_and_tilt_take_sharpness_away():
    def sharpness(**changes):
        image = isbi(imaging=replace(FLAT, **changes), tissue=NOTHING).image.astype(float)
        return np.mean(np.diff(image, axis=0) ** 2) + np.mean(np.diff(image, axis=1) ** 2)

    by_spread = [sharpness(point_spread_nm=nm) for nm in (0.0, 3.0, 6.0, 12.0)]
    by_tilt = [sharpness(tilt_degrees=degrees) for degrees in (0.0, 15.0, 30.0, 50.0)]
    by_thickness = [sharpness(tilt_degrees=20.0, section_thickness_nm=nm) for nm in (20.0, 45.0, 90.0)]
    for series in (by_spread, by_tilt, by_thickness):
        assert all(later < 0.97 * earlier for earlier, later in pairwise(series)), series


def test_point_spread_is_a_gaussian_of_the_whole_picture():
    sharp = isbi((200, 200), imaging=FLAT).image.astype(float)
    blurred = isbi((200, 200), imaging=replace(FLAT, point_spread_nm=8.0)).image.astype(float)
    expected = ndimage.gaussian_filter(sharp, 2.0)
    assert np.abs(expected - blurred)[10:-10, 10:-10].max() < 3.0


def test_contrast_scales_every_difference():
    ground = 255.0 * FLAT.cytoplasm_grey
    full = isbi(imaging=FLAT, tissue=NOTHING).image - ground
    half = isbi(imaging=replace(FLAT, contrast=0.5), tissue=NOTHING).image - ground
    np.testing.assert_allclose(half, 0.5 * full, atol=1.1)
    assert np.ptp(isbi(imaging=replace(QUIET, contrast=0.0)).image) == 0


# Names and refusals


def test_a_fingerprint_names_the_picture_and_changes_with_every_parameter():
    base = fingerprint((64, 64), seed=1)
    assert base == fingerprint([64, 64], seed=np.int64(1), pixel_size_nm=np.float64(2.18), origin_nm=(0, 0))
    assert base == synthesize_tissue((64, 64), seed=1).fingerprint()
    others = [
        fingerprint((64, 65), seed=1),
        fingerprint((64, 64), seed=2),
        fingerprint((64, 64), seed=1, pixel_size_nm=4),
    ]
    others.append(fingerprint((64, 64), seed=1, origin_nm=(0.0, 2.18)))
    for name, defaults in (("tissue", Tissue()), ("imaging", Imaging())):
        for field in fields(defaults):
            changed = replace(defaults, **{field.name: getattr(defaults, field.name) * 0.9})
            others.append(fingerprint((64, 64), seed=1, **{name: changed}))
    assert len({base, *others}) == len(others) + 1


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (0, 64)}, r"`shape` must be a whole number of at least 1; got 0"),
        ({"shape": (64, -1)}, r"`shape` must be a whole number of at least 1; got -1"),
        ({"shape": (64, 64.0)}, r"`shape` must be a whole number of at least 1; got 64.0"),
        ({"shape": (64, True)}, r"`shape` must be a whole number"),
        ({"shape": (64,)}, r"`shape` must be two whole numbers"),
        ({"shape": 64}, r"`shape` must be two whole numbers"),
        ({"shape": "64"}, r"`shape` must be two whole numbers"),
        ({"shape": (64, 64, 3)}, r"`shape` must be two whole numbers"),
        ({"shape": (64, 100_000)}, r"must not exceed 32768 pixels a side; got .* Draw windows"),
        ({"pixel_size_nm": 0.0}, r"`pixel_size_nm` must be a finite number at least 0.25 and at most 64 nm; got 0"),
        ({"pixel_size_nm": -4.0}, r"`pixel_size_nm` must be"),
        ({"pixel_size_nm": NAN}, r"`pixel_size_nm` must be .* got nan"),
        ({"pixel_size_nm": INFINITY}, r"`pixel_size_nm` must be .* got inf"),
        ({"pixel_size_nm": "4"}, r"`pixel_size_nm` must be a finite number .*; got '4'"),
        ({"pixel_size_nm": True}, r"`pixel_size_nm` must be a finite number .*; got True"),
        ({"seed": -1}, r"`seed` must be a whole number from 0"),
        ({"seed": 1.5}, r"`seed` must be a whole number from 0"),
        ({"seed": None}, r"`seed` must be a whole number from 0"),
        ({"seed": 2**63}, r"`seed` must be a whole number from 0"),
        ({"origin_nm": (0.0,)}, r"`origin_nm` must be two numbers"),
        ({"origin_nm": 0.0}, r"`origin_nm` must be two numbers"),
        ({"origin_nm": (0.0, NAN)}, r"`origin_nm` must be a finite number .* nm; got nan"),
        ({"origin_nm": (1e12, 0.0)}, r"`origin_nm` must be a finite number .* got 1000000000000"),
        ({"tissue": Imaging()}, r"`tissue` must be of type Tissue; got Imaging"),
        ({"imaging": None}, r"`imaging` must be of type Imaging; got NoneType"),
        (
            {"shape": (30_000, 30_000), "pixel_size_nm": 64.0, "tissue": replace(ISBI_LIKE, cell_diameter_nm=80.0)},
            r"at most; this one has .* Use larger cells",
        ),
        ({"membrane_fraction": 0.0}, r"`membrane_fraction` must be a finite number"),
        ({"membrane_fraction": 1.5}, r"`membrane_fraction` must be a finite number"),
        ({"membrane_fraction": NAN}, r"`membrane_fraction` must be a finite number"),
    ],
)
def test_a_picture_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        synthesize_tissue(**{"shape": (64, 64), "seed": 1, **arguments})


@pytest.mark.parametrize("kind", [Tissue, Imaging])
@pytest.mark.parametrize("value", [-1.0, NAN, INFINITY, "1", True, 1e30])
def test_every_parameter_refuses_what_is_no_sensible_number(kind, value):
    for field in fields(kind):
        with pytest.raises(UsageError, match=f"`{field.name}` must be"):
            kind(**{field.name: value})


def test_cells_smaller_than_their_membranes_are_refused():
    with pytest.raises(UsageError, match=r"at least 3 membrane thicknesses .* got 60"):
        Tissue(cell_diameter_nm=60.0, membrane_thickness_nm=30.0)
