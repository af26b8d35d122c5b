"""Three ways to split tiles into training and validation, and how much of one has been seen in the other.

    crops    tiles of all wafers at random, as in the paper: neighbouring tiles overlap, so a validation tile shares
             pixels with training tiles, and shows sections that were trained on
    region   the left part of each wafer for training, the right part for validation, each tiled separately: no pixel
             is shared, but wafer, ribbon and illumination are
    wafer    whole wafers: nothing is shared

The **pixel leak** of a validation tile v is the fraction of its pixels that also lie in training tiles t of the wafer:

    leak(v) = | v  intersected with the union of all t | / |v|        in [0, 1]

exact, from the tiles' rectangles. It is 0 for "region" and "wafer".

Source: the random split is that of Sun et al. 2021 (FANet), section 4.1; the measure is ours.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64

from emseg.checks import require_number
from emseg.errors import InputError, UsageError
from emseg.sections import WaferSections
from emseg.wafer.tiles import Tile, TilePlace, Tiling, plan_tiles

SPLITS = ("crops", "region", "wafer")
TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True, eq=False)
class Split:
    """Tiles for training and tiles for validation."""

    name: str
    train: tuple[Tile, ...]
    validation: tuple[Tile, ...]

    def __post_init__(self) -> None:
        for which, tiles in ((TRAIN, self.train), (VALIDATION, self.validation)):
            if not tiles:
                raise InputError(
                    f"split {self.name!r} leaves no tile for {which}. Give more wafers, smaller tiles or another share."
                )


@dataclass(frozen=True, eq=False)
class PixelLeak:
    """The leak of each validation tile, in order."""

    shares: Float64[np.ndarray, " tile"]

    @property
    def mean(self) -> float:
        """Mean leak over the validation tiles."""
        return float(self.shares.mean())

    @property
    def share_touched(self) -> float:
        """Fraction of the validation tiles that share at least one pixel with training."""
        return float((self.shares > 0).mean())


def split_crops(tiles: Sequence[Tile], *, train_share: float, seed: int) -> Split:
    """Return a random split of `tiles` with the fraction `train_share` for training."""
    require_number("train_share", train_share, above=0, below=1)
    shuffled = [tiles[place] for place in np.random.default_rng(seed).permutation(len(tiles))]
    n_train = round(train_share * len(tiles))
    return Split("crops", tuple(shuffled[:n_train]), tuple(shuffled[n_train:]))


def split_regions(
    wafers: Sequence[WaferSections],
    tiling: Tiling,
    *,
    left_share: float = 0.6,
    columns: tuple[float, float] = (0.0, 1.0),
) -> Split:
    """Return the split by position: of each wafer's columns the left fraction for training, the rest for validation.

    `columns` are the fractions of the width between which columns are used at all. Raises `UsageError` if a part is
    narrower than a tile.
    """
    require_number("left_share", left_share, above=0, below=1)
    if not 0 <= columns[0] < columns[1] <= 1:
        raise UsageError(f"`columns` must be two fractions of the width, rising from 0 to 1 at most; got {columns}.")
    left: list[Tile] = []
    right: list[Tile] = []
    for wafer in wafers:
        first, end = (round(fraction * wafer.width) for fraction in columns)
        border = first + round(left_share * (end - first))
        require_regions(border - first, end - border, tiling.tile, wafer.name)
        left += plan_tiles(wafer, tiling, columns=(first, border))
        right += plan_tiles(wafer, tiling, columns=(border, end))
    return Split("region", tuple(left), tuple(right))


def require_regions(left: int, right: int, tile: int, what: str) -> None:
    """Raise `UsageError` if one of a wafer's two regions, `left` and `right` columns wide, is narrower than a tile."""
    if min(left, right) < tile:
        raise UsageError(
            f"each region must be at least a tile wide; {what} gives {left} and {right} px for tiles of {tile}. "
            "Use smaller tiles or a fraction nearer to 0.5."
        )


def split_wafers(tiles: Sequence[Tile], *, validation_wafers: Iterable[str]) -> Split:
    """Return the split by wafer: all tiles of `validation_wafers` for validation, all others for training."""
    held_out = set(validation_wafers)
    unknown = sorted(held_out - {tile.wafer for tile in tiles})
    if unknown:
        raise UsageError(f"`validation_wafers` must name wafers that have tiles; got {', '.join(unknown)}.")
    train = tuple(tile for tile in tiles if tile.wafer not in held_out)
    return Split("wafer", train, tuple(tile for tile in tiles if tile.wafer in held_out))


def thin(split: Split, *, n_train: int, n_validation: int, seed: int) -> Split:
    """Return exactly `n_train` and `n_validation` of the tiles, drawn at random, in their old order."""
    rng = np.random.default_rng(seed)
    sides = []
    for which, tiles, wanted in ((TRAIN, split.train, n_train), (VALIDATION, split.validation, n_validation)):
        if wanted > len(tiles):
            raise UsageError(
                f"split {split.name!r} has {len(tiles)} tiles for {which}, {wanted} were requested. "
                "Make more wafers or ask for fewer tiles."
            )
        sides.append(tuple(tiles[place] for place in np.sort(rng.permutation(len(tiles))[:wanted])))
    return Split(split.name, sides[0], sides[1])


def pixel_leak(train: Sequence[TilePlace], validation: Sequence[TilePlace]) -> PixelLeak:
    """Return for each validation tile the fraction of its pixels that lie in training tiles of the same wafer."""
    seen: dict[str, list[shapely.Polygon]] = {tile.wafer: [] for tile in validation}
    for tile in train:
        seen.setdefault(tile.wafer, []).append(tile.box)
    trees = {wafer: shapely.STRtree(boxes) for wafer, boxes in seen.items()}
    shares = []
    for tile in validation:
        near = trees[tile.wafer].geometries[trees[tile.wafer].query(tile.box)]
        shares.append(shapely.union_all(shapely.intersection(near, tile.box)).area / tile.box.area)
    return PixelLeak(np.array(shares, dtype=np.float64))
