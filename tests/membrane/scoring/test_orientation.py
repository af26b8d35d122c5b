"""A prediction that may be the wrong way round is named, with the score that the inverted one has."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from emseg.membrane.scoring import ScoreSettings, score_image
from emseg.membrane.scoring.score_files import inversion_note, inverted_membrane_f1, may_be_inverted

PAIRS = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape))
)
QUICK = ScoreSettings(tolerance_px=0)


def scene(share_right: float, share_wrong: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth with 5 % membrane, and a prediction that is membrane on these shares of membrane and of background."""
    truth = np.zeros((20, 100), bool)
    truth.flat[:100] = True
    prediction = np.zeros_like(truth)
    prediction.flat[: round(100 * share_right)] = True
    prediction.flat[100 : 100 + round(1900 * share_wrong)] = True
    return prediction, truth


@given(PAIRS)
@settings(max_examples=40, deadline=None)  # a first call compiles
def test_the_inverted_score_is_that_of_the_inverted_prediction(pair):
    prediction, truth = pair
    scores, inverted = (score_image(one, truth, QUICK) for one in (prediction, ~prediction))
    assert inverted_membrane_f1(scores) == pytest.approx(inverted.membrane.f1, abs=1e-12)


@given(PAIRS)
@settings(max_examples=40, deadline=None)  # a first call compiles
def test_of_a_prediction_and_its_inverse_at_most_one_is_suspected_and_never_the_better(pair):
    prediction, truth = pair
    assume(truth.any())
    scores, inverted = (score_image(one, truth, QUICK) for one in (prediction, ~prediction))
    assert not (may_be_inverted(scores) and may_be_inverted(inverted))
    assert not (may_be_inverted(scores) and scores.membrane.f1 >= inverted.membrane.f1)


@pytest.mark.parametrize(
    ("share_right", "share_wrong", "suspected"),
    [
        (0.80, 0.94, True),  # an inverted poor prediction: it correlates with the truth by -0.13 only
        (0.20, 0.06, False),  # the same, upright
        (0.99, 0.60, False),  # too much membrane, but most of the true one is in it
        (0.00, 1.00, True),  # perfect, inverted
        (1.00, 1.00, False),  # everything is membrane, and nothing would score worse
        (0.00, 0.30, False),  # wrong, but thin
    ],
)
def test_only_what_is_mostly_membrane_and_better_inverted_is_suspected(share_right, share_wrong, suspected):
    assert may_be_inverted(score_image(*scene(share_right, share_wrong), QUICK)) is suspected


def test_the_note_names_three_and_says_what_to_say():
    upright, poor = (score_image(*scene(*shares), QUICK) for shares in ((0.2, 0.06), (0.8, 0.94)))
    assert inversion_note(["a"], [upright], "dark") is None
    note = inversion_note(["a", "b", "c", "d", "e"], [upright, poor, poor, poor, poor], "bright")
    f1, inverted = (
        score_image(one, scene(0, 0)[1], QUICK).membrane.f1 for one in (scene(0.8, 0.94)[0], ~scene(0.8, 0.94)[0])
    )
    assert "4 of 5 predictions may be inverted (b, c, d, ...): 93% of b is membrane" in note
    assert f"would be {inverted:.2f}, not {f1:.2f}" in note
    assert note.endswith("If their membranes are dark, use --membrane dark.")
