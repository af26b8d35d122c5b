"""Precision, recall and F1 of one class of pixels, strict or within a tolerance.

    precision = correct predicted pixels / predicted pixels      recall = found true pixels / true pixels
    F1 = 2 precision recall / (precision + recall)

Strictly a predicted pixel is correct if it is true, and F1 = 2 TP / (2 TP + FP + FN). Within a tolerance r it is
correct if a true pixel lies in the disc of radius r around it, and a true pixel is found if a predicted one lies in its
disc. This is the boundary score of the U-RISC competition's script, which ran it with r = 0: the strict score. Per
image, then averaged, the strict F1 of membrane is the competition's score.

Where nothing was predicted precision is 1, and where nothing is true recall is 1 (the script's convention), so that F1
is 1 if both are empty and 0 if one is.

Source: Shi et al., Front. Comput. Neurosci. 16:842760 (2022); its evaluation script (U-RISC-Data-Code, eval.py).
Deviation: the script reads grey levels as weights, so that the grey levels 1 to 8 of a lossy label count as a little
membrane; we make a mask first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COMPETITION_RATIO = 5.0


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1, each in 0 to 1."""

    precision: float
    recall: float
    f1: float


def class_scores(n_correct: int, n_predicted: int, n_found: int, n_true: int) -> ClassScores:
    """Return the scores of a class from pixel counts; strictly, `n_correct` and `n_found` are the same number."""
    precision = n_correct / n_predicted if n_predicted else 1.0
    recall = n_found / n_true if n_true else 1.0
    total = precision + recall
    return ClassScores(precision, recall, 2 * precision * recall / total if total else 0.0)


def competition_accepts(membrane: NDArray[np.bool_]) -> bool:
    """Return whether the competition's script takes this prediction: at least five pixels of background per membrane.

    The rule is meant to catch inverted images of thin membranes. It also refuses every label of ISBI 2012, where
    membranes are a fifth of the image; no score here depends on it.
    """
    n_membrane = int(np.count_nonzero(membrane))
    return membrane.size - n_membrane >= COMPETITION_RATIO * n_membrane
