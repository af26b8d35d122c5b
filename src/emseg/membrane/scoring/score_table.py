"""Scores as lines of text: one table for a set of images, one line for an image."""

import math
from collections.abc import Mapping

from emseg.membrane.scoring.image_scores import BestThreshold, ImageScores, Spread

_CELLS = {
    "v_rand": "V-Rand",
    "v_rand_split": "  split score",
    "v_rand_merge": "  merge score",
    "v_info": "V-Info",
    "v_info_split": "  split score",
    "v_info_merge": "  merge score",
    "adapted_rand_error": "adapted Rand error (0 is best)",
    "voi_split": "VOI split, bits (0 is best)",
    "voi_merge": "VOI merge, bits (0 is best)",
}
_CLASSES = ("membrane", "background")
_COUNTS = ("missed_stretches", "broken_membranes", "false_stretches", "spurious_membranes")
_IMAGE_COLUMNS = {
    "membrane_f1": "membrane",
    "background_f1": "background",
    "membrane_tolerant_f1": "tolerant",
    "v_rand": "V-Rand",
    "v_info": "V-Info",
    "assd_px": "ASSD px",
    "broken_membranes": "broken",
    "spurious_membranes": "spurious",
}
_WIDTH = 11


def summary_lines(
    summary: Mapping[str, Spread], best: Mapping[str, BestThreshold], *, tolerance: str, threshold: float
) -> list[str]:
    """Return the table of a set: a line per score with mean, standard deviation, range and number of images."""
    scores = {"f1": "F1", "precision": "precision", "recall": "recall"}
    pixels = [(f"{name} {label}", f"{name}%s_{score}") for name in _CLASSES for score, label in scores.items()]
    chosen = [(f"{_CELLS[name]} at threshold {one.threshold:g}", one.spread) for name, one in best.items()]
    surfaces = [("ASSD px", summary["assd_px"]), ("ASSD nm", summary["assd_nm"])]
    tables = {
        "Pixels, strict": [(label, summary[name % ""]) for label, name in pixels],
        f"Pixels, within {tolerance}": [(label, summary[name % "_tolerant"]) for label, name in pixels],
        f"Cells at threshold {threshold:g}" if best else "Cells": [(_CELLS[name], summary[name]) for name in _CELLS],
        "Cells at the best threshold, chosen on these images": chosen,
        "Surfaces (0 is best)": surfaces if summary["assd_nm"].n else surfaces[:1],
        "Errors as objects, an image (0 is best)": [(name.replace("_", " "), summary[name]) for name in _COUNTS],
    }
    lines = [f"{'':<32}{'mean':>{_WIDTH}}  {'sd':<{_WIDTH}}{'lowest':>{_WIDTH}}{'highest':>{_WIDTH}}{'images':>8}"]
    for title, rows in tables.items():
        lines += [title, *(_spread_line(label, one) for label, one in rows)] if rows else []
    return lines


def image_heading(name_width: int) -> str:
    """Return the heading of the lines of single images."""
    return f"{'image':<{name_width}}" + "".join(f"{title:>{_WIDTH}}" for title in _IMAGE_COLUMNS.values())


def image_line(name: str, name_width: int, scores: ImageScores) -> str:
    """Return the main scores of one image; F1 for pixels."""
    row = scores.row()
    return f"{name:<{name_width}}" + "".join(f"{_number(name, row[name]):>{_WIDTH}}" for name in _IMAGE_COLUMNS)


def _spread_line(label: str, one: Spread) -> str:
    name = label.replace(" ", "_")
    mean, sd, lowest, highest = (_number(name, value) for value in (one.mean, one.sd, one.lowest, one.highest))
    deviation = "" if math.isnan(one.sd) else f"± {sd}"
    return f"  {label:<30}{mean:>{_WIDTH}}  {deviation:<{_WIDTH}}{lowest:>{_WIDTH}}{highest:>{_WIDTH}}{one.n:>8}"


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "undefined"
    if name in _COUNTS:
        return f"{value:.0f}" if value == int(value) else f"{value:.1f}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.1f}"
