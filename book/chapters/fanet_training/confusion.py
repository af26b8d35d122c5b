"""Which class is taken for which: counts of sections by what they are and what they were found as.

Detections at or above a score, best first, take the free section with the largest mask IoU, whatever its class
(`detection_scores.pairing`). Each region to find and each detection is counted once:

    counts [class + 1, class + 1]   rows: the classes of the truth, then "nothing there" (detections without a section);
                                    columns: the classes found, then "missed" (sections without a detection)

The last cell is always 0. Crowds do not count.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from emseg.runs.session import Run
from emseg.wafer.scores.coco_masks import DetectionsSource, TruthSource, read_detections, read_truth
from emseg.wafer.scores.failures import pair_up

NOTHING_THERE = "nothing there"
MISSED = "missed"


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Counts of truth (rows) against detections (columns) at one IoU and one score threshold."""

    counts: Int64[np.ndarray, "truth found"]
    class_names: tuple[str, ...]
    iou: float
    score: float

    @property
    def row_names(self) -> tuple[str, ...]:
        """The classes of the truth and "nothing there"."""
        return (*self.class_names, NOTHING_THERE)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The classes found and "missed"."""
        return (*self.class_names, MISSED)

    @property
    def recall(self) -> float:
        """Share of the sections that were found, as whatever class, from 0 to 1."""
        return float(self.counts[:-1, :-1].sum() / self.counts[:-1].sum())

    @property
    def precision(self) -> float | None:
        """Share of the detections that have a section, of whatever class, from 0 to 1; None without detections."""
        n_found = self.counts[:, :-1].sum()
        return float(self.counts[:-1, :-1].sum() / n_found) if n_found else None

    @property
    def sorting_accuracy(self) -> float | None:
        """Share of the sections found that were found as what they are, from 0 to 1; None where none was found."""
        both = self.counts[:-1, :-1]
        return float(np.trace(both) / both.sum()) if both.sum() else None


def confusion_matrix(
    truth: TruthSource, detections: DetectionsSource, *, iou: float = 0.5, score: float = 0.5
) -> ConfusionMatrix:
    """Return how often each class was found as each; raises `InputError` for a truth or detections of no use."""
    known = read_truth(truth)
    found = read_detections(detections, known)
    n_classes = len(known.class_names)
    counts = np.zeros((n_classes + 1, n_classes + 1), dtype=np.int64)
    for pair in pair_up(known.regions, found, len(known.image_ids), iou=iou, score=score):
        row = n_classes if pair.region is None else pair.region.label
        column = n_classes if pair.detection is None else pair.detection.label
        counts[row, column] += 1
    return ConfusionMatrix(counts, known.class_names, iou, score)


def report_confusion(run: Run, matrix: ConfusionMatrix) -> None:
    """Note the shares of sections found, of detections that lie on one and of classes that are right, if defined."""
    n_regions, n_found = int(matrix.counts[:-1].sum()), int(matrix.counts[:, :-1].sum())
    at = f"score {matrix.score:g}, mask IoU {matrix.iou:g}"
    run.metric("recall", matrix.recall, n=n_regions, label=f"Sections found, as whatever class ({at})")
    if matrix.precision is not None:
        run.metric("precision", matrix.precision, n=n_found, label=f"Detections that lie on a section ({at})")
    if matrix.sorting_accuracy is not None:
        n_both = int(matrix.counts[:-1, :-1].sum())
        run.metric(
            "sorting_accuracy", matrix.sorting_accuracy, n=n_both, label=f"Sections found as what they are ({at})"
        )
