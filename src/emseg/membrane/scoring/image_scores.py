"""All scores of one predicted image against its truth."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError
from emseg.membrane.scoring.cells import ThinningSpace, turn
from emseg.membrane.scoring.class_scores import ClassScores, competition_accepts
from emseg.membrane.scoring.clustering import CellScores, cell_scores, patch_overlaps
from emseg.membrane.scoring.distance_kernels import NO_SURFACE
from emseg.membrane.scoring.error_map import MAX_TOLERANCE_PX, map_errors
from emseg.membrane.scoring.objects import ErrorObjects, count_error_objects
from emseg.membrane.scoring.patches import Patches, find_patches
from emseg.membrane.scoring.surface import average_surface_distance
from emseg.membrane.scoring.thresholds import ISBI_THRESHOLDS, membrane_at

DEFAULT_TOLERANCE_PX = 3.0


@dataclass(frozen=True)
class ScoreSettings:
    """What the scores depend on beside the images.

    `threshold`: probability from which on a pixel is membrane. `tolerance_px`: radius of the tolerant scores' disc.
    `pixel_size_nm`: for distances in nm. `thresholds`: those tried for the best V-Rand and V-Info of a probability
    map; none to leave that out.
    """

    threshold: float = 0.5
    tolerance_px: float = DEFAULT_TOLERANCE_PX
    pixel_size_nm: float | None = None
    thresholds: tuple[float, ...] = ISBI_THRESHOLDS

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name, value in (("threshold", self.threshold), *(("thresholds", value) for value in self.thresholds)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} must lie in 0 to 1; got {value}.")
        if not 0 <= self.tolerance_px <= MAX_TOLERANCE_PX:
            raise UsageError(f"tolerance_px must lie in 0 to {MAX_TOLERANCE_PX:g} pixels; got {self.tolerance_px}.")
        if self.pixel_size_nm is not None and not 0 < self.pixel_size_nm < math.inf:
            raise UsageError(f"pixel_size_nm must be a positive length in nanometres; got {self.pixel_size_nm}.")


@dataclass(frozen=True)
class ImageScores:
    """The scores of one image; those of `cells`, `assd_px` and `assd_nm` are NaN where they are undefined.

    `true_fraction`, `predicted_fraction`: share of membrane pixels. `at_thresholds`: (threshold, V-Rand, V-Info) of
    each threshold tried; the first two in `cells` are those of the fixed threshold. `competition_accepts`: see there.
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
    at_thresholds: tuple[tuple[float, float, float], ...] = field(default=())

    def row(self) -> dict[str, float]:
        """Return the scores as one flat record, named as `membrane_f1`, `v_rand`, `assd_px`, `broken_membranes`."""
        row: dict[str, float] = {
            f"{name}_{score}": value
            for name in ("membrane", "background", "membrane_tolerant", "background_tolerant")
            for score, value in asdict(getattr(self, name)).items()
        }
        row |= asdict(self.cells)
        row |= {"assd_px": self.assd_px, "assd_nm": self.assd_nm}
        return row | asdict(self.objects)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The scores of an image and its error map: codes as in `error_map`, uint8 [height, width]."""

    scores: ImageScores
    codes: NDArray[np.uint8]


def score_image(
    prediction: NDArray[Any], truth: NDArray[np.bool_], settings: ScoreSettings | None = None
) -> ImageScores:
    """Return all scores of one prediction.

    `prediction` [height, width]: True on membrane, or its probability as uint8 (0 to 255) or float (0 to 1).
    `truth` [height, width]: True on membrane. Raises `InputError` for other arrays. Two threads share the work.
    """
    return compare(prediction, truth, settings).scores


def compare(prediction: NDArray[Any], truth: NDArray[np.bool_], settings: ScoreSettings | None = None) -> Comparison:
    """Return all scores of one prediction, and where it is wrong; arguments as in `score_image`."""
    settings = settings or ScoreSettings()
    _require_pair(prediction, truth)
    prediction, truth = turn(prediction), turn(truth)  # as the thinning needs it; nothing else minds
    predicted = membrane_at(prediction, settings.threshold)
    true_patches = find_patches(truth, 4, value=False)
    tried = settings.thresholds if prediction.dtype != np.bool_ else ()
    at_thresholds, space = _over_thresholds(prediction, true_patches, tried)
    found = space.thin(predicted)
    cells = cell_scores(patch_overlaps(true_patches, found.labels, found.n))
    errors = map_errors(truth, predicted, settings.tolerance_px)
    assd_px = average_surface_distance(*errors.surfaces)
    pixel_scores = errors.scores()
    return Comparison(
        ImageScores(
            height=truth.shape[1],
            width=truth.shape[0],
            true_fraction=_share(truth),
            predicted_fraction=_share(predicted),
            membrane=pixel_scores["membrane"],
            background=pixel_scores["background"],
            membrane_tolerant=pixel_scores["membrane_tolerant"],
            background_tolerant=pixel_scores["background_tolerant"],
            cells=cells,
            assd_px=assd_px,
            assd_nm=math.nan if settings.pixel_size_nm is None else assd_px * settings.pixel_size_nm,
            objects=count_error_objects(errors.codes, true_patches, found.labels),
            competition_accepts=competition_accepts(predicted),
            at_thresholds=at_thresholds,
        ),
        errors.codes.T,
    )


def _over_thresholds(
    prediction: NDArray[Any], truth: Patches, thresholds: Sequence[float]
) -> tuple[tuple[tuple[float, float, float], ...], ThinningSpace]:
    """V-Rand and V-Info at each threshold, by two threads, and memory to thin one more mask in."""
    own_space = ThinningSpace(prediction.shape)
    if not thresholds:
        return (), own_space
    waiting = sorted(set(thresholds), reverse=True)  # the lowest, of most membrane, are the slowest: they go first

    def work(space: ThinningSpace) -> list[tuple[float, float, float]]:
        mask = np.empty(prediction.shape, np.bool_)
        rows: list[tuple[float, float, float]] = []
        while True:
            try:
                threshold = waiting.pop()
            except IndexError:
                return rows
            found = space.thin(membrane_at(prediction, threshold, mask))
            scores = cell_scores(patch_overlaps(truth, found.labels, found.n))
            rows.append((threshold, scores.v_rand, scores.v_info))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, (own_space, ThinningSpace(prediction.shape)))
    return tuple(sorted(first + second, reverse=True)), own_space


def _share(mask: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(mask) / mask.size)


def _require_pair(prediction: NDArray[Any], truth: NDArray[Any]) -> None:
    if truth.dtype != np.bool_ or truth.ndim != 2 or truth.size == 0:
        raise InputError(
            f"truth must be a two-dimensional boolean mask, True on membrane; got {truth.dtype} {truth.shape}. "
            "Make one of a label by label <= 122."
        )
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction and truth must have one size; got {prediction.shape} and {truth.shape}. Resize or crop one."
        )
    if prediction.dtype not in (np.bool_, np.uint8, np.float32, np.float64):
        raise InputError(
            f"prediction must be a boolean mask, uint8 or float in 0 to 1; got {prediction.dtype}. Convert it."
        )
    if prediction.dtype.kind == "f" and not (prediction.min() >= 0 and prediction.max() <= 1):  # NaN fails too
        raise InputError(
            f"a probability must lie in 0 to 1; got {prediction.min():g} to {prediction.max():g}. Apply the sigmoid."
        )
    if max(truth.shape) >= NO_SURFACE:
        raise InputError(f"an image must be smaller than {NO_SURFACE} pixels a side; got {truth.shape}. Score tiles.")
