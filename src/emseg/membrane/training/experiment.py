"""One cell of the comparison from end to end: train a network, let it predict, choose its threshold, score it.

The work folder of a training is named by all that decides its weights: design, plan, data, start, and the code that
trains. So a killed run is gone on with, a finished one is not repeated, and a change of the code starts afresh.
Predictions and truths are kept beside the weights as images that `emseg score` reads (`kept_images`).

The threshold is the one with the best F1 of membrane on the validation images. Test images are predicted and scored at
it, and nothing is chosen by them.

With refinement a second network is trained to correct what the first one finds (`emseg.membrane.networks.refinement`),
in a folder of its own that the first one's weights are named in. Both stages are scored alike, each at its threshold.

With a refit the network is trained afresh on the training and the validation images together, once those have chosen
the thresholds: no label is left unused. Test images are scored at the thresholds of the first training, and what is
said of the validation images is the first training's too, for the refitted network has learnt them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.images import read_gray
from emseg.membrane.dataset import MembraneImage, MembraneSet
from emseg.membrane.networks import REFINING_CHANNELS, NetworkDesign, RefinedNetwork, attention_options
from emseg.membrane.scoring import ImageScores, ScoreSettings, best_thresholds, score_image
from emseg.membrane.training.augmentation import Augmentation
from emseg.membrane.training.kept_images import PREDICTIONS, TRUTH, Pace, keep_prediction, keep_truth
from emseg.membrane.training.plan import PLANS, TrainingPlan
from emseg.membrane.training.prediction import WHOLE_IMAGE
from emseg.membrane.training.training import Start, TrainedNetwork, state_digest, train_network, training_settings
from emseg.membrane.training.validation import ThresholdCurve, level_counts, threshold_curve
from emseg.runs.digest import PACKAGE_ROOT, code_tree, digest_of
from emseg.runs.project import find_root

if TYPE_CHECKING:
    from emseg.membrane.pretraining import FileStart

PARTS = ("validation", "test")
# What decides the weights: a change there makes a kept training old.
_TRAINING_CODE = (
    *(f"membrane/training/{name}.py" for name in ("augmentation", "draws", "learning_rate", "module", "training")),
    *("membrane/networks/*.py", "membrane/losses.py", "frequency/attention/*.py", "frequency/resnet.py"),
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
class Outcome:
    """A trained network with its threshold, and the scores of "validation" and of "test", made by `settings`.

    `v_rand_threshold` is the one with the best V-Rand on the validation images, of those that ISBI 2012 tried. `first`
    is the outcome before a refinement or a refit.
    """

    trained: TrainedNetwork
    threshold: float
    v_rand_threshold: float | None
    parts: Mapping[str, PartScores]
    settings: ScoreSettings
    seconds_per_megapixel: float
    work_dir: Path
    first: "Outcome | None" = None

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
        encoder,
        encoder_depth,
        base_channels,
        attention=attention,
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
    """Return the plan of this name with changes; 0 leaves steps, batch, crops and learning rate as the plan has them.

    Another number of steps takes as large a share of them to warm up.
    """
    plan = PLANS[name]
    if n_steps:
        plan = with_steps(plan, n_steps)
    given = {"batch_size": batch, "crop_size": crop_size, "learning_rate": learning_rate}
    plan = plan.changed(**{field: value for field, value in given.items() if value})
    return plan.changed(augmentation=Augmentation(bend_px=bend_px, zoom=zoom), **changes)


def with_steps(plan: TrainingPlan, n_steps: int) -> TrainingPlan:
    """Return the plan with another number of steps and as large a share of them to warm up."""
    return plan.changed(n_steps=n_steps, warm_up_steps=plan.warm_up_steps * n_steps // plan.n_steps)


def with_label_fraction(membrane_set: MembraneSet, fraction: float, *, seed: int = 0) -> MembraneSet:
    """Return the set with a share of its training images, at least one, drawn by `seed`; all else stays."""
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

    "moco" pretrains the encoder on the whole set's training images without their labels, for `n_steps` (0: as the short
    plan has it), in a folder below `folder`; "cem500k" loads the checkpoint `file`, which must have the digest `sha256`
    if one is given.
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
) -> Outcome:
    """Train `design` on the set in a folder below `folder`, predict and score; what is there is not repeated.

    A relative `folder` is below the project's root. With `refinement_steps` a second network of the same design is
    trained afterwards by the same plan for so many steps, from random weights, to correct the first; with `refit` one
    is trained afterwards by the same plan on training and validation images together. `tta` averages over eight views,
    `tile` is as in `predict_membrane`, `tolerance_px` the radius of the tolerant scores.
    """
    if isinstance(refinement_steps, bool) or not isinstance(refinement_steps, int) or refinement_steps < 0:
        raise UsageError(f"`refinement_steps` must be a whole number of at least 0; got {refinement_steps!r}.")
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
    """Return the images to choose by and to report on; raise `UsageError` where there are none."""
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
    chosen: Outcome | None = None,
) -> Outcome:
    """Predict what is not predicted yet, choose the threshold on validation images, and score at it.

    With `chosen`, an earlier outcome, the thresholds and the validation images are that one's.
    """
    work_dir = trained.weights.parent
    kept = work_dir / (f"{PREDICTIONS}-tta" if tta else PREDICTIONS)
    pace = Pace(kept / "seconds_per_megapixel.json")
    predictions, truths = _files(kept, labelled), _files(work_dir / TRUTH, labelled)
    options: dict[str, Any] = {"tta": tta, "tile": tile, "precision": trained.precision, "progress": progress}
    for part, images in labelled.items():
        for image, path, truth in zip(images, predictions[part], truths[part], strict=True):
            if not path.is_file() or pace.kept is None:  # a folder that has lost its pace predicts one image again
                keep_prediction(trained.network, image, path, pace, **options)
            keep_truth(image, truth)
    curves = {part: _curve(images, predictions[part]) for part, images in labelled.items()}
    threshold = curves["validation"].best_threshold if chosen is None else chosen.threshold
    settings = replace(settings, threshold=threshold)
    parts = {
        part: PartScores(
            images, predictions[part], truths[part], _scores(images, predictions[part], settings), curves[part]
        )
        for part, images in labelled.items()
    }
    if chosen is not None:
        parts = {"validation": chosen.parts["validation"], **parts}
    best = best_thresholds(parts["validation"].scores).get("v_rand")
    seconds_per_megapixel = pace.kept
    assert seconds_per_megapixel is not None
    return Outcome(
        trained,
        threshold,
        None if best is None else best.threshold,
        parts,
        settings,
        seconds_per_megapixel,
        work_dir,
        chosen,
    )


def work_name(
    design: NetworkDesign,
    plan: TrainingPlan,
    membrane_set: MembraneSet,
    start: Start | None = None,
    first: TrainedNetwork | None = None,
) -> str:
    """Return a name that says the cell and ends in a digest of all that decides the weights.

    That of a refinement has a digest of the `first` network's weights before it.
    """
    files = sorted({path for pattern in _TRAINING_CODE for path in PACKAGE_ROOT.glob(pattern)})
    code = digest_of(*(code_tree(path.read_text(encoding="utf-8")) for path in files))
    settings = training_settings(design, plan, membrane_set, start, first)
    digest = digest_of(code, json.dumps(settings, sort_keys=True), torch.__version__)
    attention = "" if design.attention == "none" else f"-{design.attention}"
    data = re.sub(r"[^A-Za-z0-9]+", "_", membrane_set.name)
    refines = "" if first is None else f"-refines-{state_digest(first.network)[:10]}"
    return f"{design.architecture}-{design.encoder}{attention}-{data}-seed{plan.seed}{refines}-{digest[:10]}"


def _place(folder: str | Path) -> Path:
    return Path(folder) if Path(folder).is_absolute() else find_root() / folder


def _files(folder: Path, labelled: Mapping[str, tuple[MembraneImage, ...]]) -> dict[str, tuple[Path, ...]]:
    return {part: tuple(folder / part / f"{image.name}.png" for image in images) for part, images in labelled.items()}


def _curve(images: Sequence[MembraneImage], paths: Sequence[Path]) -> ThresholdCurve:
    return threshold_curve(
        [level_counts(read_gray(path), image.read_membrane()) for image, path in zip(images, paths, strict=True)]
    )


def _scores(images: Sequence[MembraneImage], paths: Sequence[Path], settings: ScoreSettings) -> tuple[ImageScores, ...]:
    return tuple(
        score_image(read_gray(path), image.read_membrane(), settings) for image, path in zip(images, paths, strict=True)
    )
