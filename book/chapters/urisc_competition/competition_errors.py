"""Where a prediction goes wrong, as the paper's Figure 6 shows it: places of false and of missed membrane.

Two predictors can be looked at: a trained network, or dark ridges without any learning: a pixel is membrane where a
line of negative curvature about as wide as a membrane passes through it. The network is the one whose weights are
given, else the one that the book keeps for the data set (see `competition_weights`); where there is neither, the ridges
predict.

    ridge strength = the largest eigenvalue of the Hessian of the smoothed image, where it is positive
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chapters.urisc_competition.competition_records import DATA_SETS
from chapters.urisc_competition.competition_weights import find_network
from emseg.membrane.dataset import open_membrane_set
from emseg.membrane.scoring.image_scores import ImageScores, ScoreSettings, compare

MEMBRANE_NM = 30.0
_FALSE_NEGATIVE, _FALSE_POSITIVE = 1, 2
_STRICT = np.uint8(3)


@dataclass(frozen=True, eq=False)
class ErrorExample:
    """A crop of an image, and its error codes (see `emseg.membrane.scoring.pixels`)."""

    image: NDArray[np.uint8]
    codes: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """An image, its error codes and the scores of the prediction."""

    image: NDArray[np.uint8]
    codes: NDArray[np.uint8]
    scores: ImageScores


def ridge_strength(image: NDArray[np.uint8], pixel_size_nm: float) -> NDArray[np.float32]:
    """Return how strongly a dark line as wide as a membrane passes through each pixel; at least 0."""
    sigma = max(MEMBRANE_NM / pixel_size_nm / 2, 1.0)
    smooth = cv2.GaussianBlur(image.astype(np.float32) / 255, (0, 0), sigma)
    rows, columns = np.gradient(smooth)
    (rr, rc), (_, cc) = np.gradient(rows), np.gradient(columns)
    largest = (rr + cc) / 2 + np.sqrt(((rr - cc) / 2) ** 2 + rc**2)
    return np.asarray(np.maximum(largest * sigma**2, 0), dtype=np.float32)


def ridge_threshold(
    images: Sequence[NDArray[np.uint8]], truths: Sequence[NDArray[np.bool_]], pixel_size_nm: float
) -> float:
    """Return the threshold with the best F1 of membrane on some images; score others with it."""
    strengths = [ridge_strength(image, pixel_size_nm) for image in images]
    candidates = np.quantile(np.concatenate([one.ravel()[::7] for one in strengths]), np.linspace(0.5, 0.99, 50))

    def mean_f1(threshold: float) -> float:
        pairs = [(one >= threshold, truth) for one, truth in zip(strengths, truths, strict=True)]
        return float(np.mean([2 * (own & truth).sum() / (own.sum() + truth.sum()) for own, truth in pairs]))

    return float(max(candidates, key=mean_f1))


def predict_by_ridges(
    image: NDArray[np.uint8], truth: NDArray[np.bool_], pixel_size_nm: float, threshold: float
) -> PredictedImage:
    """Return an image with the errors of its dark ridges."""
    return _compared(image, ridge_strength(image, pixel_size_nm) >= threshold, truth, pixel_size_nm)


def predict_by_network(
    image: NDArray[np.uint8], truth: NDArray[np.bool_], pixel_size_nm: float, weights: Path, threshold: float
) -> PredictedImage:
    """Return an image with the errors of a trained network, whose file `weights` names."""
    from emseg.membrane.networks import load_network
    from emseg.membrane.training import predict_membrane

    probability = predict_membrane(load_network(weights), image)
    return _compared(image, probability >= threshold, truth, pixel_size_nm)


def _compared(
    image: NDArray[np.uint8], prediction: NDArray[np.bool_], truth: NDArray[np.bool_], pixel_size_nm: float
) -> PredictedImage:
    found = compare(prediction, truth, ScoreSettings(pixel_size_nm=pixel_size_nm))
    return PredictedImage(image, found.codes, found.scores)


def worst_places(predicted: PredictedImage, side_px: int, n: int, *, false: bool) -> list[ErrorExample]:
    """Return `n` crops, apart from each other, that hold most false or most missed membrane beyond tolerance.

    Errors within the tolerance (3 pixels) are lines that lie a little off; they are not looked for here.
    """
    wrong = predicted.codes == (_FALSE_POSITIVE if false else _FALSE_NEGATIVE)
    density = cv2.boxFilter(wrong.astype(np.float32), -1, (side_px, side_px), normalize=False)
    margin = side_px // 2
    height, width = wrong.shape
    found = []
    for _ in range(n):
        inner = density[margin : height - margin, margin : width - margin]
        if inner.size == 0 or inner.max() <= 0:
            break
        row, column = np.unravel_index(int(inner.argmax()), inner.shape)
        window = slice(int(row), int(row) + side_px), slice(int(column), int(column) + side_px)
        found.append(ErrorExample(predicted.image[window], predicted.codes[window] & _STRICT))
        top, left = max(int(row) + margin - side_px, 0), max(int(column) + margin - side_px, 0)
        density[top : int(row) + margin + side_px, left : int(column) + margin + side_px] = 0
    return found


@dataclass(frozen=True, eq=False)
class Example:
    """A test image of a data set with its errors; `key` names its metrics, `predictor` says who predicted."""

    key: str
    title: str
    predicted: PredictedImage
    pixel_size_nm: float
    predictor: str


def example_sets(data: str) -> tuple[tuple[str, str], ...]:
    """Return (track, key) of the data sets whose errors are shown side by side: of synthetic ones two."""
    if data == "synthetic":
        return ("track1", "track1"), ("isbi_like", "isbi_like")
    return (("", "isbi"),) if data == "isbi2012" else (("track1", "track1"),)


def predict_examples(
    data: str, *, folder: str = "", weights: str = "", threshold: float = 0.5, size_px: int = 0, seed: int = 0
) -> tuple[Example, ...]:
    """Return a test image of each data set that is shown, with its errors.

    With `weights` that network predicts, at `threshold`; else the one that the book keeps for the data set, at the
    threshold that its validation images chose; else dark ridges, at the threshold that is best on the validation
    images here. `size_px`: side of an image of Track 1; an image of another pixel size shows the same area.
    """
    return tuple(
        _example(data, track, key, folder=folder, weights=weights, threshold=threshold, size_px=size_px, seed=seed)
        for track, key in example_sets(data)
    )


def _example(
    data: str, track: str, key: str, *, folder: str, weights: str, threshold: float, size_px: int, seed: int
) -> Example:
    kept = None if weights else find_network(data, track)
    n = 1 if data == "synthetic" else 0
    opened = open_membrane_set(
        data,
        track=track or "track1",
        folder=folder,
        n_train=n,
        n_validation=n,
        n_test=n,
        size_px=_same_area(size_px, track) if data == "synthetic" else size_px,
        seed=seed,
    )
    nm, test = opened.pixel_size_nm, opened.labelled_test[0]
    assert nm is not None
    image, truth = test.read(), test.read_membrane()
    title = DATA_SETS[data, track]
    if weights:
        place = Path(weights).expanduser()
        return Example(key, title, predict_by_network(image, truth, nm, place, threshold), nm, place.stem)
    if kept is not None:
        predicted = predict_by_network(image, truth, nm, kept.weights, kept.threshold)
        return Example(key, title, predicted, nm, f"the kept network {kept.cell}")
    chosen_on = [(one.read(), one.read_membrane()) for one in opened.validation]
    found = ridge_threshold([one for one, _ in chosen_on], [one for _, one in chosen_on], nm)
    name = "dark ridges, for no network is kept for this data set"
    return Example(key, title, predict_by_ridges(image, truth, nm, found), nm, name)


def _same_area(size_px: int, track: str) -> int:
    """Return the side in pixels of a synthetic image of a track that shows as much as one of `size_px` on Track 1."""
    from emseg.membrane.dataset.known_sets import synthetic_track

    return round(size_px * synthetic_track("track1").pixel_size_nm / synthetic_track(track).pixel_size_nm)
