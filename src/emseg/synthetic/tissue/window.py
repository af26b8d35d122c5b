"""Draw a window of the tissue band by band: smooth fields, cells and organelles, then optics, noise, grey levels.

A membrane perpendicular to the section shows two dark leaflets with a pale cleft: p(s) = G(s - h) + G(s + h) at s nm
from its middle. In a section of thickness T, tilted by a, it is smeared over w = T tan(a): p_w(s) = (1 / w) integral of
p over [s - w/2, s + w/2], wide and pale at once. A pixel averages over its own width, so the profile is smeared once
more by the pixel size.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from emseg.synthetic.shared_kernels import Bytes, Canvas, Floats, Integers
from emseg.synthetic.tissue import tissue_kernels as kernels
from emseg.synthetic.tissue.cells import pack_cells, packing_scale_nm
from emseg.synthetic.tissue.tissue_design import Imaging, Tissue
from emseg.synthetic.tissue.tissue_kernels import NODE_NM, NOISE_DEVIATION, TEXTURE_NM, TEXTURE_SIZE

BAND_NODES, MIN_BAND_ROWS = 8, 16
SYNAPSE_STAIN = 0.34
VESICLE_STAIN = RETICULUM_STAIN = 0.75  # of `organelle_stain`
LARGEST_STRETCH = 2.0  # of the warp, locally; `warp_heights_nm` keep it below this (tested)
# Wavelengths of the smooth fields; of the warp in scales of the packing.
WARP_PITCH, RIPPLE_NM, TILT_NM, SHADING_NM, SYNAPSE_NM = 0.8, 240.0, 450.0, 9_000.0, 330.0
RETICULUM_NM, RETICULUM_HERE_NM = 230.0, 700.0
LARGEST_SMEAR_NM, N_SMEARS = 80.0, 33
LEAFLET_OFFSET, LEAFLET_SIGMA = 0.22, 0.15  # of the membrane's thickness
GRAIN_SEED = 20_240_117


def draw_window(
    shape: tuple[int, int],
    pixel_size_nm: float,
    seed: int,
    tissue: Tissue,
    imaging: Imaging,
    origin_nm: tuple[float, float],
) -> tuple[Bytes, NDArray[np.bool_], NDArray[np.int32], Bytes, Integers]:
    """Draw the window whose upper left corner lies at `origin_nm`; the arguments must be valid.

    Returns image, membrane, cells, organelles [height, width] and cell keys, as in `Micrograph`.
    """
    height, width = shape
    taps = point_spread_taps(imaging.point_spread_nm / pixel_size_nm)
    halo = len(taps) // 2
    corner = np.array(origin_nm, np.float64) - halo * pixel_size_nm
    n_rows, n_cols = height + 2 * halo, width + 2 * halo
    first = np.floor(corner / NODE_NM).astype(np.int64) - 1
    last = np.floor((corner + np.array([n_rows, n_cols]) * pixel_size_nm) / NODE_NM).astype(np.int64) + 1
    low, high = (first * NODE_NM).astype(np.float64), (last * NODE_NM).astype(np.float64)
    cells, buckets = _cells_and_buckets(seed, tissue, imaging, low, high, pixel_size_nm)
    synapse, organelle = SYNAPSE_STAIN * (imaging.membrane_stain > 0.0), imaging.organelle_stain
    stain = kernels.Stain(
        membrane_profile(tissue.membrane_thickness_nm, pixel_size_nm),
        LARGEST_SMEAR_NM / (N_SMEARS - 1),
        0.5 * tissue.membrane_thickness_nm,
        grain_texture(pixel_size_nm),
        np.array([imaging.membrane_stain, synapse, organelle, organelle * VESICLE_STAIN, organelle * RETICULUM_STAIN]),
    )
    noise = 0.0 if imaging.dose_per_nm2 is None else 1.0 / (math.sqrt(imaging.dose_per_nm2) * pixel_size_nm)
    levels = np.array([noise, imaging.contrast, imaging.cytoplasm_grey], np.float32)
    first_pixel = np.array([round(edge / pixel_size_nm) for edge in origin_nm], np.int64)
    image, membrane, organelles = np.empty(shape, np.uint8), np.empty(shape, np.bool_), np.empty(shape, np.uint8)
    numbers, number_of = np.empty(shape, np.int32), np.zeros(len(cells.key), np.int32)

    # Bands are drawn with the halo that the point spread needs; `blurred` keeps the last 2 halo rows for the next band.
    step = max(BAND_NODES, math.ceil(MIN_BAND_ROWS * pixel_size_nm / NODE_NM))
    most_rows = math.ceil(step * NODE_NM / pixel_size_nm) + 1
    grey = np.empty((most_rows, n_cols), np.float32)
    blurred = np.empty((most_rows + 2 * halo, width), np.float32)
    next_id, waiting, done, row = 1, 0, 0, 0
    for node in range(int(first[0]), int(last[0]) + 1, step):
        end = min(math.ceil(((node + step) * NODE_NM - corner[0]) / pixel_size_nm - 0.5), n_rows)
        if end <= row:
            continue
        fields = node_fields(seed, (node, first[1]), (step + 1, last[1] - first[1] + 1), tissue, imaging)
        band = kernels.Band(fields, np.array([node, first[1]]), pixel_size_nm, corner, row, halo)
        rows = grey[: end - row]
        truth = (membrane, numbers, organelles, number_of)
        next_id = kernels.draw_band(seed, band, cells, buckets, stain, rows, truth, next_id)
        kernels.blur_columns(rows, taps, blurred[waiting : waiting + len(rows)])
        waiting += len(rows)
        row = end
        ready = waiting - 2 * halo
        if ready > 0:
            place, part = first_pixel + np.array([done, 0]), image[done : done + ready]
            kernels.expose_rows(seed, blurred[:waiting], taps, levels, normal_table(), place, part)
            done += ready
            blurred[: 2 * halo] = blurred[ready:waiting].copy()
            waiting = 2 * halo
    keys = np.zeros(next_id, np.int64)
    keys[number_of] = np.where(number_of > 0, cells.key, 0)
    return image, membrane, numbers, organelles, keys


def _cells_and_buckets(
    seed: int,
    tissue: Tissue,
    imaging: Imaging,
    low: Floats,
    high: Floats,
    pixel_size_nm: float,
) -> tuple[kernels.Cells, kernels.Buckets]:
    """Return the cells near a box of the section and, for each square of a grid, those that can be the nearest."""
    scale = packing_scale_nm(tissue)
    moved = 1.1 * sum(warp_heights_nm(tissue))  # how far the warp may move a point
    low, high = low - moved, high + moved
    pitch = max(0.12 * scale, 90.0)
    cutoff = 2.0 * LARGEST_STRETCH * influence_nm(tissue.membrane_thickness_nm, pixel_size_nm)
    slack = 2.0 * LARGEST_STRETCH * math.sqrt(0.5) * NODE_NM + math.sqrt(2.0) * pitch + cutoff
    n = np.ceil((high - low) / pitch).astype(np.int64) + 1
    reach = 0.5 * scale + slack
    while True:
        cells = pack_cells(seed, tissue, imaging, (low[0], low[1]), (high[0] + pitch, high[1] + pitch), reach)
        start, index, furthest = kernels.bucket_sites(cells.site, low, pitch, n[0], n[1], slack, reach)
        if furthest + slack <= reach:
            return cells, kernels.Buckets(start, index, low, pitch, n, int(np.diff(start).max()))
        reach = 1.5 * reach  # a hole in the packing: look further


def warp_heights_nm(tissue: Tissue) -> tuple[float, float]:
    """Return the heights of the warp's two layers of noise, waves as long as `WARP_PITCH` scales and ripples."""
    return 0.33 * tissue.waviness * (WARP_PITCH * packing_scale_nm(tissue)), 0.13 * tissue.waviness * RIPPLE_NM


def node_fields(seed: int, first: tuple[int, int], count: tuple[int, int], tissue: Tissue, imaging: Imaging) -> Floats:
    """Return the smooth fields on the nodes from `first` on, [*count, N_FIELDS] in the order of the kernels."""
    # One node more on each side, for the slopes.
    y, x = (NODE_NM * np.arange(start - 1.0, start + n + 1) for start, n in zip(first, count, strict=True))

    def noise(stream: int, pitch_nm: float) -> Floats:
        return kernels.noise_on_grid(seed, stream, y / pitch_nm, x / pitch_nm)

    def slopes(values: Floats) -> list[Floats]:
        ahead = values[2:, 1:-1] - values[:-2, 1:-1], values[1:-1, 2:] - values[1:-1, :-2]
        return [rise / (2.0 * NODE_NM) for rise in ahead]

    pitch, (wave, ripple) = WARP_PITCH * packing_scale_nm(tissue), warp_heights_nm(tissue)
    warped_y = y[:, None] + wave * noise(kernels.S_WARP_Y, pitch) + ripple * noise(kernels.S_WAVE_Y, RIPPLE_NM)
    warped_x = x[None] + wave * noise(kernels.S_WARP_X, pitch) + ripple * noise(kernels.S_WAVE_X, RIPPLE_NM)
    reticulum = noise(kernels.S_RETICULUM, RETICULUM_NM)
    steep = np.maximum(np.hypot(*slopes(reticulum)), 0.3 / RETICULUM_NM)
    y, x = y[1:-1], x[1:-1]
    tilt = math.radians(imaging.tilt_degrees) / NOISE_DEVIATION * np.abs(noise(kernels.S_TILT, TILT_NM))
    shade = noise(kernels.S_SHADE, SHADING_NM) + 0.5 * noise(kernels.S_SHADE + kernels.S_FINE, 0.2 * SHADING_NM)
    # Roughly the fraction of the plane where the field exceeds its threshold.
    threshold = 0.5 - 0.55 * tissue.synapses if tissue.synapses > 0.0 else 10.0
    return np.stack(
        [
            warped_y[1:-1, 1:-1],
            warped_x[1:-1, 1:-1],
            *slopes(warped_y),
            *slopes(warped_x),
            np.minimum(imaging.section_thickness_nm * np.tan(np.minimum(tilt, 1.3)), LARGEST_SMEAR_NM),
            # Of two layers, the second half as high.
            imaging.unevenness / (math.sqrt(1.25) * NOISE_DEVIATION) * shade,
            np.clip((noise(kernels.S_SYNAPSE, SYNAPSE_NM) - threshold) * 6.0, 0.0, 1.0),
            np.clip(reticulum[1:-1, 1:-1] / steep, -300.0, 300.0),
            np.clip((noise(kernels.S_RETICULUM_HERE, RETICULUM_HERE_NM) - 0.10) * 8.0, 0.0, 1.0),
        ],
        axis=-1,
    )


def influence_nm(thickness_nm: float, pixel_size_nm: float) -> float:
    """Return the distance from a membrane's middle beyond which it leaves no stain, in whole nm."""
    return float(math.ceil(0.75 * thickness_nm + 0.5 * LARGEST_SMEAR_NM + pixel_size_nm + 2.0))


def membrane_profile(thickness_nm: float, pixel_size_nm: float) -> Canvas:
    """Return stain by smear (`N_SMEARS` steps from 0 to `LARGEST_SMEAR_NM`) and distance (steps of 1 nm).

    The profile without tilt peaks at 1 before the pixel's own average. The last two columns are zero.
    """
    reach = int(influence_nm(thickness_nm, pixel_size_nm))
    fine = np.arange(-8 * reach, 8 * reach + 1) / 4.0  # quarter nm, over twice the range
    sigma, offset = LEAFLET_SIGMA * thickness_nm, LEAFLET_OFFSET * thickness_nm
    leaflets = np.exp(-((fine - offset) ** 2) / (2 * sigma**2)) + np.exp(-((fine + offset) ** 2) / (2 * sigma**2))
    leaflets /= leaflets.max()
    total = np.concatenate([[0.0], np.cumsum(leaflets)]) * 0.25  # integral up to fine - 1/8 nm
    edges = np.concatenate([fine - 0.125, [fine[-1] + 0.125]])
    profile = np.zeros((N_SMEARS, reach + 2), np.float32)
    places = np.arange(reach)[:, None] + np.linspace(-0.5, 0.5, 9) * pixel_size_nm
    for row, smear in enumerate(np.linspace(0.0, LARGEST_SMEAR_NM, N_SMEARS)):
        width = max(float(smear), 0.5)
        upper = np.interp(places + width / 2, edges, total)
        lower = np.interp(places - width / 2, edges, total)
        profile[row, :reach] = ((upper - lower) / width).mean(axis=1)
    return profile


@functools.lru_cache(maxsize=4)
def grain_texture(pixel_size_nm: float) -> Canvas:
    """Return a periodic texture, zero mean, as seen by pixels of this size; unit variance before they average.

    Gaussian noise whose amplitude falls with frequency as 1 / (1 + (f L)^2)^(1/2), L = 22 nm, with dark granules of
    ribosome size on it. All seeds share one table: each cell reads it from its own place.
    """
    n = TEXTURE_SIZE
    bits = kernels.hash_grid(GRAIN_SEED, 1, n)
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


def point_spread_taps(sigma: float) -> Canvas:
    """Return a Gaussian of this standard deviation (pixels), averaged over each pixel, that sums to 1."""
    if sigma <= 0.0:
        return np.ones(1, np.float32)
    radius = math.ceil(3.2 * sigma + 0.5)
    edges = (np.arange(-radius, radius + 2) - 0.5) / (sigma * math.sqrt(2.0))
    taps = np.diff([math.erf(edge) for edge in edges])
    return np.asarray(taps / taps.sum(), np.float32)


@functools.lru_cache(maxsize=1)
def normal_table() -> Canvas:
    """Return 4096 normal quantiles of variance 1/2: two of them, picked by independent bits, add up to a deviate."""
    from scipy.special import ndtri

    table = ndtri((np.arange(4096) + 0.5) / 4096)
    table = np.asarray(table / table.std() * math.sqrt(0.5), np.float32)
    table.flags.writeable = False
    return table
