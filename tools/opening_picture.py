"""Draw the five panels of the first page from the library's own generators: wafer, section, image, membrane, neuron.

    python tools/opening_picture.py [FOLDER]      # book/_static/opening/*.webp, 360 x 360 px each

The panels are committed, so that a build of the book needs no generator; a test draws them again and compares. Labels
are text of the page, not of the panels, so that they follow the colour scheme; scale bars are drawn in.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from emseg.figures import COLOURS, show_image, style
from emseg.synthetic.tissue import ISBI_IMAGING, ISBI_LIKE, Micrograph, synthesize_tissue
from emseg.synthetic.wafer import WaferDesign, synthesize_wafer

FOLDER = Path(__file__).parents[1] / "book" / "_static" / "opening"
SIDE_PX, DPI = 360, 120
SEED = 3
PIXEL_NM, FIELD_PX = 5.0, 480  # the field that the microscope images
N_SLICES, HEIGHT_PX = 90, 325  # of the neuron, each one section further into the tissue


def wafer(ax: Axes) -> None:
    """A wafer with every section outlined, one of them in a box."""
    made = synthesize_wafer(WaferDesign(height=640, width=640, section_length_px=72, pixel_size_um=14.0), seed=SEED)
    show_image(ax, made.image, 14_000.0)
    outlines = [section.polygon for section in made.truth.sections]
    for outline in outlines:
        ax.add_patch(Polygon(outline[:, ::-1], fill=False, edgecolor=COLOURS["orange"], linewidth=1.0))
    centres = np.array([outline.mean(axis=0) for outline in outlines])
    gaps = np.linalg.norm(centres[:, None] - centres, axis=2) + 1e9 * np.eye(len(centres))
    gaps[np.any(np.abs(centres - 320) > 240, axis=1)] = 0.0  # too close to the border
    _box(ax, centres[gaps.min(axis=1).argmax()], 96)


def section(ax: Axes) -> None:
    """One section, outlined, with the field to image in a box."""
    design = WaferDesign(height=640, width=640, section_length_px=300, n_sections=1, dust=0.5, pixel_size_um=3.0)
    made = synthesize_wafer(design, seed=SEED + 1)
    (found,) = made.truth.sections
    half = 210
    row, column = np.clip(found.polygon.mean(axis=0).round().astype(int), half, 640 - half)
    show_image(ax, made.image[row - half : row + half, column - half : column + half], 3_000.0)
    outline = found.polygon - [row - half, column - half]
    ax.add_patch(Polygon(outline[:, ::-1], fill=False, edgecolor=COLOURS["orange"], linewidth=2.0))
    _box(ax, outline.mean(axis=0) + np.array([70.0, 30.0]), 26)


def image(ax: Axes) -> None:
    """The micrograph of the field."""
    show_image(ax, tissue().image, PIXEL_NM)


def membrane(ax: Axes) -> None:
    """Its membranes, over the micrograph."""
    made = tissue()
    shown = np.repeat(made.image[..., None].astype(float) * 0.35 + 165, 3, axis=2)
    shown[made.membrane] = np.array([int(COLOURS["blue"][i : i + 2], 16) for i in (1, 3, 5)])
    ax.imshow(shown.astype(np.uint8))


def neuron(ax: Axes) -> None:
    """One cell, followed through a stack of sections; the upper sections are drawn by deforming the lowest."""
    made = tissue()
    label = made.cells
    areas = np.bincount(label.ravel())
    inner = np.unique(label[80:-80, 80:-80])
    borders = np.unique(np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]]))
    cell = max(set(inner) - set(borders) - {0}, key=lambda one: areas[one])
    outline = max(find_contours(np.pad(label == cell, 1), 0.5), key=len)[:, ::-1] - 1
    centre = outline.mean(axis=0)
    rise = np.linspace(0, 1, N_SLICES)
    tilt = Affine2D().scale(1, 0.45).skew_deg(-22, 0)
    ax.imshow(made.image, cmap="gray", transform=tilt + ax.transData, alpha=0.9)
    frame = np.array([[0, 0], [FIELD_PX, 0], [FIELD_PX, FIELD_PX], [0, FIELD_PX]], dtype=float)
    for number, z in enumerate(rise):
        drift = np.array([95 * np.sin(4.2 * z), 70 * np.sin(2.9 * z + 0.3) - 20])
        angle = np.arctan2(*(outline - centre).T)
        width = 1 - 0.35 * z + 0.16 * np.sin(3 * angle + 5 * z)[:, None] * z
        place = tilt.transform(centre + drift + (outline - centre) * width) - [0, HEIGHT_PX * z]
        if number in (30, 60, N_SLICES - 1):
            corners = tilt.transform(frame) - [0, HEIGHT_PX * z]
            ax.add_patch(Polygon(corners, facecolor="#FFFFFF30", edgecolor=COLOURS["grey"], linewidth=0.8))
        light = 0.55 + 0.45 * z
        colour = tuple(light * int(COLOURS["blue"][i : i + 2], 16) / 255 + (1 - light) * 0.08 for i in (1, 3, 5))
        edge = "white" if number == N_SLICES - 1 else colour
        ax.add_patch(Polygon(place, facecolor=colour, edgecolor=edge, linewidth=0.6))
    corners = tilt.transform(frame)
    ax.set_xlim(corners[:, 0].min() - 10, corners[:, 0].max() + 10)
    width = np.ptp(ax.get_xlim())
    bottom = corners[:, 1].max() + 15
    ax.set_ylim(bottom, bottom - width)
    ax.set_facecolor("white")


PANELS: dict[str, Callable[[Axes], None]] = {
    "wafer": wafer,
    "section": section,
    "image": image,
    "membrane": membrane,
    "neuron": neuron,
}


def tissue() -> Micrograph:
    """Return the micrograph that the last three panels show."""
    return synthesize_tissue(
        (FIELD_PX, FIELD_PX), pixel_size_nm=PIXEL_NM, seed=SEED, tissue=ISBI_LIKE, imaging=ISBI_IMAGING
    )


def draw(name: str) -> Image.Image:
    """Return a panel as a picture."""
    style()
    mpl.rcParams["figure.constrained_layout.use"] = False
    figure = plt.figure(figsize=(SIDE_PX / DPI, SIDE_PX / DPI), dpi=DPI)
    ax = figure.add_axes((0, 0, 1, 1))
    PANELS[name](ax)
    for text in ax.texts:  # panels are shown at less than half their size
        text.set_fontsize(15)
    ax.set_axis_off()
    memory = io.BytesIO()
    figure.savefig(memory, dpi=DPI)
    plt.close(figure)
    return Image.open(memory).convert("RGB")


def main() -> None:
    """Write all panels."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in PANELS:
        draw(name).save(folder / f"{name}.webp", quality=72, method=6)
        print(folder / f"{name}.webp", (folder / f"{name}.webp").stat().st_size)


def _box(ax: Axes, centre: NDArray[np.float64], side: float) -> None:
    corner = (centre[1] - side / 2, centre[0] - side / 2)
    ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=3.2))
    ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=COLOURS["vermilion"], linewidth=2.0))


if __name__ == "__main__":
    main()
