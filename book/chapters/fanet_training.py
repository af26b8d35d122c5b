"""What the notebook `fanet_training` needs besides the library: its data, the run, reports and tables.

Data, by name: "synthetic", a preset of synthetic wafers, split as asked; "magc_wafer", the real MagC wafer, one class,
split by region; "folder", a user's COCO folder. Synthetic data also has **fresh** wafers: the preset's validation
wafers drawn again from another seed, held out for a final score and never used for model selection. Where validation
tiles share pixels with training tiles, the score on fresh wafers is what the score on validation should have been.
"""

import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

import emseg.wafer.scores.coco_masks as masks
from emseg.checks import changed, require_one_of
from emseg.data.registry import cache_root
from emseg.errors import UsageError
from emseg.files import digest_of, find_root, read_json, write_atomically
from emseg.images import read_gray
from emseg.reported import DisplayTable, Reported, load_reported, select_reported, text_table
from emseg.runs.session import Run
from emseg.source_code import code_digest
from emseg.synthetic.wafer.benchmark_design import preset as preset_design
from emseg.wafer import Tiling, load_magc_wafer, make_benchmark
from emseg.wafer.detector import PLANS, DetectorDesign, DetectorPlan, TrainedDetector, predict_folder, train_detector
from emseg.wafer.detector.detector_build import build_design
from emseg.wafer.formats import Benchmark, open_benchmark, own_benchmark
from emseg.wafer.scores import METRIC_LABELS, METRICS, DetectionScores, Score, score_detections
from emseg.wafer.scores.failures import pair_up
from emseg.wafer.splits import TRAIN, VALIDATION
from emseg.wafer.wafer_benchmark import benchmark_from_wafers

SOURCES = ("synthetic", "magc_wafer", "folder")
FRESH_SEED = 1_000_003  # added to the seed of the data
FRESH_SPLIT = "wafer"
MAGC_TILING = Tiling(256, 0.25, 0.2)  # a quarter of a tile is as long as a section
SECTION_UM = 1000.0  # what the long side of a usual synthetic section counts as; drawn wafers have no scale
PART_NAMES = {TRAIN: "training", VALIDATION: "validation", "fresh": "held out"}
CLASS_METRICS = ("ap", "ap50", "ap75")
DETECTORS = {"mask_rcnn": "Mask R-CNN", "ms_rcnn": "Mask Scoring R-CNN"}
DEPTHS = (34, 50)
_PAPER_ATTENTIONS = {"none": "none", "se": "SENet", "fca": "FcaNet", "fanet": "FANet"}
_TRAINING_CODE = ("wafer/detector/*.py", "frequency/*.py", "training/*.py")  # what decides the weights


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A COCO folder with the split to use; `fresh` is another whose validation part is scored as well, or None.

    `pixel_size_um` is for scale bars; a synthetic section's long side counts as `SECTION_UM`.
    """

    source: str
    benchmark: Benchmark
    split: str
    fresh: Benchmark | None
    pixel_size_um: float | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes of sections."""
        return len(self.benchmark.class_names)

    def truth(self, part: str) -> Path:
        """Return the COCO file of "train", "validation" or "fresh"."""
        if part == "fresh" and self.fresh is None:
            raise UsageError(f"fresh wafers are drawn, which only synthetic data allow; got {self.source}.")
        benchmark, split = self.of_part(part)
        return benchmark.split(split).train if part == TRAIN else benchmark.split(split).validation

    def of_part(self, part: str) -> tuple[Benchmark, str]:
        """Return the folder and the split that contain a part."""
        return (self.fresh, FRESH_SPLIT) if part == "fresh" and self.fresh else (self.benchmark, self.split)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that can be scored."""
        return (VALIDATION,) if self.fresh is None else (VALIDATION, "fresh")


@dataclass(frozen=True, eq=False)
class ScoredDetector:
    """A trained detector with its detections (COCO's results) and its scores for each part of the data."""

    trained: TrainedDetector
    detections: Mapping[str, list[dict[str, Any]]]
    scores: Mapping[str, DetectionScores]
    work_dir: Path

    @property
    def tiles_at_limit(self) -> int:
        """Number of tiles, over all parts, with as many detections as the detector outputs at most."""
        limit = self.trained.design.numbers.max_per_image
        return sum(
            n >= limit for found in self.detections.values() for n in Counter(one["image_id"] for one in found).values()
        )


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Counts of sections by class and by the class found, at one IoU and one score threshold.

    Rows: the classes of the truth, then "nothing there" (detections without a section); columns: the classes found,
    then "missed" (sections without a detection). Each region to find and each detection counts once.
    """

    counts: Int64[np.ndarray, "truth found"]
    class_names: tuple[str, ...]
    iou: float
    score: float

    @property
    def recall(self) -> float:
        """Fraction of the sections that were found, as any class."""
        return float(self.counts[:-1, :-1].sum() / self.counts[:-1].sum())

    @property
    def precision(self) -> float | None:
        """Fraction of the detections that have a section, of any class; None without detections."""
        n_found = self.counts[:, :-1].sum()
        return float(self.counts[:-1, :-1].sum() / n_found) if n_found else None

    @property
    def sorting_accuracy(self) -> float | None:
        """Fraction of the sections found that were given their class; None where none was found."""
        both = self.counts[:-1, :-1]
        return float(np.trace(both) / both.sum()) if both.sum() else None


def training_data(
    source: str,
    *,
    preset: str = "laptop",
    split: str = "wafer",
    seed: int = 0,
    folder: str | Path = "",
    n_workers: int = 1,
) -> TrainingData:
    """Return the data of a training, making it where it does not exist yet.

    Raises `UsageError` for a source or a split that does not exist, `InputError` for data that cannot be used.
    """
    require_one_of("data", source, SOURCES)
    place = cache_root().parent / "benchmarks"
    fresh = size_um = None
    if source == "synthetic":
        design = preset_design(preset)
        unseen = changed(design, name=f"{design.name}-fresh", n_train_wafers=1, n_train=1, splits=(FRESH_SPLIT,))
        benchmark = make_benchmark(design, seed=seed, n_workers=n_workers)
        benchmark.split(split)
        fresh = make_benchmark(unseen, seed=seed + FRESH_SEED, n_workers=n_workers)
        size_um = SECTION_UM / design.section_length_px
    elif source == "magc_wafer":
        benchmark = benchmark_from_wafers([load_magc_wafer()], place / "magc_wafer", tiling=MAGC_TILING)
    else:
        if not str(folder):
            raise UsageError("`folder` must name a COCO folder when `data` is 'folder'; it is empty. Give its path.")
        given = open_benchmark(folder)
        key = digest_of(str(given.folder.resolve()), given.fingerprint)
        benchmark = own_benchmark(folder, place / f"folder-{key}")
    benchmark.split(split)
    return TrainingData(source, benchmark, split, fresh, size_um or benchmark.pixel_size_um)


def fullest_tiles(data: TrainingData, *, n: int | None = None) -> dict[int, NDArray[Any]]:
    """Return the images of the `n` validation tiles with most sections, of all without `n`, by image id."""
    coco = data.benchmark.read(data.split, VALIDATION)
    folder = data.benchmark.split(data.split).validation_images
    ranked = sorted(coco.images, key=lambda image: (-len(coco.of_image(image)), image.id))
    return {image.id: read_gray(folder / image.file_name) for image in ranked[:n]}


def report_data(run: Run, data: TrainingData) -> None:
    """Note the data sets in a run, with the number of tiles and the side of a pixel where it is known."""
    name = {"synthetic": "synthetic wafers"}.get(data.source, data.source)
    for part in data.parts:
        benchmark, split = data.of_part(part)
        counted = (VALIDATION,) if part == "fresh" else (TRAIN, VALIDATION)
        run.uses(
            "fresh synthetic wafers" if part == "fresh" else name,
            kind=benchmark.kind,
            fingerprint=benchmark.fingerprint,
            n_images=sum(len(benchmark.read(split, which).images) for which in counted),
            pixel_size_nm=None if benchmark.pixel_size_um is None else 1000.0 * benchmark.pixel_size_um,
        )


def attention_options(attention: str, *, reduction: int, indexing: str, normalization: str) -> dict[str, object]:
    """Return the options that this attention has: ECA and none have none, and only FANet the last two."""
    if attention not in ("se", "fca", "fanet"):
        return {}
    open_choices = {"indexing": indexing, "normalization": normalization} if attention == "fanet" else {}
    return {"reduction": reduction, **open_choices}


def make_schedule(
    name: str, *, n_steps: int = 0, batch: int = 0, learning_rate: float = 0.0, **changes: Any
) -> DetectorPlan:
    """Return the schedule of this name with changes; 0 leaves steps, batch and learning rate as the schedule has them.

    Fewer steps than the schedule's warm-up needs shorten the warm-up to a tenth of them.
    """
    schedule = PLANS[name]
    if n_steps:
        if schedule.steps is None:
            raise UsageError(
                f"schedule {name!r} is counted in epochs; got n_steps={n_steps}. Use 0, or schedule 'small'."
            )
        schedule = schedule.for_steps(n_steps)
    more = {"batch_size": batch, "learning_rate": learning_rate}
    return schedule.changed(**{key: value for key, value in more.items() if value}, **changes)


def train_and_score(
    design: DetectorDesign,
    schedule: DetectorPlan,
    data: TrainingData,
    folder: str | Path,
    *,
    n_resamples: int = 1000,
    progress: bool = True,
) -> ScoredDetector:
    """Train `design` on `data`, predict and score every part; an interrupted training resumes, a finished one is kept.

    The work folder below `folder` (relative to the project's root) is named by all that decides the weights.
    """
    place = Path(folder) if Path(folder).is_absolute() else find_root() / folder
    work_dir = place / work_name(design, schedule, data)
    trained = train_detector(design, schedule, data.benchmark.folder, data.split, work_dir, progress=progress)
    detections, scores = {}, {}
    for part in data.parts:
        file = work_dir / f"detections-{part}.json"
        if not file.is_file():
            benchmark, split = data.of_part(part)
            options: dict[str, Any] = {"scale": trained.plan.scale, "precision": trained.plan.precision}
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*the most that this detector outputs")  # counted: `tiles_at_limit`
                results = predict_folder(trained.model, benchmark.folder, split, VALIDATION, **options)
            write_atomically(file, json.dumps(results) + "\n")
        detections[part] = read_json(file)
        scores[part] = score_detections(data.truth(part), detections[part], n_resamples=n_resamples, seed=schedule.seed)
    return ScoredDetector(trained, detections, scores, work_dir)


def work_name(design: DetectorDesign, schedule: DetectorPlan, data: TrainingData) -> str:
    """Return a name that ends in a digest of design, schedule, data, split, torch, and the code that trains."""
    settings = [design.to_dict(), schedule.settings(), data.benchmark.fingerprint, data.split, torch.__version__]
    digest = digest_of(code_digest(*_TRAINING_CODE), json.dumps(settings, sort_keys=True, default=list))
    return f"{design.detector}-{design.depth}-{design.attention}-{data.split}-seed{schedule.seed}-{digest[:10]}"


def report_scores(run: Run, scores: DetectionScores, prefix: str = "") -> None:
    """Note the defined scores in percent: `ap`, `ap50`, ... over all classes, and `ap_good`, ... for each.

    `n` is the number of images. A `prefix` such as "held_out_" precedes every name and is put in words in the labels.
    """
    words, n = prefix.replace("_", " ").strip(), scores.n_images
    where = f" ({words})" if words else ""
    own = f", drawn by {scores.cluster}" if scores.n_resamples else ""
    named = [(metric, metric, score, "") for metric, score in scores.overall.items()]
    for name in scores.class_names if len(scores.class_names) > 1 else ():
        key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        named += [(metric, f"{metric}_{key}", scores.by_class[name][metric], f", {name}") for metric in CLASS_METRICS]
    for metric, name, score, of_class in named:
        if score.value is not None:
            label = f"Mask {METRIC_LABELS[metric]}{of_class}{where}{own if score.interval else ''}"
            run.metric(prefix + name, score.value, unit="%", n=n, interval=score.interval, label=label)
    run.metric(f"{prefix}n_regions", scores.n_regions, n=n, label=f"Sections to find{where}")


def mask_scoring_target(
    logits: Float64[np.ndarray, "side side"], section: Bool[np.ndarray, "row column"], corner: tuple[int, int]
) -> float:
    """Return what Mask Scoring R-CNN's branch is trained to predict for a proposal, as mmdet computes it.

    `logits` are the predicted mask in a square proposal whose top left pixel is `corner`, one cell a pixel.
    """
    model: Any = build_design(DetectorDesign("ms_rcnn", 34, size="small"))
    from emseg.wafer.detector.mmdet_data import BitmapMasks  # type: ignore[attr-defined]  # takes seconds to import

    (row, column), side = corner, len(logits)
    box = torch.tensor([[column, row, column + side, row + side]])
    (target,) = model.roi_head.mask_iou_head.get_targets(
        sampling_results=[SimpleNamespace(pos_priors=box, pos_assigned_gt_inds=torch.zeros(1, dtype=torch.long))],
        batch_gt_instances=[SimpleNamespace(masks=BitmapMasks(section[None].astype(np.uint8), *section.shape))],
        mask_preds=torch.from_numpy(logits)[None],
        mask_targets=torch.from_numpy(section[row : row + side, column : column + side])[None].double(),
        rcnn_train_cfg=SimpleNamespace(mask_thr_binary=0.5),
    )
    return float(target)


def confusion_matrix(
    truth: masks.TruthSource, detections: masks.DetectionsSource, *, iou: float = 0.5, score: float = 0.5
) -> ConfusionMatrix:
    """Return how often each class was found as each, by the pairs of `emseg.wafer.scores.pair_up`."""
    known = masks.read_truth(truth)
    found = masks.read_detections(detections, known)
    n_classes = len(known.class_names)
    counts = np.zeros((n_classes + 1, n_classes + 1), dtype=np.int64)
    for pair in pair_up(known.regions, found, len(known.image_ids), iou=iou, score=score):
        row = n_classes if pair.region is None else pair.region.label
        column = n_classes if pair.detection is None else pair.detection.label
        counts[row, column] += 1
    return ConfusionMatrix(counts, known.class_names, iou, score)


def report_confusion(run: Run, matrix: ConfusionMatrix) -> None:
    """Note the fractions of sections found, of detections on a section and of correct classes, where defined."""
    counts, at = matrix.counts, f"score {matrix.score:g}, mask IoU {matrix.iou:g}"
    for name, value, n, label in (
        ("recall", matrix.recall, counts[:-1].sum(), "Sections found, as whatever class"),
        ("precision", matrix.precision, counts[:, :-1].sum(), "Detections that lie on a section"),
        ("sorting_accuracy", matrix.sorting_accuracy, counts[:-1, :-1].sum(), "Sections found as what they are"),
    ):
        if value is not None:
            run.metric(name, value, n=int(n), label=f"{label} ({at})")


def paper_scores(detector: str, depth: int, attention: str) -> dict[str, Reported]:
    """Return the paper's Table 2 for a network, by metric ("ap", "ap50", ...), in percent; empty for ECA."""
    require_one_of("detector", detector, DETECTORS)
    require_one_of("depth", str(depth), map(str, DEPTHS))
    require_one_of("attention", attention, (*_PAPER_ATTENTIONS, "eca"))
    if attention == "eca":
        return {}
    subject = {"detector": DETECTORS[detector], "backbone": f"ResNet-{depth}"}
    subject["attention"] = _PAPER_ATTENTIONS[attention]
    return {metric: select_reported(load_reported("fanet"), f"mask_{metric}", **subject)[0] for metric in METRICS}


def scores_table(scores: Mapping[str, DetectionScores]) -> DisplayTable:
    """Return COCO's six scores of each part of the data, over all classes and for each, with their intervals."""

    def text(score: Score) -> str:
        interval = "" if score.interval is None else f" ({score.interval[0]:.0f} to {score.interval[1]:.0f})"
        return "none" if score.value is None else f"{score.value:.1f}{interval}"

    rows = {}
    for part, found in scores.items():
        groups = {"all": found.overall, **(found.by_class if len(found.class_names) > 1 else {})}
        for name, own in groups.items():
            n = found.n_regions if name == "all" else own["ap"].n_regions
            rows[f"scores-{part}-{name}"] = (PART_NAMES[part], name, str(n), *(text(own[metric]) for metric in METRICS))
    n_images = ", ".join(f"{found.n_images} {PART_NAMES[part]}" for part, found in scores.items())
    return text_table(
        f"Mask AP in %, with 95 % bootstrap intervals over tiles ({n_images}). “None”: no section of that size.",
        ("Tiles", "Class", "Sections", *METRIC_LABELS.values()),
        rows,
    )
