"""What a synthetic wafer contains: its size, its tissue, its ground, and how badly the cutting went.

Lengths on the wafer are given in pixels and scale with `section_length_px`, the long side of a usual section: at 40 px
a 256-px tile has several sections, at 300 px the picture is at the scale of the paper.

    SCN         suprachiasmatic nucleus of the rat: a broad block, long side 1.4 times the short one
    zebrafish   whole brain, cut lengthwise: a slender block with much empty resin

Source for the two tissues and the classes: Sun et al. 2021 (FANet), section 4.1. The numbers are ours, set by eye.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from emseg.checks import Count, Fraction, Items, validated
from emseg.errors import UsageError

Tissue = Literal["scn", "zebrafish"]
Background = Literal["silicon", "tape"]
FoldTone = Literal["either", "lighter", "darker"]
SECTION_CLASSES = ("good", "incomplete", "fold", "damaged")
TISSUES, BACKGROUNDS, FOLD_TONES = get_args(Tissue), get_args(Background), get_args(FoldTone)
SHORT_OVER_LONG = {"scn": 0.72, "zebrafish": 0.56}
USUAL_COVER = {"silicon": 0.34, "tape": 0.46}  # fraction of the wafer under sections when it is full
LARGEST_COVER = 0.60
GREATEST = {"missing": 0.7, "folded": 0.35, "torn": 0.4}  # beyond this no section is left to be classified
SMALLEST = 0.02
Side = Annotated[int, Field(ge=128, le=12_000)]
Pair = Items[float]


@validated
class Severity:
    """The least and the greatest fraction of a section's area that a defect takes, by kind of defect.

    missing   incomplete: the part that the knife did not reach
    folded    fold: what has moved in, twice the strip that lies double
    torn      damaged: holes, chips and tears together
    """

    missing: Pair = (0.35, 0.6)
    folded: Pair = (0.2, 0.3)
    torn: Pair = (0.2, 0.35)

    def __post_init__(self) -> None:
        for name, greatest in GREATEST.items():
            pair = getattr(self, name)
            if len(pair) != 2 or not SMALLEST <= pair[0] <= pair[1] <= greatest:
                raise UsageError(
                    f"`{name}` must be two fractions of a section's area, the least and the greatest, between "
                    f"{SMALLEST:g} and {greatest:g}; got {pair!r}."
                )


@validated
class WaferDesign:
    """A wafer of `height` x `width` pixels.

    `n_sections` None fills it like a real one. The fractions of the four classes sum to 1. `stuck_share` of the
    sections touch the one cut before, `overlapping_share` lie partly on another one, `piled_share` lie in heaps; the
    rest keep a distance. `dust` 1 is a usual wafer, 0 a clean one. `severity` is how much of a section its defect
    takes; None leaves that as on a usual wafer, where many defects are smaller than a person sees at a glance.
    `fold_tone`: whether the strip that lies double is lighter or darker than its section.
    """

    height: Side = 2048
    width: Side = 2048
    section_length_px: Annotated[float, Field(ge=24, le=2_000)] = 64.0
    tissue: Tissue = "scn"
    background: Background = "silicon"
    n_sections: Count | None = None
    good: Fraction = 0.55
    incomplete: Fraction = 0.15
    fold: Fraction = 0.15
    damaged: Fraction = 0.15
    stuck_share: Fraction = 0.35
    overlapping_share: Fraction = 0.10
    piled_share: Fraction = 0.06
    dust: Annotated[float, Field(ge=0, le=20)] = 1.0
    severity: Severity | None = None
    fold_tone: FoldTone = "either"
    pixel_size_um: Annotated[float, Field(ge=1e-3, le=1e4)] | None = None

    def __post_init__(self) -> None:
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
            most = self.count_for_cover(LARGEST_COVER)
            if self.n_sections > most:
                raise UsageError(
                    f"sections must leave room between them; got `n_sections`={self.n_sections}, but at most {most} "
                    f"of {self.section_length_px:g} px fit on {self.height} x {self.width} px. Use fewer."
                )

    @property
    def fractions(self) -> tuple[float, ...]:
        """The fraction of each class, in the order of `SECTION_CLASSES`."""
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
        """Return how many usual sections cover this fraction of the wafer, at least one."""
        return max(1, int(cover * self.height * self.width / (self.section_length_px * self.section_width_px)))


@dataclass(frozen=True)
class CropScene:
    """A crop of a wafer, as far as ground, sections and dust need to know it: SCN on tape."""

    height: int
    width: int
    section_length_px: float
    tissue: str = "scn"
    background: str = "tape"
    dust: float = 1.0
    fold_tone: str = "either"


Scene = WaferDesign | CropScene
