"""Rounds of annotation as learning: each round is scored against the last, which U-RISC takes as the truth.

Three sources of rounds: synthetic ones, made from a synthetic truth (`rounds_tracing`); the same number of wrong pixels
made of one kind of error alone; and U-RISC's own, for whoever has them.

    Human_Annotation_Process/1st    Human_Annotation_Process/2nd    Human_Annotation_Process/final
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chapters.urisc_competition.rounds_tracing import AnnotationErrors, Tracing, trace
from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import MembraneImage, pair_files, read_label
from emseg.membrane.dataset.known_sets import missing_urisc
from emseg.membrane.scoring.image_scores import ImageScores, ScoreSettings, score_image
from emseg.membrane.scoring.pixels import class_scores

FIRST_ROUND = AnnotationErrors(missed=0.05, spurious=0.015, displacement_nm=2.5)
SECOND_ROUND = AnnotationErrors(missed=0.008, spurious=0.002, displacement_nm=0.6)
"""Chosen so that F1 comes near the paper's 0.92 and 0.99; nothing about annotators follows from them."""
ERROR_KINDS = {"missed": "missed membranes", "spurious": "spurious outlines", "displacement_nm": "displaced lines"}
MOST = {"missed": 1.0, "spurious": 1.0, "displacement_nm": 60.0}
ROUNDS_FOLDER = "Human_Annotation_Process"
ROUND_FOLDERS = {"1st round": "1st", "2nd round": "2nd"}
FINAL_FOLDER = "final"
_F1_TOLERANCE = 1e-3
_MOST_STEPS = 24


@dataclass(frozen=True, eq=False)
class ScoredRound:
    """One round: its name, and the scores of its images against the final round."""

    name: str
    scores: tuple[ImageScores, ...]

    @property
    def f1(self) -> float:
        """Mean over images of the membrane's F1, as the competition counts."""
        return float(np.mean([one.membrane.f1 for one in self.scores]))


def trace_images(images: Sequence[MembraneImage], pixel_size_nm: float, *, seed: int) -> list[Tracing]:
    """Return the truth of every image taken apart; each image draws from (seed, its place)."""
    own = [int(word) for word in np.random.SeedSequence(seed).generate_state(len(images), np.uint32)]
    return [trace(image.read_membrane(), pixel_size_nm, seed=one) for image, one in zip(images, own, strict=True)]


def synthetic_round(
    name: str, tracings: Sequence[Tracing], errors: AnnotationErrors, settings: ScoreSettings
) -> ScoredRound:
    """Return the scores of annotations with these errors."""
    return score_round(name, ((one.annotate(errors), one.membrane) for one in tracings), settings)


def errors_of_one_kind(tracings: Sequence[Tracing], kind: str, f1: float) -> AnnotationErrors:
    """Return errors of one kind alone that bring the mean F1 to `f1`, to 0.001 or as near as whole errors allow.

    Raises `UsageError` if so many cannot be made in these images.
    """
    if kind not in ERROR_KINDS:
        raise UsageError(f"`kind` must be one of {', '.join(ERROR_KINDS)}; got {kind!r}.")
    none = AnnotationErrors()
    low, high = (0.0, 1.0), (MOST[kind], _mean_f1(tracings, replace(none, **{kind: MOST[kind]})))
    if high[1] > f1:
        raise UsageError(f"F1 {f1:g} is out of reach with {ERROR_KINDS[kind]} alone; the lowest is {high[1]:.3f}.")
    for step in range(_MOST_STEPS):
        along = (low[1] - f1) / (low[1] - high[1]) if step % 2 == 0 else 0.5  # the chord by turns with the middle
        strength = low[0] + along * (high[0] - low[0])
        reached = _mean_f1(tracings, replace(none, **{kind: strength}))
        low, high = ((strength, reached), high) if reached > f1 else (low, (strength, reached))
        if abs(reached - f1) < _F1_TOLERANCE:
            break
    strength, _ = min((low, high), key=lambda end: abs(end[1] - f1))
    return replace(none, **{kind: strength})


def has_rounds(folder: Path) -> bool:
    """Return whether a folder of U-RISC holds its rounds of annotation."""
    return (folder / ROUNDS_FOLDER).is_dir()


def file_rounds(folder: Path, settings: ScoreSettings, n_images: int = 0) -> list[ScoredRound]:
    """Return U-RISC's first and second rounds, scored against the final one; `n_images` other than 0 takes the first.

    Raises `InputError` if the folder of rounds is not there or their files do not match.
    """
    place = folder / ROUNDS_FOLDER
    if not place.is_dir():
        raise missing_urisc(place)
    rounds = []
    for name, below in ROUND_FOLDERS.items():
        pairs = pair_files(place / below, place / FINAL_FOLDER)[: n_images or None]
        masks = ((read_label(pair.image), read_label(pair.label)) for pair in pairs if pair.label is not None)
        rounds.append(score_round(name, masks, settings))
    return rounds


def score_round(
    name: str, pairs: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]], settings: ScoreSettings
) -> ScoredRound:
    """Return the scores of pairs (annotation, truth), one at a time; raise `InputError` if their sizes differ."""
    scores = []
    for annotation, truth in pairs:
        if annotation.shape != truth.shape:
            raise InputError(f"{name} and final must have one size; got {annotation.shape} and {truth.shape}.")
        scores.append(score_image(annotation, truth, settings))
    return ScoredRound(name, tuple(scores))


def _mean_f1(tracings: Sequence[Tracing], errors: AnnotationErrors) -> float:
    return float(np.mean([_f1(one.annotate(errors), one.membrane) for one in tracings]))


def _f1(annotation: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    both = int(np.count_nonzero(annotation & truth))
    return class_scores(both, int(np.count_nonzero(annotation)), both, int(np.count_nonzero(truth))).f1
