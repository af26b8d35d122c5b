"""How much of a section its defect takes, where that is asked for: the shares of the area that are lost.

    missing   incomplete: the part that the knife did not meet
    folded    fold: what has moved in, twice the strip that lies double
    torn      damaged: holes, chips and tears together

Each pair is the least and the greatest share. A section's defect is drawn as on any wafer and then grown or shrunk
until the section has lost the share that it was given, measured on pixels:

    lost = 1 - (area with the defect) / (area without it)

Without a severity defects come as they do on a usual wafer, many of them smaller than a person sees at a glance.
"""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.synthetic.wafer import kernels

Table = NDArray[np.float64]
Tables = tuple[Table, Table, Table, Table]  # sides, folds, discs, tears
GREATEST = {"missing": 0.7, "folded": 0.35, "torn": 0.4}  # more, and no section is left to be named
SMALLEST = 0.02
USUAL_MISSING = (0.24, 0.62)  # shares of a section's extent that a new knife misses on a usual wafer
_EVEN = np.zeros((1, 1), dtype=np.float32)  # a texture that displaces no border
_SLACK = 4.0  # pixels about the block, which bowed sides may reach into
_HALVINGS = 11


@dataclass(frozen=True)
class Severity:
    """The least and the greatest share of a section's area that a defect takes, by kind of defect."""

    missing: tuple[float, float] = (0.35, 0.6)
    folded: tuple[float, float] = (0.2, 0.3)
    torn: tuple[float, float] = (0.2, 0.35)

    def __post_init__(self) -> None:
        for field in fields(self):
            pair = getattr(self, field.name)
            if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(_is_number(value) for value in pair):
                raise UsageError(f"`{field.name}` must be two numbers, the least and the greatest share; got {pair!r}.")
            least, greatest = pair
            if not SMALLEST <= least <= greatest <= GREATEST[field.name]:
                raise UsageError(
                    f"`{field.name}` must rise and lie between {SMALLEST:g} and {GREATEST[field.name]:g}, "
                    f"shares of a section's area; got {pair!r}."
                )
            object.__setattr__(self, field.name, (float(least), float(greatest)))


def share_missing(severity: Severity, missing: float) -> float:
    """Return the share of the area for a usual wafer's share of the extent: most stays most, least stays least."""
    low, high = USUAL_MISSING
    least, greatest = severity.missing
    return least + (greatest - least) * min(max((missing - low) / (high - low), 0.0), 1.0)


def grown(defect: Callable[[float], Tables], share: float, largest: float, half_u: float, half_v: float) -> Tables:
    """Return `defect(size)` at the size from 0 to `largest` at which it takes `share`; it takes more as size grows."""
    side, fold, disc, tear = defect(0.0)
    left = (1.0 - share) * _area((side[:4], fold[:0], disc[:0], tear[:0]), half_u, half_v)
    low, high = 0.0, largest
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if _area(defect(middle), half_u, half_v) > left:
            low = middle
        else:
            high = middle
    return defect(high)


def _area(tables: Tables, half_u: float, half_v: float) -> float:
    """Return the area of a section in square pixels, upright in the middle of a box."""
    rows, columns = (math.ceil(half + _SLACK) for half in (half_u, half_v))
    frame = np.array([rows, columns, 1.0, 0.0, 0.0, 0.0])
    box = np.array([0, 0, 2 * rows, 2 * columns], dtype=np.int64)
    cover = kernels.cover_section(frame, box, *tables, _EVEN, np.zeros(2))
    return float(cover.sum(dtype=np.int64)) / 255.0


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)
