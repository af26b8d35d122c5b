"""Scores of predicted membranes: pixels, cells, surfaces and objects, of single images and of folders."""

from emseg.membrane.scoring.image_scores import (
    ImageScores,
    ScoreSettings,
    best_thresholds,
    compare,
    score_image,
    shifted_pair,
    spread,
    summarize,
)
from emseg.membrane.scoring.pixels import (
    ISBI_THRESHOLDS,
    ClassScores,
    class_scores,
    competition_accepts,
    map_errors,
    membrane_at,
)
from emseg.membrane.scoring.regions import cell_scores, find_patches, label_cells, label_thinned_cells, overlaps

__all__ = [
    "ISBI_THRESHOLDS",
    "ClassScores",
    "ImageScores",
    "ScoreSettings",
    "best_thresholds",
    "cell_scores",
    "class_scores",
    "compare",
    "competition_accepts",
    "find_patches",
    "label_cells",
    "label_thinned_cells",
    "map_errors",
    "membrane_at",
    "overlaps",
    "score_image",
    "shifted_pair",
    "spread",
    "summarize",
]
