"""The chapter's experiments on cases whose outcome is known, and the metrics that its claims ask for."""

import math

import numpy as np
import pytest

from chapters.sharpness_analysis import (
    CROP,
    INDEX_NAMES,
    Resampling,
    Response,
    blur,
    central_crop,
    enlarged,
    equivalent_blur_nm,
    load_images,
    misled_share,
    report_resampling,
    report_response,
    resample,
    respond,
    rising_share,
    shot_noise,
    smooth,
)
from emseg.errors import UsageError
from emseg.reported import load_claims
from emseg.runs.session import Run
from emseg.sharpness import RESAMPLING_KERNELS

CHAPTER = "urisc/sharpness_analysis"
N_INDICES = len(INDEX_NAMES)


@pytest.fixture(scope="module")
def images():
    return load_images("synthetic", n_images=2, image_size=640, crop_size=300, pixel_size_nm=4.0, seed=3)


@pytest.fixture(scope="module")
def response(images):
    crops = [central_crop(image, (200, 200)) for image in images.clean]
    return respond(crops, 4.0, blurs_nm=[8.0, 2.0, 32.0], doses_per_nm2=[3.0, 30.0], seed=0)


@pytest.fixture(scope="module")
def resampling(images):
    return resample(images.images, 5.0)


def made_up(per_pixel) -> Response:
    values = np.broadcast_to(np.asarray(per_pixel, float), (N_INDICES, 2, *np.shape(per_pixel)))
    return Response((0.0, 1.0, 2.0)[: values.shape[3]], (math.inf, 30.0)[: values.shape[2]], values)


def test_shot_noise_keeps_the_mean_and_has_the_variance_of_counted_electrons():
    """At 255 grey levels, 10 electrons a square nm and 2 nm a pixel: 40 electrons at white, 20 at mid-grey."""
    grey = np.full((700, 700), 127.5)
    noisy = shot_noise(grey, 10.0, 2.0, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(127.5, rel=1e-3)
    assert noisy.std() == pytest.approx(127.5 / math.sqrt(20), rel=5e-3)
    np.testing.assert_array_equal(shot_noise(grey, math.inf, 2.0, np.random.default_rng(0)), grey)


def test_blur_spreads_a_point_by_its_standard_deviation_in_nanometres():
    point = np.zeros((101, 101))
    point[50, 50] = 1000
    spread = blur(point, 12.0, 4.0)
    columns = np.arange(101) - 50
    assert spread.sum() == pytest.approx(1000, rel=1e-4)
    assert np.sqrt((spread.sum(axis=0) * columns**2).sum() / 1000) == pytest.approx(3.0, rel=0.02)


def test_the_response_begins_with_the_undisturbed_image_and_can_be_repeated(images, response):
    assert response.blurs_nm == (0.0, 2.0, 8.0, 32.0)
    assert response.doses_per_nm2 == (math.inf, 30.0, 3.0)
    assert (response.relative()[:, :, 0, 0] == 1).all()
    crops = [central_crop(image, (200, 200)) for image in images.clean]
    again = respond(crops, 4.0, blurs_nm=[2.0, 8.0, 32.0], doses_per_nm2=[30.0, 3.0], seed=0)
    np.testing.assert_array_equal(again.per_pixel, response.per_pixel)


def test_indices_fall_with_blur_and_all_but_vollath_rise_with_noise(response):
    for name, values in zip(INDEX_NAMES, response.per_pixel, strict=True):
        assert rising_share(values[:, 0]) == 0
        if not name.startswith("vollath"):
            assert rising_share(np.moveaxis(values, 1, -1)) == 1


def test_smoothing_a_noisy_image_raises_vollath_alone(images):
    """Half a pixel of smoothing correlates the noise of neighbours, which Vollath takes for tissue."""
    crops = [central_crop(image, (300, 300)) for image in images.clean]
    gains = smooth(crops, 4.0, dose_per_nm2=0.3, blurs_nm=[2.0], seed=0)[:, :, 1].mean(axis=1)
    for name, gain in zip(INDEX_NAMES, gains, strict=True):
        assert gain > 1.02 if name.startswith("vollath") else gain < 0.9


def test_misled_share_counts_worse_images_that_score_higher():
    """A grid of two doses and two blurs has five ordered pairs; the sharp noisy and the blurred clean one is none."""
    assert (misled_share(made_up([[4, 3], [2, 1]])) == 0).all()
    assert (misled_share(made_up([[1, 2], [3, 4]])) == 1).all()
    assert misled_share(made_up([[4, 3], [5, 1]]))[0] == pytest.approx(1 / 5)
    assert misled_share(made_up([[4, 1], [3, 2]]))[0] == pytest.approx(1 / 5)


def test_equivalent_blur_reads_the_curve_at_the_square_of_the_contrast():
    """An index that falls as exp(-blur) falls by a^2 at a blur of -2 ln a."""
    falling = made_up([np.exp(-np.array([0.0, 1.0, 2.0]))])
    assert equivalent_blur_nm(falling, 0.5)[0] == pytest.approx(2 * math.log(2))
    assert np.isnan(equivalent_blur_nm(falling, 0.1)).all()


def test_a_ratio_of_sums_is_pixel_count_times_the_ratio_per_pixel(resampling):
    assert resampling.methods == (*RESAMPLING_KERNELS, CROP)
    np.testing.assert_allclose(resampling.count, (128 / 640) ** 2)
    np.testing.assert_allclose(resampling.raw, resampling.per_pixel / 25)


def test_a_crop_of_a_periodic_image_loses_nothing_but_pixels():
    """Tiles of one texture: the sums fall with the area, so the share is 1; but Vollath's edge grows."""
    tile = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    found = resample([np.tile(tile, (50, 50))], 5.0)
    share = dict(zip(INDEX_NAMES, found.pixel_count_share[:, -1], strict=True))
    assert share.pop("vollath") < 0.8
    assert list(share.values()) == pytest.approx([1] * 5, abs=0.01)


def test_the_pixel_count_share_exceeds_1_exactly_where_the_index_rises_per_pixel(resampling):
    share, ratio = resampling.pixel_count_share, resampling.per_pixel.mean(axis=2)
    np.testing.assert_array_equal(share > 1, ratio > 1)


def test_a_share_is_undefined_where_an_index_changes_its_sign():
    after = np.full((N_INDICES, 7, 1), -1.0)
    found = Resampling((*RESAMPLING_KERNELS, CROP), np.array([0.01]), np.ones((N_INDICES, 1)), after)
    assert np.isnan(found.pixel_count_share).all()


@pytest.mark.parametrize("kernel", RESAMPLING_KERNELS)
def test_the_report_holds_every_metric_that_a_claim_of_the_chapter_asks_for(images, response, resampling, kernel):
    run = Run(CHAPTER, seed=3)
    smoothed = smooth([images.clean[0][:64, :64]], 4.0, dose_per_nm2=3.0, blurs_nm=[4.0], seed=0)
    report_response(run, response, smoothed, 0.8)
    report_resampling(run, resampling, kernel)
    for claim in load_claims(CHAPTER):
        assert run.metrics[claim.metric].unit == claim.unit
    chosen = resampling.methods.index(kernel)
    smd2 = INDEX_NAMES.index("smd2")
    assert run.metrics["smd2_raw_ratio"].value == pytest.approx(resampling.raw[smd2, chosen].mean())
    assert run.metrics["smd2_raw_ratio"].spread == pytest.approx(resampling.raw[smd2, chosen].std(ddof=1))
    assert run.metrics[f"smd2_{kernel}_per_pixel_ratio"].value == run.metrics["smd2_per_pixel_ratio"].value
    assert run.metrics["variance_clean_over_noisy"].value < 1


def test_enlarging_keeps_each_pixel_as_a_square():
    """A downsampled image at its original's scale has its own grey values and no new ones."""
    small = np.array([[10, 20], [30, 40]], np.uint8)
    assert enlarged(small, (4, 6)).tolist() == [[10] * 3 + [20] * 3] * 2 + [[30] * 3 + [40] * 3] * 2


def test_one_image_has_no_spread(images):
    run = Run(CHAPTER, seed=3)
    report_resampling(run, resample(images.images[:1], 5.0), "area")
    assert run.metrics["smd2_raw_ratio"].spread is None


def test_synthetic_images_differ_and_come_with_and_without_noise(images):
    assert (images.images[0] != images.images[1]).any()
    assert len(set(images.fingerprint.split())) == 2
    assert list(images.versions(0)) == ["without noise", "with shot noise"]
    clean, noisy = (image.astype(float) for image in images.versions(0).values())
    assert np.diff(noisy).std() > 1.3 * np.diff(clean).std()
    assert abs((noisy - clean).mean()) < 0.5  # the same place
    assert np.corrcoef(clean.ravel(), noisy.ravel())[0, 1] > 0.7


def test_an_unknown_source_or_too_many_sections_are_refused():
    with pytest.raises(UsageError, match="`data` must be one of 'synthetic', 'isbi2012'"):
        load_images("isbi", n_images=1, image_size=64, crop_size=64, pixel_size_nm=4.0, seed=0)
    with pytest.raises(UsageError, match="30 labelled sections; got n_images=31"):
        load_images("isbi2012", n_images=31, image_size=64, crop_size=64, pixel_size_nm=4.0, seed=0)


@pytest.mark.real_data
def test_the_real_sections_are_spread_over_the_stack(real_data):
    found = load_images("isbi2012", n_images=3, image_size=64, crop_size=64, pixel_size_nm=9.0, seed=0)
    assert (found.kind, found.pixel_size_nm, len(found.images)) == ("real", 4.0, 3)
    assert (found.images[0].shape, found.clean[0].shape) == ((512, 512), (64, 64))
    assert list(found.versions(0)) == ["as recorded"]
