"""Scoring files: folders are matched by name, and every file that cannot be scored is reported with the reason.

Names are matched without their extension; two folders of one file each are a pair whatever the names. A stack (a TIFF
of several pages, .npy, .mrc ...) is scored image by image with a truth of as many.

A label has two values, whatever they are, or greys near 0 and 255 (`emseg.membrane.dataset.labels`). Membrane is dark
in the labels of U-RISC and ISBI 2012; `polarity` declares it, and nothing is inverted without being asked. A prediction
may also be a probability map: 8-bit grey, or float in 0 to 1.

A prediction whose correlation with the truth (Matthews) is below `INVERTED_BELOW` is refused as inverted. Where
membrane is rare an inverted poor prediction correlates weakly either way; so it is only reported if more than half of
it is membrane and the inverted one would have the higher membrane F1, 2 (T - TP) / (n - P + T) with n pixels, T true
and P predicted membrane pixels and TP both.

The competition's number. Its program inverts both images, so that membrane is 255, and sums the truth t as it is
stored: greys of a lossy label count as a little membrane. With the predicted mask p, which must be two-valued,

    precision = sum(p [t > 0]) / sum(p)        recall = sum(t p) / sum(t)        F1 of both, then the mean over images

Source: Shi et al., Front. Comput. Neurosci. 16:842760 (2022), its script (U-RISC-Data-Code, eval.py).
"""

import difflib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray

from emseg.checks import changed
from emseg.errors import InputError, UsageError, suggest
from emseg.images import count_pages, find_images, is_zarr, read_gray
from emseg.membrane.dataset.labels import LOSSY_RANGE, read_label, two_values
from emseg.membrane.scoring import distance_kernels
from emseg.membrane.scoring.image_scores import Comparison, ImageScores, ScoreSettings, compare
from emseg.membrane.scoring.pixels import COMPETITION_RATIO, ClassScores, Mask, class_scores, membrane_at

Polarity = Literal["dark", "bright"]
Kind = Literal["label", "lossy label", "probability map", "constant image"]
MAX_FRACTION = 0.5  # of membrane in an unsuspicious prediction, of middle greys in a probability map
INVERTED_BELOW = -0.3
_RAW_DEVIATION = 25.0  # of 255 greys; micrographs have 30 to 60
_ROUNDING = 1e-5  # a probability may exceed 0 to 1 by this much
_BAND_ROWS = 256


class Prediction(NamedTuple):
    """`probability` of membrane, or its mask; `kind`: what the file is; `looks_raw`: it may be the image itself."""

    probability: Bool[np.ndarray, "row column"] | UInt8[np.ndarray, "row column"] | Float[np.ndarray, "row column"]
    kind: Kind
    looks_raw: bool = False


@dataclass(frozen=True)
class Pair:
    """A prediction and its truth; `page` counts from 0, for files that contain several."""

    prediction: Path
    truth: Path
    page: int | None = None

    @property
    def name(self) -> str:
        """The prediction's name without extension, and the page."""
        return self.prediction.stem if self.page is None else f"{self.prediction.stem}#{self.page}"


@dataclass(frozen=True, eq=False)
class Result:
    """One pair: its scores and error map, or the reason why it has none.

    `competition`: the scores of the competition's program. `looks_raw`: the prediction may be the image itself.
    """

    pair: Pair
    kind: Kind | None = None
    comparison: Comparison | None = None
    problem: str | None = None
    competition: ClassScores | None = None
    looks_raw: bool = False


def read_prediction(path: Path, polarity: Polarity, page: int | None = None) -> Prediction:
    """Return a prediction as probability or mask of membrane, and what the file contains, or raise `InputError`."""
    image, dark = read_gray(path, page=page, as_label=True), polarity == "dark"
    if values := two_values(image):
        return Prediction(image == values[0 if dark else 1], "label")
    low, high = float(image.min()), float(image.max())
    kind: Kind = "constant image" if low == high else "probability map"
    if image.dtype == np.uint8:
        counts = np.zeros(256, np.int64)
        distance_kernels.count_values(image, counts)
        if kind == "probability map" and not counts[LOSSY_RANGE + 1 : 255 - LOSSY_RANGE].any():
            kind = "lossy label"
        probability = np.subtract(255, image, out=image if image.flags.writeable else None) if dark else image
        return Prediction(np.ascontiguousarray(probability), kind, kind == "probability map" and _looks_raw(counts))
    if image.dtype.kind != "f":
        raise InputError(
            f"{path} must be 8-bit or float in 0 to 1, because its pixels are integers ({image.dtype.name}) that do "
            f"not state what white means; they lie in {low:g} to {high:g}. Divide by the value that means 1 and save "
            "as float, or save a mask of two values."
        )
    if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
        raise InputError(
            f"{path} must contain probabilities in 0 to 1; it contains {low:g} to {high:g}. "
            "Apply the sigmoid, or divide by 255."
        )
    image = np.clip(image, 0, 1, dtype=image.dtype.newbyteorder("="))
    counts = np.histogram(image[::4, ::4], 256, (0, 1))[0]  # a sixteenth of the pixels tells
    return Prediction(np.subtract(1, image, dtype=image.dtype) if dark else image, kind, _looks_raw(counts))


def _looks_raw(counts: NDArray[np.int64]) -> bool:
    """Whether most greys are in the middle, as in a micrograph, and spread wider than a hesitant network's outputs."""
    levels = np.arange(256)
    mean = np.average(levels, weights=counts)
    deviation = np.sqrt(np.average((levels - mean) ** 2, weights=counts))
    return bool(counts[64:192].sum() > MAX_FRACTION * counts.sum() and deviation > _RAW_DEVIATION)


def competition_scores(predicted: Mask, truth: Mask, path: Path, polarity: Polarity, page: int | None) -> ClassScores:
    """Return the scores of the competition's program; `path`, the truth's file, gives its stored greys."""
    stored = read_gray(path, page=page, as_label=True)
    if stored.dtype != np.uint8 or two_values(stored):  # the program was made for 8-bit labels of 0 and 255
        weights = np.multiply(truth, 255, dtype=np.uint8)
    else:
        weights = 255 - stored if polarity == "dark" else stored
    found, total = (int(np.sum(weights, dtype=np.int64, where=where)) for where in (predicted, True))
    n_correct, n_predicted = (int(np.count_nonzero(mask)) for mask in (predicted & (weights > 0), predicted))
    return class_scores(n_correct, n_predicted, found, total)


def require_upright(prediction: Mask, truth: Mask, path: Path, polarity: str) -> None:
    """Raise `InputError` if the correlation with the truth is so negative that classes must be swapped."""
    n = float(truth.size)
    p, t = np.count_nonzero(prediction) / n, np.count_nonzero(truth) / n
    bands = range(0, len(truth), _BAND_ROWS)  # one mask of all would cost more memory than time
    both = sum(np.count_nonzero(prediction[i : i + _BAND_ROWS] & truth[i : i + _BAND_ROWS]) for i in bands) / n
    spread = p * (1 - p) * t * (1 - t)
    correlation = (both - p * t) / spread**0.5 if spread > 0 else 0.0
    if correlation < INVERTED_BELOW:
        found = f"its correlation with the truth is {correlation:.2f}"
        raise InputError(f"{path} looks inverted: {found}. {_invert(polarity)}")


def _invert(polarity: str, whose: str = "its") -> str:
    other = "bright" if polarity == "dark" else "dark"
    return f"If {whose} membranes are {other}, use --membrane {other}."


def inverted_membrane_f1(scores: ImageScores) -> float:
    """Return the strict membrane F1 that the inverted prediction would have."""
    n = scores.height * scores.width
    n_true, n_predicted = round(scores.true_fraction * n), round(scores.predicted_fraction * n)
    n_missed = n_true - round(scores.membrane.recall * n_true)
    return class_scores(n_missed, n - n_predicted, n_missed, n_true).f1


def may_be_inverted(scores: ImageScores) -> bool:
    """Return whether most of the prediction is membrane and the inverted one would have the higher membrane F1."""
    return scores.predicted_fraction > MAX_FRACTION and inverted_membrane_f1(scores) > scores.membrane.f1


def inversion_note(names: Sequence[str], scores: Sequence[ImageScores], polarity: str) -> str | None:
    """Return a sentence about the predictions that may be inverted, with the option to use; None if there are none."""
    suspects = [(name, one) for name, one in zip(names, scores, strict=True) if may_be_inverted(one)]
    if not suspects:
        return None
    name, first = suspects[0]
    return (
        f"{len(suspects)} of {len(scores)} predictions may be inverted ({some([name for name, _ in suspects])}): "
        f"{first.predicted_fraction:.0%} of {name} is membrane, and inverted its membrane F1 would be "
        f"{inverted_membrane_f1(first):.2f}, not {first.membrane.f1:.2f}. The scores are of the files as they are. "
        f"{_invert(polarity, whose='their')}"
    )


def some(names: Sequence[str]) -> str:
    """Return up to three names as text."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def find_pairs(prediction: Path, truth: Path) -> tuple[list[Pair], list[str]]:
    """Return the pairs of two files or of two folders, in natural order, and a sentence for each file without one."""
    for path in (prediction, truth):
        if not path.exists():
            raise InputError(f"{path} does not exist. Check the name and the folder.")
    if _is_folder(prediction) != _is_folder(truth):
        folder, file = (prediction, truth) if _is_folder(prediction) else (truth, prediction)
        raise UsageError(f"PRED and TRUTH must be two files or two folders; {folder} is a folder, {file} is a file.")
    if not _is_folder(prediction):
        return _pages(prediction, truth)
    problems: list[str] = []
    predictions, truths = _by_stem(prediction, problems), _by_stem(truth, problems)
    if len(predictions) == len(truths) == 1:
        couples = list(zip(predictions.values(), truths.values(), strict=True))
    else:
        problems += [
            f"{truths[one]} has no prediction; name it {prediction}/{one}.png."
            for one in truths
            if one not in predictions
        ]
        problems += [f"{predictions[one]} has no truth in {truth}." for one in predictions if one not in truths]
        couples = [(predictions[one], truths[one]) for one in predictions if one in truths]
    pairs: list[Pair] = []
    for couple in couples:
        try:
            found, trouble = _pages(*couple)
        except InputError as error:
            found, trouble = [], [str(error)]
        pairs += found
        problems += trouble
    return pairs, problems


def why_no_pair(prediction: Path, truth: Path) -> str:
    """Return a sentence for two files or folders that have no pair: where names differ, with one of each."""
    if not _is_folder(prediction):
        return f"{prediction} and {truth} are not a pair."
    predictions, truths = _by_stem(prediction, []), _by_stem(truth, [])
    empty = [str(folder) for folder, found in ((prediction, predictions), (truth, truths)) if not found]
    if empty:
        return f"there is no image in {' and '.join(empty)}."
    if predictions.keys() & truths.keys() or len(predictions) == len(truths) == 1:
        return f"no file in {prediction} is a pair with the file of its name in {truth}."
    stem, path = next(iter(predictions.items()))
    nearest = difflib.get_close_matches(stem, truths, n=1, cutoff=0.0)[0]
    return (
        f"no image in {prediction} has the name of one in {truth}, as it must apart from the extension; {path.name}, "
        f"for example, is nearest to {truths[nearest].name}.{suggest(stem, truths)} Rename the files of one folder."
    )


def score_pairs(
    pairs: Sequence[Pair],
    settings: ScoreSettings,
    *,
    polarity: Polarity = "dark",
    truth_polarity: Polarity = "dark",
    as_competition: bool = False,
) -> Iterator[Result]:
    """Yield the result of each pair, in order.

    `as_competition` adds the scores of the competition's program and refuses what it refuses: predictions that are not
    binary, and those with fewer than five pixels of background per pixel of membrane.
    """
    for pair in pairs:
        kind = None
        try:
            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(read_prediction, pair.prediction, polarity, pair.page)
                truth = read_label(pair.truth, dark=truth_polarity == "dark", page=pair.page)
                predicted, kind, looks_raw = reading.result()
            if predicted.shape != truth.shape:
                sizes = [f"{shape[0]} x {shape[1]}" for shape in (predicted.shape, truth.shape)]
                raise InputError(
                    f"{pair.prediction} must have the size of its truth; it is {sizes[0]}, "
                    f"{pair.truth} is {sizes[1]} (rows x columns). Resize or crop it."
                )
            own_settings = settings
            if kind != "probability map":
                threshold = 0.5 if kind == "lossy label" else settings.threshold
                predicted, own_settings = membrane_at(predicted, threshold), changed(settings, thresholds=())
            mask = membrane_at(predicted, settings.threshold)
            require_upright(mask, truth, pair.prediction, polarity)
            comparison = compare(predicted, truth, own_settings)
            competition = None
            if as_competition:
                if kind != "label" or not comparison.scores.competition_accepts:
                    reason = f"it is a {kind}, not two grey levels"
                    if kind == "label":
                        reason = f"it has under {COMPETITION_RATIO:g} pixels of background per pixel of membrane"
                    raise InputError(f"{pair.prediction} would be refused by the competition: {reason}.")
                competition = competition_scores(mask, truth, pair.truth, truth_polarity, pair.page)
            yield Result(pair, kind, comparison, competition=competition, looks_raw=looks_raw)
        except InputError as error:
            yield Result(pair, kind, problem=str(error))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not is_zarr(path)


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    paths, troubles = find_images([str(folder)])
    problems += troubles if paths else [f"{folder} contains no images. Name the folder whose files are to be scored."]
    found: dict[str, Path] = {}
    for path in paths:
        if found.setdefault(path.stem, path) is not path:
            problems.append(f"{path} has the same name as {found[path.stem]}; the latter is scored. Remove one.")
    return found


def _pages(prediction: Path, truth: Path) -> tuple[list[Pair], list[str]]:
    n_predicted, n_true = count_pages(prediction), count_pages(truth)
    if n_predicted != n_true:
        return [], [f"{prediction} must have as many pages as {truth}; it has {n_predicted}, the truth {n_true}."]
    return [Pair(prediction, truth, page if n_true > 1 else None) for page in range(n_true)], []
