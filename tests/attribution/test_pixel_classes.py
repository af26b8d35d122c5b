"""Targets have the class they are given, keep their distances, and rare classes get their share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emseg.attribution.inputs import PIXEL_CLASSES, pixel_class_masks, sample_pixels
from emseg.errors import InputError, UsageError


def _maps(seed, shape=(60, 50)):
    rng = np.random.default_rng(seed)
    return rng.random(shape), rng.random(shape) < 0.3


def test_each_pixel_has_one_class_by_the_two_by_two_table():
    probability, truth = np.array([[0.9, 0.9, 0.1, 0.1]]), np.array([[True, False, True, False]])
    masks = pixel_class_masks(probability, truth)
    assert [int(np.flatnonzero(masks[name])[0]) for name in PIXEL_CLASSES] == [0, 1, 2, 3]
    assert sum(mask.sum() for mask in masks.values()) == 4


@given(st.integers(0, 500), st.integers(0, 8), st.integers(0, 12))
def test_targets_have_their_class_and_keep_their_distances(seed, margin, spacing):
    probability, truth = _maps(seed)
    sample = sample_pixels(probability, truth, 3, np.random.default_rng(seed), margin=margin, spacing=spacing)
    masks = pixel_class_masks(probability, truth)
    for (row, column), index in zip(sample.targets, sample.classes, strict=True):
        assert masks[PIXEL_CLASSES[index]][row, column]
        assert margin <= row < 60 - margin
        assert margin <= column < 50 - margin
    gaps = np.abs(sample.targets[:, None] - sample.targets[None]).max(axis=-1)
    np.fill_diagonal(gaps, 1000)
    assert gaps.min(initial=1000) >= max(spacing, 1)


def test_a_rare_class_is_served_before_common_ones_crowd_it_out():
    probability, truth = np.zeros((40, 40)), np.zeros((40, 40), dtype=bool)
    probability[20, 20] = 1.0  # the only false positive
    for seed in range(10):
        sample = sample_pixels(probability, truth, 5, np.random.default_rng(seed), spacing=10)
        assert sample.counts["false_positive"] == 1
        assert sample.counts["correct_membrane"] == 0
        assert len(sample.of("correct_background")) == sample.counts["correct_background"] > 1


def test_the_same_generator_gives_the_same_targets():
    probability, truth = _maps(1)
    first, second, other = (
        sample_pixels(probability, truth, 4, np.random.default_rng(seed)).targets for seed in (5, 5, 6)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"per_class": 0}, UsageError, "`per_class` must be a whole number of at least 1"),
        ({"margin": 25}, UsageError, "below half the image's shorter side"),
        ({"probability": np.full((60, 50), 2.0)}, InputError, "sigmoid"),
        ({"truth": np.zeros((60, 50), np.uint8)}, InputError, "boolean"),
        ({"truth": np.zeros((60, 51), bool)}, InputError, "one shape"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(change, error, message):
    probability, truth = _maps(0)
    arguments = {"probability": probability, "truth": truth, "per_class": 2, "margin": 0, **change}
    with pytest.raises(error, match=message):
        sample_pixels(generator=np.random.default_rng(0), **arguments)
