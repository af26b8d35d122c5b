"""What a synthetic micrograph is made of: the tissue and how it was imaged, every quantity in physical units.

`Tissue` says what lies in the section, `Imaging` how stain, section and microscope turn it into grey. The two pairs of
presets imitate the two data sets of the book: U-RISC (rabbit retina, 2.18 nm/px, 5.10 +- 2 % membrane, lines about 13.6
px = 30 nm wide) and ISBI 2012 (Drosophila nerve cord, 4 nm/px, 22 % membrane on its 30 labelled images). Their cell
diameters were chosen so that the mean over many windows reaches those fractions (a test holds them to it), the other
values by eye and by the power spectrum of the ISBI images.
"""

import math
import numbers
from dataclasses import dataclass, fields

from emseg.errors import UsageError

URISC_PIXEL_SIZE_NM = 2.18
ISBI_PIXEL_SIZE_NM = 4.0
# Below this a cell holds little but its own membrane, and the packing outgrows the picture.
SMALLEST_CELL_IN_THICKNESSES = 3.0


def require_number(name: str, value: object, low: float, high: float, unit: str = "") -> float:
    """Return `value` as a float; raise unless it is a finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UsageError(f"`{name}` must be a number; got {value!r} ({type(value).__name__}).")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        unit = f" {unit}" if unit else ""
        raise UsageError(f"`{name}` must be a finite number in [{low:g}, {high:g}]{unit}; got {number:g}.")
    return number


@dataclass(frozen=True)
class Tissue:
    """What lies in the section. Lengths in nm, densities per square micrometre, shares in [0, 1]."""

    cell_diameter_nm: float = 1070.0
    """Diameter of the disc that has the mean cell's area (reached within about 10 %)."""
    large_cells: float = 0.85
    """How readily large profiles (dendrites, boutons) take their place among the small ones; 0: all cells alike."""
    elongation: float = 2.2
    """Largest ratio of a process's straight middle to its width; 0: round cells."""
    waviness: float = 0.85
    """How far membranes wander from arcs of circles."""
    membrane_thickness_nm: float = 30.0
    """Thickness of the labelled membrane: both leaflets and the cleft between the two cells."""
    mitochondria_per_um2: float = 1.2
    """Mitochondria asked for per area of cell; those that would not fit inside their cell are left out."""
    vesicle_pools: float = 0.4
    """Share of cells that hold a pool of vesicles."""
    reticulum: float = 0.7
    """Share of cells that hold cisternae of the endoplasmic reticulum."""
    synapses: float = 0.35
    """How much of the membrane carries a density; 0: none."""

    def __post_init__(self) -> None:
        limits = {
            "cell_diameter_nm": (50.0, 50_000.0, "nm"),
            "large_cells": (0.0, 1.0, ""),
            "elongation": (0.0, 3.0, ""),
            "waviness": (0.0, 1.0, ""),
            "membrane_thickness_nm": (2.0, 200.0, "nm"),
            "mitochondria_per_um2": (0.0, 20.0, "per um2"),
            "vesicle_pools": (0.0, 1.0, ""),
            "reticulum": (0.0, 1.0, ""),
            "synapses": (0.0, 1.0, ""),
        }
        for field in fields(self):
            require_number(field.name, getattr(self, field.name), *limits[field.name])
        smallest = SMALLEST_CELL_IN_THICKNESSES * self.membrane_thickness_nm
        if self.cell_diameter_nm < smallest:
            raise UsageError(
                f"`cell_diameter_nm` must be at least {SMALLEST_CELL_IN_THICKNESSES:g} membrane thicknesses "
                f"({smallest:g} nm); got {self.cell_diameter_nm:g}. Use larger cells or a thinner membrane."
            )


@dataclass(frozen=True)
class Imaging:
    """How stain, section and microscope turn tissue into grey. Grey levels run from 0 (black) to 1 (white)."""

    cytoplasm_grey: float = 0.62
    """Mean grey of cytoplasm."""
    cell_variation: float = 0.05
    """Standard deviation of that grey from cell to cell."""
    grain: float = 0.07
    """Standard deviation of the cytoplasm's fine structure (ribosomes, filaments) within a cell."""
    membrane_stain: float = 0.42
    """How much darker than cytoplasm a membrane is that stands upright in the section."""
    organelle_stain: float = 0.34
    """How much darker than cytoplasm the membranes of organelles are."""
    contrast: float = 1.0
    """Factor on every difference from `cytoplasm_grey`; 0.5 halves the staining contrast."""
    unevenness: float = 0.02
    """Standard deviation of the grey by which staining drifts over some ten micrometres, and over a fifth of that."""
    section_thickness_nm: float = 45.0
    """Thickness of the section: a membrane tilted by `a` is smeared over thickness * tan(a)."""
    tilt_degrees: float = 17.0
    """Root mean square tilt of membranes; 0: all stand upright and none is smeared."""
    point_spread_nm: float = 3.0
    """Standard deviation of the microscope's Gaussian point spread; 0: none."""
    dose_per_nm2: float | None = 30.0
    """Electrons detected per square nanometre at full white: shot noise of variance grey / (dose * area of a pixel), in
    Poisson's Gaussian limit (a pixel should collect some twenty electrons). None: no noise."""

    def __post_init__(self) -> None:
        limits = {
            "cytoplasm_grey": (0.0, 1.0, ""),
            "cell_variation": (0.0, 0.5, ""),
            "grain": (0.0, 0.5, ""),
            "membrane_stain": (0.0, 1.0, ""),
            "organelle_stain": (0.0, 1.0, ""),
            "contrast": (0.0, 5.0, ""),
            "unevenness": (0.0, 0.5, ""),
            "section_thickness_nm": (1.0, 500.0, "nm"),
            "tilt_degrees": (0.0, 60.0, "degrees"),
            "point_spread_nm": (0.0, 200.0, "nm"),
            "dose_per_nm2": (1e-4, 1e9, "electrons per nm2"),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if not (field.name == "dose_per_nm2" and value is None):
                require_number(field.name, value, *limits[field.name])


URISC_LIKE = Tissue()
ISBI_LIKE = Tissue(
    cell_diameter_nm=210.0,
    large_cells=0.8,
    membrane_thickness_nm=26.0,
    elongation=2.2,
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
