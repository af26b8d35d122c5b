"""A synthetic wafer image with its truth.

    wafer = synthesize_wafer(WaferDesign(section_length_px=64), seed=1)
    wafer.image, wafer.truth, wafer.label_image()

What is cut and where it comes to lie (`layout`), what of it can be seen and what it looks like (`scenery`) are drawn
one after the other from separate streams of random numbers; then the picture is painted from the ground up and
photographed field by field. The result depends only on the design and the seed.

The truth has the visible outline of each section. From the top down: visible = cover x product over the sections above
of (1 - their cover). Its contour at one half, found between pixels (marching squares), is the polygon: the largest
piece where the section shows in several. A section is taken off the wafer where too little of it can be seen, where
what makes its class is hidden, or where another lies within its outline; so the truth has nothing that cannot be seen.
"""

import hashlib
import math
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from jaxtyping import Float64, Int32, Int64, UInt8
from skimage.draw import polygon2mask

from emseg.checks import require_count
from emseg.sections import Section, WaferSections
from emseg.synthetic.wafer import wafer_kernels as kernels
from emseg.synthetic.wafer.layout import Placed, cut_sections, lay_sections, lay_strips
from emseg.synthetic.wafer.scenery import (
    TISSUE_KINDS,
    cover_section,
    draw_ground,
    draw_look,
    draw_stain,
    draw_texture,
    lay_slivers,
    paint_section,
    pixel_box,
    scatter_dust,
    take_mosaic,
)
from emseg.synthetic.wafer.wafer_design import SECTION_CLASSES, WaferDesign

WAFER_GENERATOR_VERSION = 1  # raised whenever the same design and seed give another picture
SMALLEST_VISIBLE = 0.40  # of what the section covers, in one piece
SMALLEST_SEEN_DEFECT = 0.6
LARGEST_WITHIN = 0.04  # of the outline's area may be covered by others


@dataclass(frozen=True, eq=False)
class SyntheticWafer:
    """The picture of a wafer and what is on it; `laid[k]` is the section, as an index, that was put down k-th."""

    image: UInt8[np.ndarray, "height width"]
    truth: WaferSections
    design: WaferDesign
    seed: int
    laid: tuple[int, ...]

    def label_image(self) -> Int32[np.ndarray, "height width"]:
        """Return 0 on the ground and i + 1 within the outline of section i; a hole belongs to its section."""
        return fill_outlines([section.polygon for section in self.truth.sections], self.image.shape, self.laid)

    def fingerprint(self) -> str:
        """Return a short digest of the picture and its truth."""
        digest = hashlib.sha256(np.ascontiguousarray(self.image).tobytes())
        for section in self.truth.sections:
            digest.update(section.polygon.tobytes() + section.label.encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Visible:
    """A section that can be seen: what it covers of `box` (first row, first column, rows, columns), and its outline."""

    placed: Placed
    box: Int64[np.ndarray, "4"]
    cover: UInt8[np.ndarray, "rows columns"]
    polygon: Float64[np.ndarray, "vertex 2"]
    shift: Float64[np.ndarray, "2"]


def synthesize_wafer(design: WaferDesign, *, seed: int, name: str | None = None) -> SyntheticWafer:
    """Return a wafer of `design`; the same seed gives the same one, bit for bit."""
    seed = require_count("seed", seed, 0, 2**63 - 1)
    stream = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7)]
    cut, lay, stains, looks, ground, dust, camera = stream
    strips = lay_strips(design, lay)
    groups = cut_sections(design, cut)
    n_cut = sum(len(group.shapes) for group in groups)
    placed = lay_sections(design, groups, strips, lay)
    texture = draw_texture(design.section_length_px, ground)
    shifts = stains.uniform(0, 4096, (len(placed), 2))
    visible = visible_sections(placed, shifts, texture, design.section_length_px)

    stain = draw_stain(design, stains)
    canvas = draw_ground(design, strips, stain, texture, ground)
    lay_slivers(canvas, design, stain, [one.placed for one in visible], texture, dust)
    first_depth, last_depth = np.sort(stains.uniform(0.05, 0.95, 2))
    for one, rng in zip(visible, looks.spawn(len(visible)), strict=True):
        depth = first_depth + (last_depth - first_depth) * one.placed.serial / max(1, n_cut - 1)
        look = draw_look(design, stain, one.placed.shape, depth, rng)
        look.look[[kernels.LOOK_SHIFT_U, kernels.LOOK_SHIFT_V]] = one.shift
        paint_section(canvas, one.placed, one.box, one.cover, look, TISSUE_KINDS[design.tissue], texture)
    scatter_dust(canvas, design, dust)
    image = take_mosaic(canvas, design, seed, camera)
    truth, laid = _truth(design, visible, n_cut, name or f"{design.tissue}_{design.background}_{seed}")
    return SyntheticWafer(image, truth, design, seed, laid)


def fill_outlines(
    polygons: list[Float64[np.ndarray, "vertex 2"]], shape: tuple[int, ...], order: tuple[int, ...]
) -> Int32[np.ndarray, "height width"]:
    """Return an image of `shape` with i + 1 within polygon i, filled in `order`: a pixel is within if its centre is."""
    label = np.zeros(shape[:2], dtype=np.int32)
    for k in order:
        polygon = polygons[k]
        low = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(polygon.max(0)).astype(int) + 1, shape[:2])
        if (high <= low).any():
            continue
        within = polygon2mask(tuple(high - low), polygon - low - 0.5)  # type: ignore[no-untyped-call]
        label[low[0] : high[0], low[1] : high[1]][within] = k + 1
    return label


def _truth(design: WaferDesign, visible: list[Visible], n_cut: int, name: str) -> tuple[WaferSections, tuple[int, ...]]:
    """Return the sections in the order of cutting, numbered without gaps, and the order in which they lie."""
    serials = np.argsort(np.argsort([one.placed.serial for one in visible]))
    sections = tuple(
        Section(
            polygon=one.polygon,
            label=one.placed.shape.quality,
            angle_deg=math.degrees(math.atan2(one.placed.box[3], one.placed.box[2])),
            serial_number=rank,
        )
        for rank, one in enumerate(sorted(visible, key=lambda one: one.placed.serial))
    )
    lost = n_cut - len(visible)
    notes = (f"{lost} of {n_cut} cut sections found no room or were hidden by others; they are not on the wafer.",)
    size = (design.height, design.width)
    truth = WaferSections(name, *size, sections, SECTION_CLASSES, design.pixel_size_um, notes if lost else ())
    return truth, tuple(int(serial) for serial in serials)


def visible_sections(
    placed: list[Placed], shifts: Float64[np.ndarray, "section 2"], texture: np.ndarray, length: float
) -> list[Visible]:
    """Return the sections that can be seen, the lowest first."""
    boxes = np.array([pixel_box(one) for one in placed], dtype=np.int64).reshape(-1, 4)
    kept: list[Visible] = []
    kept_boxes = np.zeros((len(placed), 4), dtype=np.int64)
    for k in range(len(placed) - 1, -1, -1):
        one, box = placed[k], boxes[k]
        cover = cover_section(one, box, texture, shifts[k])
        above = np.zeros(cover.shape, dtype=np.float32)
        for m in _touching(box, kept_boxes[: len(kept)]):
            _lay_over(above, box, kept[m])
        polygon = visible_outline(cover, above, box, one, length)
        if polygon is not None:
            kept_boxes[len(kept)] = box
            kept.append(Visible(one, box, cover, polygon, shifts[k]))
    return kept[::-1]


def visible_outline(
    cover: UInt8[np.ndarray, "rows columns"],
    above: np.ndarray,
    box: Int64[np.ndarray, "4"],
    one: Placed,
    length: float,
) -> Float64[np.ndarray, "vertex 2"] | None:
    """Return the outline (row, column) of what is seen of a section, or None where that is too little."""
    covered = cover.astype(np.float32) / 255
    visible = covered * (1 - above)
    if visible.sum() < SMALLEST_VISIBLE * covered.sum() or not _defect_is_seen(one, above, box):
        return None
    largest = _simple(kernels.largest_contour(np.pad(visible, 1), 0.5), max(0.25, 0.0025 * length))
    if largest.area < SMALLEST_VISIBLE * float(covered.sum()):
        return None
    ring = np.asarray(largest.exterior.coords)[:-1] - 0.5  # padded by one pixel; a pixel's centre is at + 0.5
    filled: np.ndarray = np.zeros(cover.shape, dtype=np.uint8)
    cv2.fillPoly(filled, [np.rint(ring[:, ::-1] - 0.5).astype(np.int32)], (1,))
    if float((above * filled).sum()) > LARGEST_WITHIN * largest.area + 2 * math.sqrt(largest.area):
        return None
    return np.ascontiguousarray(ring + box[:2])


def _simple(ring: Float64[np.ndarray, "vertex 2"], tolerance: float) -> shapely.Polygon:
    """Return the polygon with fewer points, off by `tolerance` at most, that does not cross itself."""
    if len(ring) < 4:
        return shapely.Polygon()
    fewer = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)[:, 0].astype(np.float64)
    for points in (fewer, ring):
        if len(points) > 3 and (polygon := shapely.Polygon(points)).is_valid:
            return polygon
    parts = shapely.get_parts(shapely.Polygon(ring).buffer(0))
    return max(parts, key=lambda part: float(part.area))


def _touching(box: Int64[np.ndarray, "4"], others: Int64[np.ndarray, "other 4"]) -> list[int]:
    apart = (others[:, :2] >= box[:2] + box[2:]) | (others[:, :2] + others[:, 2:] <= box[:2])
    return [int(k) for k in np.flatnonzero(~apart.any(axis=1))]


def _lay_over(above: np.ndarray, box: Int64[np.ndarray, "4"], other: Visible) -> None:
    """Add what `other` hides of `box`."""
    low = np.maximum(box[:2], other.box[:2])
    high = np.minimum(box[:2] + box[2:], other.box[:2] + other.box[2:])
    here = above[low[0] - box[0] : high[0] - box[0], low[1] - box[1] : high[1] - box[1]]
    start, stop = low - other.box[:2], high - other.box[:2]
    there = other.cover[start[0] : stop[0], start[1] : stop[1]].astype(np.float32) / 255
    here += (1 - here) * there


def _defect_is_seen(one: Placed, above: np.ndarray, box: Int64[np.ndarray, "4"]) -> bool:
    """Return whether most of the places that make the section's class are free."""
    defect = one.shape.defect
    if not len(defect):
        return True
    y, x, c, s = one.box[:4]
    u, v = (defect - one.shape.middle).T
    rows = np.clip(np.floor(y + c * u - s * v).astype(int) - box[0], 0, above.shape[0] - 1)
    columns = np.clip(np.floor(x + s * u + c * v).astype(int) - box[1], 0, above.shape[1] - 1)
    return float((above[rows, columns] < 0.5).mean()) >= SMALLEST_SEEN_DEFECT
