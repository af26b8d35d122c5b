"""What the notebook `wafer_navigation` needs besides the library: its wafer, a simulated stage, reports, plots, tables.

The wafer is drawn ("synthetic") or real ("magc_wafer"). Of a synthetic one the truth has the outline of what is
visible. Corners are compared on its good sections alone, whose true quad is that of the four sides of the true outline;
the other classes keep their outlines, which have no corners.

The stage is simulated: a person drives to each landmark and reads its place with an error of known size,

    (x, y)_um = s R (x, -y)_px + b + noise,      s: pixel size, R: rotation, noise: normal, independent

so the stage error of a section, how far from its true centre the microscope arrives, can be measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emseg.checks import require_one_of
from emseg.data.registry import cache_root, dataset_path
from emseg.figures import COLOURS, PAGE_WIDTH_IN, add_scale_bar, show_image
from emseg.files import digest_of
from emseg.intervals import Estimate, fraction_estimate, quantile_estimate
from emseg.reported import DisplayTable, text_table
from emseg.runs.session import Run
from emseg.sections import WaferSections
from emseg.synthetic.wafer import WaferDesign, synthesize_wafer
from emseg.wafer import load_magc_wafer
from emseg.wafer.formats.magc import read_magc, side_angle_deg
from emseg.wafer.navigation.finder import SectionFinder, load_finder
from emseg.wafer.navigation.found import FoundSection, FoundWafer, Region
from emseg.wafer.navigation.stage import Landmarks, StageTransform, propagate
from emseg.wafer.navigation.training import PLAN, train_finder
from emseg.wafer.quads import outline_quad
from emseg.wafer.scores import NavigationScores, score_navigation
from emseg.wafer.section_figures import class_colours, draw_outlines

SOURCES = ("synthetic", "magc_wafer")
STAGE_ANGLE_DEG, STAGE_OFFSET_UM = 12.0, (-31_000.0, 24_000.0)  # of the simulated stage
_INSET = 0.08  # of the landmarks of a drawn wafer, from its corners
_ROI = np.array([[0.25, 0.2], [0.25, 0.6], [0.55, 0.6], [0.55, 0.2]])  # along sides 0 and 3, off the middle
_BINS = 6
_OPENED_BY = {
    ".found.json": "emseg: everything, the master of the others",
    ".csv": "spreadsheets: one line for each section",
    ".magc": "SBEMimage, napari-mass",
    ".magfinder.magc": "MagFinder",
    ".mass.json": "napari-mass",
    ".coco.json": "COCO tools, `emseg wafer train`",
    ".geojson": "QuPath, napari",
    ".rois.zip": "Fiji (ROI Manager)",
    ".labelme.json": "labelme",
}

Points = Float64[np.ndarray, "point 2"]


@dataclass(frozen=True, eq=False)
class Wafer:
    """A wafer image with its truth; `landmarks` are (row, column) in pixels."""

    image: UInt8[np.ndarray, "row column"]
    truth: WaferSections
    landmarks: Points
    shapes: str  # which of the found shapes are compared with the truth


def load_wafer(data: str, design: WaferDesign, *, pixel_size_um: float, seed: int) -> Wafer:
    """Return the wafer of the chapter; `design` is of the synthetic one."""
    require_one_of("data", data, SOURCES)
    if data == "magc_wafer":
        image, truth = load_magc_wafer()
        marks = read_magc(dataset_path(data) / "wafer_example1.magc").landmarks
        landmarks = np.array([one.location[1::-1] for one in marks if one.location], dtype=np.float64)
        return Wafer(image, replace(truth, pixel_size_um=pixel_size_um), landmarks, "quads")
    drawn = synthesize_wafer(replace(design, pixel_size_um=pixel_size_um), seed=seed)
    low, high = _INSET, 1 - _INSET
    places = np.array([[low, low], [low, high], [high, high], [high, low]])
    return Wafer(drawn.image, with_quads(drawn.truth), places * drawn.image.shape, "outlines")


def with_quads(truth: WaferSections) -> WaferSections:
    """Return a drawn wafer whose good sections are quads that begin with the side along the section's angle."""
    sections = []
    for one in truth.sections:
        if one.label == "good" and one.angle_deg is not None:
            quad = outline_quad(one.polygon)
            off = [abs((side_angle_deg(quad, side) - one.angle_deg + 180) % 360 - 180) for side in range(4)]
            one = replace(one, polygon=np.roll(quad, -int(np.argmin(off)), axis=0))
        sections.append(one)
    return replace(truth, sections=tuple(sections))


def chapter_finder(weights: str, wafer: Wafer, *, train_steps: int, train_to: float, seed: int) -> SectionFinder:
    """Return the finder in the file `weights`, or one trained on the wafer's left part, or the one that ships.

    A training resumes where it was interrupted, and is not repeated for the same image, columns, steps and seed.
    """
    if weights or not train_steps:
        return load_finder(weights or None)
    key = digest_of(np.ascontiguousarray(wafer.image).tobytes(), f"{train_steps} {train_to} {seed}")[:12]
    out, plan = cache_root() / "wafer_navigation" / key, PLAN.changed(steps=train_steps, seed=seed)
    return train_finder([(wafer.image, wafer.truth)], out, plan=plan, columns=(0.0, train_to)).finder


def report_scores(run: Run, scores: NavigationScores, part: str, where: str) -> None:
    """Record the scores of a part of the wafer as `{part}_...`; what is undefined there is left out."""
    n = len(scores.pairs) + len(scores.missed)
    for name in ("missed", "false", "doubled", "fused"):
        run.metric(f"{part}_{name}", len(getattr(scores, name)), n=max(n, 1), label=f"Sections {name}, {where}")
    report(run, f"{part}_recall", scores.recall, f"Fraction of the true sections found, {where}")
    report(run, f"{part}_precision", scores.precision, f"Fraction of the found sections that are true, {where}")
    report(run, f"{part}_iou", quantile_estimate(scores.errors("iou"), 0.5), f"Median IoU, {where}")
    if len(scores.n_of_class) > 1:
        report(run, f"{part}_right_class", scores.right_class, f"Found sections with the right class, {where}")
    report(run, f"{part}_angles", scores.angles_within(2), f"Angles within 2 degrees, to 360, {where}")
    size = scores.pixel_size_um or 1.0
    for name, (end, q, which) in product(("centre", "corner"), (("", 0.5, "median"), ("_95", 0.95, "95th percentile"))):
        label, errors = f"{which} {name} error, {where}", scores.errors(f"{name}_px")
        report(run, f"{part}_{name}{end}_px", quantile_estimate(errors, q), label, "px")
        report(run, f"{part}_{name}{end}_um", quantile_estimate(errors * size, q), label, "um")


def report(run: Run, name: str, one: Estimate, label: str, unit: str = "1") -> None:
    """Record an estimate with its interval, unless it is undefined."""
    if one.value is not None:
        run.metric(name, one.value, n=one.n, label=label[0].upper() + label[1:], unit=unit, interval=one.interval)


def is_true(wafer: Wafer, found: FoundWafer) -> tuple[Float64[np.ndarray, "section"], Bool[np.ndarray, "section"]]:
    """Return the confidence of all found sections and candidates, and which of them are sections at IoU 0.5."""
    every = replace(found, sections=(*found.sections, *found.candidates), candidates=())
    paired = {one.found for one in score_navigation(wafer.truth, every, shapes=wafer.shapes).pairs}  # type: ignore[arg-type]
    return np.array([one.confidence for one in every.sections]), np.isin(np.arange(len(every.sections)), [*paired])


def plot_calibration(confidence: Float64[np.ndarray, "section"], true: Bool[np.ndarray, "section"]) -> Figure:
    """Return the fraction of true sections over the confidence stated, in bins of equal counts."""
    figure, ax = plt.subplots(figsize=(0.6 * PAGE_WIDTH_IN, 3.4))
    ax.plot([0, 1], [0, 1], color=COLOURS["grey"], lw=1.0, ls="--", label="calibrated")
    for one in np.array_split(np.argsort(confidence), min(_BINS, max(1, len(confidence) // 8))):
        share = fraction_estimate(int(true[one].sum()), len(one))
        if share.value is not None and share.interval is not None:
            ax.plot(confidence[one].mean(), share.value, "o", color=COLOURS["blue"])
            ax.vlines(confidence[one].mean(), *share.interval, color=COLOURS["blue"], lw=1.5)
    ax.set(xlabel="confidence stated", ylabel="fraction that are sections", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(loc="upper left")
    return figure


def calibration_error(confidence: Float64[np.ndarray, "section"], true: Bool[np.ndarray, "section"]) -> float:
    """Return the mean distance of stated confidence and fraction of true ones, over bins of equal counts."""
    bins = np.array_split(np.argsort(confidence), min(_BINS, max(1, len(confidence) // 8)))
    return float(sum(len(one) * abs(confidence[one].mean() - true[one].mean()) for one in bins) / len(true))


def show_part(ax: Axes, image: NDArray[Any], size_um: float | None, *, longest_px: int = 1600) -> None:
    """Draw a wafer image, averaged down where it is large, in its own coordinates."""
    height, width = image.shape
    factor = max(1.0, max(height, width) / longest_px)
    small = cv2.resize(image, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_AREA)
    ax.imshow(small, cmap="gray", extent=(0, width, height, 0), vmin=np.percentile(small, 0.5), vmax=small.max())
    ax.set_axis_off()
    if size_um is not None:
        add_scale_bar(ax, width, 1000 * size_um)


def zoom_in(ax: Axes, found: FoundWafer, side: float, size_um: float) -> None:
    """Show the part, `side` px wide, about the section with the most neighbours."""
    centres = centres_of(found.sections)
    near = [(np.abs(centres - one).max(axis=1) < side / 2).sum() for one in centres]
    row, column = centres[int(np.argmax(near))] if len(centres) else (found.height / 2, found.width / 2)
    row, column = (
        float(np.clip(place, side / 2, max(whole - side / 2, side / 2)))
        for place, whole in ((row, found.height), (column, found.width))
    )
    ax.set(xlim=(column - side / 2, column + side / 2), ylim=(row + side / 2, row - side / 2))
    add_scale_bar(ax, round(side), 1000 * size_um)


def draw_found(ax: Axes, found: FoundWafer, *, width: float = 1.0) -> None:
    """Draw quads by class, a dot at corner 0 of the sections whose direction is known."""
    draw_outlines(ax, [(one.corners, one.label) for one in found.sections], found.class_names, width=width)
    colours = class_colours(found.class_names)
    for one in found.sections:
        if one.angle_deg is not None:
            ax.plot(*one.corners[0][::-1], "o", ms=2.5 * width, color=colours[one.label])


def centres_of(sections: Sequence[FoundSection]) -> Points:
    """Return the mean of each section's corners."""
    return np.array([one.corners.mean(axis=0) for one in sections]).reshape(-1, 2)


def row_path_um(found: FoundWafer, pixel_size_um: float) -> float:
    """Return the length of the path row by row, back and forth, in rows as high as a usual section is long."""
    centres = centres_of(found.sections)
    if len(centres) < 2:
        return 0.0
    height = float(np.median([np.ptp(one.corners, axis=0).max() for one in found.sections]))
    _, rows = np.unique(centres[:, 0] // height, return_inverse=True)
    along = np.where(rows % 2, -centres[:, 1], centres[:, 1])
    steps = np.diff(centres[np.lexsort((along, rows))], axis=0)
    return pixel_size_um * float(np.linalg.norm(steps, axis=1).sum())


def simulated_landmarks(pixels: Points, pixel_size_um: float, sd_um: float, seed: int) -> Landmarks:
    """Return landmarks as read on the simulated stage, each coordinate with an error of `sd_um`."""
    noise = np.random.default_rng(seed).normal(0, sd_um, (len(pixels), 2))
    names = tuple(f"L{number + 1}" for number in range(len(pixels)))
    return Landmarks(names, pixels, true_stage(pixels, pixel_size_um) + noise)


def true_stage(places: Points, pixel_size_um: float) -> Points:
    """Return where (row, column) in pixels truly is on the simulated stage: (x, y) in um."""
    turn = np.deg2rad(STAGE_ANGLE_DEG)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    flipped = places[:, ::-1] * np.array([1.0, -1.0])
    return np.asarray(pixel_size_um * flipped @ rotation.T + STAGE_OFFSET_UM)


def stage_errors(
    wafer: Wafer, found: FoundWafer, scores: NavigationScores, transform: StageTransform, pixel_size_um: float
) -> Float64[np.ndarray, "pair"]:
    """Return how far from its true centre the stage arrives at each found section that has true corners, in um."""
    pairs = [one for one in scores.pairs if one.corner_px is not None]
    true = np.array([wafer.truth.sections[one.true].polygon.mean(axis=0) for one in pairs]).reshape(-1, 2)
    sent = transform.to_stage(centres_of([found.sections[one.found] for one in pairs]))
    return np.asarray(np.linalg.norm(sent - true_stage(true, pixel_size_um), axis=1))


def region_on(quad: Float64[np.ndarray, "4 2"]) -> Region:
    """Return the region that the chapter images, at its place in a true quad."""
    along, across = _ROI.T[:, :, None]
    top, bottom = quad[0] + along * (quad[1] - quad[0]), quad[3] + along * (quad[2] - quad[3])
    return Region("roi", top + across * (bottom - top))


def with_regions(wafer: Wafer, found: FoundWafer, scores: NavigationScores) -> FoundWafer:
    """Return the wafer with the region of its most certain section of known direction and corners on all sections."""
    sections = found.sections
    known = [one for one in scores.pairs if one.corner_px is not None and sections[one.found].angle_deg is not None]
    if not known:
        return found
    best = max(known, key=lambda one: sections[one.found].confidence)
    return propagate(found, [region_on(wafer.truth.sections[best.true].polygon)], best.found)


def region_errors(wafer: Wafer, found: FoundWafer, scores: NavigationScores) -> Float64[np.ndarray, "pair"]:
    """Return how far the centre of each propagated region is from that of the true one, in pixels."""
    ends = [(wafer.truth.sections[one.true].polygon, found.sections[one.found].regions) for one in scores.pairs]
    off = [regions[0].points - region_on(true).points for true, regions in ends if len(true) == 4 and regions]
    return np.asarray(np.linalg.norm(np.array(off).reshape(-1, 4, 2).mean(axis=1), axis=1))


def plot_crops(image: NDArray[Any], sections: Sequence[FoundSection], class_names: Sequence[str]) -> Figure:
    """Return crops of sections with their quads, confidence and first reason."""
    figure, grid = plt.subplots(2, 4, figsize=(PAGE_WIDTH_IN, 4.4))
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, one in zip(grid.flat, sections, strict=False):
        side = 0.75 * float(np.ptp(one.outline, axis=0).max())
        middle = one.outline.mean(axis=0)
        low = np.clip(middle - side, 0, image.shape).astype(int)
        high = np.clip(middle + side, low + 2, image.shape).astype(int)
        show_image(ax, image[low[0] : high[0], low[1] : high[1]])
        draw_outlines(ax, [(one.corners - low, one.label)], class_names, width=1.4)
        reason = one.reasons[0] if one.reasons else "nothing unusual"
        ax.set_title(f"{one.label}, {one.confidence:.2f}\n{reason[:34]}", fontsize=7, loc="left")
    return figure


def files_table(paths: Sequence[Path]) -> DisplayTable:
    """Return the files of a result with the programs that open them."""
    rows = {}
    for path in paths:
        suffix = max((one for one in _OPENED_BY if path.name.endswith(one)), key=len, default="")
        rows[f"file-{path.name}"] = (path.name, _OPENED_BY.get(suffix, ""), f"{path.stat().st_size / 1024:,.0f} KiB")
    return text_table("The files of one result.", ("File", "Opened by", "Size"), rows)


def scores_table(parts: dict[str, NavigationScores]) -> DisplayTable:
    """Return the scores of parts of a wafer, a column for each."""
    tables = {name: scores.table().set_index(["measure", "unit"]) for name, scores in parts.items()}
    keys = dict.fromkeys(key for table in tables.values() for key in table.index)
    rows = {}
    for number, (measure, unit) in enumerate(keys):
        cells = [
            _cell(table.loc[(measure, unit)], unit) if (measure, unit) in table.index else ""
            for table in tables.values()
        ]
        rows[f"score-{number}"] = (measure, *cells)
    return text_table("Scores with 95 % intervals in brackets.", ("Measure", *tables), rows)


def _cell(row: Any, unit: str) -> str:
    if np.isnan(row["value"]):
        return "not defined"
    if unit == "sections":
        return f"{row['value']:.0f}"
    digits = 3 if unit == "1" else 1
    between = "" if np.isnan(row["low"]) else f" ({row['low']:.{digits}f} to {row['high']:.{digits}f})"
    return f"{row['value']:.{digits}f}{between}" + ("" if unit == "1" else f" {unit}")
