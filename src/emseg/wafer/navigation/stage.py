"""From pixels of the wafer image to micrometres of the stage, by landmarks; regions of one section carried to all.

    (x, y)_um = A (x, y)_px + b        A = s R, R orthogonal (similarity, 4 parameters), or any (affine, 6)

by least squares over three or more landmarks. `kind="auto"` is affine where that fits significantly better: with the
sums of squared residuals Q over n landmarks, F = (Q_similarity - Q_affine) / 2 / (Q_affine / (2 n - 6)), at 1 %. A
stage may be mirrored against the image (its y axis points up, as a rule): both hands are tried.

    swapped pair   exchanging two stage places reduces the residual by 90 %
    outlier        leaving one landmark out reduces it significantly (F test as above, at 1 % over all landmarks)

Landmarks are a CSV file with the columns name, x_px, y_px, x_um, y_um, or a `.mass.json` file with source and target.
Without x_px and y_px, the k-th line belongs to the k-th landmark that the wafer has.
"""

import csv
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import shapely
from jaxtyping import Float64
from scipy.stats import f as f_distribution

from emseg.checks import require_one_of
from emseg.errors import InputError, UsageError
from emseg.files import decoding, read_json
from emseg.sections import as_polygon
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.formats.mass_json import MassShape, read_mass_json, write_mass_json
from emseg.wafer.formats.outlines import KINDS, kind_of
from emseg.wafer.navigation.alignment import moved, rigid
from emseg.wafer.navigation.found import FoundWafer, Region

Points = Float64[np.ndarray, "point 2"]
Kind = Literal["auto", "similarity", "affine"]

_PARAMETERS = {"similarity": 4, "affine": 6}
_LEVEL = 0.01
_FLAT = 0.02  # extent of the landmarks across their line, over that along it
_MAX_SCALE_ERROR = 0.1
_COLUMNS = ("x_px", "y_px", "x_um", "y_um")


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Places that are known in both frames: (row, column) in pixels of the image, (x, y) in um of the stage."""

    names: tuple[str, ...]
    pixels: Points
    stage_um: Points


@dataclass(frozen=True, eq=False)
class StageTransform:
    """What maps pixels to the stage; `matrix` is applied to (x, y, 1) in pixels, `warnings` are sentences for the user.

    `residuals_um` are the landmarks' distances from where the transform puts them. `left_out_um` are those with the
    landmark itself left out of the fit, the error to be expected at a new place; NaN where too few others are left.
    """

    matrix: Float64[np.ndarray, "2 3"]
    kind: str
    landmarks: Landmarks
    residuals_um: Float64[np.ndarray, " point"]
    left_out_um: Float64[np.ndarray, " point"]
    warnings: tuple[str, ...] = ()

    @property
    def um_per_px(self) -> float:
        """Side of a pixel on the stage."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    def to_stage(self, points: Points) -> Points:
        """Return places (row, column) in pixels as (x, y) in micrometres of the stage."""
        return _applied(self.matrix, np.asarray(points, dtype=np.float64).reshape(-1, 2)[:, ::-1])


def read_landmarks(path: str | Path, known: Points | None = None) -> Landmarks:
    """Return the landmarks of a file; `known` are the wafer's own, (row, column) in pixels.

    Raises `InputError` that states the column or the line at fault.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        rows = []
        for name, mark in (read_mass_json(path).landmarks or {}).items():
            ends = [mark[end].location if end in mark else None for end in ("source", "target")]
            rows.append([name, *(number for end in ends for number in (end or ("", ""))[:2])])
        table = pd.DataFrame(rows, columns=["name", *_COLUMNS])
    else:
        with decoding(path, "CSV", repair="Give each line as many values as the first, numbers with a decimal point."):
            text = path.read_text(encoding="utf-8-sig")
            split = next((one for one in ";\t" if one in text.partition("\n")[0]), ",")
            cells = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=split)]
            lines = [line for line in cells if any(line)]
            table = pd.DataFrame(lines[1:], columns=lines[0] if lines else [])
    if known is not None and not {*_COLUMNS[:2]} & {*table} and len(known) == len(table):
        table["x_px"], table["y_px"] = known[:, 1], known[:, 0]
    if lacking := [one for one in ("name", *_COLUMNS) if one not in table]:
        owned = "" if known is None else f" (the wafer has {len(known)} landmarks, the file {len(table)})"
        raise InputError(f"{path} must have the columns name, {', '.join(_COLUMNS)}; it lacks {lacking[0]}{owned}.")
    names = tuple(table["name"].astype(str))
    places = table[[*_COLUMNS]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    for row, column in np.argwhere(~np.isfinite(places))[:1]:
        raise InputError(
            f"`{_COLUMNS[column]}` of landmark {names[row]} in {path} must be a finite number; it is "
            f"{table[_COLUMNS[column]][row]!r}. Write it with a decimal point."
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"landmarks must have different names; {path} has {twice[0]!r} more than once. Rename one.")
    return Landmarks(names, places[:, 1::-1], places[:, 2:])


def add_targets(path: str | Path, landmarks: Landmarks) -> None:
    """Write the landmarks with their stage places to a `.mass.json` file: with both, SBEMimage is calibrated."""
    shapes = [
        [MassShape(location=tuple(point)) for point in of.tolist()]
        for of in (landmarks.pixels[:, ::-1], landmarks.stage_um)
    ]
    marks = {
        str(k): {"source": source, "target": target} for k, (source, target) in enumerate(zip(*shapes, strict=True))
    }
    write_mass_json(read_mass_json(path).model_copy(update={"landmarks": marks}), path)


def fit_stage(landmarks: Landmarks, *, kind: Kind = "auto", pixel_size_um: float | None = None) -> StageTransform:
    """Return the transform that fits the landmarks best.

    Raises `InputError` for fewer than three landmarks, for collinear ones and for a swapped pair; warns of an outlier,
    a mirrored axis, and a scale that differs from `pixel_size_um` by more than 10 %.
    """
    require_one_of("kind", kind, ("auto", *_PARAMETERS))
    names, source, target = landmarks.names, landmarks.pixels[:, ::-1], landmarks.stage_um
    n = len(names)
    if n < 3:
        raise InputError(f"a stage needs at least three landmarks; got {n}. Measure more, far apart from each other.")
    for frame, places in (("image", source), ("stage", target)):
        if _is_flat(places):
            line = f"landmarks must not be collinear; {', '.join(names)} are in the {frame}"
            raise InputError(f"{line}. Add one off that line, or correct one that is far from the others.")
    _refuse_swapped(names, source, target)
    outlier, chosen = _outlier(source, target, "similarity"), "similarity" if kind == "auto" else kind
    if kind == "auto" and outlier is None and n > 3:
        worse, better = (_misfit(source, target, one) for one in _PARAMETERS)
        chosen = "affine" if _is_better(worse, better, 2 * n - 6, _LEVEL) else chosen
    if chosen == "affine" and outlier is None:
        outlier = _outlier(source, target, "affine")
    matrix = _fitted(source, target, chosen)
    left_out = np.full(n, np.nan)
    for place in range(n):
        rest = np.arange(n) != place
        if n > 3 and not _is_flat(source[rest]):
            predicted = _applied(_fitted(source[rest], target[rest], chosen), source[place : place + 1])
            left_out[place] = np.linalg.norm(predicted - target[place])
    residuals = np.linalg.norm(_applied(matrix, source) - target, axis=1)
    transform = StageTransform(matrix, chosen, landmarks, residuals, left_out)
    scale, warnings = transform.um_per_px, []
    if outlier is not None:
        away = f"landmark {names[outlier]} is an outlier, {left_out[outlier]:,.1f} um from where the others put it"
        warnings.append(f"{away}. Measure it again, or leave it out.")
    if np.linalg.det(matrix[:, :2]) < 0:
        mirrored = "the stage is mirrored against the image, as one with a y axis that points up is"
        warnings.append(f"{mirrored}. If yours is not, two landmarks are swapped.")
    if pixel_size_um is not None and abs(scale / pixel_size_um - 1) > _MAX_SCALE_ERROR:
        widths = f"{scale:.4g} um wide by the landmarks and {pixel_size_um:.4g} um by the pixel size"
        warnings.append(f"a pixel is {widths}. Check the units of both.")
    return replace(transform, warnings=tuple(warnings))


def _refuse_swapped(names: Sequence[str], source: Points, target: Points) -> None:
    before = _misfit(source, target, "similarity")
    for one, other in itertools.combinations(range(len(names)), 2):
        swapped = target.copy()
        swapped[[one, other]] = target[[other, one]]
        after = _misfit(source, swapped, "similarity")
        if after < 0.01 * before and before > 1e-4 * np.sum((target - target.mean(0)) ** 2):
            rms = [math.sqrt(misfit / len(names)) for misfit in (before, after)]
            raise InputError(
                f"landmarks {names[one]} and {names[other]} seem to be swapped: the residual is {rms[0]:,.1f} um, and "
                f"{rms[1]:,.1f} um with their stage places exchanged. Exchange them."
            )


def _outlier(source: Points, target: Points, kind: str) -> int | None:
    """Return the landmark without which the others fit significantly better, None if there is none."""
    n = len(source)
    rests = [np.arange(n) != place for place in range(n)]
    freedom = 2 * (n - 1) - _PARAMETERS[kind]
    if n < 4 or freedom < 1 or any(_is_flat(source[rest]) for rest in rests):
        return None
    misfits = [_misfit(source[rest], target[rest], kind) for rest in rests]
    best = int(np.argmin(misfits))
    return best if _is_better(_misfit(source, target, kind), misfits[best], freedom, _LEVEL / n) else None


def _is_better(misfit: float, smaller: float, freedom: int, level: float) -> bool:
    """Whether two more parameters reduce the sum of squared residuals, in um2, significantly."""
    return misfit > 1e-6 and (misfit - smaller) / 2 > smaller / freedom * f_distribution.isf(level, 2, freedom)


def _is_flat(places: Points) -> bool:
    along, across = np.linalg.svd(places - places.mean(0), compute_uv=False)
    return bool(across <= _FLAT * along)


def _misfit(source: Points, target: Points, kind: str) -> float:
    return float(np.sum((_applied(_fitted(source, target, kind), source) - target) ** 2))


def _fitted(source: Points, target: Points, kind: str) -> Float64[np.ndarray, "2 3"]:
    """Return the least-squares transform; a similarity of either hand (orthogonal Procrustes)."""
    middle, to = source.mean(0), target.mean(0)
    centered, wanted = source - middle, target - to
    if kind == "affine":
        linear = np.linalg.lstsq(centered, wanted)[0].T
    else:
        u, size, vt = np.linalg.svd(wanted.T @ centered)
        linear = size.sum() / np.sum(centered**2) * (u @ vt)
    return np.column_stack([linear, to - linear @ middle])


def _applied(matrix: Float64[np.ndarray, "2 3"], points: Points) -> Points:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def read_regions(path: str | Path, section: int | None = None) -> tuple[Region, ...]:
    """Return the regions drawn on one section, (row, column) in pixels of the wafer image.

    `.magc` and `.mass.json` contain them by section; `section` is its number there, needed if several have regions. In
    GeoJSON and labelme all shapes belong to one section: points, and shapes named focus, are focus points.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "magc":
        magc = read_magc(path)
        drawn = [("roi", one.number, one.polygon) for one in magc.rois]
        drawn += [("focus", one.number, one.polygon) for one in magc.focus]
    elif kind == "mass":
        held = [(int(number), one) for number, one in read_mass_json(path).sections.items()]
        drawn = [("roi", number, roi.polygon) for number, one in held for roi in (one.rois or {}).values()]
        points = ((number, [point.location for point in (one.focus or {}).values()]) for number, one in held)
        drawn += [("focus", number, tuple(filter(None, of_section))) for number, of_section in points]
    elif kind in ("geojson", "labelme"):
        with decoding(path, kind):
            drawn = [(what, section or 0, points) for what, points in _shapes(read_json(path))]
    else:
        raise InputError(f"regions must be in a .magc, .mass.json, GeoJSON or labelme file; {path} is {KINDS[kind]}.")
    numbers = {number for _, number, polygon in drawn if polygon}
    if section is None and len(numbers) > 1:
        raise UsageError(f"{path} has regions on {len(numbers)} sections. Choose one with `section` (--on).")
    if not numbers or (section is not None and section not in numbers):
        raise InputError(f"{path} has no regions{'' if section is None else f' on section {section}'}. Draw some.")
    chosen = numbers if section is None else {section}
    return tuple(
        Region("focus" if what == "focus" else "roi", np.array([point[1::-1] for point in polygon], dtype=np.float64))
        for what, number, polygon in drawn
        if number in chosen and polygon
    )


def _shapes(document: Any) -> list[tuple[str, Any]]:
    """Kind and points (x, y) of each shape of a labelme or GeoJSON file."""
    if "shapes" in document:
        named = [(str(one["label"]), one["points"]) for one in document["shapes"]]
    else:
        features = document["features"] if isinstance(document, dict) else document
        pairs = [(str(one.get("properties")), shapely.geometry.shape(one["geometry"])) for one in features]
        named = [(about, as_polygon(shapely.get_coordinates(shape)).tolist()) for about, shape in pairs]
    return [("focus" if len(points) == 1 or "focus" in about.lower() else "roi", points) for about, points in named]


def propagate(found: FoundWafer, regions: Sequence[Region], section: int | None = None) -> FoundWafer:
    """Return the wafer with `regions`, drawn on one section, on all sections of known angle.

    They rotate and shift with the corners of the sections. `section` is by default the one in which the first region
    lies. Sections of unknown angle get none, and a note counts them. Raises `InputError` where no section is there.
    """
    if section is None:
        place = shapely.Point(regions[0].points.mean(0))
        inside = [k for k, one in enumerate(found.sections) if shapely.Polygon(one.corners).contains(place)]
        if not inside:
            raise InputError(
                f"regions must lie on a section; {found.name} has none at row, column {place.x:.0f}, {place.y:.0f}."
            )
        section = inside[0]
    if not 0 <= section < len(found.sections):
        raise UsageError(f"`section` must be from 0 to {len(found.sections) - 1}; got {section}.")
    origin, lost, sections = found.sections[section], 0, []
    for place, one in enumerate(found.sections):
        frame = None if None in (origin.angle_deg, one.angle_deg) else rigid(origin.corners, one.corners)
        lost += frame is None and place != section
        carried = [] if frame is None else [replace(region, points=moved(frame, region.points)) for region in regions]
        sections.append(replace(one, regions=tuple(regions if place == section else carried)))
    note = f"{lost} sections have no known angle, and so no regions"
    return replace(found, sections=tuple(sections), notes=found.notes + ((note,) if lost else ()))


def stage_tables(
    found: FoundWafer, transform: StageTransform, classes: Sequence[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the sections of these classes in the order of the stage, and the points of their regions, in um.

    `angle_deg` is the direction of the side from corner 0 to corner 1 on the stage: 0 along x, 90 along y.
    """
    serial = {number: place for place, number in enumerate(found.serial_order or ())}
    sections: list[tuple[object, ...]] = []
    points = []
    for number in found.stage_order or range(len(found.sections)):
        one = found.sections[number]
        if classes is not None and one.label not in classes:
            continue
        corners = transform.to_stage(one.corners)
        side = corners[1] - corners[0]
        angle = None if one.angle_deg is None else math.degrees(math.atan2(side[1], side[0]))
        places = np.vstack([corners.mean(0), corners]).ravel().round(3)
        sections.append((number, one.label, len(sections), serial.get(number), angle and round(angle, 3), *places))
        for place, region in enumerate(one.regions):
            for k, (x, y) in enumerate(transform.to_stage(region.points)):
                points.append((number, place, region.kind, k, x, y))
    names = [f"{of}{axis}_um" for of in ("", *(f"corner{k}_" for k in range(4))) for axis in "xy"]
    columns = ["section", "class", "stage_place", "serial_place", "angle_deg", *names]
    of_points = ["section", "region", "kind", "point", "x_um", "y_um"]
    return pd.DataFrame(sections, columns=columns, dtype=object), pd.DataFrame(points, columns=of_points).round(3)
