"""Cutting a wafer image into overlapping square tiles, and the outlines of its sections with it.

A tile of `tile` pixels a side begins at (row, column) and covers [row, row + tile) x [column, column + tile). Origins
along an axis of `length` pixels are

    0, s, 2 s, ..., length - tile        s = round(tile (1 - overlap))

so every pixel is covered, and the last tile ends at the border, where its overlap may be larger. A section is clipped
to each tile it reaches; the tile shows the fraction `visible` of its area. Below `minimum_visible` its class cannot be
recognized, so it is marked as a crowd, which COCO's score ignores, or dropped. A clip in several pieces stays one
section of several parts.

Source for 1024 px and 10 %: Sun et al. 2021 (FANet), section 4.1. Deviation: the paper does not mention sections cut
off by a tile's border; the minimum of 20 % is ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import shapely
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray
from pydantic import Field

from emseg.checks import Fraction, validated
from emseg.errors import InputError, UsageError
from emseg.sections import WaferSections

_NO_AREA_PX = 1e-6  # what rounding leaves of a clip that only touches the tile


@validated
class Tiling:
    """How a wafer image is cut; `tile` in pixels, `overlap` and `minimum_visible` as fractions."""

    tile: Annotated[int, Field(ge=16)] = 1024
    overlap: float = 0.1
    minimum_visible: Fraction = 0.2
    below_minimum: Literal["crowd", "drop"] = "crowd"
    keep_empty: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 0.9:
            raise UsageError(f"`overlap` must be a fraction from 0 to 0.9; got {self.overlap}. For 10 % give 0.1.")


@dataclass(frozen=True, eq=False)
class TileSection:
    """What a tile shows of section `number` (its index in the wafer's list); `parts` are (row, column) in the tile."""

    number: int
    label: str
    parts: tuple[Float64[np.ndarray, "vertex 2"], ...]
    area_px: float
    visible: float
    crowd: bool


@dataclass(frozen=True)
class TilePlace:
    """The rectangle of a wafer that a tile shows."""

    wafer: str
    row: int
    column: int
    height: int
    width: int

    @property
    def box(self) -> shapely.Polygon:
        """The rectangle, as (row, column)."""
        return shapely.box(self.row, self.column, self.row + self.height, self.column + self.width)


@dataclass(frozen=True, eq=False)
class Tile(TilePlace):
    """A tile: where it lies on which wafer, and the sections that it shows."""

    sections: tuple[TileSection, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the tile's file: the same place of the same wafer always has the same name."""
        return f"{self.wafer}_r{self.row:05d}_c{self.column:05d}.png"

    @property
    def is_empty(self) -> bool:
        """Whether no section counts in this tile; crowds do not count."""
        return all(section.crowd for section in self.sections)

    def pixels(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the tile's pixels of the wafer image, as a view."""
        return image[self.row : self.row + self.height, self.column : self.column + self.width]


def tile_origins(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles begin along an axis of `length` pixels; they cover it, and the last ends at its end."""
    if tile > length:
        raise UsageError(f"a tile must fit into the image; got tile={tile} for {length} px. Use tile={length} or less.")
    step = max(round(tile * (1 - overlap)), 1)
    return [*range(0, length - tile, step), length - tile]


def plan_tiles(sections: WaferSections, tiling: Tiling, *, columns: tuple[int, int] | None = None) -> tuple[Tile, ...]:
    """Return the tiles of a wafer in rows from the top left; `columns` = (first, end) restricts them to that part.

    Raises `InputError` if the wafer has no section and empty tiles are not kept.
    """
    if not sections.sections and not tiling.keep_empty:
        raise InputError(f"{sections.name} has no section, so no tile of it can be used. Annotate it or leave it out.")
    first, end = columns or (0, sections.width)
    side = tiling.tile
    outlines = [section.shape for section in sections.sections]
    tree = shapely.STRtree(outlines)
    tiles = []
    for row in tile_origins(sections.height, side, tiling.overlap):
        for column in (first + start for start in tile_origins(end - first, side, tiling.overlap)):
            reached = np.sort(tree.query(shapely.box(row, column, row + side, column + side)))
            clipped = [_clip(sections, outlines[k], int(k), row, column, tiling) for k in reached]
            shown = tuple(section for section in clipped if section is not None)
            tile = Tile(sections.name, row, column, side, side, shown)
            if tiling.keep_empty or not tile.is_empty:
                tiles.append(tile)
    return tuple(tiles)


def cut_tiles(
    image: UInt8[np.ndarray, "row column"], sections: WaferSections, tiling: Tiling
) -> Iterator[tuple[Tile, UInt8[np.ndarray, "tile tile"]]]:
    """Yield each tile of `plan_tiles` with its pixels, which are views: a memory-mapped image is read as it is cut."""
    require_same_size(image.shape, sections)
    for tile in plan_tiles(sections, tiling):
        yield tile, tile.pixels(image)


def require_same_size(shape: tuple[int, ...], sections: WaferSections) -> None:
    """Raise `InputError` unless an image of this shape has the size that the outlines were drawn on."""
    if shape != (sections.height, sections.width):
        raise InputError(
            f"outlines and image must be of one size; {sections.name} is {sections.height} x {sections.width} px by "
            f"its outlines, the image {' x '.join(map(str, shape))}. Give the image that was annotated."
        )


def _clip(
    sections: WaferSections, outline: shapely.Geometry, number: int, row: int, column: int, tiling: Tiling
) -> TileSection | None:
    """What a tile at (row, column) shows of one section; None for nothing."""
    section = sections.sections[number]
    box = shapely.box(row, column, row + tiling.tile, column + tiling.tile)
    if box.contains(outline):  # keeps the vertices and their order as they are
        points, area = list(section.parts), outline.area
    else:
        clipped = shapely.get_parts(outline.intersection(box))
        pieces = [piece for piece in clipped if piece.geom_type == "Polygon" and piece.area > _NO_AREA_PX]
        points = [shapely.get_coordinates(piece.exterior)[:-1] for piece in pieces]
        area = sum(piece.area for piece in pieces)
    visible = min(area / outline.area, 1.0)
    crowd = visible < tiling.minimum_visible
    if not points or (crowd and tiling.below_minimum == "drop"):
        return None
    parts = tuple(part - (row, column) for part in points)
    return TileSection(number, section.label, parts, float(area), float(visible), crowd)
