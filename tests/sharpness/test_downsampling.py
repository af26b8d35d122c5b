"""The six resampling kernels: what each must do to an image whose answer is known."""

import numpy as np
import pytest

from emseg.errors import InputError, UsageError
from emseg.sharpness import RESAMPLING_KERNELS, downsample, reduced_shape

TRACK_FACTOR = 9958 / 1024
POINT_SAMPLING = ("nearest", "bilinear", "bicubic")
AVERAGING = ("area", "bilinear_antialiased", "lanczos")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, ">u2", np.int16])
@pytest.mark.parametrize("kernel", RESAMPLING_KERNELS)
def test_a_flat_image_stays_flat_and_keeps_its_type(kernel, dtype):
    small = downsample(np.full((97, 60), 200, dtype), (10, 7), kernel)
    assert small.shape == (10, 7)
    assert small.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_allclose(small, 200, rtol=1e-6)


@pytest.mark.parametrize("kernel", RESAMPLING_KERNELS)
def test_a_ramp_keeps_its_place(kernel):
    """Corners align: pixel i of the small image lies at (i + 1/2) r - 1/2 of the large one. Nearest may be half off."""
    factor = 9
    ramp = np.tile(np.arange(90, dtype=np.float32), (90, 1))
    expected = (np.arange(10) + 0.5) * factor - 0.5
    inner = downsample(ramp, (10, 10), kernel)[5, 3:-3]
    np.testing.assert_allclose(inner, expected[3:-3], atol=0.01)


def test_area_is_the_mean_of_each_block():
    image = np.random.default_rng(0).random((90, 60))
    np.testing.assert_allclose(downsample(image, (10, 10), "area"), image.reshape(10, 9, 10, 6).mean(axis=(1, 3)))


def test_nearest_takes_the_pixel_at_the_centre_of_each_block():
    image = np.random.default_rng(0).integers(0, 60_000, (90, 60), dtype=np.uint16)
    np.testing.assert_array_equal(downsample(image[:, :54], (10, 6), "nearest"), image[4::9, 4:54:9])


@pytest.mark.parametrize("kernel", RESAMPLING_KERNELS)
def test_averaging_kernels_remove_white_noise_and_point_sampling_keeps_it(kernel):
    """A mean over a block of 9.72 x 9.72 pixels divides the noise's variance by about 94, one over 4 pixels by 4."""
    noise = np.random.default_rng(0).normal(100, 10, (1945, 1945)).astype(np.float32)
    remaining = downsample(noise, reduced_shape(noise.shape, TRACK_FACTOR), kernel).var() / 100
    if kernel in AVERAGING:
        assert remaining < 0.02
    else:
        assert remaining > 0.2


@pytest.mark.parametrize("kernel", RESAMPLING_KERNELS)
def test_integers_do_not_wrap_around_where_a_kernel_overshoots(kernel):
    """Bicubic and Lanczos overshoot at an edge; black must stay black."""
    step = np.zeros((80, 80), np.uint16)
    step[:, 40:] = 65_535
    small = downsample(step, (40, 40), kernel)
    assert small[20, 2] == 0
    assert small[20, -3] == 65_535
    assert (np.diff(small[20].astype(int)) >= -6_000).all()


def test_the_competitions_factor_takes_track_1_to_track_2():
    assert reduced_shape((9958, 9959), TRACK_FACTOR) == (1024, 1024)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: downsample(np.zeros((9, 9), np.uint8), (3, 3), "bilinaer"), UsageError, "Did you mean 'bilinear'"),
        (lambda: downsample(np.zeros((9, 9), np.uint8), (10, 3)), UsageError, "between 1 x 1 and the image's 9 x 9"),
        (lambda: downsample(np.zeros((9, 9), np.uint8), (0, 3)), UsageError, "got 0 x 3"),
        (lambda: downsample(np.zeros((9, 9, 3), np.uint8), (3, 3)), InputError, "must be grey"),
        (lambda: downsample(np.full((9, 9), np.nan), (3, 3)), InputError, "81 NaN"),
        (lambda: reduced_shape((9, 9), 0.5), UsageError, "`factor` must be a finite number at least 1"),
    ],
)
def test_a_wrong_request_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
