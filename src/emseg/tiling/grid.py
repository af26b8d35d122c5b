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

The core of a tile is all but `halo` pixels on each side that has a neighbour. With an `overlap`, normalised weights
w_k(x) = v_k(x) / sum_j v_j(x) blend the cores; v is a Gaussian of standard deviation core / 8. Without, the cores are
cut in the middle between tiles. Where the halo covers the network's receptive field, that equals the network on the
whole image; where it does not, blending removes the seams. At the image's border a tile is flush with it, so that the
network's own padding acts there as in the whole image.

Source of the Gaussian: Isensee et al. 2021 (nnU-Net), Nature Methods 18, 203-211. Deviation: theirs spans the tile.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float32

from emseg.checks import Count, CountOrZero, validated
from emseg.errors import UsageError

Spans = tuple[tuple[int, int], ...]
_DEVIATIONS_PER_CORE = 8


@dataclass(frozen=True, eq=False)
class AxisTile:
    """A tile along an axis: it begins at `origin` and contributes pixels `start` to `stop - 1`, where it is not alone
    with `weights`.
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
    multiple: Count = 1

    def __post_init__(self) -> None:
        tile, halo, overlap, multiple = self.tile, self.halo, self.overlap, self.multiple
        problem = None
        if tile % multiple:
            nearest = max(1, round(tile / multiple)) * multiple
            problem = f"`tile` must be divisible by `multiple`; got tile={tile}, multiple={multiple}. Use {nearest}."
        elif tile <= 2 * halo:
            problem = (
                f"`tile` must exceed twice `halo`; got tile={tile}, halo={halo}. Use a larger tile or a smaller halo."
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
        """Height and width of every tile: `tile`, or less where the image is smaller."""
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
        tile, halo, multiple = self.tile, self.halo, self.multiple
        extent = extent_of(length, multiple)
        tile = min(tile, extent)
        n_steps = -(-(extent - tile) // self.step)
        units = (extent - tile) // multiple  # both are divisible by `multiple`
        origins = [multiple * (k * units // max(n_steps, 1)) for k in range(n_steps + 1)]
        cores: Spans = tuple(
            (0 if k == 0 else origin + halo, length if k == n_steps else min(origin + tile - halo, length))
            for k, origin in enumerate(origins)
        )
        if not self.overlap:
            cuts = [0, *((right[0] + left[1]) // 2 for left, right in pairwise(cores)), length]
            return tuple(AxisTile(origin, *core) for origin, core in zip(origins, pairwise(cuts), strict=True))
        return tuple(AxisTile(o, *core, w) for o, core, w in zip(origins, cores, core_weights(cores), strict=True))


def extent_of(length: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `length`."""
    return multiple * -(-length // multiple)


def core_weights(cores: Spans) -> list[Float32[np.ndarray, " _"]]:
    """Return each core's weights, in (0, 1]; over all cores they sum to 1 at every pixel."""
    total = np.zeros(cores[-1][1])
    raw = []
    for start, stop in cores:
        deviations = (np.arange(start, stop) + 0.5 - (start + stop) / 2) * (_DEVIATIONS_PER_CORE / (stop - start))
        raw.append(np.exp(-0.5 * np.square(deviations)))
        total[start:stop] += raw[-1]
    return [(values / total[start:stop]).astype(np.float32) for (start, stop), values in zip(cores, raw, strict=True)]
