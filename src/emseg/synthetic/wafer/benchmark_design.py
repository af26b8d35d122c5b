"""Which synthetic benchmark to make: how many wafers of what size, how they are cut, how many tiles there shall be.

    smoke     tiny, for tests of code: its scores are meaningless
    clear     256-px tiles with sections of 64 px and defects plain to see: each takes a fifth of its section or more,
              folds are lighter than their section, all lie on tape and none on another; learned in minutes on two cores
    laptop    the same tiles with defects and overlaps as on a usual wafer: minutes are enough to find the sections,
              and too few to distinguish the defects
    medium    512-px tiles with sections of 128 px: large enough for scores to settle on one GPU
    paper     the paper's sizes and counts: wafers of 10,000 x 10,000 px, tiles of 1024, 2708 to train, 1193 to validate

The three splits of a benchmark have the same counts, so that they can be compared: "wafer" trains on the first wafers
and validates on the others, "crops" and "region" use all. Tiles without sections are among both parts.

Source for the counts, the tile and the overlap: Sun et al. 2021 (FANet), section 4.1. Deviation: the paper does not
state how many wafers there were, nor whether empty tiles were kept; 33 wafers are the fewest that give its counts.
"""

from typing import Annotated, Literal

from pydantic import Field

from emseg.checks import Count, changed, require_one_of, validated
from emseg.errors import UsageError
from emseg.synthetic.wafer.wafer_design import Background, Severity, Tissue, WaferDesign

Split = Literal["crops", "region", "wafer"]


@validated
class BenchmarkDesign:
    """A benchmark of synthetic wafers; lengths in pixels, `left_share` is the "region" split's part to train on.

    Each wafer is as `pattern` but for its size, its sections' length, its tissue and its background.
    """

    name: str
    wafer_px: int
    section_length_px: float
    n_train_wafers: Count
    n_validation_wafers: Count
    n_train: Count
    n_validation: Count
    tile: int
    overlap: float = 0.1
    minimum_visible: float = 0.2
    left_share: float = 0.6
    tissues: Annotated[tuple[Tissue, ...], Field(min_length=1)] = ("scn", "zebrafish")
    backgrounds: Annotated[tuple[Background, ...], Field(min_length=1)] = ("silicon", "tape")
    splits: Annotated[tuple[Split, ...], Field(min_length=1)] = ("crops", "region", "wafer")
    pattern: WaferDesign = WaferDesign()

    def __post_init__(self) -> None:
        if self.tile > self.wafer_px:
            raise UsageError(f"`tile` must fit into `wafer_px`; got tile={self.tile}, wafer_px={self.wafer_px}.")
        for index in range(self.n_wafers):  # says at once what a wafer cannot be
            self.wafer(index)

    @property
    def n_wafers(self) -> int:
        """All wafers, to train and to validate."""
        return self.n_train_wafers + self.n_validation_wafers

    def wafer(self, index: int) -> WaferDesign:
        """Return the design of wafer `index`; tissues and backgrounds take turns, on either side of the split."""
        turn = index if index < self.n_train_wafers else index - self.n_train_wafers
        return changed(
            self.pattern,
            height=self.wafer_px,
            width=self.wafer_px,
            section_length_px=self.section_length_px,
            tissue=self.tissues[turn % len(self.tissues)],
            background=self.backgrounds[(turn + turn // len(self.tissues)) % len(self.backgrounds)],
        )

    def wafer_name(self, index: int) -> str:
        """Return a name that begins with the tissue; it begins the names of the wafer's tiles."""
        return f"{self.wafer(index).tissue}-{index:02d}"

    def validation_names(self) -> tuple[str, ...]:
        """Return the names of the wafers that split "wafer" validates on."""
        return tuple(self.wafer_name(index) for index in range(self.n_train_wafers, self.n_wafers))


# Defects that a person sees at a glance in sections of 64 px, more of them than usual, and nothing that hides them.
PLAIN = WaferDesign(
    good=0.4, incomplete=0.2, fold=0.2, damaged=0.2, stuck_share=0.2, overlapping_share=0.0, piled_share=0.0,
    severity=Severity(), fold_tone="lighter",
)  # fmt: skip
PRESETS = {
    design.name: design
    for design in (
        BenchmarkDesign("smoke", 512, 56.0, 2, 2, n_train=10, n_validation=4, tile=192),
        BenchmarkDesign(
            "clear", 2048, 64.0, 6, 2, 450, 120, tile=256, left_share=0.7, backgrounds=("tape",), pattern=PLAIN
        ),
        BenchmarkDesign("laptop", 2048, 64.0, 4, 2, n_train=300, n_validation=120, tile=256),
        BenchmarkDesign("medium", 4096, 128.0, 16, 6, n_train=1200, n_validation=400, tile=512),
        BenchmarkDesign("paper", 10_000, 300.0, 23, 10, n_train=2708, n_validation=1193, tile=1024, left_share=0.7),
    )
}


def preset(name: str) -> BenchmarkDesign:
    """Return the preset of this name; raise `UsageError` that lists them."""
    return PRESETS[require_one_of("preset", name, PRESETS)]
