"""Scoring files: folders are matched by name, and every file that cannot be scored is reported with the reason.

Names are matched without their extension. A TIFF of several pages is scored page by page with a truth of as many pages.

A label is 8-bit grey with two values, a 1-bit image, a palette of greys, or an integer TIFF of 0 and 255 only or 0 and
1 only. Membrane is dark in the labels of U-RISC and ISBI 2012 (0, and 255 for the rest); `polarity` declares it, and
nothing is inverted without being asked. U-RISC's labels are partly lossy (greys 0 to 8 and 248 to 255) and partly
resized, and are made binary at 122. A prediction may also be a probability map: 8-bit grey, or float in [0, 1].

A prediction whose correlation with the truth (Matthews) is below `INVERTED_BELOW` is refused as inverted. Where
membrane is rare an inverted poor prediction correlates weakly either way; so it is only reported if more than half of
it is membrane and the inverted one would have the higher membrane F1, 2 (T - TP) / (n - P + T) with n pixels, T true
and P predicted membrane pixels and TP both.
"""

import difflib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from emseg.checks import changed
from emseg.errors import InputError, UsageError, suggest
from emseg.images import count_pages, find_images, read_gray
from emseg.membrane.scoring import distance_kernels
from emseg.membrane.scoring.image_scores import Comparison, ImageScores, ScoreSettings, compare
from emseg.membrane.scoring.pixels import COMPETITION_RATIO, Mask, class_scores, membrane_at

Polarity = Literal["dark", "bright"]
Kind = Literal["label", "lossy label", "probability map"]
LABEL_THRESHOLD = 122
MAX_FRACTION = 0.5  # of membrane in a truth or an unsuspicious prediction, of grey pixels in a label
INVERTED_BELOW = -0.3
_LOSSY_RANGE = 8
_GREYS = slice(_LOSSY_RANGE + 1, 255 - _LOSSY_RANGE)
_BAND_ROWS = 256


class Prediction(NamedTuple):
    """`probability`: large on membrane; `kind`: what the file holds."""

    probability: UInt8[np.ndarray, "row column"] | Float[np.ndarray, "row column"]
    kind: Kind


@dataclass(frozen=True)
class Pair:
    """A prediction and its truth; `page` counts from 0, for files that hold several."""

    prediction: Path
    truth: Path
    page: int | None = None

    @property
    def name(self) -> str:
        """The prediction's name without extension, and the page."""
        return self.prediction.stem if self.page is None else f"{self.prediction.stem}#{self.page}"


@dataclass(frozen=True, eq=False)
class Result:
    """One pair: its scores and error map, or the sentence that says why it has none."""

    pair: Pair
    kind: Kind | None
    comparison: Comparison | None
    problem: str | None


def read_truth(path: Path, polarity: Polarity, page: int | None = None) -> Mask:
    """Return the membrane mask of a label; raises `InputError` for anything else, an inverted label too."""
    grey = _read(path, page)
    if grey.dtype.kind == "f":
        lowest, highest = grey.min(), grey.max()
        if not 0 <= lowest <= highest <= 1:
            found = f"it is float, {lowest:g} to {highest:g}"
            raise InputError(f"{path} must be an 8-bit label; {found}. Save it as 0 and 255.")
        grey = (grey * 255).astype(np.uint8)
    if _counts(grey, path)[_GREYS].sum() > MAX_FRACTION * grey.size:
        raise InputError(f"{path} must be a label; most of its pixels are grey. Is it the image or a probability map?")
    membrane: Mask = grey <= LABEL_THRESHOLD if polarity == "dark" else grey >= 255 - LABEL_THRESHOLD
    fraction = np.count_nonzero(membrane) / membrane.size
    if fraction > MAX_FRACTION:
        raise InputError(
            f"{path} looks inverted: {polarity} pixels are {fraction:.0%} of this truth, and membrane is the smaller "
            f"class. {_invert(polarity, '--truth-membrane')}"
        )
    return membrane


def read_prediction(path: Path, polarity: Polarity, page: int | None = None) -> Prediction:
    """Return a prediction as probability of membrane, and what the file holds; raises `InputError` otherwise."""
    image = _read(path, page)
    if image.dtype.kind == "f":
        lowest, highest = float(image.min()), float(image.max())
        if not 0 <= lowest <= highest <= 1:
            raise InputError(
                f"{path} must hold probabilities in 0 to 1; it holds {lowest:g} to {highest:g}. "
                "Apply the sigmoid, or divide by 255."
            )
        margin = _LOSSY_RANGE / 255
        binary = bool(np.logical_or(image <= margin, image >= 1 - margin).all())
        probability = np.subtract(1, image, dtype=image.dtype) if polarity == "dark" else image
        return Prediction(probability, "label" if binary else "probability map")
    counts = _counts(image, path)
    lossy: Kind = "lossy label" if counts[1:255].any() else "label"
    kind: Kind = "probability map" if counts[_GREYS].any() else lossy
    if polarity == "dark":
        image = np.subtract(255, image, out=image if image.flags.writeable else None)
    return Prediction(image, kind)


def _read(path: Path, page: int | None) -> NDArray[Any]:
    image = read_gray(path, page=page, as_label=True)
    if image.dtype == np.uint16:
        raise InputError(
            f"{path} must be 8-bit or float in 0 to 1; it is 16-bit, which does not say what white means. "
            "Convert it, for example by (image // 257).astype(np.uint8) where white is 65535."
        )
    if image.dtype.kind in "iu" and image.dtype != np.uint8:
        lowest, highest, kind = int(image.min()), int(image.max()), image.dtype.newbyteorder("=")
        if highest not in (0, 1, 255) or not np.logical_or(image == 0, image == highest).all():
            raise InputError(
                f"{path} must be 0 and 255 only, or 0 and 1 only, because its pixels are integers ({kind}); "
                f"they lie in {lowest} to {highest}. "
                "Save a mask of the membranes as 8-bit, or their probability as float in 0 to 1."
            )
        return np.multiply(image > 0, 255, dtype=np.uint8)
    return np.ascontiguousarray(image)


def _counts(grey: UInt8[np.ndarray, "row column"], path: Path) -> NDArray[np.int64]:
    counts = np.zeros(256, np.int64)
    distance_kernels.count_values(grey, counts)
    if counts[1] and not counts[2:].any():
        raise InputError(f"{path} must use the greys 0 to 255; it holds 0 and 1 only. Multiply it by 255.")
    return counts


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


def _invert(polarity: str, option: str = "--membrane", whose: str = "its") -> str:
    other = "bright" if polarity == "dark" else "dark"
    return f"If {whose} membranes are {other}, use {option} {other}."


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
    if prediction.is_dir() != truth.is_dir():
        folder, file = (prediction, truth) if prediction.is_dir() else (truth, prediction)
        raise UsageError(f"PRED and TRUTH must be two files or two folders; {folder} is a folder, {file} is a file.")
    if not prediction.is_dir():
        return _pages(prediction, truth)
    problems: list[str] = []
    pairs: list[Pair] = []
    predictions, truths = _by_stem(prediction, problems), _by_stem(truth, problems)
    unpredicted = [stem for stem in truths if stem not in predictions]
    problems += [f"{truths[stem]} has no prediction; name it {prediction}/{stem}.png." for stem in unpredicted]
    problems += [f"{predictions[stem]} has no truth in {truth}." for stem in predictions if stem not in truths]
    for stem in [stem for stem in predictions if stem in truths]:
        try:
            found, trouble = _pages(predictions[stem], truths[stem])
        except InputError as error:
            found, trouble = [], [str(error)]
        pairs += found
        problems += trouble
    return pairs, problems


def why_no_pair(prediction: Path, truth: Path) -> str:
    """Return a sentence for two files or folders that have no pair: where names differ, with one of each."""
    if not (prediction.is_dir() and truth.is_dir()):
        return f"{prediction} and {truth} are no pair."
    predictions, truths = _by_stem(prediction, []), _by_stem(truth, [])
    empty = [str(folder) for folder, found in ((prediction, predictions), (truth, truths)) if not found]
    if empty:
        return f"there is no image in {' and '.join(empty)}."
    if predictions.keys() & truths.keys():
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

    `as_competition` refuses what the competition's script refuses: predictions that are not binary, and those with
    fewer than five pixels of background per pixel of membrane.
    """
    for pair in pairs:
        kind = None
        try:
            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(read_prediction, pair.prediction, polarity, pair.page)
                truth = read_truth(pair.truth, truth_polarity, pair.page)
                predicted, kind = reading.result()
            if predicted.shape != truth.shape:
                sizes = [f"{shape[0]} x {shape[1]}" for shape in (predicted.shape, truth.shape)]
                raise InputError(
                    f"{pair.prediction} must have the size of its truth; it is {sizes[0]}, "
                    f"{pair.truth} is {sizes[1]} (rows x columns). Resize or crop it."
                )
            own_settings = settings
            if kind != "probability map":
                predicted, own_settings = membrane_at(predicted, 0.5), changed(settings, thresholds=())
            require_upright(membrane_at(predicted, settings.threshold), truth, pair.prediction, polarity)
            comparison = compare(predicted, truth, own_settings)
            if as_competition and (kind != "label" or not comparison.scores.competition_accepts):
                reason = f"it is a {kind}, not two grey levels"
                if kind == "label":
                    reason = f"it has under {COMPETITION_RATIO:g} pixels of background per pixel of membrane"
                raise InputError(f"{pair.prediction} would be refused by the competition: {reason}.")
        except InputError as error:
            yield Result(pair, kind, None, str(error))
        else:
            yield Result(pair, kind, comparison, None)


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    paths, troubles = find_images([str(folder)])
    problems += troubles if paths else [f"{folder} holds no images. Name the folder whose files are to be scored."]
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
