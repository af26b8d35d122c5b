"""Scores as lines of text: one table for a set of images, one line for an image."""

import math
from collections.abc import Mapping, Sequence

from emseg.membrane.scoring.image_scores import ImageScores
from emseg.membrane.scoring.summary import BestThreshold, Spread

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
_COLUMN = 11


def summary_lines(
    summary: Mapping[str, Spread], best: Mapping[str, BestThreshold], *, tolerance: str, threshold: float
) -> list[str]:
    """Return the table of a set: a line per score with mean, standard deviation, range and number of images."""
    fixed = f"at threshold {threshold:g}" if best else ""
    groups: list[tuple[str, list[tuple[str, Spread]]]] = [
        ("Pixels, strict", _pixels(summary, "")),
        (f"Pixels, within {tolerance}", _pixels(summary, "_tolerant")),
        (f"Cells {fixed}".strip(), [(label, summary[name]) for name, label in _CELLS.items()]),
    ]
    if best:
        rows = [(f"{_CELLS[name]} at threshold {one.threshold:g}", one.spread) for name, one in best.items()]
        groups.append(("Cells at the best threshold, chosen on these images", rows))
    distances = [("ASSD px", summary["assd_px"])]
    if summary["assd_nm"].n:
        distances.append(("ASSD nm", summary["assd_nm"]))
    groups.append(("Surfaces (0 is best)", distances))
    groups.append(
        ("Errors as objects, an image (0 is best)", [(name.replace("_", " "), summary[name]) for name in _COUNTS])
    )
    lines = [f"{'':<32}{'mean':>{_COLUMN}}  {'sd':<{_COLUMN}}{'lowest':>{_COLUMN}}{'highest':>{_COLUMN}}{'images':>8}"]
    for title, rows in groups:
        lines.append(title)
        lines += [_spread_line(label, one) for label, one in rows]
    return lines


def image_heading(name_width: int) -> str:
    """Return the heading of the lines of single images."""
    return f"{'image':<{name_width}}" + "".join(f"{title:>{_COLUMN}}" for title in _IMAGE_COLUMNS.values())


def image_line(name: str, name_width: int, scores: ImageScores) -> str:
    """Return the main scores of one image; F1 for pixels."""
    row = scores.row()
    return f"{name:<{name_width}}" + "".join(f"{_number(name, row[name]):>{_COLUMN}}" for name in _IMAGE_COLUMNS)


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


def _pixels(summary: Mapping[str, Spread], suffix: str) -> list[tuple[str, Spread]]:
    return [
        (f"{name} {label}", summary[f"{name}{suffix}_{score}"])
        for name in ("membrane", "background")
        for score, label in (("f1", "F1"), ("precision", "precision"), ("recall", "recall"))
    ]


def _spread_line(label: str, one: Spread) -> str:
    numbers: Sequence[float] = (one.mean, one.sd, one.lowest, one.highest)
    mean, sd, lowest, highest = (_number(label.replace(" ", "_"), value) for value in numbers)
    deviation = "" if math.isnan(one.sd) else f"± {sd}"
    ends = f"{lowest:>{_COLUMN}}{highest:>{_COLUMN}}"
    return f"  {label:<30}{mean:>{_COLUMN}}  {deviation:<{_COLUMN}}{ends}{one.n:>8}"


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "undefined"
    if name in _COUNTS:
        return f"{value:.0f}" if value == int(value) else f"{value:.1f}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.1f}"
