"""What a synthetic wafer shall hold: its size, its tissue, what it lies on, and how badly the cutting went.

Lengths on the wafer are given in pixels and scale with `section_length_px`, the long side of a usual section: at 40 px
a 256-px tile holds several sections, at 300 px the picture is at the scale of the paper.

    SCN         suprachiasmatic nucleus of the rat: a broad block, long side 1.4 times the short one
    zebrafish   whole brain, cut lengthwise: a slender block with much empty resin

Source for the two tissues and the classes: Sun et al. 2021 (FANet), section 4.1. The numbers are ours, set by eye.
"""

import math
import numbers
from dataclasses import dataclass

from emseg.errors import UsageError, suggest
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.synthetic.wafer.severity import Severity

TISSUES = ("scn", "zebrafish")
BACKGROUNDS = ("silicon", "tape")
FOLD_TONES = ("either", "lighter", "darker")
SHORT_OVER_LONG = {"scn": 0.72, "zebrafish": 0.56}
SMALLEST_SIDE, LARGEST_SIDE = 128, 12_000
SMALLEST_SECTION, LARGEST_SECTION = 24, 2_000
USUAL_COVER = {"silicon": 0.34, "tape": 0.46}  # share of the wafer under sections when it is filled
LARGEST_COVER = 0.60


@dataclass(frozen=True)
class WaferDesign:
    """A wafer of `height` x `width` pixels.

    `n_sections` None fills it like a real one. The fractions of the four classes sum to 1. `stuck_share` of the
    sections touch the one cut before, `overlapping_share` lie partly on another one, `piled_share` lie in heaps; the
    rest keep a distance. `dust` 1 is a usual wafer, 0 a clean one. `severity` says how much of a section its defect
    takes; None leaves that as it is on a usual wafer. `fold_tone` is that of the strip that lies double, beside its
    section's.
    """

    height: int = 2048
    width: int = 2048
    section_length_px: float = 64.0
    tissue: str = "scn"
    background: str = "silicon"
    n_sections: int | None = None
    good: float = 0.55
    incomplete: float = 0.15
    fold: float = 0.15
    damaged: float = 0.15
    stuck_share: float = 0.35
    overlapping_share: float = 0.10
    piled_share: float = 0.06
    dust: float = 1.0
    severity: Severity | None = None
    fold_tone: str = "either"
    pixel_size_um: float | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            _require_int(name, getattr(self, name), SMALLEST_SIDE, LARGEST_SIDE, "px")
        _require_range("section_length_px", self.section_length_px, SMALLEST_SECTION, LARGEST_SECTION)
        _require_one_of("tissue", self.tissue, TISSUES)
        _require_one_of("background", self.background, BACKGROUNDS)
        _require_one_of("fold_tone", self.fold_tone, FOLD_TONES)
        if self.severity is not None and not isinstance(self.severity, Severity):
            raise UsageError(f"`severity` must be a Severity or None; got {self.severity!r}.")
        for name in (*SECTION_CLASSES, "stuck_share", "overlapping_share", "piled_share"):
            _require_range(name, getattr(self, name), 0.0, 1.0)
        _require_range("dust", self.dust, 0.0, 20.0)
        if self.pixel_size_um is not None:
            _require_range("pixel_size_um", self.pixel_size_um, 1e-3, 1e4)
        total = sum(self.fractions)
        if abs(total - 1.0) > 1e-6:
            listed = ", ".join(f"{name}={getattr(self, name):g}" for name in SECTION_CLASSES)
            raise UsageError(f"the fractions of the classes must sum to 1; got {listed}, together {total:g}.")
        joined = self.stuck_share + self.overlapping_share + self.piled_share
        if joined > 1.0 + 1e-9:
            raise UsageError(
                "`stuck_share`, `overlapping_share` and `piled_share` must sum to 1 at most; "
                f"got {joined:g}. Lower one of them."
            )
        if self.section_length_px * 2 > min(self.height, self.width):
            raise UsageError(
                "a wafer must be at least two section lengths a side; got `section_length_px`="
                f"{self.section_length_px:g} on {self.height} x {self.width} px. Use shorter sections."
            )
        if self.n_sections is not None:
            _require_int("n_sections", self.n_sections, 1, None, "")
            most = self.count_for_cover(LARGEST_COVER)
            if self.n_sections > most:
                raise UsageError(
                    f"sections must leave room between them; got `n_sections`={self.n_sections}, but at most {most} "
                    f"of {self.section_length_px:g} px fit on {self.height} x {self.width} px. Use fewer."
                )

    @property
    def fractions(self) -> tuple[float, ...]:
        """The share of each class, in the order of `SECTION_CLASSES`."""
        return (self.good, self.incomplete, self.fold, self.damaged)

    @property
    def section_width_px(self) -> float:
        """The short side of a usual section."""
        return self.section_length_px * SHORT_OVER_LONG[self.tissue]

    @property
    def planned_sections(self) -> int:
        """How many sections are cut; a few of them may not find room or end up hidden."""
        return self.n_sections or self.count_for_cover(USUAL_COVER[self.background])

    def count_for_cover(self, cover: float) -> int:
        """Return how many usual sections cover this share of the wafer, at least one."""
        return max(1, int(cover * self.height * self.width / (self.section_length_px * self.section_width_px)))


def _require_int(name: str, value: object, low: int, high: int | None, unit: str) -> None:
    bounds = f"from {low:,} to {high:,} {unit}" if high is not None else f"at least {low}"
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not low <= int(str(value)) or (high is not None and int(str(value)) > high):
        raise UsageError(f"`{name}` must be a whole number {bounds.strip()}; got {value!r}.")


def _require_range(name: str, value: object, low: float, high: float) -> None:
    number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    if not low <= number <= high:
        raise UsageError(f"`{name}` must be a number from {low:g} to {high:g}; got {value!r}.")


def _require_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"`{name}` must be one of {', '.join(allowed)}; got {value!r}.{suggest(str(value), allowed)}")
