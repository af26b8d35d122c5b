"""Baselines have the grey their name says, and the mean over several stays complete."""

import numpy as np
import pytest

from emseg.attribution.attribute import Attribution, mean_over_baselines
from emseg.attribution.inputs import make_baseline, network_input
from emseg.errors import InputError, UsageError

IMAGE = np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6) ** 3 + 0.1


@pytest.mark.parametrize(("name", "value"), [("mid_grey", 0.0), ("black", -1.0), ("mean", float(IMAGE.mean()))])
def test_flat_baselines_have_one_grey(name, value):
    baseline = make_baseline(name, IMAGE)
    assert baseline.shape == (1, 5, 6)
    assert np.allclose(baseline, value)


def test_the_scale_takes_black_to_minus_one_and_white_to_one():
    scaled = network_input(np.array([[0, 255]], dtype=np.uint8))
    assert scaled.tolist() == [[-1.0, 1.0]]
    assert network_input(np.array([[127]], dtype=np.uint8))[0, 0] == pytest.approx(-1 / 255)


def test_the_blurred_baseline_keeps_the_mean_and_loses_the_edges():
    image = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    baseline = make_baseline("blurred", image, sigma_px=4.0)[0]
    assert baseline.mean() == pytest.approx(float(image.mean()), abs=0.02)
    assert baseline.std() < 0.2 * image.std()


def test_patches_are_cut_from_the_references_and_follow_the_generator():
    reference = np.arange(400, dtype=np.float32).reshape(20, 20)
    draws = [
        make_baseline("patches", IMAGE, references=(reference,), n_patches=3, generator=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    for patch in draws[0]:
        row, column = divmod(int(patch[0, 0]), 20)
        assert np.array_equal(patch, reference[row : row + 5, column : column + 6])


def test_the_mean_over_baselines_shares_out_the_mean_difference():
    """A linear score: w (x - b) is complete for each b, and so is the mean."""
    weight = np.full(IMAGE.shape, 0.5, dtype=np.float32)

    def attribute(baseline):
        maps = (weight * (IMAGE - baseline))[None].astype(np.float32)
        score, base = np.array([float((weight * IMAGE).sum())]), np.array([float((weight * baseline).sum())])
        return Attribution(maps=maps, targets=np.array([[1, 1]]), scores=score, baseline_scores=base)

    baselines = np.stack([np.zeros_like(IMAGE), np.ones_like(IMAGE), -IMAGE])
    mean = mean_over_baselines(attribute, baselines)
    assert mean.completeness_gap[0] == pytest.approx(0, abs=1e-5)
    assert np.allclose(mean.maps[0], weight * (IMAGE - baselines.mean(axis=0)), atol=1e-6)
    assert mean.settings["n_baselines"] == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make_baseline("gray", IMAGE), UsageError, "must be one of .mid_grey"),
        (lambda: make_baseline("blured", IMAGE), UsageError, "Did you mean 'blurred'"),
        (
            lambda: make_baseline("blurred", IMAGE, sigma_px=0.0),
            UsageError,
            "`sigma_px` must be a finite number greater than 0",
        ),
        (lambda: make_baseline("patches", IMAGE), UsageError, "references of at least 5 x 6 px; got 0"),
        (lambda: make_baseline("mean", (IMAGE * 50).astype(np.uint8)), InputError, "network_input"),
        (lambda: make_baseline("mean", np.full((2, 2), np.nan, dtype=np.float32)), InputError, "finite"),
        (lambda: network_input(IMAGE), InputError, "8-bit grey"),
        (lambda: mean_over_baselines(lambda b: None, np.zeros((0, 2, 2), np.float32)), UsageError, "at least one"),
    ],
)
def test_baselines_that_cannot_be_made_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
