"""Is a prediction the wrong way round, membrane for background? What surely is gets refused, what may be is named.

Refused is a prediction whose correlation with the truth (Matthews) is below `INVERTED_BELOW`. Where membrane is rare an
inverted poor prediction hides from that: it correlates weakly either way. So a prediction is named, and scored as it
is, if more than half of it is membrane and the inverted one would have the higher membrane F1:

    F1 = 2 TP / (P + T)        F1 inverted = 2 (T - TP) / (n - P + T)

n: pixels; T: true membrane; P: predicted membrane; TP: both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError
from emseg.membrane.scoring.class_scores import class_scores
from emseg.membrane.scoring.image_scores import ImageScores

Polarity = Literal["dark", "bright"]

INVERTED_BELOW = -0.3
MAX_PREDICTED_SHARE = 0.5
_BAND_ROWS = 256


def other_polarity(polarity: Polarity) -> Polarity:
    """Return the opposite of how membranes look."""
    return "bright" if polarity == "dark" else "dark"


def require_upright(prediction: NDArray[np.bool_], truth: NDArray[np.bool_], path: Path, polarity: Polarity) -> None:
    """Raise `InputError` if the correlation with the truth (Matthews) is so negative that classes must be swapped."""
    n = float(truth.size)
    p, t = np.count_nonzero(prediction) / n, np.count_nonzero(truth) / n
    bands = range(0, len(truth), _BAND_ROWS)  # one mask of all would cost more memory than time
    both = sum(np.count_nonzero(prediction[i : i + _BAND_ROWS] & truth[i : i + _BAND_ROWS]) for i in bands) / n
    spread = p * (1 - p) * t * (1 - t)
    correlation = (both - p * t) / spread**0.5 if spread > 0 else 0.0
    if correlation < INVERTED_BELOW:
        other = other_polarity(polarity)
        raise InputError(
            f"{path} looks inverted: its correlation with the truth is {correlation:.2f}. "
            f"If its membranes are {other}, say --membrane {other}."
        )


def inverted_membrane_f1(scores: ImageScores) -> float:
    """Return the strict membrane F1 that the inverted prediction would have."""
    n = scores.height * scores.width
    n_true, n_predicted = round(scores.true_fraction * n), round(scores.predicted_fraction * n)
    n_missed = n_true - round(scores.membrane.recall * n_true)
    return class_scores(n_missed, n - n_predicted, n_missed, n_true).f1


def may_be_inverted(scores: ImageScores) -> bool:
    """Return whether most of the prediction is membrane and the inverted one would have the higher membrane F1."""
    return scores.predicted_fraction > MAX_PREDICTED_SHARE and inverted_membrane_f1(scores) > scores.membrane.f1


def inversion_note(names: Sequence[str], scores: Sequence[ImageScores], polarity: Polarity) -> str | None:
    """Return a sentence that names the predictions that may be inverted, and how to say so; None if there are none."""
    suspects = [(name, one) for name, one in zip(names, scores, strict=True) if may_be_inverted(one)]
    if not suspects:
        return None
    (name, first), other = suspects[0], other_polarity(polarity)
    some = ", ".join(name for name, _ in suspects[:3]) + (", ..." if len(suspects) > 3 else "")
    return (
        f"{len(suspects)} of {len(scores)} predictions may be inverted ({some}): {first.predicted_fraction:.0%} of "
        f"{name} is membrane, and inverted its membrane F1 would be {inverted_membrane_f1(first):.2f}, not "
        f"{first.membrane.f1:.2f}. The scores are of the files as they are. If their membranes are {other}, say "
        f"--membrane {other}."
    )
