"""Scoring files: folders are matched by name, and every file that cannot be scored is named with the reason.

Names are matched without their extension, so that `pred/12.tif` is scored with `truth/12.png`. A TIFF of several pages
is scored page by page with a truth of as many pages.
"""

import difflib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from emseg.errors import InputError, UsageError, suggest
from emseg.images import count_pages
from emseg.membrane.scoring.class_scores import COMPETITION_RATIO
from emseg.membrane.scoring.image_scores import Comparison, ScoreSettings, compare
from emseg.membrane.scoring.orientation import Polarity, require_upright
from emseg.membrane.scoring.reading import Kind, read_prediction, read_truth
from emseg.membrane.scoring.thresholds import membrane_at
from emseg.images import find_images


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
    predictions = _by_stem(prediction, problems)
    truths = _by_stem(truth, problems)
    problems += [
        f"{truths[stem]} has no prediction; name it {prediction}/{stem}.png."
        for stem in truths
        if stem not in predictions
    ]
    problems += [f"{predictions[stem]} has no truth in {truth}." for stem in predictions if stem not in truths]
    pairs: list[Pair] = []
    for stem, path in predictions.items():
        if stem in truths:
            try:
                found, trouble = _pages(path, truths[stem])
            except InputError as error:
                found, trouble = [], [str(error)]
            pairs += found
            problems += trouble
    return pairs, problems


def why_no_pair(prediction: Path, truth: Path) -> str:
    """Return a sentence for two files or folders that have no pair: where names differ, it names one of each."""
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
        f"no image in {prediction} has the name of one in {truth}, as it must but for the extension; {path.name}, for "
        f"one, stands beside {truths[nearest].name}.{suggest(stem, truths)} Rename the files of one folder."
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
                prediction = reading.result()
            kind = prediction.kind
            if prediction.probability.shape != truth.shape:
                sizes = [f"{shape[0]} x {shape[1]}" for shape in (prediction.probability.shape, truth.shape)]
                raise InputError(
                    f"{pair.prediction} must have the size of its truth; it is {sizes[0]}, "
                    f"{pair.truth} is {sizes[1]} (rows x columns). Resize or crop it."
                )
            if kind == "probability map":
                predicted, own_settings = prediction.probability, settings
            else:
                predicted, own_settings = membrane_at(prediction.probability, 0.5), replace(settings, thresholds=())
            require_upright(membrane_at(predicted, settings.threshold), truth, pair.prediction, polarity)
            comparison = compare(predicted, truth, own_settings)
            if as_competition:
                _require_acceptable(pair, kind, comparison.scores.competition_accepts)
        except InputError as error:
            yield Result(pair, kind, None, str(error))
            continue
        yield Result(pair, kind, comparison, None)


def _require_acceptable(pair: Pair, kind: Kind, ratio_accepted: bool) -> None:
    if kind != "label":
        raise InputError(f"{pair.prediction} would be refused by the competition: it is a {kind}, not two grey levels.")
    if not ratio_accepted:
        raise InputError(
            f"{pair.prediction} would be refused by the competition: it has under {COMPETITION_RATIO:g} pixels of "
            "background per pixel of membrane."
        )


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    paths, troubles = find_images([str(folder)])
    problems += troubles if paths else [f"{folder} holds no images. Name the folder whose files are to be scored."]
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            problems.append(f"{path} has the same name as {found[path.stem]}; the latter is scored. Remove one.")
        else:
            found[path.stem] = path
    return found


def _pages(prediction: Path, truth: Path) -> tuple[list[Pair], list[str]]:
    n_predicted, n_true = count_pages(prediction), count_pages(truth)
    if n_predicted != n_true:
        return [], [f"{prediction} must have as many pages as {truth}; it has {n_predicted}, the truth {n_true}."]
    if n_predicted == 1:
        return [Pair(prediction, truth)], []
    return [Pair(prediction, truth, page) for page in range(n_predicted)], []
