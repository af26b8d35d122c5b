"""The numbers behind the smooth fields, from tissue and imaging."""

import math

import numpy as np
from numpy.typing import NDArray

from emseg.synthetic.tissue.cells import packing_scale_nm
from emseg.synthetic.tissue.kernels import NOISE_DEVIATION
from emseg.synthetic.tissue.parameters import Imaging, Tissue
from emseg.synthetic.tissue.stain import LARGEST_SMEAR_NM

LARGEST_STRETCH = 2.0  # of the warp, locally; the heights in `field_numbers` keep it under this (a test measures it)
RIPPLE_NM = 240.0
SHADING_NM = 9_000.0
RETICULUM_NM = 230.0


def field_numbers(tissue: Tissue, imaging: Imaging) -> NDArray[np.float64]:
    """Return the parameters of `kernels.node_fields`."""
    warp_nm = 0.8 * packing_scale_nm(tissue)
    common = tissue.synapses  # share of the plane, roughly, where the field passes its threshold
    return np.array(
        [
            warp_nm,
            0.33 * tissue.waviness * warp_nm,
            RIPPLE_NM,
            0.13 * tissue.waviness * RIPPLE_NM,
            imaging.section_thickness_nm,
            math.radians(imaging.tilt_degrees),
            LARGEST_SMEAR_NM,
            SHADING_NM,
            imaging.unevenness / (math.sqrt(1.25) * NOISE_DEVIATION),  # of two layers, the second half as high
            0.5 - 0.55 * common if common > 0.0 else 10.0,
            RETICULUM_NM,
            0.10,
        ]
    )
