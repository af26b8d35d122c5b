"""Stain on small scales: the profile across a membrane, and the grain of cytoplasm.

A membrane that stands upright shows two dark leaflets with a pale cleft: p(s) = G(s - h) + G(s + h) at s nm from its
middle. In a section of thickness T, tilted by a, it is smeared over w = T tan(a): p_w(s) = (1 / w) integral of p over
[s - w/2, s + w/2], wide and pale at once. A pixel averages over its own width, so the profile is smeared once more by
the pixel size.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from emseg.synthetic.tissue.kernels import TEXTURE_NM, TEXTURE_SIZE, hash_grid

LARGEST_SMEAR_NM = 80.0
N_SMEARS = 33
LEAFLET_OFFSET = 0.22  # of the membrane's thickness
LEAFLET_SIGMA = 0.15
GRAIN_SEED = 20_240_117


def influence_nm(thickness_nm: float, pixel_size_nm: float) -> float:
    """Return the distance from a membrane's middle beyond which it leaves no stain, in whole nm."""
    return float(math.ceil(0.75 * thickness_nm + 0.5 * LARGEST_SMEAR_NM + pixel_size_nm + 2.0))


def membrane_profile(thickness_nm: float, pixel_size_nm: float) -> NDArray[np.float32]:
    """Return stain by smear (`N_SMEARS` steps from 0 to `LARGEST_SMEAR_NM`) and distance (steps of 1 nm).

    The upright profile peaks at 1 before the pixel's own average. The last two columns are zero.
    """
    reach = int(influence_nm(thickness_nm, pixel_size_nm))
    fine = np.arange(-8 * reach, 8 * reach + 1) / 4.0  # quarter nm, twice as far as asked for
    sigma, offset = LEAFLET_SIGMA * thickness_nm, LEAFLET_OFFSET * thickness_nm
    leaflets = np.exp(-((fine - offset) ** 2) / (2 * sigma**2)) + np.exp(-((fine + offset) ** 2) / (2 * sigma**2))
    leaflets /= leaflets.max()
    total = np.concatenate([[0.0], np.cumsum(leaflets)]) * 0.25  # integral up to fine - 1/8 nm
    edges = np.concatenate([fine - 0.125, [fine[-1] + 0.125]])
    profile = np.zeros((N_SMEARS, reach + 2), np.float32)
    offsets = np.linspace(-0.5, 0.5, 9) * pixel_size_nm
    for row, smear in enumerate(np.linspace(0.0, LARGEST_SMEAR_NM, N_SMEARS)):
        width = max(float(smear), 0.5)
        places = np.arange(reach)[:, None] + offsets
        upper = np.interp(places + width / 2, edges, total)
        lower = np.interp(places - width / 2, edges, total)
        profile[row, :reach] = ((upper - lower) / width).mean(axis=1)
    return profile


@functools.lru_cache(maxsize=4)
def grain_texture(pixel_size_nm: float) -> NDArray[np.float32]:
    """Return a periodic texture, zero mean, as seen by pixels of this size; unit variance before they average.

    Gaussian noise whose amplitude falls with frequency as 1 / (1 + (f L)^2)^(1/2), L = 22 nm, with dark granules of
    ribosome size on it. One table serves every seed: each cell reads it from its own place.
    """
    n = TEXTURE_SIZE
    bits = hash_grid(GRAIN_SEED, 1, n)
    uniform = ((bits >> np.uint64(40)).astype(float) + 0.5) / 2**24
    second = ((bits & np.uint64(0xFFFFFF)).astype(float) + 0.5) / 2**24
    white = np.sqrt(-2.0 * np.log(uniform)) * np.cos(2.0 * np.pi * second)
    granules = np.where(second < 0.012, -0.5 - uniform, 0.0)
    frequency = np.hypot(np.fft.fftfreq(n, TEXTURE_NM)[:, None], np.fft.fftfreq(n, TEXTURE_NM)[None])
    smooth = np.fft.fft2(white) / (1.0 + (22.0 * frequency) ** 2) ** 0.5
    spots = np.fft.fft2(granules) * np.exp(-2.0 * (np.pi * 6.0 * frequency) ** 2)
    smooth[0, 0] = spots[0, 0] = 0.0
    field = (
        smooth / np.sqrt((np.abs(smooth) ** 2).mean() / n**2) * 0.95
        + spots / np.sqrt((np.abs(spots) ** 2).mean() / n**2) * 0.3
    )
    pixel = np.sinc(np.fft.fftfreq(n, TEXTURE_NM) * pixel_size_nm)
    texture = np.asarray(np.fft.ifft2(field * pixel[:, None] * pixel[None]).real, np.float32)
    texture.flags.writeable = False  # shared by later calls
    return texture
