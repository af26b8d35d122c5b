"""All scores of one predicted image against its truth, and of a set of images: mean, deviation, best threshold.

Scores are computed per image and then averaged, as the U-RISC competition and ISBI 2012 do; a large image weighs as
much as a small one. Standard deviations are those of a sample (n - 1). Images where a score is undefined are left out
of its mean; `n` counts the rest.

The best threshold is one for all images, the one with the highest mean, as in ISBI 2012's script. It is chosen on the
images that are scored: compare it only with numbers obtained in the same way.
"""

import math
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from pydantic import Field

from emseg.checks import Fraction, Items, Positive, validated
from emseg.errors import InputError, UsageError
from emseg.membrane.scoring.distance_kernels import NO_SURFACE
from emseg.membrane.scoring.pixels import (
    ISBI_THRESHOLDS,
    MAX_TOLERANCE_PX,
    ClassScores,
    Codes,
    Mask,
    average_surface_distance,
    competition_accepts,
    map_errors,
    membrane_at,
)
from emseg.membrane.scoring.regions import (
    CellScores,
    ErrorObjects,
    Patches,
    ThinningSpace,
    cell_scores,
    count_error_objects,
    find_patches,
    patch_overlaps,
    transpose,
)

AtThresholds = tuple[tuple[float, float, float], ...]


@validated
class ScoreSettings:
    """What the scores depend on besides the images.

    `threshold`: pixels of at least this probability are membrane. `tolerance_px`: radius of the tolerant scores' disc.
    `pixel_size_nm`: for distances in nm. `thresholds`: candidates for the best V-Rand and V-Info of a probability map;
    none to skip that.
    """

    threshold: Fraction = 0.5
    tolerance_px: Annotated[float, Field(ge=0, le=MAX_TOLERANCE_PX)] = 3.0
    pixel_size_nm: Positive | None = None
    thresholds: Items[Fraction] = ISBI_THRESHOLDS


@dataclass(frozen=True)
class ImageScores:
    """The scores of one image; those of `cells`, `assd_px` and `assd_nm` are NaN where they are undefined.

    `true_fraction`, `predicted_fraction`: fraction of membrane pixels. `at_thresholds`: (threshold, V-Rand, V-Info) of
    each candidate; those in `cells` are of the fixed threshold.
    """

    height: int
    width: int
    true_fraction: float
    predicted_fraction: float
    membrane: ClassScores
    background: ClassScores
    membrane_tolerant: ClassScores
    background_tolerant: ClassScores
    cells: CellScores
    assd_px: float
    assd_nm: float
    objects: ErrorObjects
    competition_accepts: bool
    at_thresholds: AtThresholds = ()

    def row(self) -> dict[str, float]:
        """Return the scores as one flat record, named as `membrane_f1`, `v_rand`, `assd_px`, `broken_membranes`."""
        row: dict[str, float] = {
            f"{name}_{score}": value
            for name in ("membrane", "background", "membrane_tolerant", "background_tolerant")
            for score, value in asdict(getattr(self, name)).items()
        }
        return row | asdict(self.cells) | {"assd_px": self.assd_px, "assd_nm": self.assd_nm} | asdict(self.objects)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The scores of an image and its error map; codes as in `pixels`."""

    scores: ImageScores
    codes: Codes


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (NaN for fewer than two), lowest and highest value of `n` images; NaN where n = 0."""

    mean: float
    sd: float
    lowest: float
    highest: float
    n: int


@dataclass(frozen=True)
class BestThreshold:
    """The spread of a score at the threshold where its mean is highest."""

    threshold: float
    spread: Spread


def score_image(prediction: NDArray[Any], truth: NDArray[Any], settings: ScoreSettings | None = None) -> ImageScores:
    """Return all scores of one prediction.

    `prediction` (row, column): True on membrane, or its probability as uint8 (0 to 255) or float (0 to 1). `truth`
    (row, column): True on membrane. Raises `InputError` for other arrays. Two threads share the work.
    """
    return compare(prediction, truth, settings).scores


def compare(prediction: NDArray[Any], truth: NDArray[Any], settings: ScoreSettings | None = None) -> Comparison:
    """Return all scores of one prediction, and where it is wrong; arguments as in `score_image`."""
    settings = settings or ScoreSettings()
    _require_pair(prediction, truth)
    (height, width), n_pixels = truth.shape, truth.size
    prediction, truth = transpose(prediction), transpose(truth)  # as thinning needs it; the others do not care
    predicted = membrane_at(prediction, settings.threshold)
    true_patches = find_patches(truth, 4, value=False)
    space = ThinningSpace(prediction.shape)
    tried = settings.thresholds if prediction.dtype != np.bool_ else ()
    at_thresholds = _score_thresholds(prediction, true_patches, tried, space)
    labels, n_cells = space.thin(predicted)
    cells = cell_scores(patch_overlaps(true_patches, labels, n_cells))
    errors = map_errors(truth, predicted, settings.tolerance_px)
    assd_px = average_surface_distance(*errors.surfaces)
    scores = ImageScores(
        height=height,
        width=width,
        true_fraction=float(np.count_nonzero(truth) / n_pixels),
        predicted_fraction=float(np.count_nonzero(predicted) / n_pixels),
        **errors.scores(),
        cells=cells,
        assd_px=assd_px,
        assd_nm=assd_px * (settings.pixel_size_nm or math.nan),
        objects=count_error_objects(errors.codes, true_patches, labels),
        competition_accepts=competition_accepts(predicted),
        at_thresholds=at_thresholds,
    )
    return Comparison(scores, errors.codes.T)


def _score_thresholds(
    prediction: NDArray[Any], truth: Patches, thresholds: Sequence[float], space: ThinningSpace
) -> AtThresholds:
    """V-Rand and V-Info at each threshold, by two threads."""
    if not thresholds:
        return ()
    free = [(one, np.empty(prediction.shape, np.bool_)) for one in (space, ThinningSpace(prediction.shape))]

    def score(threshold: float) -> tuple[float, float, float]:
        own, mask = free.pop()
        found = cell_scores(patch_overlaps(truth, *own.thin(membrane_at(prediction, threshold, mask))))
        free.append((own, mask))
        return threshold, found.v_rand, found.v_info

    with ThreadPoolExecutor(len(free)) as pool:  # the lowest, of most membrane, are the slowest: they go first
        return tuple(pool.map(score, sorted(set(thresholds))))[::-1]


def shifted_pair(mask: Mask, rows: int, columns: int) -> tuple[Bool[np.ndarray, "_ _"], Bool[np.ndarray, "_ _"]]:
    """Return (the mask moved down by `rows` and right by `columns`, the mask at rest), cropped to their overlap."""
    height, width = mask.shape
    if abs(rows) >= height or abs(columns) >= width:
        raise UsageError(f"a shift must be smaller than the image; got ({rows}, {columns}) for {height} x {width}.")
    moved = mask[max(-rows, 0) : height - max(rows, 0), max(-columns, 0) : width - max(columns, 0)]
    still = mask[max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)]
    return moved, still


def spread(values: Sequence[float]) -> Spread:
    """Return mean, deviation and range of the values that are defined."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan, math.nan, math.nan, 0)
    sd = statistics.stdev(known) if len(known) > 1 else math.nan
    return Spread(statistics.fmean(known), sd, min(known), max(known), len(known))


def summarize(scores: Sequence[ImageScores]) -> dict[str, Spread]:
    """Return the spread of every score over the images, named as in `ImageScores.row`."""
    rows = [one.row() for one in scores]
    return {name: spread([row[name] for row in rows]) for name in (rows[0] if rows else {})}


def best_thresholds(scores: Sequence[ImageScores]) -> dict[str, BestThreshold]:
    """Return the best threshold of "v_rand" and of "v_info"; empty unless all images were tried at the same ones.

    Of equal thresholds the highest is taken.
    """
    tried = {tuple(threshold for threshold, _, _ in one.at_thresholds) for one in scores}
    best: dict[str, BestThreshold] = {}
    for place, name in ((1, "v_rand"), (2, "v_info")):
        for i, threshold in enumerate(next(iter(tried)) if len(tried) == 1 else ()):
            found = spread([one.at_thresholds[i][place] for one in scores])
            if found.n and (name not in best or found.mean > best[name].spread.mean):
                best[name] = BestThreshold(threshold, found)
    return best


def _require_pair(prediction: NDArray[Any], truth: NDArray[Any]) -> None:
    problem = None
    if truth.dtype != np.bool_ or truth.ndim != 2 or truth.size == 0:
        found = f"{truth.dtype} {truth.shape}. Make one of a label by label <= 122."
        problem = f"truth must be a two-dimensional boolean mask, True on membrane; got {found}"
    elif prediction.shape != truth.shape:
        sizes = f"{prediction.shape} and {truth.shape}"
        problem = f"prediction and truth must have one size; got {sizes}. Resize or crop one."
    elif prediction.dtype not in (np.bool_, np.uint8, np.float32, np.float64):
        problem = f"prediction must be a boolean mask, uint8 or float in 0 to 1; got {prediction.dtype}. Convert it."
    elif prediction.dtype.kind == "f" and not (prediction.min() >= 0 and prediction.max() <= 1):  # NaN fails too
        lowest, highest = prediction.min(), prediction.max()
        problem = f"a probability must lie in 0 to 1; got {lowest:g} to {highest:g}. Apply the sigmoid."
    elif max(truth.shape) >= NO_SURFACE:
        problem = f"an image must be smaller than {NO_SURFACE} pixels a side; got {truth.shape}. Score tiles."
    if problem:
        raise InputError(problem)
