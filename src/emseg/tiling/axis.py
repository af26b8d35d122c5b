"""Tiles along one axis of an image: where they begin, what of each is kept, and with which weight.

    extent E = multiple * ceil(length / multiple)         what the network sees, extended by reflection
    n        = 1 + ceil((E - tile) / step)                tiles
    o_k      = multiple * floor(k (E - tile) / ((n - 1) multiple)),  k = 0, ..., n - 1

So o_0 = 0, the last tile ends at E, the tiles are spread evenly, and no two neighbours lie more than `step` apart.
Every o_k is divisible by `multiple`, for a network that halves its maps five times answers a shift of 32 pixels with
the same shift, and one of 16 pixels with something else.

Of a tile the core is kept: all but `halo` pixels at each side that has a neighbour. Where cores overlap, weights

    w_k(x) = v_k(x) / sum_j v_j(x),    sum_k w_k(x) = 1

blend them; v is the distance to the nearer end of the core ("linear"), or a bell of standard deviation core / 8
("gaussian"). An image is the product of two axes, so the weights of its two axes, multiplied, sum to one as well.
With "none" the cores are cut in the middle of their overlap, and each pixel belongs to one tile.

Source for the bell: Isensee et al. 2021 (nnU-Net), Nature Methods 18, 203-211. Deviation: theirs spans the whole tile.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

Blending = Literal["none", "linear", "gaussian"]
_BELLS_PER_CORE = 8


@dataclass(frozen=True, eq=False)
class AxisTile:
    """One tile along an axis: it begins at `origin`, and gives the pixels `start` to `stop - 1` with `weights`.

    The origin is negative where the image is extended on this side. Without weights the pixels are this tile's alone.
    """

    origin: int
    start: int
    stop: int
    weights: Float32[np.ndarray, " kept"] | None = None


def extent_of(length: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `length`."""
    return multiple * -(-length // multiple)


def axis_origins(extent: int, tile: int, step: int, multiple: int) -> tuple[int, ...]:
    """Return the origins of tiles that cover `extent` pixels: spread evenly, the last flush with the end."""
    if extent <= tile:
        return (0,)
    n_steps = -(-(extent - tile) // step)
    units = (extent - tile) // multiple  # both are divisible by `multiple`
    return tuple(multiple * (k * units // n_steps) for k in range(n_steps + 1))


def axis_cores(origins: tuple[int, ...], tile: int, halo: int, length: int) -> tuple[tuple[int, int], ...]:
    """Return (start, stop) of what each tile may give of an image of `length` pixels: at the image's ends all of it."""
    last = len(origins) - 1
    return tuple(
        (0 if k == 0 else origin + halo, length if k == last else min(origin + tile - halo, length))
        for k, origin in enumerate(origins)
    )


def cut_between(cores: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Return the cores cut in the middle of each overlap, so that every pixel lies in exactly one."""
    cuts = [0, *((right[0] + left[1]) // 2 for left, right in pairwise(cores)), cores[-1][1]]
    return tuple(pairwise(cuts))


def core_weights(cores: tuple[tuple[int, int], ...], blending: Blending) -> list[Float32[np.ndarray, " kept"]]:
    """Return each core's weights, in (0, 1]; over all cores they sum to 1 at every pixel."""
    raw = [_raw_weights(k, cores, blending) for k in range(len(cores))]
    total = np.zeros(cores[-1][1])
    for (start, stop), values in zip(cores, raw, strict=True):
        total[start:stop] += values
    return [(values / total[start:stop]).astype(np.float32) for (start, stop), values in zip(cores, raw, strict=True)]


def _raw_weights(k: int, cores: tuple[tuple[int, int], ...], blending: Blending) -> Float64[np.ndarray, " kept"]:
    start, stop = cores[k]
    places = np.arange(start, stop) + 0.5
    if blending == "gaussian":
        return np.asarray(np.exp(-0.5 * np.square((places - (start + stop) / 2) * (_BELLS_PER_CORE / (stop - start)))))
    from_left = places - start if k > 0 else np.inf  # beyond the image's own end nothing competes
    from_right = stop - places if k < len(cores) - 1 else np.inf
    return np.asarray(np.minimum(np.minimum(from_left, from_right), stop - start) * np.ones_like(places))


def axis_tiles(
    length: int, *, tile: int, halo: int, step: int, multiple: int, blending: Blending, extended: bool
) -> tuple[AxisTile, ...]:
    """Return the tiles of an axis; if `extended`, `halo` pixels are added by reflection at both ends.

    A tile longer than the axis shrinks to the axis, unless `extended`, where the axis grows to the tile.
    """
    margin = halo if extended else 0
    extent = extent_of(length + 2 * margin, multiple)
    if extended:
        extent = max(extent, tile)
    tile = min(tile, extent)
    origins = tuple(origin - margin for origin in axis_origins(extent, tile, step, multiple))
    cores = axis_cores(origins, tile, halo, length)
    if blending == "none":
        return tuple(AxisTile(o, *kept) for o, kept in zip(origins, cut_between(cores), strict=True))
    weights = core_weights(cores, blending)
    return tuple(AxisTile(o, *core, w) for o, core, w in zip(origins, cores, weights, strict=True))
