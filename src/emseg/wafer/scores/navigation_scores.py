"""Scores of the sections found on a whole wafer, in the units of the person who drives the microscope.

Found and true sections are paired one to one, by falling IoU down to `iou`, whatever their classes; then

    missed    a true section without a partner
    false     a found section without a partner, whatever lies beneath it
    doubled   a true section that contains two or more found ones, each with half of its area or more
    fused     a found section that covers half or more of each of two or more true ones

A `region` of columns counts true sections by their centres, found ones by their partner's or, alone, by their own: its
borders cut no section. Corner errors are means over the four corners of a quad, in the order of corners that fits best
(`corner_px`) or as given (`given_corner_px`). An angle's error lies in 0 to 180 degrees.

Templates, annotators and generators may begin at different sides. `turn_deg` is the one quarter turn that most pairs of
the wafer have between found and true angle, `roll` the same for the order of corners; `angle_deg` and `given_corner_px`
are errors after them. Both are 0 where found and true sections follow one convention, so a caller can require that.

Intervals cover 95 %: of fractions by Wilson's method, of quantiles by ranks (`emseg.intervals`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
import shapely
from jaxtyping import Float64
from numpy.typing import NDArray

from emseg.checks import require_number, require_one_of
from emseg.errors import UsageError
from emseg.intervals import Estimate, fraction_estimate, quantile_estimate
from emseg.sections import WaferSections
from emseg.wafer.navigation.found import FoundSection, FoundWafer

HALF = 0.5
LENGTHS = {"centre_px": "centre error", "corner_px": "corner error", "given_corner_px": "corner error, order as given"}
QUANTILES = {"median": 0.5, "95th percentile": 0.95}
COUNTS = ("missed", "false", "doubled", "fused")


@dataclass(frozen=True)
class SectionPair:
    """True section `true` and found section `found`, by index; errors are None where either side has no such value."""

    true: int
    found: int
    iou: float
    centre_px: float
    corner_px: float | None
    given_corner_px: float | None
    angle_deg: float | None


@dataclass(frozen=True, eq=False)
class NavigationScores:
    """Pairs and errors on one wafer or a region of it; `missed` and `doubled` are indices of true sections.

    `confusion` counts pairs by (true class, found class), `n_of_class` true sections by class.
    """

    pairs: tuple[SectionPair, ...]
    missed: tuple[int, ...]
    false: tuple[int, ...]
    doubled: tuple[int, ...]
    fused: tuple[int, ...]
    turn_deg: int
    roll: int
    confusion: Mapping[tuple[str, str], int]
    n_of_class: Mapping[str, int]
    pixel_size_um: float | None = None

    @property
    def recall(self) -> Estimate:
        """Fraction of the true sections that were found."""
        return fraction_estimate(len(self.pairs), len(self.pairs) + len(self.missed))

    @property
    def precision(self) -> Estimate:
        """Fraction of the found sections that are true."""
        return fraction_estimate(len(self.pairs), len(self.pairs) + len(self.false))

    @property
    def right_class(self) -> Estimate:
        """Fraction of the pairs with the true class."""
        return fraction_estimate(sum(n for (a, b), n in self.confusion.items() if a == b), len(self.pairs))

    def recall_of(self, label: str) -> Estimate:
        """Fraction of the true sections of one class that were found, as whatever class."""
        return fraction_estimate(
            sum(n for (true, _), n in self.confusion.items() if true == label), self.n_of_class[label]
        )

    def errors(self, name: str) -> NDArray[np.float64]:
        """Return "iou" or one kind of error of all pairs that have it."""
        return np.array([getattr(one, name) for one in self.pairs if getattr(one, name) is not None], dtype=np.float64)

    def angles_within(self, degrees: float, *, period: int = 360) -> Estimate:
        """Fraction of angles within `degrees` of the truth; a period of 180 or 90 forgives turns by that much."""
        errors = self.errors("angle_deg") % period
        return fraction_estimate(int((np.minimum(errors, period - errors) <= degrees).sum()), len(errors))

    def table(self) -> pd.DataFrame:
        """Return all scores with columns measure, value, low, high, n and unit; NaN where undefined or without one."""
        n_true = len(self.pairs) + len(self.missed)
        rows = [("found", Estimate(len(self.pairs), None, n_true), "sections")]
        rows += [(name, Estimate(len(getattr(self, name)), None, n_true), "sections") for name in COUNTS]
        rows += [("recall", self.recall, "1"), ("precision", self.precision, "1")]
        if len(self.n_of_class) > 1:
            rows += [(f"recall of {label}", self.recall_of(label), "1") for label in self.n_of_class]
            rows.append(("right class", self.right_class, "1"))
        rows.append(("IoU, median", quantile_estimate(self.errors("iou"), 0.5), "1"))
        sizes = [("px", 1.0)] + ([("um", self.pixel_size_um)] if self.pixel_size_um else [])
        for (name, words), (part, q), (unit, size) in product(LENGTHS.items(), QUANTILES.items(), sizes):
            rows.append((f"{words}, {part}", quantile_estimate(self.errors(name) * size, q), unit))
        for period in (360, 180, 90):
            rows.append((f"angle within 2 deg, of {period}", self.angles_within(2, period=period), "1"))
        columns = ["measure", "value", "low", "high", "n", "unit"]
        values = [(name, one.value, *(one.interval or (None, None)), one.n, unit) for name, one, unit in rows]
        return pd.DataFrame(values, columns=columns).astype({"value": float, "low": float, "high": float})


def score_navigation(
    truth: WaferSections,
    found: FoundWafer | WaferSections,
    *,
    iou: float = 0.5,
    region: tuple[float, float] | None = None,
    shapes: Literal["quads", "outlines"] = "quads",
) -> NavigationScores:
    """Return the scores of the sections found on one wafer image against its true ones.

    `region` (from, to) in columns scores one side of a split alone. `shapes` is which shape of a `FoundWafer` is
    paired: the fitted "quads", or the "outlines" that the network saw, where the truth has outlines of what is visible.
    """
    require_number("iou", iou, above=0, most=1)
    require_one_of("shapes", shapes, ("quads", "outlines"))
    if (truth.height, truth.width) != (found.height, found.width):
        sizes = f"{truth.height} x {truth.width} and {found.height} x {found.width} px"
        raise UsageError(f"the true and the found sections must be of one image; got {sizes}.")
    if region is not None and not region[0] < region[1]:
        raise UsageError(f"`region` must be two columns, the smaller one first; got {region}.")
    seen = found.sections
    quads = [one.corners if isinstance(one, FoundSection) else one.polygon for one in seen]
    outlines = [one.outline if isinstance(one, FoundSection) else one.polygon for one in seen]
    true_shapes = np.array([one.shape for one in truth.sections], dtype=object)
    found_shapes = _polygons(outlines if shapes == "outlines" else quads)
    at, of = shapely.STRtree(found_shapes).query(true_shapes, predicate="intersects")
    shared = shapely.area(shapely.intersection(true_shapes[at], found_shapes[of]))
    true_area, found_area = shapely.area(true_shapes), shapely.area(found_shapes)
    ious = shared / (true_area[at] + found_area[of] - shared)
    partner: dict[int, int] = {}  # found -> true
    pairs: list[tuple[int, int, float]] = []
    for k in np.argsort(-ious, kind="stable").tolist():
        one, true = int(of[k]), int(at[k])
        if ious[k] >= iou and one not in partner and true not in partner.values():
            partner[one] = true
            pairs.append((true, one, float(ious[k])))

    holder = dict(partner)  # found -> the true section that it lies in
    for k in np.argsort(-shared, kind="stable").tolist():
        if shared[k] >= HALF * found_area[of[k]]:
            holder.setdefault(int(of[k]), int(at[k]))
    held, covers = Counter(holder.values()), Counter(of[shared >= HALF * true_area[at]].tolist())

    true_centre, found_centre = (shapely.get_coordinates(shapely.centroid(one)) for one in (true_shapes, found_shapes))
    low, high = region or (-np.inf, np.inf)
    true_here, found_here = ((low <= one[:, 1]) & (one[:, 1] < high) for one in (true_centre, found_centre))
    for one, true in partner.items():
        found_here[one] = true_here[true]
    known = [(truth.sections[true], quads[one], seen[one].angle_deg) for true, one, _ in pairs]
    best, given, roll = _corner_errors([(section.polygon, quad) for section, quad, _ in known])
    angles, turn = _angle_errors([(section.angle_deg, angle) for section, _, angle in known])
    centres = [float(np.linalg.norm(true_centre[true] - found_centre[one])) for true, one, _ in pairs]
    errors = zip(pairs, centres, best, given, angles, strict=True)
    every = [SectionPair(*pair, centre, fit, order, angle) for pair, centre, fit, order, angle in errors]
    here = sorted((one for one in every if true_here[one.true]), key=lambda one: one.true)
    return NavigationScores(
        pairs=tuple(here),
        missed=tuple(k for k in np.flatnonzero(true_here).tolist() if k not in partner.values()),
        false=tuple(k for k in np.flatnonzero(found_here).tolist() if k not in partner),
        doubled=tuple(k for k in np.flatnonzero(true_here).tolist() if held[k] > 1),
        fused=tuple(k for k in np.flatnonzero(found_here).tolist() if covers[k] > 1),
        turn_deg=turn,
        roll=roll,
        confusion=Counter((truth.sections[one.true].label, seen[one.found].label) for one in here),
        n_of_class=Counter(truth.sections[k].label for k in np.flatnonzero(true_here).tolist()),
        pixel_size_um=truth.pixel_size_um or found.pixel_size_um,
    )


def _polygons(outlines: Sequence[Float64[np.ndarray, "_ 2"]]) -> NDArray[np.object_]:
    """Return outlines as valid shapes, a crossing one repaired."""
    return np.array([shapely.make_valid(shapely.Polygon(one)) for one in outlines], dtype=object)


def _corner_errors(
    ends: Sequence[tuple[Float64[np.ndarray, "_ 2"], Float64[np.ndarray, "_ 2"]]],
) -> tuple[list[float | None], list[float | None], int]:
    """Return errors in the best order, in the wafer's order, and how far that is rolled; None for other than quads."""
    off = {}
    for place, (true, quad) in enumerate(ends):
        if len(true) == len(quad) == 4:
            rolled = [np.roll(order, -roll, axis=0) for order in (quad, quad[::-1]) for roll in range(4)]
            off[place] = [float(np.linalg.norm(true - one, axis=1).mean()) for one in rolled]
    roll = _commonest([int(np.argmin(one[:4])) for one in off.values()])
    best = [min(off[place]) if place in off else None for place in range(len(ends))]
    return best, [off[place][roll] if place in off else None for place in range(len(ends))], roll


def _angle_errors(ends: Sequence[tuple[float | None, float | None]]) -> tuple[list[float | None], int]:
    """Return the errors after the wafer's common quarter turn, 0 to 180 degrees, and that turn."""
    off = [None if true is None or angle is None else angle - true for true, angle in ends]
    turn = 90 * _commonest([round(one / 90) % 4 for one in off if one is not None])
    return [None if one is None else abs((one - turn + 180) % 360 - 180) for one in off], turn


def _commonest(values: Sequence[int]) -> int:
    """Return the most frequent value, 0 for none."""
    return Counter(values).most_common(1)[0][0] if values else 0
