"""Scores as a table for the page: all classes together, then each by itself, for every part of the data."""

from collections.abc import Mapping

from emseg.reported import Reported
from emseg.reported.display import DisplayTable, Shown
from emseg.wafer.scores.detection_scores import METRIC_LABELS, METRICS, DetectionScores, Score

NO_SCORE = "none such"


def scores_table(scores: Mapping[str, DetectionScores], paper: Mapping[str, Reported] | None = None) -> DisplayTable:
    """Return COCO's six scores of each part of the data with their intervals, and the paper's row last where given."""
    rows, ids = [], []
    for part, found in scores.items():
        rows.append((part, "all", str(found.n_regions), *(_text(found.overall[metric]) for metric in METRICS)))
        ids.append(f"scores-{part}-all")
        for name, own in found.by_class.items() if len(found.class_names) > 1 else ():
            rows.append((part, name, str(own["ap"].n_regions), *(_text(own[metric]) for metric in METRICS)))
            ids.append(f"scores-{part}-{name}")
    if paper:
        rows.append(("the paper, its data", "all", "", *(paper[metric].printed for metric in METRICS)))
        ids.append("scores-paper")
    n_images = ", ".join(f"{found.n_images} {part}" for part, found in scores.items())
    return DisplayTable(
        caption=f"Mask AP in %, with 95 % bootstrap intervals over tiles ({n_images}). Sections: how many are "
        "to be found.",
        header=("Tiles", "Class", "Sections", *METRIC_LABELS.values()),
        rows=tuple(tuple(Shown(cell) for cell in row) for row in rows),
        css_class="emseg-metrics",
        row_ids=tuple(ids),
    )


def _text(score: Score) -> str:
    if score.value is None:
        return NO_SCORE
    interval = "" if score.interval is None else f" ({score.interval[0]:.0f} to {score.interval[1]:.0f})"
    return f"{score.value:.1f}{interval}"
