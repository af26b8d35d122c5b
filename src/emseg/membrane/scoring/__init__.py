"""Scores of predicted membranes: pixels, cells, surfaces and objects, of single images and of folders."""

from emseg.membrane.scoring.cells import label_cells, label_thinned_cells
from emseg.membrane.scoring.class_scores import ClassScores, class_scores, competition_accepts
from emseg.membrane.scoring.clustering import CellScores, Overlaps, cell_scores, overlaps
from emseg.membrane.scoring.error_map import ErrorMap, map_errors
from emseg.membrane.scoring.image_scores import Comparison, ImageScores, ScoreSettings, compare, score_image
from emseg.membrane.scoring.objects import ErrorObjects, count_error_objects
from emseg.membrane.scoring.shifting import score_shifted, shifted_pair
from emseg.membrane.scoring.summary import BestThreshold, Spread, best_thresholds, spread, summarize
from emseg.membrane.scoring.surface import Surface, average_surface_distance, find_surface
from emseg.membrane.scoring.thresholds import ISBI_THRESHOLDS, membrane_at

__all__ = [
    "ISBI_THRESHOLDS",
    "BestThreshold",
    "CellScores",
    "ClassScores",
    "Comparison",
    "ErrorMap",
    "ErrorObjects",
    "ImageScores",
    "Overlaps",
    "ScoreSettings",
    "Spread",
    "Surface",
    "average_surface_distance",
    "best_thresholds",
    "cell_scores",
    "class_scores",
    "compare",
    "competition_accepts",
    "count_error_objects",
    "find_surface",
    "label_cells",
    "label_thinned_cells",
    "map_errors",
    "membrane_at",
    "overlaps",
    "score_image",
    "score_shifted",
    "shifted_pair",
    "spread",
    "summarize",
]
