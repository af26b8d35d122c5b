"""The chapter `urisc_baselines`: one membrane network from end to end, its scores as metrics, a table and figures.

The work folder of a training is named by everything that determines its weights: design, plan, data, start, and the
training code. So an interrupted run resumes, a finished one is not repeated, and a change of the code starts afresh.
Predictions and truths are saved with the weights as images that `emseg score` reads:

    predictions/test/NAME.png   grey: 255 for a probability of 1, so membrane is bright
    truth/test/NAME.png         0 and 255, membrane bright as well

The threshold is the one with the best F1 of membrane on the validation images. Test images are predicted and scored at
it; nothing is chosen on them. Of a refinement (`train_and_score`) both networks are scored alike, each at its
threshold. Of a refit test images are scored at the thresholds of the first training, and the validation scores are the
first training's too.

Every score is the mean over images; its spread is their standard deviation, its interval a 95 % bootstrap over images
(percentiles of the mean), which covers other images of the same kind and not other seeds. `..._first` is the score of a
network before its refinement or its refit.
"""

import json
import math
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from tqdm import tqdm

from chapters.drawing import diagrams
from chapters.drawing.diagrams import Part
from emseg.checks import require_count
from emseg.errors import UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.files import digest_of, find_root, write_atomically
from emseg.images import read_gray
from emseg.intervals import MIN_REPLICATES, percentile_interval
from emseg.membrane import scoring
from emseg.membrane.dataset import MembraneImage, MembraneSet
from emseg.membrane.networks import (
    REFINING_CHANNELS,
    MembraneNetwork,
    NetworkDesign,
    RefinedNetwork,
    attention_options,
    build_network,
)
from emseg.membrane.scoring.pixels import FALSE_NEGATIVE, FALSE_POSITIVE
from emseg.membrane.training import PLANS, Augmentation, Start, TrainedNetwork, TrainingPlan, train_network
from emseg.membrane.training import membrane_prediction as prediction
from emseg.membrane.training.membrane_trainer import training_settings
from emseg.reported import DisplayTable, text_table
from emseg.runs.session import Run
from emseg.source_code import code_digest
from emseg.tiling.resume import digest_of_weights
from emseg.wording import format_measured, format_number

if TYPE_CHECKING:
    from emseg.membrane.pretraining import FileStart

# What determines the weights: a change there makes a saved training old.
_TRAINING_CODE = (
    *(f"membrane/training/{name}.py" for name in ("crop_sampling", "membrane_plan", "membrane_trainer")),
    *("training/*.py", "membrane/networks/*.py", "membrane/losses.py", "frequency/*.py"),
)


@dataclass(frozen=True, eq=False)
class PartScores:
    """The images of a part with their scores at the chosen threshold, and how F1 depends on the threshold.

    `predictions` and `truths` are a PNG for each image, of the same name, membrane bright in both.
    """

    images: tuple[MembraneImage, ...]
    predictions: tuple[Path, ...]
    truths: tuple[Path, ...]
    scores: tuple[scoring.ImageScores, ...]
    curve: prediction.ThresholdCurve

    def levels(self, place: int) -> NDArray[np.uint8]:
        """Return the prediction of an image, 0 to 255."""
        return read_gray(self.predictions[place])


@dataclass(frozen=True, eq=False)
class ScoredNetwork:
    """A trained network with its threshold, and the scores of "validation" and of "test", made by `settings`.

    `v_rand_threshold` is the one of ISBI 2012's thresholds with the best V-Rand on the validation images. `first` is
    the network before a refinement or a refit.
    """

    trained: TrainedNetwork
    threshold: float
    v_rand_threshold: float | None
    parts: Mapping[str, PartScores]
    settings: scoring.ScoreSettings
    seconds_per_megapixel: float
    work_dir: Path
    first: "ScoredNetwork | None" = None

    @property
    def second_stage(self) -> str:
        """What the second training was: "refinement", "refit", or nothing."""
        if self.first is None:
            return ""
        return "refinement" if isinstance(self.trained.network, RefinedNetwork) else "refit"


def make_design(
    network: str, encoder: str, *, encoder_depth: int, base_channels: int, attention: str, reduction: int
) -> NetworkDesign:
    """Return a design; `reduction` goes to the attentions that have one."""
    options = {"reduction": reduction} if "reduction" in attention_options(attention) else {}
    given: dict[str, Any] = {"architecture": network, "encoder": encoder, "attention": attention}  # checked there
    return NetworkDesign(encoder_depth=encoder_depth, base_channels=base_channels, attention_options=options, **given)


def make_plan(
    name: str,
    *,
    n_steps: int = 0,
    batch: int = 0,
    crop_size: int = 0,
    learning_rate: float = 0.0,
    bend_px: float = 0.0,
    zoom: float = 1.25,
    **changes: Any,
) -> TrainingPlan:
    """Return the plan of this name with changes; 0 keeps its steps, batch, crops and learning rate."""
    plan = with_steps(PLANS[name], n_steps or PLANS[name].n_steps)
    given = {"batch_size": batch, "crop_size": crop_size, "learning_rate": learning_rate}
    plan = plan.changed(**{field: value for field, value in given.items() if value})
    return plan.changed(augmentation=Augmentation(bend_px=bend_px, zoom=zoom), **changes)


def with_steps(plan: TrainingPlan, n_steps: int) -> TrainingPlan:
    """Return the plan with another number of steps, the same fraction of them for warm-up."""
    return plan.changed(n_steps=n_steps, warm_up_steps=plan.warm_up_steps * n_steps // plan.n_steps)


def with_label_fraction(membrane_set: MembraneSet, fraction: float, *, seed: int = 0) -> MembraneSet:
    """Return the set with a fraction of its training images, at least one, drawn by `seed`; the rest is unchanged."""
    if not 0 < fraction <= 1:
        raise UsageError(f"`label_fraction` must be above 0 and at most 1; got {fraction!r}.")
    n = max(1, round(fraction * len(membrane_set.train)))
    order = np.random.default_rng(seed).permutation(len(membrane_set.train))[:n]
    return replace(membrane_set, train=tuple(membrane_set.train[place] for place in sorted(order)))


def starting_point(
    pretraining: str,
    design: NetworkDesign,
    membrane_set: MembraneSet,
    folder: str | Path,
    *,
    file: str | Path = "",
    sha256: str = "",
    n_steps: int = 0,
    seed: int = 0,
    device: str = "auto",
) -> "FileStart | None":
    """Return what the network starts from: None for random weights.

    "moco" pretrains the encoder on the whole set's training images without their labels, for `n_steps` (0: the short
    plan's), in a folder below `folder`; "cem500k" loads the checkpoint `file`, with the digest `sha256` if given.
    """
    if pretraining == "none":
        return None
    from emseg.membrane.pretraining import SHORT, pretrained_start  # imports what a training alone does not need

    n_steps = n_steps or SHORT.n_steps
    warm_up_steps = SHORT.warm_up_steps * n_steps // SHORT.n_steps
    plan = replace(SHORT, seed=seed, device=device, n_steps=n_steps, warm_up_steps=warm_up_steps)
    source: dict[str, Any] = {"file": file, "sha256": sha256, "progress": False}
    return pretrained_start(pretraining, design, membrane_set, plan, find_root() / folder, **source)


def train_and_score(
    design: NetworkDesign,
    plan: TrainingPlan,
    membrane_set: MembraneSet,
    folder: str | Path,
    *,
    start: Start | None = None,
    refinement_steps: int = 0,
    refit: bool = False,
    tta: bool = False,
    tile: int = prediction.WHOLE_IMAGE,
    tolerance_px: float = 3.0,
    progress: bool = True,
) -> ScoredNetwork:
    """Train `design` on the set in a folder below `folder`, predict and score; finished parts are not repeated.

    A relative `folder` is below the project's root. With `refinement_steps` a second network of the same design is then
    trained by the same plan for this many steps, from random weights, to correct the first; with `refit` one is then
    trained by the same plan on training and validation images together. `tta` averages over eight views, `tile` is as
    in `predict_membrane`, `tolerance_px` the radius of the tolerant scores.
    """
    require_count("refinement_steps", refinement_steps, 0)
    if refit and refinement_steps:
        given = f"refit={refit} and refinement_steps={refinement_steps}"
        repair = "Refit, or refine with refit=False."
        raise UsageError(f"`refit` and `refinement_steps` exclude each other; got {given}. {repair}")
    labelled = {"validation": membrane_set.validation, "test": membrane_set.labelled_test}
    for part, images in labelled.items():
        if not images:
            raise UsageError(f"{membrane_set.name} has no labelled images for {part}. Use a set with some.")
    settings = scoring.ScoreSettings(tolerance_px=tolerance_px, pixel_size_nm=membrane_set.pixel_size_nm)
    views: dict[str, Any] = {"tta": tta, "tile": tile, "progress": progress}

    def train(design: NetworkDesign, plan: TrainingPlan, images: MembraneSet, **begin: Any) -> TrainedNetwork:
        work_dir = find_root() / folder / work_name(design, plan, images, **begin)
        return train_network(design, plan, images, work_dir, progress=progress, **begin)

    trained = train(design, plan, membrane_set, start=start)
    scored = _scored(trained, labelled, settings, **views)
    if refit:
        everything = replace(membrane_set, train=(*membrane_set.train, *membrane_set.validation), validation=())
        again = train(design, plan.changed(validate_every=0), everything, start=start)
        test = {"test": labelled["test"]}
        return _scored(replace(again, first=trained), test, settings, **views, chosen=scored)
    if not refinement_steps:
        return scored
    refining = replace(design, in_channels=REFINING_CHANNELS)
    refined = train(refining, with_steps(plan, refinement_steps), membrane_set, first=trained)
    return replace(_scored(refined, labelled, settings, **views), first=scored)


def _scored(
    trained: TrainedNetwork,
    labelled: Mapping[str, tuple[MembraneImage, ...]],
    settings: scoring.ScoreSettings,
    *,
    tta: bool,
    tile: int,
    progress: bool,
    chosen: ScoredNetwork | None = None,
) -> ScoredNetwork:
    """Predict what is not predicted yet, choose the threshold on validation images, and score at it.

    With `chosen`, an earlier network, thresholds and validation scores are that one's.
    """
    work_dir = trained.weights.parent
    folder = work_dir / ("predictions-tta" if tta else "predictions")
    pace = Pace(folder / "seconds_per_megapixel.json")
    predictions, truths = (
        {part: tuple(place / part / f"{image.name}.png" for image in images) for part, images in labelled.items()}
        for place in (folder, work_dir / "truth")
    )
    how: dict[str, Any] = {"tta": tta, "tile": tile, "precision": trained.precision}
    for part, images in labelled.items():
        for image, path, truth in zip(images, predictions[part], truths[part], strict=True):
            if not path.is_file() or pace.saved is None:  # a folder that has lost its pace predicts one image again
                path.parent.mkdir(parents=True, exist_ok=True)
                note = pace.of(image, progress and max(image.height, image.width) > tile)
                prediction.predict_to_png(trained.network, image, path, progress=note, **how)
            if not truth.is_file():
                prediction.write_png(np.multiply(image.read_membrane(), 255, dtype=np.uint8), truth)

    def pairs(part: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:  # predicted levels and truth
        for image, path in zip(labelled[part], predictions[part], strict=True):
            yield read_gray(path), image.read_membrane()

    curves = {
        part: prediction.threshold_curve([prediction.level_counts(*pair) for pair in pairs(part)]) for part in labelled
    }
    threshold = curves["validation"].best_threshold if chosen is None else chosen.threshold
    settings = replace(settings, threshold=threshold)
    parts = {} if chosen is None else {"validation": chosen.parts["validation"]}
    for part, images in labelled.items():
        scores = tuple(scoring.score_image(*pair, settings) for pair in pairs(part))
        parts[part] = PartScores(images, predictions[part], truths[part], scores, curves[part])
    best = scoring.best_thresholds(parts["validation"].scores).get("v_rand")
    assert pace.saved is not None
    v_rand = None if best is None else best.threshold
    return ScoredNetwork(trained, threshold, v_rand, parts, settings, pace.saved, work_dir, chosen)


@dataclass
class Pace:
    """Seconds and pixels of the predictions made so far; `path` has the seconds per megapixel.

    It is saved before the image is, so that no prediction exists without its pace. Of a prediction that resumes, the
    remaining pixels count, and the time that they took.
    """

    path: Path
    seconds: float = 0.0
    pixels: float = 0.0

    @property
    def saved(self) -> float | None:
        """The content of the file, None where there is none."""
        return float(json.loads(self.path.read_text())) if self.path.is_file() else None

    def of(self, image: MembraneImage, shown: bool) -> Callable[[int, int], None]:
        """Return a function to call after every tile of an image; where `shown`, it draws a progress bar."""
        bar = tqdm(desc=image.name, unit="tile", disable=None if shown else True, leave=False)
        begun = time.perf_counter()

        def note(done: int, total: int) -> None:
            nonlocal begun
            now = time.perf_counter()
            self.seconds, self.pixels = self.seconds + now - begun, self.pixels + image.height * image.width / total
            begun, bar.total = now, total
            bar.update(done - bar.n)
            if done == total:
                write_atomically(self.path, json.dumps(1e6 * self.seconds / self.pixels))
                bar.close()

        return note


def work_name(
    design: NetworkDesign,
    plan: TrainingPlan,
    membrane_set: MembraneSet,
    start: Start | None = None,
    first: TrainedNetwork | None = None,
) -> str:
    """Return the name of a training's folder: network, data, seed, and a digest of everything that decides the weights.

    That of a refinement also has a digest of the `first` network's weights.
    """
    settings = training_settings(design, plan, membrane_set, start, first)
    digest = digest_of(code_digest(*_TRAINING_CODE), json.dumps(settings, sort_keys=True), torch.__version__)
    attention = "" if design.attention == "none" else f"-{design.attention}"
    data = re.sub(r"[^A-Za-z0-9]+", "_", membrane_set.name)
    refines = "" if first is None else f"-refines-{digest_of_weights(first.network)[:10]}"
    return f"{design.architecture}-{design.encoder}{attention}-{data}-seed{plan.seed}{refines}-{digest[:10]}"


# name in the record: (name in `scoring.ImageScores.row`, label, unit, whether more is better)
REPORTED = {
    "membrane_f1": ("membrane_f1", "Membrane F1", "1", True),
    "membrane_precision": ("membrane_precision", "Membrane precision", "1", True),
    "membrane_recall": ("membrane_recall", "Membrane recall", "1", True),
    "background_f1": ("background_f1", "Background F1", "1", True),
    "tolerant_f1": ("membrane_tolerant_f1", "Membrane F1, tolerant", "1", True),
    "v_rand": ("v_rand", "V-Rand", "1", True),
    "v_info": ("v_info", "V-Info", "1", True),
    "adapted_rand": ("adapted_rand_error", "Adapted Rand error", "1", False),
    "assd_nm": ("assd_nm", "Distance of surfaces (ASSD)", "nm", False),
    "broken_membranes": ("broken_membranes", "Broken membranes per image", "1", False),
    "spurious_membranes": ("spurious_membranes", "Spurious membranes per image", "1", False),
}
_PART_WORDS = {"validation": "validation images", "test": "test images"}
Shape = tuple[int, ...]  # channels, rows, columns
LARGEST_PX = 768  # side of the central part of an image that is shown


def bootstrap_interval(values: Sequence[float], *, n_resamples: int, seed: int) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean over images resampled from `values`; None for fewer than two."""
    known = np.array([value for value in values if not math.isnan(value)])
    if len(known) < 2:
        return None
    places = np.random.default_rng(seed).integers(len(known), size=(n_resamples, len(known)))
    return percentile_interval(known[places].mean(axis=1))


def report_start(run: Run, start: "FileStart | None") -> str:
    """Record how many of the encoder's tensors came from a file, and return it in words.

    A user's file is a data set of the run, identified by its SHA-256; a pretraining on the run's own images is none.
    """
    if start is None:
        return "Random weights: no pretrained encoder was requested."
    from emseg.membrane.pretraining.pretrain_encoder import CEM500K_NAME  # not needed from random weights

    report = start.report
    for name, count, words in (
        ("loaded", report.n_loaded, "that came from the pretrained file"),
        ("in_file", report.n_in_file, "in the pretrained file"),
        ("in_encoder", report.n_tensors, "in all"),
    ):
        run.metric(f"pretraining_tensors_{name}", count, n=1, label=f"Tensors of the encoder {words}")
    if start.name == CEM500K_NAME:
        run.uses(f"pretrained encoder {report.path.name}", kind="real", fingerprint=f"sha256:{report.sha256}")
    return f"{report}\nSHA-256 of the file: {report.sha256}"


def report_training(run: Run, trained: TrainedNetwork) -> None:
    """Record what the training took and how it ended.

    Of a refinement and a refit, steps, seconds and crops are those of both stages, memory is the larger, and the loss
    the second's; steps and seconds of each stage are recorded too.
    """
    of_stages = [len(stage.curves["step"]) for stage in trained.stages]
    steps, seconds = sum(of_stages), sum(stage.seconds for stage in trained.stages)
    crops = sum(stage.crops_per_second * stage.seconds for stage in trained.stages) / max(seconds, 1e-9)
    last = trained.curves["loss"][-max(1, of_stages[-1] // 10) :]
    memory = max(stage.peak_memory_mib for stage in trained.stages)
    for metric, value, unit, n, label in (
        ("n_parameters", trained.n_parameters, "1", 1, "Parameters of the network"),
        ("n_steps", steps, "1", 1, "Training steps"),
        ("n_training_images", trained.n_images, "1", 1, "Training images"),
        ("final_loss", sum(last) / len(last), "1", len(last), "Loss, mean over the last tenth of the steps"),
        ("training_seconds", seconds, "s", 1, "Training time"),
        ("crops_per_second", crops, "crops/s", steps, "Training crops per second"),
        ("training_memory", memory, "MiB", 1, "Peak memory of training"),
    ):
        run.metric(metric, value, unit=unit, n=n, label=label)
    if trained.first is not None:
        names = ("first", "refinement" if isinstance(trained.network, RefinedNetwork) else "refit")
        for name, stage, n_steps in zip(names, trained.stages, of_stages, strict=True):
            word = "first network" if name == "first" else name
            run.metric(f"n_steps_{name}", n_steps, n=1, label=f"Training steps, {word}")
            run.metric(f"training_seconds_{name}", stage.seconds, unit="s", n=1, label=f"Training time, {word}")


def report_scores(run: Run, scored: ScoredNetwork, *, n_resamples: int, seed: int) -> None:
    """Record the threshold, and all scores of validation and test images at it; undefined ones are left out.

    Of a refinement and a refit the first network's scores are recorded too, and of a refinement its threshold.
    """

    def note(name: str, values: Sequence[float], label: str, unit: str = "1") -> None:
        over = scoring.spread(values)
        if over.n:
            interval = bootstrap_interval(values, n_resamples=n_resamples, seed=seed)
            sd = None if math.isnan(over.sd) else over.sd
            run.metric(name, over.mean, unit=unit, n=over.n, label=label, spread=sd, interval=interval)

    def note_rows(part: str, scores: PartScores, ending: str, words: str) -> None:
        for name, (row, label, unit, _) in REPORTED.items():
            values = [image.row()[row] for image in scores.scores]
            note(f"{part}_{name}{ending}", values, f"{label}, {_PART_WORDS[part]}{words}", unit)

    n = len(scored.parts["validation"].images)
    label = "Threshold with the best membrane F1 on validation images"
    run.metric("threshold", scored.threshold, n=n, label=label)
    if scored.first is not None:
        before = f", before {scored.second_stage}"
        if scored.second_stage == "refinement":
            run.metric("threshold_first", scored.first.threshold, n=n, label=f"{label}{before}")
        for part, scores in scored.first.parts.items():
            if scores is not scored.parts[part]:  # validation scores of a refit are the first network's
                note_rows(part, scores, "_first", before)
    for part, scores in scored.parts.items():
        words = _PART_WORDS[part]
        note_rows(part, scores, "", "")
        for word, field in {"true": "true_fraction", "predicted": "predicted_fraction"}.items():
            values = [float(getattr(image, field)) for image in scores.scores]
            note(f"{part}_{field}", values, f"Membrane fraction, {word}, {words}")
        at_half = scores.curve.f1_at(0.5)
        label = f"Membrane F1 at threshold 0.5, {words}"
        run.metric(f"{part}_membrane_f1_at_half", at_half, n=len(scores.images), label=label)
        if scored.v_rand_threshold is not None:
            at = [next(r for r in im.at_thresholds if r[0] == scored.v_rand_threshold) for im in scores.scores]
            for place, name in ((1, "v_rand"), (2, "v_info")):
                text = f"{REPORTED[name][1]} at the threshold with the best V-Rand on validation images, {words}"
                note(f"{part}_{name}_tuned", [row[place] for row in at], text)
        for name, best in scoring.best_thresholds(scores.scores).items():
            text = f"{REPORTED[name][1]} at the best threshold of these images (as ISBI 2012), {words}"
            sd = None if math.isnan(best.spread.sd) else best.spread.sd
            run.metric(f"{part}_{name}_isbi", best.spread.mean, n=best.spread.n, label=text, spread=sd)


def report_cost(run: Run, scored: ScoredNetwork) -> None:
    """Record the prediction time; of a refined network also that of its first network alone."""
    n = sum(len(part.images) for part in scored.parts.values())
    label = "Prediction time per megapixel"
    run.metric("seconds_per_megapixel", scored.seconds_per_megapixel, unit="s/Mpx", n=n, label=label)
    if scored.first is not None and scored.second_stage == "refinement":
        first = scored.first.seconds_per_megapixel
        run.metric("seconds_per_megapixel_first", first, unit="s/Mpx", n=n, label=f"{label}, first network alone")


def scores_table(run: Run, scored: ScoredNetwork) -> DisplayTable:
    """Return the run's scores of validation and test images side by side, with their intervals.

    Of a refinement and a refit the last column has the test scores before it; the validation images of a refit are then
    scored with the first network.
    """
    counts = {part: len(scores.images) for part, scores in scored.parts.items()}
    columns = {f"{_PART_WORDS[part].capitalize()} ({n})": (part, "") for part, n in counts.items()}
    if scored.first is not None:
        columns[f"Test images, before {scored.second_stage}"] = ("test", "_first")
    rows = {}
    for name, (_, label, _, more_is_better) in REPORTED.items():
        shown = (_shown(run, f"{part}_{name}{stage}") for part, stage in columns.values())
        rows[f"score-{name.replace('_', '-')}"] = (label if more_is_better else f"{label} (less is better)", *shown)
    caption = (
        f"Scores at the threshold {scored.threshold:.2f}, chosen on the validation images: mean ± standard deviation "
        "over images, with the 95 % interval of the mean (bootstrap)."
    )
    return text_table(caption, ("Score", *columns), rows)


def score_command(scored: ScoredNetwork, part: str = "test") -> str:
    """Return the command, for the project's root, that scores the saved predictions of a part again.

    The threshold is truncated to three digits, which moves none of the levels 0 to 255 across it.
    """
    scores, settings, root = scored.parts[part], scored.settings, find_root()
    threshold = f"{math.floor(1000 * settings.threshold) / 1000:.3f}"
    options = ["--membrane", "bright", "--truth-membrane", "bright", "--threshold", threshold]
    options += ["--tolerance", f"{settings.tolerance_px:g}px"]
    if settings.pixel_size_nm is not None:
        options += ["--pixel-size-nm", repr(settings.pixel_size_nm)]
    folders = (paths[0].parent for paths in (scores.predictions, scores.truths))
    names = (str(one.relative_to(root) if one.is_relative_to(root) else one) for one in folders)
    return shlex.join(["emseg", "score", *names, *options])


def plot_training(scored: ScoredNetwork, *, n_means: int = 40) -> Figure:
    """Draw loss (pale, and means over intervals) and learning rate, F1 on validation images, and F1 by threshold.

    A dotted line separates the two stages of a refinement or a refit, and marks the chosen threshold.
    """
    trained = scored.trained
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(PAGE_WIDTH_IN, 2.7))
    curves, validation = _joined(trained, "curves"), _joined(trained, "validation")
    steps, loss = np.array(curves["step"]), np.array(curves["loss"])
    left.plot(steps, loss, color=COLOURS["blue"], lw=0.5, alpha=0.3)
    parts = np.array_split(np.arange(len(steps)), min(n_means, len(steps)))
    left.plot([steps[part].mean() for part in parts], [loss[part].mean() for part in parts], color=COLOURS["blue"])
    left.set(yscale="log", xlabel="training step", ylabel="loss", title="training crops")
    rate = left.twinx()
    rate.fill_between(steps, curves["learning_rate"], color=COLOURS["grey"], alpha=0.15, lw=0)
    rate.set(ylim=(0, 2.2 * max(curves["learning_rate"])), yticks=[])
    rate.spines[:].set_visible(False)
    left.set_zorder(rate.get_zorder() + 1)
    left.patch.set_visible(False)
    if seen := validation.get("step"):
        middle.plot(seen, validation["membrane_f1"], "o-", ms=3, color=COLOURS["vermilion"], label="at 0.5")
        best = validation["best_membrane_f1"]
        middle.plot(seen, best, "o--", ms=3, mfc="none", color=COLOURS["green"], label="at the best threshold")
        middle.legend(loc="lower right")
    middle.set(xlabel="training step", ylabel="membrane F1", title="validation images")
    for ax in (left, middle):
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if trained.first is not None:
            ax.axvline(len(trained.first.curves["step"]) + 0.5, color=COLOURS["black"], lw=0.9, ls=":")
    for part, colour, dashes in (("validation", "green", "--"), ("test", "blue", "-")):
        curve = scored.parts[part].curve
        right.plot(curve.thresholds, curve.membrane_f1, dashes, color=COLOURS[colour], label=part)
    right.axvline(scored.threshold, color=COLOURS["black"], lw=0.9, ls=":")
    right.set(xlabel="threshold", ylabel="membrane F1", title="after training", xlim=(0, 1), ylim=(0, 1))
    right.legend(loc="lower center")
    return figure


def map_shapes(network: MembraneNetwork, side: int) -> tuple[list[Shape], list[Shape]]:
    """Return the shapes of an encoder's maps, fine to coarse, and of a decoder's, for an image of `side` px."""
    decoded: list[Shape] = []
    decoder: Any = network.decoder
    parts = decoder.sides if network.design.architecture == "casenet" else decoder.blocks
    for part in parts:
        part.register_forward_hook(lambda _, __, found: decoded.append(tuple(found.shape[1:])))
    image = torch.zeros(1, 1, side, side)
    with torch.no_grad():
        encoded = [tuple(found.shape[1:]) for found in network.eval().encoder(image)[1:]]
        network(image)
    return encoded, decoded


def plot_networks(design: NetworkDesign, side: int) -> Figure:
    """Draw U-Net, LinkNet and CASENet around one encoder, with the shapes of their maps for an image of `side` px."""
    step, depth = 0.66, design.encoder_depth
    axis = diagrams.canvas(PAGE_WIDTH_IN, step * depth + 1.5)
    skips = {"unet": ("U-Net", "concat"), "linknet": ("LinkNet", "add"), "casenet": ("CASENet", "1 × 1")}
    for column, (architecture, (title, skip)) in enumerate(skips.items()):
        plain = replace(design, attention="none", attention_options={}, decoder_channels=None)
        network = build_network(replace(plain, architecture=architecture), seed=0)  # type: ignore[arg-type]
        left, top = column * PAGE_WIDTH_IN / 3, step * depth + 0.35

        def place(
            shapes: Iterable[Shape], x: float, colour: str, left: float = left, top: float = top
        ) -> dict[int, Part]:
            """Draw the maps at the height of their resolution; return them by their number of halvings."""
            drawn = {}
            for channels, rows, _ in shapes:
                level = round(math.log2(side / rows))
                width, height, y = 0.05 * math.log2(channels) + 0.05, 0.42 * 0.8**level, top - step * level
                drawn[level] = diagrams.slab(axis, left + x, y, width=width, height=height, depth=0.2, colour=colour)
                x_text, ha = (drawn[level].left[0] - 0.04, "right") if x < 1 else (drawn[level].right[0] + 0.04, "left")
                text = f"{channels} × {rows}²"
                diagrams.note(axis, x_text, drawn[level].y, text, size=diagrams.SMALL, ha=ha)
            return drawn

        encoded, decoded = map_shapes(network, side)
        diagrams.note(axis, left + PAGE_WIDTH_IN / 6, top + 1.0, title, size=10, weight="bold")
        image = diagrams.note(axis, left + 0.8, top + 0.62, f"image\n1 × {side}²", size=diagrams.SMALL)
        logits = diagrams.note(axis, left + 1.62, top + 0.62, f"logits\n1 × {side}²", size=diagrams.SMALL)
        maps = place(encoded, 0.8, "blue")
        levels = sorted(maps)
        for above, below in pairwise([image, *(maps[level] for level in levels)]):
            diagrams.arrow(axis, above.bottom, below.top)
        if architecture == "casenet":
            fusion = diagrams.block(axis, left + 1.62, top - step * depth / 2, "resize\nand\nfuse", colour="orange")
            for level in levels:
                start, height = maps[level].right, fusion.y + 0.2 * (0.5 - level / max(depth, 1))
                diagrams.arrow(axis, start, (left + 1.28, start[1]), (fusion.left[0], height))
                diagrams.note(axis, start[0] + 0.14, start[1] + 0.07, skip, size=diagrams.SMALL)
            diagrams.arrow(axis, fusion.top, logits.bottom)
            continue
        made = place(decoded, 1.62, "green")
        deepest = maps[levels[-1]]
        for level in sorted(made, reverse=True):
            if level in maps:
                diagrams.arrow(axis, maps[level].right, made[level].left, text=skip)
            if level + 1 in made:
                diagrams.arrow(axis, made[level + 1].top, made[level].bottom)
            else:
                diagrams.arrow(axis, deepest.right, (made[level].x, deepest.y), made[level].bottom)
        diagrams.arrow(axis, made[0].top, logits.bottom)
    return axis.figure  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Example:
    """A window of a test image with its truth, the prediction (0 to 255) and the error codes at the threshold."""

    name: str
    image: UInt8[np.ndarray, "row column"]
    membrane: Bool[np.ndarray, "row column"]
    levels: UInt8[np.ndarray, "row column"]
    codes: UInt8[np.ndarray, "row column"]


@dataclass(frozen=True, eq=False)
class Place:
    """A window of an example with many errors; `share` is the fraction of its pixels that are wrong and not near."""

    example: Example
    rows: slice
    columns: slice
    share: float


def examples(scored: ScoredNetwork, part: str = "test", *, tolerance_px: float = 3.0) -> tuple[Example, ...]:
    """Return the central window of every image of a part, worst F1 first."""
    scores = scored.parts[part]
    made = []
    for place in sorted(range(len(scores.images)), key=lambda place: scores.scores[place].membrane.f1):
        image, window = scores.images[place], prediction.middle(scores.images[place], LARGEST_PX)
        membrane, levels = image.read_membrane(window), np.ascontiguousarray(scores.levels(place)[window])
        codes = scoring.map_errors(membrane, scoring.membrane_at(levels, scored.threshold), tolerance_px).codes
        made.append(Example(image.name, image.read(window), membrane, levels, codes))
    return tuple(made)


def worst_places(shown: Sequence[Example], *, n: int = 4, side: int = 96) -> tuple[Place, ...]:
    """Return `n` windows with the largest fraction of wrong pixels that are not near, at most two of an image."""
    found = []
    for one in shown:
        wrong = (one.codes == FALSE_POSITIVE) | (one.codes == FALSE_NEGATIVE)
        found += [Place(one, *window) for window in most_wrong(wrong, side, 2)]
    return tuple(sorted(found, key=lambda place: -place.share)[:n])


def most_wrong(wrong: Bool[np.ndarray, "row column"], side: int, n: int) -> Iterator[tuple[slice, slice, float]]:
    """Yield rows, columns and fraction of wrong pixels of up to `n` windows that do not overlap, worst first."""
    height, width = wrong.shape
    side = min(side, height, width)
    shares = uniform_filter(wrong.astype(np.float64), side, mode="constant")
    before, after = side // 2, side - side // 2
    # centres of windows that reach beyond the image, or into one already taken, get -1
    shares[:before], shares[height - after + 1 :] = -1, -1
    shares[:, :before], shares[:, width - after + 1 :] = -1, -1
    for _ in range(n):
        row, column = np.unravel_index(int(np.argmax(shares)), shares.shape)
        share = float(shares[row, column])
        if share <= 1e-12:  # a running sum leaves rounding errors where nothing is wrong
            return
        top, left = int(row) - before, int(column) - before
        yield slice(top, top + side), slice(left, left + side), share
        shares[max(0, top - after + 1) : top + side + before, max(0, left - after + 1) : left + side + before] = -1


def frame(axes: Sequence[Axes]) -> None:
    """Draw a thin frame about images."""
    for ax in axes:
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, linewidth=0.6)


def _joined(trained: TrainedNetwork, name: str) -> dict[str, list[float]]:
    """Return the columns of all stages, with the steps numbered consecutively."""
    joined: dict[str, list[float]] = {}
    done = 0.0
    for stage in trained.stages:
        for column, values in getattr(stage, name).items():
            joined.setdefault(column, []).extend(value + done if column == "step" else value for value in values)
        done += len(stage.curves["step"])
    return joined


def _shown(run: Run, name: str) -> str:
    metric = run.metrics.get(name)
    if metric is None:
        return "undefined"
    text = format_measured(metric.value, metric.spread or 0.0) + ("" if metric.unit == "1" else f" {metric.unit}")
    if metric.spread is not None:
        text += f" ± {format_number(metric.spread, 2)}"
    if metric.interval is not None and metric.n >= MIN_REPLICATES:
        low, high = (format_measured(end, metric.spread or 0.0) for end in metric.interval)
        text += f" ({low} to {high})"
    return text
