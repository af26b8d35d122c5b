"""Choose the cell size for which membrane covers a given fraction of a window.

Membrane of thickness t around cells of mean diameter D covers about c t / D of the plane. The law gives the first
guess; the window itself, sampled on a grid, gives the rest: D is bracketed and the bracket closed by the Illinois rule.
One window of a tissue differs from the next (U-RISC: 5.10 +- 2 %), so the cell size found is the window's own.
"""

import math
from dataclasses import replace

from emseg.errors import UsageError
from emseg.synthetic.tissue.parameters import SMALLEST_CELL_IN_THICKNESSES, Imaging, Tissue, require_number
from emseg.synthetic.tissue.window import draw_window

# |fraction reached - fraction asked| <= TOLERANCE * fraction asked, on the sampling grid.
TOLERANCE = 0.03
FRACTION_LAW = 1.8
SAMPLES = 65_536
LARGEST_CELL_NM = 50_000.0
STEP = 1.25
MAX_STEPS = 40
TRUTH_ONLY = Imaging(point_spread_nm=0.0, dose_per_nm2=None, tilt_degrees=0.0, unevenness=0.0)


def tissue_with_membrane_fraction(
    fraction: float,
    tissue: Tissue,
    *,
    shape: tuple[int, int],
    pixel_size_nm: float,
    seed: int,
    origin_nm: tuple[float, float] = (0.0, 0.0),
) -> Tissue:
    """Return `tissue` with the cell diameter at which this window holds `fraction` of membrane, to 3 % of `fraction`.

    The fraction is measured on a grid of at most 65,536 points; the whole window's own may differ by a little more.
    Raises `UsageError` when no cell diameter from three membrane thicknesses to 50 um reaches it.
    """
    require_number("membrane_fraction", fraction, 1e-4, 0.95, "(share of pixels)")
    step = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / SAMPLES)))
    coarse = (math.ceil(shape[0] / step), math.ceil(shape[1] / step))
    smallest = max(SMALLEST_CELL_IN_THICKNESSES * tissue.membrane_thickness_nm, 50.0)
    seen: dict[float, float] = {}

    def excess(log_diameter: float) -> float:
        diameter = min(max(math.exp(log_diameter), smallest), LARGEST_CELL_NM)
        candidate = replace(tissue, cell_diameter_nm=diameter)
        drawing = draw_window(coarse, pixel_size_nm * step, seed, candidate, TRUTH_ONLY, origin_nm)
        seen[diameter] = float(drawing.membrane.mean())
        return seen[diameter] - fraction

    def close_enough(value: float) -> bool:
        return abs(value) <= TOLERANCE * fraction

    low, high = math.log(smallest), math.log(LARGEST_CELL_NM)
    guess = min(max(math.log(FRACTION_LAW * tissue.membrane_thickness_nm / fraction), low), high)
    x, value = guess, excess(guess)
    previous, previous_value = x, value
    ends = {1: (x, value), -1: (x, value)}
    while not close_enough(value) and value * previous_value > 0.0:  # look outwards from the guess for a change of sign
        for direction in (1, -1):
            previous, previous_value = ends[direction]
            x = min(max(previous + direction * math.log(STEP), low), high)
            if x != previous:
                value = excess(x)
                ends[direction] = (x, value)
                if close_enough(value) or value * previous_value < 0.0:
                    break
        else:
            if ends[1][0] == high and ends[-1][0] == low:
                raise UsageError(
                    f"`membrane_fraction` must be within reach of this window; got {fraction:g}, while cells from "
                    f"{min(seen):.0f} to {max(seen):.0f} nm across give {min(seen.values()):.3f} to "
                    f"{max(seen.values()):.3f}. Change the membrane's thickness "
                    f"(now {tissue.membrane_thickness_nm:g} nm) or the window."
                )
    side = 0
    for _ in range(MAX_STEPS):
        if close_enough(value):
            return replace(tissue, cell_diameter_nm=min(max(math.exp(x), smallest), LARGEST_CELL_NM))
        middle = (previous * value - x * previous_value) / (value - previous_value)
        middle_value = excess(middle)
        if middle_value * value < 0.0:
            previous, previous_value, side = x, value, 0
        else:  # the same end moved twice: halve the other, or it would never move
            previous_value *= 0.5 if side else 1.0
            side = 1
        x, value = middle, middle_value
    best = min(seen, key=lambda diameter: abs(seen[diameter] - fraction))
    raise UsageError(
        f"`membrane_fraction` must be reachable to {TOLERANCE:.0%}; got {fraction:g}, and the nearest this window "
        f"gives is {seen[best]:.4f}. Draw a larger window."
    )
