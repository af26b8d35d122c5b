"""Scores as metrics of a run, and the paper's own row beside them."""

import re

from emseg.errors import UsageError, suggest
from emseg.reported import Reported, load_reported, select_reported
from emseg.runs.session import Run
from emseg.wafer.scores.detection_scores import METRIC_LABELS, METRICS, DetectionScores

CLASS_METRICS = ("ap", "ap50", "ap75")

_DETECTORS = {"mask_rcnn": "Mask R-CNN", "ms_rcnn": "Mask Scoring R-CNN"}
_ATTENTIONS = {"none": "none", "se": "SENet", "fca": "FcaNet", "fanet": "FANet"}
_DEPTHS = (34, 50)


def report_scores(run: Run, scores: DetectionScores, prefix: str = "") -> None:
    """Note the scores in percent: `ap`, `ap50`, ... over all classes, and `ap_good`, ... for each; undefined ones not.

    `n` is the number of images. A `prefix` such as "held_out_" goes before every name and, in words, into the labels.
    """
    words = prefix.replace("_", " ").strip()
    where = f" ({words})" if words else ""
    own = f", drawn by {scores.cluster}" if scores.n_resamples else ""
    named = [(metric, metric, score, "") for metric, score in scores.overall.items()]
    if len(scores.class_names) > 1:
        named += [
            (metric, f"{metric}_{_snake(name)}", scores.by_class[name][metric], f", {name}")
            for name in scores.class_names
            for metric in CLASS_METRICS
        ]
    for metric, name, score, of_class in named:
        if score.value is not None:
            run.metric(
                prefix + name,
                score.value,
                unit="%",
                n=scores.n_images,
                interval=score.interval,
                label=f"Mask {METRIC_LABELS[metric]}{of_class}{where}{own if score.interval else ''}",
            )
    run.metric(f"{prefix}n_regions", scores.n_regions, n=scores.n_images, label=f"Sections to find{where}")


def paper_scores(detector: str, depth: int, attention: str) -> dict[str, Reported]:
    """Return what the paper's Table 2 reports for a cell, by metric ("ap", "ap50", ...), in percent.

    Empty for ECA, which the paper does not have. Raises `UsageError` for a name that this project does not know.
    """
    for value, name, known in (
        (detector, "detector", tuple(_DETECTORS)),
        (depth, "depth", _DEPTHS),
        (attention, "attention", (*_ATTENTIONS, "eca")),
    ):
        if value not in known:
            hint = suggest(str(value), map(str, known))
            raise UsageError(f"`{name}` must be one of {', '.join(map(str, known))}; got {value!r}.{hint}")
    if attention == "eca":
        return {}
    subject = {
        "detector": _DETECTORS[detector],
        "backbone": f"ResNet-{depth}",
        "attention": _ATTENTIONS[attention],
    }
    rows = {}
    for metric in METRICS:
        (rows[metric],) = select_reported(load_reported("fanet"), f"mask_{metric}", **subject)
    return rows


def _snake(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
