"""The scores of a trained finder on its validation set, and the calibration of its confidence.

Of wafers, the validation set is the right part of the columns, searched as one image as `find_sections` does, so that
scores and calibration are those of merged detections; of a COCO folder it is the tiles, one by one. Detections of score
0.5 or more are paired with sections at IoU 0.5, whatever their classes.

    found, missed   sections with and without a detection; in a folder, a section on two tiles counts twice
    false           detections without a section

Source of the calibration: Platt (1999), with his targets (N + 1) / (N + 2) and 1 / (N + 2), so that a validation set
without errors does not give certainty.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float64, UInt8
from scipy import optimize

from emseg.sections import WaferSections
from emseg.wafer.annotated_wafer import Wafer
from emseg.wafer.navigation.detect import detect_sections
from emseg.wafer.navigation.finder import Calibration, SectionFinder, logit
from emseg.wafer.navigation.found import Detected, FoundSection, FoundWafer
from emseg.wafer.scores import (
    NavigationScores,
    pair_up,
    read_detections,
    read_truth,
    score_detections,
    score_navigation,
)
from emseg.wafer.scores.coco_masks import without_classes

SCORE = IOU = 0.5
CONTEXT_SECTIONS = 1.5  # columns before the validation set that are searched too, so that its border cuts no section
LEAST_VISIBLE = 0.2  # fraction of a section in a part of a wafer from which on it counts there
Scored = tuple[Float64[np.ndarray, " detection"], Bool[np.ndarray, " detection"]]


def validate_on_wafers(
    finder: SectionFinder, wafers: Sequence[Wafer], first: float, end: float
) -> tuple[dict[str, Any], Scored]:
    """Return the counts of the sections between two fractions of the columns, and all detections' scores and truth."""
    counts, scored = dict.fromkeys(("n_sections", "found", "missed", "false"), 0), []
    for wafer in wafers:
        image, truth, border = _columns(wafer, first, end, round(CONTEXT_SECTIONS * finder.section_size_px))
        seen = detect_sections(finder, image, section_size_px=finder.section_size_px).sections
        every = _paired(truth, seen, border)
        scored += [(seen[pair.found].score, True) for pair in every.pairs]
        scored += [(seen[place].score, False) for place in every.false]
        sure = _paired(truth, [one for one in seen if one.score >= SCORE], border)
        counted = (len(sure.pairs) + len(sure.missed), len(sure.pairs), len(sure.missed), len(sure.false))
        counts = {name: counts[name] + n for name, n in zip(counts, counted, strict=True)}
    return counts, _as_arrays(scored)


def validate_on_tiles(path: Path, detections: list[dict[str, Any]]) -> tuple[dict[str, Any], Scored]:
    """Return the counts and AP of a COCO file's tiles, and each detection's score with whether it is a section."""
    known = read_truth(path)
    truth, found = without_classes(known, read_detections(detections, known))
    n_images = len(truth.image_ids)
    sure, every = (pair_up(truth.regions, found, n_images, iou=IOU, score=score) for score in (SCORE, 0.0))
    ap = score_detections(path, detections, n_resamples=0, class_agnostic=True).overall
    counts = {
        "n_tiles": n_images,
        "n_sections": sum(not region.is_crowd for region in truth.regions),
        "found": sum(pair.detection is not None and pair.region is not None for pair in sure),
        "missed": sum(pair.detection is None for pair in sure),
        "false": sum(pair.region is None for pair in sure),
        **{name: ap[name].value for name in ("ap", "ap50", "ap75")},
    }
    scored = [(pair.detection.score, pair.region is not None) for pair in every if pair.detection]
    return counts, _as_arrays(scored)


def fit_calibration(
    scores: Float64[np.ndarray, "detection"], is_true: Bool[np.ndarray, "detection"]
) -> Calibration | None:
    """Return the logistic calibration of detections' scores; None without true or false ones, or where it falls."""
    n, n_true = len(scores), int(is_true.sum())
    if n_true in (0, n):
        return None
    wanted = np.where(is_true, (n_true + 1) / (n_true + 2), 1 / (n - n_true + 2))
    x = logit(scores)

    def loss(line: Float64[np.ndarray, "2"]) -> float:
        z = line[0] * x + line[1]
        return float(np.mean(np.logaddexp(0, z) - wanted * z))

    slope, intercept = optimize.minimize(loss, (1.0, 0.0), method="Nelder-Mead").x
    return Calibration(float(slope), float(intercept), n, n_true) if slope > 0 else None


def _columns(
    wafer: Wafer, first: float, end: float, context_px: int
) -> tuple[UInt8[np.ndarray, "row part"], WaferSections, int]:
    """Return a part of a wafer, with columns before it for context, the visible sections, and where the part begins."""
    image, truth = wafer
    border, right = (round(place * image.shape[1]) for place in (first, end))
    left = max(border - context_px, 0)
    sections = []
    for one in truth.sections:
        seen = shapely.intersection(one.shape, shapely.box(0, left, truth.height, right))
        if seen.area >= LEAST_VISIBLE * one.area_px:
            largest = max(shapely.get_parts(seen), key=shapely.area)
            outline = shapely.get_coordinates(largest.exterior)[:-1] - (0, left)
            sections.append(dataclasses.replace(one, polygon=outline, more_parts=()))
    part = dataclasses.replace(truth, width=right - left, sections=tuple(sections))
    return np.ascontiguousarray(image[:, left:right]), part, border - left


def _paired(truth: WaferSections, seen: Sequence[Detected], border: int) -> NavigationScores:
    sections = tuple(FoundSection(one.outline[:4], one.outline, one.label, one.score) for one in seen)
    found = FoundWafer(truth.name, truth.height, truth.width, sections, truth.class_names)
    return score_navigation(truth, found, iou=IOU, region=(border, np.inf), shapes="outlines")


def _as_arrays(scored: Sequence[tuple[float, bool]]) -> Scored:
    return np.array([one for one, _ in scored], np.float64), np.array([one for _, one in scored], np.bool_)
