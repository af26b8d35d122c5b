"""How an image is cut into overlapping square tiles, and how what the network makes of them is joined.

    tile      pixels a side that the network sees at a time
    halo      pixels at each side of a tile that are read and computed, then thrown away
    overlap   pixels by which what is left of two neighbours overlaps at least, there to be blended
    step      multiple * floor((tile - 2 halo - overlap) / multiple): how far apart tiles begin at most
    multiple  what the network needs its sizes divisible by: 2 to the number of times that it halves its maps

Where the halo covers the network's receptive field, `blending="none"` gives what the network gives for the whole image.
Where it does not, neighbours disagree, and "linear" or "gaussian" blends the seams away (see `emseg.tiling.axis`).

At the image's border a tile is either "flush" with it, so that the network's own padding happens where it happens in
the whole image; or the image goes on as its mirror image ("reflect"), so that all tiles are of one size and no pixel
is nearer than `halo` to the end of what the network sees. Sizes that are not divisible by `multiple` are extended by
reflection at the bottom and the right in either case.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from emseg.errors import UsageError, suggest
from emseg.tiling.axis import AxisTile, Blending, axis_tiles

Border = Literal["flush", "reflect"]


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image of `height` x `width` pixels; all lengths in pixels."""

    height: int
    width: int
    tile: int = 512
    halo: int = 64
    overlap: int = 0
    blending: Blending = "none"
    border: Border = "flush"
    multiple: int = 1

    def __post_init__(self) -> None:
        smallest = {"height": 1, "width": 1, "tile": 1, "halo": 0, "overlap": 0, "multiple": 1}
        for name, low in smallest.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise UsageError(f"`{name}` must be a whole number of pixels from {low} up; got {value!r}.")
        for name, allowed in {"blending": get_args(Blending), "border": get_args(Border)}.items():
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(
                    f"`{name}` must be one of {', '.join(allowed)}; got {value!r}.{suggest(str(value), allowed)}"
                )
        _require_that_lengths_fit(self)

    @property
    def step(self) -> int:
        """How far apart neighbouring tiles begin, at most."""
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
        return self._side(self.height), self._side(self.width)

    @property
    def n_tiles(self) -> int:
        """How many tiles there are."""
        return len(self.rows) * len(self.columns)

    @property
    def computed_share(self) -> float:
        """Pixels that the network computes, over the pixels of the image: what halo and overlap cost."""
        return self.n_tiles * math.prod(self.tile_shape) / (self.height * self.width)

    def _along(self, length: int) -> tuple[AxisTile, ...]:
        return axis_tiles(
            length,
            tile=self.tile,
            halo=self.halo,
            step=self.step,
            multiple=self.multiple,
            blending=self.blending,
            extended=self.border == "reflect",
        )

    def _side(self, length: int) -> int:
        if self.border == "reflect":
            return self.tile
        return min(self.tile, self.multiple * math.ceil(length / self.multiple))


def _require_that_lengths_fit(grid: TileGrid) -> None:
    if grid.tile % grid.multiple:
        nearest = max(1, round(grid.tile / grid.multiple)) * grid.multiple
        raise UsageError(
            f"`tile` must be divisible by `multiple`; got tile={grid.tile}, multiple={grid.multiple}. Use {nearest}."
        )
    if grid.tile <= 2 * grid.halo:
        raise UsageError(
            f"`tile` must exceed twice `halo`; got tile={grid.tile}, halo={grid.halo}. "
            "Use a larger tile or a smaller halo."
        )
    if grid.blending == "none" and grid.overlap:
        raise UsageError(
            f"`overlap` is what is blended, so blending='none' needs overlap=0; got {grid.overlap}. "
            "Choose blending='linear' or 'gaussian', or give the pixels to `halo`."
        )
    if grid.blending != "none" and not grid.overlap:
        raise UsageError(
            f"blending={grid.blending!r} needs an `overlap` to blend over; got overlap=0. "
            "Give an overlap, for example a quarter of the tile, or choose blending='none'."
        )
    if grid.step < 1:
        raise UsageError(
            "`tile` must exceed 2 `halo` + `overlap` by at least `multiple`, or no tile would get ahead; got "
            f"tile={grid.tile}, halo={grid.halo}, overlap={grid.overlap}, multiple={grid.multiple}. Use a larger tile."
        )
