"""The sections of one wafer image: what generators draw, files contain and detectors find.

A polygon is a closed outline [n, 2] of (row, column) in pixels of the wafer image, continuous: the pixel (r, c) covers
the square from (r, c) to (r + 1, c + 1). A point (x, y) of COCO, MagC or labelme is therefore (row, column) = (y, x),
without a shift. The first point is not repeated at the end.

    label          the section's class, one of the wafer's `class_names`
    angle_deg      direction of the section's long axis: 0 along the rows' direction (down), increasing towards the
                   columns (right), in (-180, 180]; None where unknown
    serial_number  position in the order of cutting, from 0; None where unknown
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import shapely
from jaxtyping import Float64
from numpy.typing import ArrayLike

from emseg.errors import InputError, suggest

UNSORTED_CLASS = "section"  # the one class of data that does not distinguish good sections from bad ones


@dataclass(frozen=True, eq=False)
class Section:
    """One section: its outline and what is known of it; `more_parts` are the outlines of a section in several parts."""

    polygon: Float64[np.ndarray, "vertex 2"]
    label: str = UNSORTED_CLASS
    angle_deg: float | None = None
    serial_number: int | None = None
    more_parts: tuple[Float64[np.ndarray, "_ 2"], ...] = ()

    @property
    def parts(self) -> tuple[Float64[np.ndarray, "_ 2"], ...]:
        """The outlines of all parts."""
        return self.polygon, *self.more_parts

    @property
    def shape(self) -> shapely.Geometry:
        """The area within the outlines, as (row, column)."""
        first, *more = (shapely.Polygon(part) for part in self.parts)
        return shapely.union_all([first, *more]) if more else first

    @property
    def area_px(self) -> float:
        """Area within the outline, in square pixels."""
        return float(self.shape.area)

    @property
    def center(self) -> tuple[float, float]:
        """Centre of mass (row, column) of the area within the outline."""
        point = self.shape.centroid
        return float(point.x), float(point.y)


@dataclass(frozen=True, eq=False)
class WaferSections:
    """All sections of the wafer image `name`, `height` x `width` pixels, checked on creation.

    Raises `InputError`, naming the section by its index, for an outline that `require_polygon` refuses, for a class
    that is not in `class_names` and for a repeated serial number. Outlines may extend over the border: sections do.
    """

    name: str
    height: int
    width: int
    sections: tuple[Section, ...]
    class_names: tuple[str, ...] = (UNSORTED_CLASS,)
    pixel_size_um: float | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)  # what a reader had to assume

    def __post_init__(self) -> None:
        for place, section in enumerate(self.sections):
            for part in section.parts:
                require_polygon(part, f"section {place} of {self.name}", self.height, self.width)
            if section.label not in self.class_names:
                raise InputError(
                    f"the class of a section must be one of {', '.join(self.class_names)}; section {place} of "
                    f"{self.name} is {section.label!r}.{suggest(section.label, self.class_names)}"
                )
        counts = Counter(one.serial_number for one in self.sections if one.serial_number is not None)
        twice = [str(number) for number, count in counts.items() if count > 1]
        if twice:
            raise InputError(f"serial numbers must be unique; {self.name} has {', '.join(twice[:5])} more than once.")

    def count(self, label: str) -> int:
        """Return how many sections are of the class `label`."""
        return sum(section.label == label for section in self.sections)


def as_polygon(points: ArrayLike) -> Float64[np.ndarray, "vertex 2"]:
    """Return points (row, column) as a polygon without a repeated last point."""
    polygon = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return polygon[:-1] if len(polygon) > 1 and np.array_equal(polygon[0], polygon[-1]) else polygon


def require_polygon(polygon: Float64[np.ndarray, "vertex 2"], what: str, height: int, width: int) -> None:
    """Raise `InputError` unless `polygon` is a simple outline with area that touches the image; `what` names it."""
    if len(polygon) < 3:
        raise InputError(f"an outline needs at least three points; {what} has {len(polygon)}. Remove it or redraw it.")
    if not np.isfinite(polygon).all():
        raise InputError(f"an outline's points must be finite numbers; {what} has NaN or infinity. Redraw it.")
    shape = shapely.Polygon(polygon)
    if not shape.convex_hull.area > 0:
        raise InputError(f"an outline must enclose an area; {what} encloses none. Remove it or redraw it.")
    if not shape.is_valid:
        reason = shapely.is_valid_reason(shape)
        raise InputError(f"an outline must not cross itself; {what} does ({reason}, as row column). Redraw it.")
    if not shape.intersects(shapely.box(0, 0, height, width)):
        low, high = polygon.min(0).round(1).tolist(), polygon.max(0).round(1).tolist()
        raise InputError(
            f"an outline must touch the image; {what} spans (row, column) {low} to {high}, outside {height} x {width}. "
            "Check that rows and columns are not exchanged and that the outlines belong to this image."
        )
