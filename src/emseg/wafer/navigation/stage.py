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
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.formats.mass_json import read_mass_json
from emseg.wafer.formats.outlines import KINDS, kind_of
from emseg.wafer.navigation.found import FoundSection, FoundWafer, Region

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
    rows: list[dict[str, Any]] = []
    if path.suffix.lower() == ".json":
        for name, mark in (read_mass_json(path).landmarks or {}).items():
            ends = [mark[end].location for end in ("source", "target") if end in mark]
            if len(ends) < 2 or None in ends:
                raise InputError(f"a landmark needs a source and a target; {name} of {path} lacks one. Add it.")
            numbers = [number for end in ends for number in (end or ())[:2]]
            rows.append({"name": name} | dict(zip(_COLUMNS, numbers, strict=True)))
    else:
        with decoding(path, "landmarks", repair="Save it as UTF-8."):
            lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        split = next((mark for mark in (";", "\t") if lines and mark in lines[0]), ",")
        table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=split)]
        if wrong := [row for row in table[1:] if len(row) != len(table[0])]:
            raise InputError(
                f"each line of {path} must have a value for each of its {len(table[0])} columns; that of "
                f"{wrong[0][0]} has {len(wrong[0])}. Write numbers with a decimal point."
            )
        rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
        if lacking := [one for one in ("name", *_COLUMNS[2:]) if not table or one not in table[0]]:
            raise InputError(
                f"{path} must have the columns name, {', '.join(_COLUMNS)}; it lacks {lacking[0]}. Add it."
            )
        if not {*_COLUMNS[:2]} & {*table[0]}:
            if known is None or len(known) != len(rows):
                n_known = 0 if known is None else len(known)
                raise InputError(
                    f"{path} has {len(rows)} landmarks without x_px and y_px, and the wafer has {n_known} landmarks. "
                    "Add the columns x_px and y_px."
                )
            rows = [row | {"x_px": x, "y_px": y} for row, (y, x) in zip(rows, known.tolist(), strict=True)]
    places = np.array([[_number(row, column, path) for column in _COLUMNS] for row in rows]).reshape(-1, 4)
    names = tuple(str(row["name"]) for row in rows)
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"landmarks must have different names; {path} has {twice[0]!r} more than once. Rename one.")
    return Landmarks(names, places[:, 1::-1], places[:, 2:])


def _number(row: dict[str, Any], column: str, path: Path) -> float:
    try:
        if math.isfinite(number := float(row.get(column, ""))):
            return number
    except ValueError:
        pass
    raise InputError(
        f"`{column}` of landmark {row['name']} in {path} must be a finite number; it is {row.get(column, '')!r}. "
        "Write numbers with a decimal point."
    )


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
            listed = ", ".join(names)
            raise InputError(f"landmarks must not be collinear; {listed} are in the {frame}. Add one off that line.")
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
    warnings = []
    if outlier is not None:
        warnings.append(
            f"landmark {names[outlier]} is an outlier, {left_out[outlier]:,.1f} um from where the others put it. "
            "Measure it again, or leave it out."
        )
    if np.linalg.det(matrix[:, :2]) < 0:
        warnings.append(
            "the stage is mirrored against the image, as one with a y axis that points up is. If yours is not, two "
            "landmarks are swapped."
        )
    if pixel_size_um is not None and abs(transform.um_per_px / pixel_size_um - 1) > _MAX_SCALE_ERROR:
        warnings.append(
            f"a pixel is {transform.um_per_px:.4g} um wide by the landmarks and {pixel_size_um:.4g} um by the pixel "
            "size. Check the units of both."
        )
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

    `.magc` and `.mass.json` hold them by section; `section` is its number there, needed if several have regions. In
    GeoJSON and labelme all shapes belong to one section: points, and shapes named focus, are focus points.
    """
    path = Path(path)
    regions: dict[int, list[Region]] = {}
    kind = kind_of(path)
    if kind == "magc":
        magc = read_magc(path)
        drawn = [("roi", one) for one in magc.rois] + [("focus", one) for one in magc.focus]
        for what, one in drawn:
            _add(regions, one.number, what, one.polygon)
    elif kind == "mass":
        for number, held in read_mass_json(path).sections.items():
            for roi in (held.rois or {}).values():
                _add(regions, int(number), "roi", roi.polygon)
            _add(regions, int(number), "focus", [one.location for one in (held.focus or {}).values() if one.location])
    elif kind in ("geojson", "labelme"):
        for name, points in _shapes(read_json(path), kind):
            _add(regions, 0, "focus" if len(points) == 1 or "focus" in name.lower() else "roi", points)
        section = None
    else:
        raise InputError(f"regions must be in a .magc, .mass.json, GeoJSON or labelme file; {path} is {KINDS[kind]}.")
    if section is None and len(regions) == 1:
        section = next(iter(regions))
    if section is None and regions:
        raise UsageError(f"{path} has regions on {len(regions)} sections. Choose one with `section` (--on).")
    if section not in regions:
        raise InputError(f"{path} has no regions{'' if section is None else f' on section {section}'}. Draw some.")
    return tuple(regions[section])


def _add(regions: dict[int, list[Region]], number: int, kind: str, points: Any) -> None:
    if points:
        places = np.array([point[1::-1] for point in points], dtype=np.float64)
        regions.setdefault(number, []).append(Region("focus" if kind == "focus" else "roi", places))


def _shapes(document: Any, kind: str) -> list[tuple[str, list[Any]]]:
    """Name and points (x, y) of each shape of a labelme or GeoJSON file."""
    if kind == "labelme":
        return [(str(one.get("label")), one["points"]) for one in document["shapes"]]
    shapes = []
    for feature in document["features"] if isinstance(document, dict) else document:
        about, shape = feature.get("properties") or {}, shapely.geometry.shape(feature["geometry"])
        points = shape.exterior.coords[:-1] if shape.geom_type == "Polygon" else shapely.get_coordinates(shape).tolist()
        shapes.append((f"{about.get('name')} {about.get('classification')} {shape.geom_type}", list(points)))
    return shapes


def propagate(found: FoundWafer, regions: Sequence[Region], section: int | None = None) -> FoundWafer:
    """Return the wafer with `regions`, drawn on one section, on all sections of known angle.

    They move with the similarity (no mirror) that best maps the corners of their section to those of the other one, so
    they keep their shape. `section` is by default the one in which the first region lies. Sections of unknown angle get
    none, and a note counts them. Raises `InputError` where no section is there.
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
    origin = found.sections[section]
    lost = sum(one.angle_deg is None for one in found.sections) if origin.angle_deg is not None else len(found.sections)
    notes = found.notes + ((f"{lost} sections have no known angle, and so no regions",) if lost else ())
    moved = tuple(replace(one, regions=_moved(regions, origin, one)) for one in found.sections)
    return replace(found, sections=moved, notes=notes)


def _moved(regions: Sequence[Region], origin: FoundSection, to: FoundSection) -> tuple[Region, ...]:
    if to is origin:
        return tuple(regions)
    if None in (origin.angle_deg, to.angle_deg):
        return ()
    turn = np.array([1, 1j])  # a similarity without mirror is a product of complex numbers
    start, end = origin.corners @ turn, to.corners @ turn
    factor = np.vdot(start - start.mean(), end - end.mean()) / np.vdot(start - start.mean(), start - start.mean())
    places = [(one.points @ turn - start.mean()) * factor + end.mean() for one in regions]
    return tuple(replace(one, points=np.column_stack([z.real, z.imag])) for one, z in zip(regions, places, strict=True))


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
