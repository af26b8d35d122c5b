"""The small scale: profile of a membrane, grain, point spread, deviates."""

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import uniform_filter1d

from emseg.synthetic.tissue.window import (
    LARGEST_SMEAR_NM,
    N_SMEARS,
    grain_texture,
    membrane_profile,
    normal_table,
    point_spread_taps,
)


def test_an_upright_membrane_shows_two_leaflets_and_a_paler_cleft():
    upright = membrane_profile(30.0, 0.25)[0]
    peak = int(np.argmax(upright))
    assert 4 <= peak <= 9
    assert upright[peak] == pytest.approx(1.0, abs=0.02)
    assert upright[0] < 0.9 * upright[peak]
    assert upright[15] < 0.5 * upright[peak]


def test_tilt_makes_a_membrane_wide_and_pale_but_keeps_its_mass():
    profile = membrane_profile(30.0, 2.18).astype(float)
    mass = 2.0 * profile.sum(axis=1) - profile[:, 0]
    np.testing.assert_allclose(mass, mass[0], rtol=0.01)
    # Between 10 and 20 nm of smear the two leaflets run into one, which for a moment is darker than either.
    assert np.all(np.diff(profile.max(axis=1)[[0, 4, 12, 16, 20, 24, 28, 32]]) < -0.01)
    width = (profile > 0.5 * profile.max(axis=1, keepdims=True)).sum(axis=1)
    assert width[-1] > 1.8 * width[0]


def test_the_smeared_profile_is_a_moving_average_of_the_upright_one():
    step = LARGEST_SMEAR_NM / (N_SMEARS - 1)
    profile = membrane_profile(30.0, 0.25)
    s = np.arange(-200.0, 200.01, 0.1)
    leaflets = sum(np.exp(-((s - sign * 0.22 * 30.0) ** 2) / (2 * (0.15 * 30.0) ** 2)) for sign in (-1, 1))
    leaflets /= leaflets.max()
    for row in (8, 20, 32):
        expected = uniform_filter1d(leaflets, round(row * step / 0.1))
        at = np.interp(np.arange(profile.shape[1] - 2), s, expected)
        np.testing.assert_allclose(profile[row, :-2], at, atol=0.01)


def test_grain_has_zero_mean_and_less_variance_for_larger_pixels():
    deviations = []
    for pixel_size_nm in (0.25, 2.18, 4.0, 16.0):
        texture = grain_texture(pixel_size_nm)
        assert abs(texture.mean()) < 1e-5
        deviations.append(texture.std())
    assert deviations[0] == pytest.approx(1.0, abs=0.05)
    assert deviations == sorted(deviations, reverse=True)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.7])
def test_point_spread_sums_to_one_and_has_its_width(sigma):
    taps = point_spread_taps(sigma).astype(float)
    offset = np.arange(len(taps)) - len(taps) // 2
    assert taps.sum() == pytest.approx(1.0, abs=1e-6)
    # A Gaussian averaged over pixels: variances add, and a pixel's own is 1/12. The cut at 3.2 sigma loses 1 %.
    assert np.sum(taps * offset**2) == pytest.approx(sigma**2 + 1.0 / 12.0, rel=0.02)


def test_no_point_spread_is_the_identity():
    np.testing.assert_array_equal(point_spread_taps(0.0), [1.0])


def test_two_deviates_of_the_table_add_up_to_a_normal_one():
    table = normal_table().astype(float)
    sums = np.add.outer(table[::4], table[2::4]).ravel()
    assert sums.std() == pytest.approx(1.0, abs=0.01)
    quantiles = np.quantile(sums, [0.01, 0.1, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(quantiles, stats.norm.ppf([0.01, 0.1, 0.5, 0.9, 0.99]), atol=0.03)
