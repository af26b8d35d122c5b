"""The threshold curve: F1 at every threshold is what scoring at it gives, and the best one is found."""

import numpy as np
import pytest

from emseg.errors import UsageError
from emseg.membrane.scoring import ScoreSettings, score_image
from emseg.membrane.training.membrane_prediction import level_counts, threshold_curve, to_levels


def made_images(n=3):
    generator = np.random.default_rng(0)
    for _ in range(n):
        membrane = generator.random((24, 31)) < 0.2
        probability = np.clip(0.5 * membrane + 0.6 * generator.random(membrane.shape), 0, 1).astype(np.float32)
        yield to_levels(probability), membrane


def test_f1_at_every_threshold_is_the_score_of_the_image_at_it():
    """`score_image`, which counts at one threshold at a time, is the oracle."""
    images = list(made_images())
    curve = threshold_curve([level_counts(*image) for image in images])
    for place in range(0, 255, 17):
        settings = ScoreSettings(threshold=float(curve.thresholds[place]), thresholds=())
        scores = [score_image(levels, membrane, settings).membrane.f1 for levels, membrane in images]
        assert curve.membrane_f1[place] == pytest.approx(np.mean(scores), abs=1e-12)


def test_no_threshold_is_better_than_the_best():
    curve = threshold_curve([level_counts(*image) for image in made_images()])
    assert curve.best_f1 == curve.membrane_f1.max() == curve.f1_at(curve.best_threshold)
    assert curve.f1_at(0.5) < curve.best_f1


def test_of_equal_thresholds_the_middle_one_is_taken():
    membrane = np.eye(8, dtype=bool)
    curve = threshold_curve([level_counts(np.where(membrane, 200, 100).astype(np.uint8), membrane)])
    assert curve.best_f1 == 1
    assert curve.best_threshold == pytest.approx(150.5 / 255, abs=1 / 255)


def test_images_weigh_alike_whatever_their_size():
    perfect, wrong = np.ones((2, 2), dtype=bool), np.zeros((40, 40), dtype=bool)
    curve = threshold_curve(
        [level_counts(to_levels(np.ones(mask.shape, dtype=np.float32)), mask) for mask in (perfect, wrong)]
    )
    assert curve.f1_at(0.5) == 0.5


def test_levels_round_and_are_cut_to_their_range():
    assert to_levels(np.array([[-0.1, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 1.2]])).tolist() == [[0, 0, 0, 1, 255, 255]]


def test_a_threshold_without_images_is_refused():
    with pytest.raises(UsageError, match="a threshold is chosen on validation images; got none"):
        threshold_curve([])
