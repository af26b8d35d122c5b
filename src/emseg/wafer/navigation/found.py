"""What is found on a wafer: the one kind of object that finding, fitting, ordering, staging and review hand on.

Places are (row, column) in pixels of the wafer image, as in `emseg.sections`: continuous, the pixel (r, c) covers the
square from (r, c) to (r + 1, c + 1). The four corners of all sections of a wafer agree: corner k is the same corner of
the tissue, and `angle_deg` is the direction of the side from corner 0 to corner 1 (0 down, 90 right, in (-180, 180]).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float64

from emseg.sections import Section, WaferSections


@dataclass(frozen=True, eq=False)
class Detected:
    """One section as the network saw it, merged from all tiles that show it; `votes` sums to 1 over the classes."""

    outline: Float64[np.ndarray, "vertex 2"]
    score: float
    votes: Mapping[str, float]

    @property
    def label(self) -> str:
        """The class with most votes."""
        return max(self.votes, key=self.votes.__getitem__)


@dataclass(frozen=True, eq=False)
class Region:
    """A region of interest or focus points on one section: points (row, column) in pixels of the wafer image."""

    kind: Literal["roi", "focus"]
    points: Float64[np.ndarray, "point 2"]


@dataclass(frozen=True, eq=False)
class FoundSection:
    """One section of a wafer.

    corners     the fitted quad; where no template fits, of the outline's smallest rectangle
    angle_deg   None where the direction is unknown
    confidence  probability that this is one whole section, calibrated where the weights have a calibration
    residual    misfit of the template, 0 (equal) to 1 (unrelated); None without a template
    magnet      place of the magnetic part, where the template has one
    reasons     why a person should look at it; empty where nothing is unusual
    """

    corners: Float64[np.ndarray, "4 2"]
    outline: Float64[np.ndarray, "vertex 2"]
    label: str
    score: float
    votes: Mapping[str, float] = field(default_factory=dict)
    angle_deg: float | None = None
    confidence: float = 1.0
    residual: float | None = None
    magnet: tuple[float, float] | None = None
    regions: tuple[Region, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FoundWafer:
    """All sections of the wafer image `name`; orders are places in `sections`, None where unknown.

    `serial_order` may contain only some of the sections: those whose place in the order of cutting could be seen.
    `candidates` are detections below the score that makes a section, best first: the likeliest misses, for review only.
    `landmarks` are (row, column) in pixels, in their order; `notes` is what a user should know, in sentences.
    """

    name: str
    height: int
    width: int
    sections: tuple[FoundSection, ...]
    class_names: tuple[str, ...]
    pixel_size_um: float | None = None
    serial_order: tuple[int, ...] | None = None
    stage_order: tuple[int, ...] | None = None
    landmarks: Float64[np.ndarray, "landmark 2"] | None = None
    notes: tuple[str, ...] = ()
    candidates: tuple[FoundSection, ...] = ()

    def annotated(self) -> WaferSections:
        """Return the quads as the sections of an annotated wafer, with angles and serial numbers where known."""
        order = self.serial_order if self.serial_order and len(self.serial_order) == len(self.sections) else ()
        serial = {place: number for number, place in enumerate(order)}
        sections = tuple(
            Section(one.corners, one.label, one.angle_deg, serial.get(place)) for place, one in enumerate(self.sections)
        )
        size = (self.name, self.height, self.width)
        return WaferSections(*size, sections, self.class_names, self.pixel_size_um, self.notes)
