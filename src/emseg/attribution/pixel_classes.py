"""Which pixels to explain: right and wrong ones of either class, spread over the image.

With p the predicted probability of membrane, t the truth and a threshold c:

    correct_membrane     p >= c and t          false_positive    p >= c and not t
    false_negative       p < c and t           correct_background   p < c and not t

Source: Shi et al. 2022, Figure 8, names the first three. Targets keep a distance from the border, where a field would
be cut, and from one another, so that they are no copies of one field.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Int64
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError

PixelClass = Literal["correct_membrane", "false_positive", "false_negative", "correct_background"]
PIXEL_CLASSES: tuple[PixelClass, ...] = get_args(PixelClass)
CLASS_LABELS: dict[str, str] = {
    "correct_membrane": "correct membrane",
    "false_positive": "false positive",
    "false_negative": "false negative",
    "correct_background": "correct background",
}


@dataclass(frozen=True)
class PixelSample:
    """Targets [target, 2] as (row, column), and the class [target] of each, a place in `PIXEL_CLASSES`."""

    targets: Int64[np.ndarray, "target 2"]
    classes: Int64[np.ndarray, " target"]

    def __len__(self) -> int:
        return len(self.targets)

    def of(self, name: PixelClass) -> Int64[np.ndarray, " place"]:
        """Return the places in the list of the targets of one class."""
        return np.flatnonzero(self.classes == PIXEL_CLASSES.index(name))

    @property
    def counts(self) -> dict[PixelClass, int]:
        """How many targets each class has."""
        return {name: len(self.of(name)) for name in PIXEL_CLASSES}


def pixel_class_masks(
    probability: NDArray[Any], truth: NDArray[np.bool_], *, threshold: float = 0.5
) -> dict[PixelClass, Bool[np.ndarray, "row column"]]:
    """Return a mask for each class; together they cover every pixel once.

    Raises `InputError` for maps of unequal shape, a truth that is not boolean, or probabilities outside [0, 1].
    """
    if probability.shape != truth.shape or probability.ndim != 2:
        raise InputError(
            f"probability and truth must be [row, column] of one shape; got {probability.shape} and {truth.shape}."
        )
    if truth.dtype != np.bool_:
        raise InputError(f"truth must be boolean, True on membrane; got {truth.dtype}. Compare it with its threshold.")
    if not (np.isfinite(probability).all() and probability.min() >= 0 and probability.max() <= 1):
        raise InputError("probabilities must be finite and lie in [0, 1]. Pass logits through a sigmoid first.")
    found = probability >= threshold
    return {
        "correct_membrane": found & truth,
        "false_positive": found & ~truth,
        "false_negative": ~found & truth,
        "correct_background": ~found & ~truth,
    }


def sample_pixels(
    probability: NDArray[Any],
    truth: NDArray[np.bool_],
    per_class: int,
    generator: np.random.Generator,
    *,
    margin: int = 0,
    spacing: int = 0,
    threshold: float = 0.5,
) -> PixelSample:
    """Return up to `per_class` random targets of each class, a class after the other.

    Targets lie at least `margin` pixels inside the border and at least `spacing` pixels apart (in rows or in columns),
    whatever their class. Classes take turns, the rarest first, so that a common class does not crowd out a rare one; a
    class with too few places gives fewer. Raises `UsageError` where the margin leaves no pixel.
    """
    if per_class < 1 or margin < 0 or spacing < 0:
        raise UsageError(
            "`per_class` must be at least 1, `margin` and `spacing` not negative; "
            f"got {per_class}, {margin}, {spacing}."
        )
    masks = pixel_class_masks(probability, truth, threshold=threshold)
    height, width = truth.shape
    if 2 * margin >= min(height, width):
        raise UsageError(
            f"`margin` must be below half the image's shorter side; got {margin} for {height} x {width} px. "
            "Use larger images or a smaller margin."
        )
    free = np.zeros((height, width), dtype=bool)
    free[margin : height - margin, margin : width - margin] = True
    chosen: dict[PixelClass, list[tuple[int, int]]] = {name: [] for name in PIXEL_CLASSES}
    by_rarity = sorted(PIXEL_CLASSES, key=lambda name: int((masks[name] & free).sum()))
    for _ in range(per_class):
        for name in by_rarity:
            places = np.flatnonzero(masks[name] & free)
            if len(places):
                row, column = divmod(int(places[generator.integers(len(places))]), width)
                chosen[name].append((row, column))
                reach = max(spacing, 1)
                free[max(0, row - reach + 1) : row + reach, max(0, column - reach + 1) : column + reach] = False
    targets = [target for name in PIXEL_CLASSES for target in chosen[name]]
    classes = [index for index, name in enumerate(PIXEL_CLASSES) for _ in chosen[name]]
    return PixelSample(np.array(targets, dtype=np.int64).reshape(-1, 2), np.array(classes, dtype=np.int64))
