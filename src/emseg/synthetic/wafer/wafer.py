"""A synthetic wafer image with its truth.

    wafer = synthesize_wafer(WaferDesign(section_length_px=64), seed=1)
    wafer.image, wafer.truth, wafer.label_image()

What is cut (`cutting`), where it comes to lie (`layout`), what of it can be seen (`outline`) and what it looks like
(`look`) are drawn one after the other from separate streams of random numbers; then the picture is painted from the
ground up and photographed field by field (`surroundings`). The result depends on the design and the seed alone.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, UInt8
from skimage.draw import polygon2mask

from emseg.errors import UsageError
from emseg.sections import Section, WaferSections
from emseg.synthetic.wafer import kernels
from emseg.synthetic.wafer.cutting import cut_sections
from emseg.synthetic.wafer.design import WaferDesign
from emseg.synthetic.wafer.layout import lay_sections, lay_strips
from emseg.synthetic.wafer.look import draw_look, draw_stain
from emseg.synthetic.wafer.outline import Visible, visible_sections
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.synthetic.wafer.surroundings import draw_ground, draw_texture, lay_slivers, scatter_dust, take_mosaic

# Raised whenever the same design and seed give another picture.
WAFER_GENERATOR_VERSION = 1


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


def synthesize_wafer(design: WaferDesign, *, seed: int, name: str | None = None) -> SyntheticWafer:
    """Return a wafer of `design`; the same seed gives the same one, bit for bit."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise UsageError(f"`seed` must be a whole number from 0 to 2^63 - 1; got {seed!r}.")
    seed = int(seed)
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
    paint = [kernels.SCN, kernels.ZEBRAFISH][design.tissue == "zebrafish"]
    first_depth, last_depth = np.sort(stains.uniform(0.05, 0.95, 2))
    for one, rng in zip(visible, looks.spawn(len(visible)), strict=True):
        shape = one.placed.shape
        depth = first_depth + (last_depth - first_depth) * one.placed.serial / max(1, n_cut - 1)
        look = draw_look(design, stain, shape, depth, rng)
        look.look[[kernels.LOOK_SHIFT_U, kernels.LOOK_SHIFT_V]] = one.shift
        kernels.paint_section(
            canvas, one.placed.frame, one.box, one.cover, shape.side, look.fold, shape.disc, shape.tear, look.mark,
            look.spot, look.look, look.anatomy, paint, texture,
        )  # fmt: skip
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
        label[low[0] : high[0], low[1] : high[1]][_within(polygon - low, high - low)] = k + 1
    return label


def _within(polygon: Float64[np.ndarray, "vertex 2"], shape: np.ndarray) -> np.ndarray:
    """Return which pixel centres lie within a polygon."""
    mask = polygon2mask((int(shape[0]), int(shape[1])), polygon - 0.5)  # type: ignore[no-untyped-call]
    return np.asarray(mask, dtype=bool)


def _truth(design: WaferDesign, visible: list[Visible], n_cut: int, name: str) -> tuple[WaferSections, tuple[int, ...]]:
    """Return the sections in the order of cutting, numbered without gaps, and the order in which they lie."""
    by_serial = sorted(range(len(visible)), key=lambda k: visible[k].placed.serial)
    rank = {k: serial for serial, k in enumerate(by_serial)}
    sections = tuple(
        Section(
            polygon=visible[k].polygon,
            label=visible[k].placed.shape.quality,
            angle_deg=math.degrees(math.atan2(visible[k].placed.box[3], visible[k].placed.box[2])),
            serial_number=rank[k],
        )
        for k in by_serial
    )
    lost = n_cut - len(visible)
    notes = (f"{lost} of {n_cut} cut sections found no room or were hidden by others; they are not on the wafer.",)
    truth = WaferSections(
        name, design.height, design.width, sections, SECTION_CLASSES, design.pixel_size_um, notes if lost else ()
    )
    return truth, tuple(rank[k] for k in range(len(visible)))
