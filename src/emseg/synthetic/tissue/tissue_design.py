"""What a synthetic micrograph is made of: the tissue and how it was imaged, every quantity in physical units.

`Tissue` describes the section, `Imaging` how stain, section and microscope turn it into grey. The two pairs of presets
imitate the two data sets of the book: U-RISC (rabbit retina, 2.18 nm/px, 5.10 +- 2 % membrane, lines about 13.6 px =
30 nm wide) and ISBI 2012 (Drosophila nerve cord, 4 nm/px, 22 % membrane on its 30 labelled images). Their cell
diameters were chosen so that the mean over many windows reaches those fractions (tested), the other values by eye and
by the power spectrum of the ISBI images.
"""

from typing import Annotated

from pydantic import Field

from emseg.checks import Fraction, validated
from emseg.errors import UsageError

URISC_PIXEL_SIZE_NM = 2.18
ISBI_PIXEL_SIZE_NM = 4.0
# Smaller cells consist of little but their own membrane, and the packing outgrows the picture.
SMALLEST_CELL_IN_THICKNESSES = 3.0
Half = Annotated[float, Field(ge=0, le=0.5)]


@validated
class Tissue:
    """What lies in the section. Lengths in nm, densities per square micrometre, fractions in [0, 1]."""

    cell_diameter_nm: Annotated[float, Field(ge=50, le=50_000)] = 1070.0
    """Diameter of the disc that has the mean cell's area (reached within about 10 %)."""
    large_cells: Fraction = 0.85
    """How readily large profiles (dendrites, boutons) take their place among the small ones; 0: all cells alike."""
    elongation: Annotated[float, Field(ge=0, le=3)] = 2.2
    """Largest ratio of a process's straight middle to its width; 0: round cells."""
    waviness: Fraction = 0.85
    """How far membranes deviate from arcs of circles."""
    membrane_thickness_nm: Annotated[float, Field(ge=2, le=200)] = 30.0
    """Thickness of the labelled membrane: both leaflets and the cleft between the two cells."""
    mitochondria_per_um2: Annotated[float, Field(ge=0, le=20)] = 1.2
    """Mitochondria requested per area of cell; those that would not fit inside their cell are left out."""
    vesicle_pools: Fraction = 0.4
    """Fraction of cells with a pool of vesicles."""
    reticulum: Fraction = 0.7
    """Fraction of cells with cisternae of the endoplasmic reticulum."""
    synapses: Fraction = 0.35
    """How much of the membrane carries a density; 0: none."""

    def __post_init__(self) -> None:
        smallest = SMALLEST_CELL_IN_THICKNESSES * self.membrane_thickness_nm
        if self.cell_diameter_nm < smallest:
            raise UsageError(
                f"`cell_diameter_nm` must be at least {SMALLEST_CELL_IN_THICKNESSES:g} membrane thicknesses "
                f"({smallest:g} nm); got {self.cell_diameter_nm:g}. Use larger cells or a thinner membrane."
            )


@validated
class Imaging:
    """How stain, section and microscope turn tissue into grey. Grey levels run from 0 (black) to 1 (white)."""

    cytoplasm_grey: Fraction = 0.62
    """Mean grey of cytoplasm."""
    cell_variation: Half = 0.05
    """Standard deviation of that grey from cell to cell."""
    grain: Half = 0.07
    """Standard deviation of the cytoplasm's fine structure (ribosomes, filaments) within a cell."""
    membrane_stain: Fraction = 0.42
    """How much darker than cytoplasm a membrane perpendicular to the section is."""
    organelle_stain: Fraction = 0.34
    """How much darker than cytoplasm the membranes of organelles are."""
    contrast: Annotated[float, Field(ge=0, le=5)] = 1.0
    """Factor on every difference from `cytoplasm_grey`; 0.5 halves the staining contrast."""
    unevenness: Half = 0.02
    """Standard deviation of the grey by which staining drifts over some ten micrometres, and over a fifth of that."""
    section_thickness_nm: Annotated[float, Field(ge=1, le=500)] = 45.0
    """Thickness of the section: a membrane tilted by `a` is smeared over thickness * tan(a)."""
    tilt_degrees: Annotated[float, Field(ge=0, le=60)] = 17.0
    """Root mean square tilt of membranes; 0: all are perpendicular to the section and none is smeared."""
    point_spread_nm: Annotated[float, Field(ge=0, le=200)] = 3.0
    """Standard deviation of the microscope's Gaussian point spread; 0: none."""
    dose_per_nm2: Annotated[float, Field(ge=1e-4, le=1e9)] | None = 30.0
    """Electrons detected per square nanometre at full white: shot noise of variance grey / (dose * area of a pixel), in
    Poisson's Gaussian limit (a pixel should collect some twenty electrons). None: no noise."""


URISC_LIKE = Tissue()
ISBI_LIKE = Tissue(
    cell_diameter_nm=210.0,
    large_cells=0.8,
    membrane_thickness_nm=26.0,
    waviness=0.8,
    mitochondria_per_um2=2.0,
    vesicle_pools=0.5,
    synapses=0.5,
)
URISC_IMAGING = Imaging()
ISBI_IMAGING = Imaging(
    cytoplasm_grey=0.57,
    cell_variation=0.04,
    grain=0.2,
    membrane_stain=0.39,
    organelle_stain=0.40,
    point_spread_nm=2.8,
    dose_per_nm2=40.0,
    tilt_degrees=19.0,
)
