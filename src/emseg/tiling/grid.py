"""How an image is cut into overlapping square tiles, and how the network's outputs for them are joined.

    tile      side of the square that the network sees at a time, in pixels
    halo      pixels on each side of a tile that are read and computed, then discarded
    overlap   least overlap of the remaining cores of two neighbours, in pixels, over which they are blended
    multiple  divisor that the network requires of its input sizes: 2 to the number of times it halves its maps
    step      multiple * floor((tile - 2 halo - overlap) / multiple): largest distance between tile origins

Along one axis of `length` pixels, the network sees E = multiple * ceil(length / multiple), extended by reflection, in
n = 1 + ceil((E - tile) / step) tiles that begin at

    o_k = multiple * floor(k (E - tile) / ((n - 1) multiple)),  k = 0, ..., n - 1

so tiles are spread evenly, and every o_k is divisible by `multiple`: a network that halves its maps five times is
equivariant to shifts of 32 pixels, not of 16.

The core of a tile is all but `halo` pixels on each side that has a neighbour. Where cores overlap, normalised weights
w_k(x) = v_k(x) / sum_j v_j(x) blend them; v is the distance to the nearer end of the core ("linear"), or a Gaussian of
standard deviation core / 8 ("gaussian"). With "none" the cores are cut in the middle of their overlap. Where the halo
covers the network's receptive field, that equals the network on the whole image; where it does not, blending removes
the seams.

At the image's border a tile is "flush" with it, so that the network's own padding acts there as in the whole image; or
the image is mirrored ("reflect"), so that all tiles have one size and no pixel is nearer than `halo` to an edge.

Source of the Gaussian: Isensee et al. 2021 (nnU-Net), Nature Methods 18, 203-211. Deviation: theirs spans the tile.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from emseg.checks import Count, CountOrZero, validated
from emseg.errors import UsageError

Blending = Literal["none", "linear", "gaussian"]
Border = Literal["flush", "reflect"]
Spans = tuple[tuple[int, int], ...]
_DEVIATIONS_PER_CORE = 8


@dataclass(frozen=True, eq=False)
class AxisTile:
    """One tile along an axis: it begins at `origin` and contributes pixels `start` to `stop - 1` with `weights`.

    The origin is negative where the image is extended on this side. Without weights the pixels are this tile's alone.
    """

    origin: int
    start: int
    stop: int
    weights: Float32[np.ndarray, " core"] | None = None

    @property
    def inside(self) -> slice:
        """The contributed pixels, in the tile's own coordinates."""
        return slice(self.start - self.origin, self.stop - self.origin)


@validated
class TileGrid:
    """The tiles of an image of `height` x `width` pixels; all lengths in pixels. Raises UsageError if none fit."""

    height: Count
    width: Count
    tile: Count = 512
    halo: CountOrZero = 64
    overlap: CountOrZero = 0
    blending: Blending = "none"
    border: Border = "flush"
    multiple: Count = 1

    def __post_init__(self) -> None:
        """Refuse lengths that do not fit together."""
        tile, halo, overlap, multiple = self.tile, self.halo, self.overlap, self.multiple
        problem = None
        if tile % multiple:
            nearest = max(1, round(tile / multiple)) * multiple
            problem = f"`tile` must be divisible by `multiple`; got tile={tile}, multiple={multiple}. Use {nearest}."
        elif tile <= 2 * halo:
            problem = (
                f"`tile` must exceed twice `halo`; got tile={tile}, halo={halo}. Use a larger tile or a smaller halo."
            )
        elif self.blending == "none" and overlap:
            problem = (
                f"`overlap` is the width of the blending, so blending='none' needs overlap=0; got {overlap}. "
                "Choose blending='linear' or 'gaussian', or add the pixels to `halo`."
            )
        elif self.blending != "none" and not overlap:
            problem = (
                f"blending={self.blending!r} needs an `overlap` to blend over; got overlap=0. "
                "Set an overlap, for example a quarter of the tile, or choose blending='none'."
            )
        elif self.step < 1:
            problem = (
                "`tile` must exceed 2 `halo` + `overlap` by at least `multiple`, or tiles would not advance; got "
                f"tile={tile}, halo={halo}, overlap={overlap}, multiple={multiple}. Use a larger tile."
            )
        if problem:
            raise UsageError(problem)

    @property
    def step(self) -> int:
        """The largest distance between the origins of neighbouring tiles."""
        return self.multiple * ((self.tile - 2 * self.halo - self.overlap) // self.multiple)

    @cached_property
    def rows(self) -> tuple[AxisTile, ...]:
        """The rows of tiles, from the top."""
        return self._along(self.height)

    @cached_property
    def columns(self) -> tuple[AxisTile, ...]:
        """The tiles within a row, from the left."""
        return self._along(self.width)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of every tile: `tile`, or less where the image is smaller and `border` is flush."""
        if self.border == "reflect":
            return self.tile, self.tile
        height, width = (min(self.tile, extent_of(side, self.multiple)) for side in (self.height, self.width))
        return height, width

    @property
    def n_tiles(self) -> int:
        """The number of tiles."""
        return len(self.rows) * len(self.columns)

    @property
    def computed_share(self) -> float:
        """Pixels that the network computes over pixels of the image: the cost of halo and overlap."""
        return self.n_tiles * math.prod(self.tile_shape) / (self.height * self.width)

    def _along(self, length: int) -> tuple[AxisTile, ...]:
        lengths = {"tile": self.tile, "halo": self.halo, "step": self.step, "multiple": self.multiple}
        return axis_tiles(length, **lengths, blending=self.blending, extended=self.border == "reflect")


def extent_of(length: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `length`."""
    return multiple * -(-length // multiple)


def axis_tiles(
    length: int, *, tile: int, halo: int, step: int, multiple: int, blending: Blending, extended: bool
) -> tuple[AxisTile, ...]:
    """Return the tiles of an axis; if `extended`, `halo` pixels are added by reflection at both ends.

    A tile longer than the axis shrinks to the axis, unless `extended`, where the axis grows to the tile.
    """
    margin = halo if extended else 0
    extent = max(extent_of(length + 2 * margin, multiple), tile if extended else 0)
    tile = min(tile, extent)
    n_steps = -(-(extent - tile) // step)
    units = (extent - tile) // multiple  # both are divisible by `multiple`
    origins = [multiple * (k * units // max(n_steps, 1)) - margin for k in range(n_steps + 1)]
    cores: Spans = tuple(
        (0 if k == 0 else origin + halo, length if k == n_steps else min(origin + tile - halo, length))
        for k, origin in enumerate(origins)
    )
    if blending == "none":
        cuts = [0, *((right[0] + left[1]) // 2 for left, right in pairwise(cores)), length]
        return tuple(AxisTile(origin, *core) for origin, core in zip(origins, pairwise(cuts), strict=True))
    weights = core_weights(cores, blending)
    return tuple(AxisTile(o, *core, w) for o, core, w in zip(origins, cores, weights, strict=True))


def core_weights(cores: Spans, blending: Blending) -> list[Float32[np.ndarray, " _"]]:
    """Return each core's weights, in (0, 1]; over all cores they sum to 1 at every pixel."""
    raw: list[Float64[np.ndarray, " _"]] = []
    total = np.zeros(cores[-1][1])
    for k, (start, stop) in enumerate(cores):
        places = np.arange(start, stop) + 0.5
        if blending == "gaussian":
            deviations = (places - (start + stop) / 2) * (_DEVIATIONS_PER_CORE / (stop - start))
            values = np.exp(-0.5 * np.square(deviations))
        else:  # at the image's own end nothing competes
            from_left = places - start if k > 0 else np.inf
            from_right = stop - places if k < len(cores) - 1 else np.inf
            values = np.minimum(np.minimum(from_left, from_right), stop - start) * np.ones_like(places)
        raw.append(values)
        total[start:stop] += values
    return [(values / total[start:stop]).astype(np.float32) for (start, stop), values in zip(cores, raw, strict=True)]
