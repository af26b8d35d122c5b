"""Detecting the sections of a whole wafer: tiles of any image at the network's scale, streamed, batched, resumable.

    s   section size in the image, in pixels: side of a square of a usual section's area
    k   the same for the network (`SectionFinder.section_size_px`); one pixel of its input is s / k pixels of the image
    tile, overlap   10 k and 2 k pixels of the network's input, so that every section lies whole in at least one tile

Where s is not given, it follows from the pixel size and the section size in micrometres, if the finder knows one, or
from a first pass: sampled tiles at a ladder of scales, of which the one counts at which most confident detections have
the size that the network knows.

Tiles of one grey value are skipped. With a `folder`, the detections of each finished row of tiles are written there;
the same call resumes after the last finished row, and a call that finds all rows needs no network.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from skimage.measure import find_contours

from emseg.checks import changes_between, require_count, require_number
from emseg.errors import InputError, UsageError
from emseg.files import read_json, write_json
from emseg.tiling.grid import TileGrid
from emseg.wafer.detector.soft_masks import SoftDetections, predict_soft
from emseg.wafer.navigation.finder import SectionFinder
from emseg.wafer.navigation.found import Detected
from emseg.wafer.navigation.merge import Seen, merge_detections
from emseg.wafer.wafer_source import WaferImage, open_wafer_image

TILE_SECTIONS, OVERLAP_SECTIONS = 10, 2
LEAST_SCORE = 0.1  # of a detection that can still become a candidate
MARGIN_SECTIONS = 1 / 16  # as near to an inner border a detection counts as cut
MULTIPLE = 32
FLAT = 2  # grey levels that a tile of nothing may span
SIZE_TOLERANCE = 1.5  # factor between expected and measured size from which on a note says so
_BAND_BYTES = 256e6
_STEP, _SMALLEST_PX, _SAMPLED_TILES, _CONFIDENT = 1.5, 8.0, 3, 0.5
ROWS, SETTINGS = "tiles", "settings.json"
_REPAIR = "Free some space or choose another folder; the same call resumes after the last finished row of tiles."


@dataclass(frozen=True, eq=False)
class WaferDetections:
    """The sections that were detected, best first, down to a score of `LEAST_SCORE`, and what a user should know.

    `section_size_px` is the assumed size in the image; `network_seconds` what the network took in this call.
    """

    sections: tuple[Detected, ...]
    section_size_px: float
    notes: tuple[str, ...]
    network_seconds: float = 0.0


def detect_sections(
    finder: SectionFinder,
    image: Any,
    *,
    section_size_px: float | None = None,
    pixel_size_um: float | None = None,
    batch_size: int | None = None,
    folder: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WaferDetections:
    """Return the sections of a wafer image: a file, an array or a `WaferImage`.

    `batch_size` tiles are computed at a time (1 on a CPU, 8 on a GPU). `progress` is called with the number of finished
    tiles and of all. Raises `InputError` for an image of one grey value, and for a `folder` with another search.
    """
    wafer = open_wafer_image(image)
    for name, value in (("section_size_px", section_size_px), ("pixel_size_um", pixel_size_um)):
        if value is not None:
            require_number(name, value, above=0)
    on_cpu = next(finder.model.parameters()).device.type == "cpu"
    batch_size = (1 if on_cpu else 8) if batch_size is None else require_count("batch_size", batch_size)
    asked = {"section_size_px": section_size_px, "pixel_size_um": pixel_size_um}
    store = _Rows(
        folder, {"finder": finder.digest(), "image": wafer.fingerprint, "grey_range": wafer.grey_range, **asked}
    )
    clock = _Clock()
    size, said = store.kept("size") or _section_size(finder, wafer, section_size_px, pixel_size_um, clock)
    store.keep("size", (size, said))
    grid, level, scale = plan_tiles(wafer, finder.section_size_px, size)
    margin = MARGIN_SECTIONS * size
    seen: list[Seen] = []
    n_columns, looked, capped = len(grid.columns), 0, 0
    for row in range(len(grid.rows)):
        found = store.kept(f"row{row:04}")
        if found is None:
            found = _row_of_tiles(finder, wafer, grid, level, row, scale, margin, batch_size, clock)
            store.keep(f"row{row:04}", found)
        looked, capped = looked + found["looked"], capped + found["capped"]
        seen += [Seen(np.array(outline), *rest) for outline, *rest in found["seen"]]
        if progress is not None:
            progress((row + 1) * n_columns, grid.n_tiles)
    if not looked:
        raise InputError(f"a wafer image must show something; {wafer.name} has one grey value. Check the file.")
    sections = merge_detections(seen, _tile_sides(grid, scale), margin)
    notes = (*wafer.notes, *said, *_notes(sections, size, capped))
    return WaferDetections(tuple(sections), float(size), notes, clock.seconds)


def plan_tiles(wafer: WaferImage, known_px: float, size_px: float) -> tuple[TileGrid, int, tuple[float, float]]:
    """Return the tiles in pixels of a level, the level, and pixels of the image for one of the level (row, column)."""
    ratio = size_px / known_px  # pixels of the image for one of the network's
    level = 0
    for number in range(1, len(wafer.levels)):
        if wafer.shape[0] / wafer.level_shape(number)[0] <= ratio:
            level = number
    height, width = wafer.level_shape(level)
    scale = (wafer.shape[0] / height, wafer.shape[1] / width)
    section = size_px / max(scale)
    tile, overlap = round(TILE_SECTIONS * section), math.ceil(OVERLAP_SECTIONS * section)
    return TileGrid(height, width, tile=max(tile, overlap + 2), halo=0, overlap=overlap), level, scale


def _row_of_tiles(
    finder: SectionFinder,
    wafer: WaferImage,
    grid: TileGrid,
    level: int,
    row: int,
    scale: tuple[float, float],
    margin: float,
    batch_size: int,
    clock: "_Clock",
) -> dict[str, Any]:
    """Return the detections in a row of tiles as JSON has them: outline, score, label, tile, whole."""
    seen: list[Any] = []
    capped = 0
    n_columns = len(grid.columns)
    sides = _tile_sides(grid, scale)
    tiles = list(_tiles(wafer, grid, level, row, finder.section_size_px))
    for first in range(0, len(tiles), batch_size):
        batch = tiles[first : first + batch_size]
        answers = clock.time(predict_soft, finder.model, [tile for _, tile, _ in batch], least_score=LEAST_SCORE)
        for (column, _, ratio), answer in zip(batch, answers, strict=True):
            number = row * n_columns + column
            origin = np.array([grid.rows[row].origin, grid.columns[column].origin], float)
            capped += answer.capped
            for outline, score, label in outlines_of(answer):
                points = (outline * ratio + origin) * scale
                low, high = points.min(0) - margin, points.max(0) + margin
                whole = bool((low >= sides[number, :2]).all() and (high <= sides[number, 2:]).all())
                seen.append((points.round(3).tolist(), score, finder.class_names[label], number, whole))
    return {"seen": seen, "looked": len(tiles), "capped": capped}


def _tiles(
    wafer: WaferImage, grid: TileGrid, level: int, row: int, known_px: float
) -> Iterator[tuple[int, UInt8[np.ndarray, "height width"], Float64[np.ndarray, "2"]]]:
    """Yield column, pixels at the network's scale, and level pixels for one of them, of each tile that shows something.

    A row of tiles is read at once where that takes little memory: a stored chunk is then decoded once.
    """
    height, width = grid.tile_shape
    top = grid.rows[row].origin
    rows = slice(top, min(top + height, grid.height))
    small = (rows.stop - top) * grid.width * np.dtype(wafer.levels[level].dtype).itemsize < _BAND_BYTES
    band = wafer.read(rows, slice(None), level) if small else None
    zoom = TILE_SECTIONS * known_px / grid.tile
    for column, one in enumerate(grid.columns):
        columns = slice(one.origin, min(one.origin + width, grid.width))
        block = wafer.read(rows, columns, level) if band is None else band[:, columns]
        tile = at_scale(block, zoom)
        if int(tile.max()) - int(tile.min()) > FLAT:
            yield column, tile, np.array(block.shape) / tile.shape


def at_scale(block: UInt8[np.ndarray, "row column"], zoom: float) -> UInt8[np.ndarray, "height width"]:
    """Return a block resized by `zoom`: means of areas where it becomes smaller."""
    height, width = (max(1, round(side * zoom)) for side in block.shape)
    if (height, width) == block.shape:
        return np.ascontiguousarray(block)
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(block), (width, height), interpolation=how))


def outlines_of(found: SoftDetections) -> Iterator[tuple[Float64[np.ndarray, "vertex 2"], float, int]]:
    """Yield outline (row, column) in pixels of the tile, score and class of each detection with a mask.

    The outline is the level 1/2 of the mask's probabilities, interpolated: the longest where there are several.
    """
    for box, score, label, mask in zip(found.boxes, found.scores, found.labels, found.masks, strict=True):
        padded = np.pad(mask, 1)  # beyond the box the probability is 0
        contours: list[Any] = find_contours(padded, 0.5) if padded.max() > 0.5 else []  # type: ignore[no-untyped-call]
        if contours:
            longest = max(contours, key=len)[:-1]
            size = (box[2:] - box[:2]).astype(np.float64)
            yield box[:2] + (longest - 0.5) * (size / mask.shape), float(score), int(label)


def _tile_sides(grid: TileGrid, scale: tuple[float, float]) -> Float64[np.ndarray, "tile 4"]:
    """Return (top, left, bottom, right) of each tile in pixels of the image, infinite at the image's own borders."""
    sides = []
    for axes, length, tile in ((grid.rows, grid.height, grid.tile), (grid.columns, grid.width, grid.tile)):
        first = [-math.inf if one.origin == 0 else one.origin for one in axes]
        last = [math.inf if one.origin + tile >= length else one.origin + tile for one in axes]
        sides.append(list(zip(first, last, strict=True)))
    rows, columns = sides
    boxes = [(top, left, bottom, right) for top, bottom in rows for left, right in columns]
    return np.array(boxes) * (*scale, *scale)


def _section_size(
    finder: SectionFinder, wafer: WaferImage, given: float | None, pixel_size_um: float | None, clock: "_Clock"
) -> tuple[float, tuple[str, ...]]:
    """Return the section size in pixels of the image, and a note about it."""
    if given is not None:
        size = float(given)
    elif pixel_size_um is not None and finder.section_size_um is not None:
        size = finder.section_size_um / pixel_size_um
        note = f"Sections of {finder.section_size_um:g} um were assumed to be {size:.0f} px wide."
        return _possible(size, wafer), (note,)
    else:
        measured = estimate_section_size(finder, wafer, clock.time)
        if measured is None:
            size = min(finder.section_size_px, min(wafer.shape) / 2)
            return size, (
                f"No section was recognized at any scale in a first pass; {size:.0f} px was assumed. "
                "Give --section-size-px if sections are larger or smaller.",
            )
        return measured, (f"Sections are about {measured:.0f} px wide, as estimated in a first pass.",)
    return _possible(size, wafer), ()


def _possible(size: float, wafer: WaferImage) -> float:
    if not 4 <= size <= max(wafer.shape):
        raise UsageError(
            f"sections must be at least 4 px wide and fit into the image; got {size:.4g} px for "
            f"{wafer.shape[0]} x {wafer.shape[1]} px. Check --section-size-px and --pixel-size-um."
        )
    return float(size)


def estimate_section_size(
    finder: SectionFinder, wafer: WaferImage, call: Callable[..., Any] | None = None
) -> float | None:
    """Return the section size in pixels of the image; None where no scale shows confident detections.

    At each size of the ladder the most varied of sampled tiles are looked at. A scale's weight is the summed score of
    its confident detections whose size is within a factor 1.5 of the network's, in at most three tiles; the
    best scale's median detection gives the size, refined at that size.
    """
    known = finder.section_size_px
    n_sizes = 1 + max(0, math.floor(math.log(min(wafer.shape) / 2 / _SMALLEST_PX, _STEP)))
    best_share, best = 0.0, None
    for size in [_SMALLEST_PX * _STEP**k for k in range(n_sizes)]:
        share, measured = _measure(finder, wafer, size, known, call)
        if measured is not None and share > best_share:
            best_share, best = share, measured
    if best is not None:
        best = _measure(finder, wafer, best, known, call)[1] or best
    return best


def _measure(
    finder: SectionFinder, wafer: WaferImage, size: float, known: float, call: Callable[..., Any] | None
) -> tuple[float, float | None]:
    """Return the summed score of detections of the known size in sampled tiles, and their size in the image."""
    grid, level, _ = plan_tiles(wafer, known, size)
    rows, columns = ([(one.origin, grid.tile) for one in axis] for axis in (grid.rows, grid.columns))
    zoom = TILE_SECTIONS * known / grid.tile
    tiles = []
    for top, height in rows[:: max(1, len(rows) // 4)]:
        for left, width in columns[:: max(1, len(columns) // 4)]:
            block = wafer.read(slice(top, top + height), slice(left, left + width), level)
            tiles.append(at_scale(block, zoom))
    tiles = sorted(tiles, key=lambda tile: -float(tile.std()))[:_SAMPLED_TILES]
    sides, weight = [], 0.0
    for tile in tiles:
        (answer,) = (call or (lambda function, *a, **k: function(*a, **k)))(
            predict_soft, finder.model, [tile], least_score=_CONFIDENT
        )
        for outline, score, _ in outlines_of(answer):
            side = math.sqrt(abs(_area(outline)))
            if known / _STEP <= side <= known * _STEP:
                sides.append(side)
                weight += score
    return weight, float(np.median(sides)) / known * size if len(sides) >= 2 else None


def _area(outline: Float64[np.ndarray, "vertex 2"]) -> float:
    rows, columns = outline.T
    return float(0.5 * (rows * np.roll(columns, -1) - columns * np.roll(rows, -1)).sum())


def _notes(sections: list[Detected], size: float, capped: int) -> Iterator[str]:
    if capped:
        yield (
            f"In {capped} tiles the network's limit of detections was reached, so that sections may be missing there; "
            "are sections smaller than assumed?"
        )
    sides = [math.sqrt(abs(_area(one.outline))) for one in sections if one.score >= _CONFIDENT]
    if sides:
        measured = float(np.median(sides))
        if not 1 / SIZE_TOLERANCE <= measured / size <= SIZE_TOLERANCE:
            yield (
                f"What was found measures {measured:.0f} px, but sections of {size:.0f} px were assumed: check the "
                f"pixel size, or search again with --section-size-px {measured:.0f}."
            )


class _Clock:
    """Adds up the seconds of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            self.seconds += time.perf_counter() - started


class _Rows:
    """Finished parts of one search as JSON files in a folder; without a folder nothing is kept."""

    def __init__(self, folder: str | Path | None, settings: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder) / ROWS
        if self.folder is None:
            return
        path, now = self.folder / SETTINGS, _as_json(settings)
        if path.is_file():
            if changes := changes_between(read_json(path), now):
                raise InputError(
                    f"{folder} contains another search: {'; '.join(changes)}. Choose another, or remove this one."
                )
        else:
            write_json(path, now, repair=_REPAIR)

    def kept(self, name: str) -> Any:
        """Return a finished part, None where it is not finished."""
        path = None if self.folder is None else self.folder / f"{name}.json"
        return read_json(path) if path is not None and path.is_file() else None

    def keep(self, name: str, value: Any) -> None:
        """Write a finished part."""
        if self.folder is not None and not (path := self.folder / f"{name}.json").is_file():
            write_json(path, value, repair=_REPAIR)


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
