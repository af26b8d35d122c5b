"""One membrane network from end to end: train it, predict, choose its threshold on validation images, score it.

The work folder of a training is named by everything that determines its weights: design, plan, data, start, and the
training code. So an interrupted run resumes, a finished one is not repeated, and a change of the code starts afresh.
Predictions and truths are saved beside the weights as images that `emseg score` reads:

    predictions/test/NAME.png   grey: 255 for a probability of 1, so membrane is bright
    truth/test/NAME.png         0 and 255, membrane bright as well

The threshold is the one with the best F1 of membrane on the validation images. Test images are predicted and scored at
it; nothing is chosen on them.

With refinement a second network is trained to correct the first one's prediction, in a folder whose name has a digest
of the first one's weights (`emseg.membrane.networks.refinement`). Both stages are scored alike, each at its threshold.

With a refit the network is trained again on the training and the validation images together, once those have chosen the
thresholds: no label is left unused. Test images are scored at the thresholds of the first training, and the validation
scores are the first training's too, because the refitted network has learned from those images.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from emseg.checks import require_count
from emseg.errors import UsageError
from emseg.files import digest_of, find_root, write_atomically
from emseg.images import read_gray
from emseg.membrane.dataset import MembraneImage, MembraneSet
from emseg.membrane.networks import REFINING_CHANNELS, NetworkDesign, RefinedNetwork, attention_options
from emseg.membrane.scoring import ImageScores, ScoreSettings, best_thresholds, score_image
from emseg.membrane.training import PLANS, Augmentation, Start, TrainedNetwork, TrainingPlan, train_network
from emseg.membrane.training.membrane_prediction import (
    WHOLE_IMAGE,
    ThresholdCurve,
    level_counts,
    predict_to_png,
    threshold_curve,
    write_png,
)
from emseg.membrane.training.membrane_trainer import state_digest, training_settings
from emseg.source_code import code_digest

if TYPE_CHECKING:
    from emseg.membrane.pretraining import FileStart

PARTS = ("validation", "test")
# What determines the weights: a change there makes a saved training old.
_TRAINING_CODE = (
    *(f"membrane/training/{name}.py" for name in ("crop_sampling", "membrane_plan", "membrane_trainer")),
    *("training/*.py", "membrane/networks/*.py", "membrane/losses.py", "frequency/*.py"),
)


@dataclass(frozen=True, eq=False)
class PartScores:
    """The images of a part with their scores at the chosen threshold, and how F1 depends on the threshold.

    `predictions` and `truths` hold a PNG for each image, of the same name, membrane bright in both.
    """

    images: tuple[MembraneImage, ...]
    predictions: tuple[Path, ...]
    truths: tuple[Path, ...]
    scores: tuple[ImageScores, ...]
    curve: ThresholdCurve

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
    settings: ScoreSettings
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
    return NetworkDesign(
        network,  # type: ignore[arg-type]  # checked there
        encoder,  # type: ignore[arg-type]
        encoder_depth,
        base_channels,
        attention=attention,  # type: ignore[arg-type]
        attention_options=options,
    )


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
    plan = PLANS[name]
    if n_steps:
        plan = with_steps(plan, n_steps)
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
    place = _place(folder)
    return pretrained_start(pretraining, design, membrane_set, plan, place, file=file, sha256=sha256, progress=False)


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
    tile: int = WHOLE_IMAGE,
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
        raise UsageError(
            f"`refit` and `refinement_steps` exclude each other; got refit={refit} and "
            f"refinement_steps={refinement_steps}. Refit, or refine with refit=False."
        )
    labelled = _labelled_parts(membrane_set)
    place = _place(folder)
    work_dir = place / work_name(design, plan, membrane_set, start)
    trained = train_network(design, plan, membrane_set, work_dir, start=start, progress=progress)
    settings = ScoreSettings(tolerance_px=tolerance_px, pixel_size_nm=membrane_set.pixel_size_nm)
    outcome = _scored(trained, labelled, settings, tta=tta, tile=tile, progress=progress)
    if refit:
        everything = replace(membrane_set, train=(*membrane_set.train, *membrane_set.validation), validation=())
        plan = plan.changed(validate_every=0)
        work_dir = place / work_name(design, plan, everything, start)
        again = train_network(design, plan, everything, work_dir, start=start, progress=progress)
        again = replace(again, first=trained)
        return _scored(
            again, {"test": labelled["test"]}, settings, tta=tta, tile=tile, progress=progress, chosen=outcome
        )
    if not refinement_steps:
        return outcome
    design, plan = replace(design, in_channels=REFINING_CHANNELS), with_steps(plan, refinement_steps)
    work_dir = place / work_name(design, plan, membrane_set, first=trained)
    refined = train_network(design, plan, membrane_set, work_dir, first=trained, progress=progress)
    return replace(_scored(refined, labelled, settings, tta=tta, tile=tile, progress=progress), first=outcome)


def _labelled_parts(membrane_set: MembraneSet) -> dict[str, tuple[MembraneImage, ...]]:
    """Return validation and test images; raise `UsageError` where there are none."""
    labelled = {"validation": membrane_set.validation, "test": membrane_set.labelled_test}
    for part, images in labelled.items():
        if not images:
            raise UsageError(f"{membrane_set.name} has no labelled images for {part}. Use a set with some.")
    return labelled


def _scored(
    trained: TrainedNetwork,
    labelled: Mapping[str, tuple[MembraneImage, ...]],
    settings: ScoreSettings,
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
    for part, images in labelled.items():
        for image, path, truth in zip(images, predictions[part], truths[part], strict=True):
            if not path.is_file() or pace.saved is None:  # a folder that has lost its pace predicts one image again
                path.parent.mkdir(parents=True, exist_ok=True)
                note = pace.of(image, progress and max(image.height, image.width) > tile)
                predict_to_png(
                    trained.network, image, path, tta=tta, tile=tile, precision=trained.precision, progress=note
                )
            if not truth.is_file():
                write_png(np.multiply(image.read_membrane(), 255, dtype=np.uint8), truth)
    curves = {
        part: threshold_curve([level_counts(*pair) for pair in _pairs(images, predictions[part])])
        for part, images in labelled.items()
    }
    threshold = curves["validation"].best_threshold if chosen is None else chosen.threshold
    settings = replace(settings, threshold=threshold)
    parts = {
        part: PartScores(
            images,
            predictions[part],
            truths[part],
            tuple(score_image(*pair, settings) for pair in _pairs(images, predictions[part])),
            curves[part],
        )
        for part, images in labelled.items()
    }
    if chosen is not None:
        parts = {"validation": chosen.parts["validation"], **parts}
    best = best_thresholds(parts["validation"].scores).get("v_rand")
    assert pace.saved is not None
    return ScoredNetwork(
        trained,
        threshold,
        None if best is None else best.threshold,
        parts,
        settings,
        pace.saved,
        work_dir,
        chosen,
    )


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
    refines = "" if first is None else f"-refines-{state_digest(first.network)[:10]}"
    return f"{design.architecture}-{design.encoder}{attention}-{data}-seed{plan.seed}{refines}-{digest[:10]}"


def _place(folder: str | Path) -> Path:
    return Path(folder) if Path(folder).is_absolute() else find_root() / folder


def _pairs(images: Sequence[MembraneImage], paths: Sequence[Path]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield predicted levels and truth of each image."""
    for image, path in zip(images, paths, strict=True):
        yield read_gray(path), image.read_membrane()
