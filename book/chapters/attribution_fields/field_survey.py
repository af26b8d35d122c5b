"""Train a network a condition, choose pixels of every class in images it has not seen, and attribute them.

What comes out is all that the chapter's figures and numbers are made of: `ConditionFields`, with the maps of each test
image and the image number of each target, so that resampling can draw images before targets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from chapters.attribution_fields.conditions import Condition
from chapters.attribution_fields.kept_maps import code_digest
from emseg.attribution.attribution import Attribution
from emseg.attribution.baselines import network_input
from emseg.attribution.field import PAPER_THRESHOLD, Normalisation, Sign, area_holding, field_area, radius_holding
from emseg.attribution.field_statistics import Grouped
from emseg.attribution.pixel_classes import PIXEL_CLASSES, PixelClass, PixelSample, sample_pixels
from emseg.attribution.window_integral import IntegralOptions
from emseg.errors import InputError
from emseg.files import digest_of, find_root
from emseg.membrane.networks import MembraneNetwork, NetworkDesign, build_network
from emseg.membrane.training import PLANS, TrainingPlan, predict_membrane, train_network
from emseg.tiling.receptive_field import ReceptiveField, theoretical_receptive_field

LEAST_MARGIN = 8


_TRAINING_CODE = (
    *(f"membrane/training/{name}.py" for name in ("augmentation", "draws", "learning_rate", "module", "training")),
    *("membrane/networks/*.py", "membrane/losses.py", "frequency/attention/*.py", "frequency/resnet.py"),
)
"""What decides the weights beside the plan: a change there makes a kept training old."""


@dataclass(frozen=True, eq=False)
class ImageFields:
    """One test image [row, column], its truth, what the network says, the chosen pixels and their maps."""

    name: str
    image: NDArray[np.uint8]
    membrane: NDArray[np.bool_]
    probability: Float32[np.ndarray, "row column"]
    sample: PixelSample
    attribution: Attribution

    @property
    def scaled(self) -> Float32[np.ndarray, "row column"]:
        """The image as the network gets it."""
        return network_input(self.image)

    @property
    def f1(self) -> float:
        """F1 of membrane at a threshold of a half."""
        found = self.probability >= 0.5
        both = int(np.count_nonzero(found & self.membrane))
        either = int(np.count_nonzero(found)) + int(np.count_nonzero(self.membrane))
        return 2 * both / max(1, either)


@dataclass(frozen=True, eq=False)
class ConditionFields:
    """A condition's network, how far it can see, and the maps of its test images."""

    condition: Condition
    design: NetworkDesign
    network: MembraneNetwork
    receptive_field: ReceptiveField
    images: tuple[ImageFields, ...]

    @property
    def pixel_size_nm(self) -> float:
        """Side of a pixel on the specimen."""
        return self.condition.pixel_size_nm

    def places(self, pixel_class: PixelClass | None) -> list[Int64[np.ndarray, " place"]]:
        """Return, for each image, the places of the targets of a class, or of all."""
        return [
            np.arange(len(one.sample)) if pixel_class is None else one.sample.of(pixel_class) for one in self.images
        ]

    def values(
        self, measure: Callable[[Attribution], NDArray[np.float64]], pixel_class: PixelClass | None = "correct_membrane"
    ) -> Grouped:
        """Return a measure of each target of a class with its image; targets where it is undefined are left out."""
        values = [
            measure(one.attribution)[places] for one, places in zip(self.images, self.places(pixel_class), strict=True)
        ]
        numbers = np.repeat(np.arange(len(values)), [len(one) for one in values])
        joined = np.concatenate(values)
        kept = np.isfinite(joined)
        if not kept.any():
            raise InputError(
                f"no {pixel_class} pixel of {self.condition.label} has a field: the network finds too little membrane. "
                "Train it for more steps, or explain more images."
            )
        return Grouped(joined[kept], numbers[kept])

    def areas(
        self,
        threshold: float = PAPER_THRESHOLD,
        sign: Sign = "positive",
        normalise: Normalisation = "max",
        pixel_class: PixelClass | None = "correct_membrane",
    ) -> Grouped:
        """Return S_k in nm^2 of each target of a class."""
        size = self.pixel_size_nm
        return self.values(lambda one: field_area(one, threshold, size, sign, normalise), pixel_class)

    def half_areas(self, pixel_class: PixelClass | None = "correct_membrane") -> Grouped:
        """Return the area in nm^2 that holds half of the absolute attribution."""
        return self.values(lambda one: area_holding(one, 0.5, self.pixel_size_nm), pixel_class)

    def radii(self, share: float, pixel_class: PixelClass | None = "correct_membrane") -> Grouped:
        """Return the radius in nm that holds a share of the absolute attribution."""
        return self.values(lambda one: radius_holding(one, one.targets, share, self.pixel_size_nm), pixel_class)


def training_plan(
    n_steps: int, batch: int, crop_size: int, seed: int, device: str, precision: str = "auto"
) -> TrainingPlan:
    """Return the plan of a small network: as long as asked for, no looks at validation images.

    The weights are float32 in any case; `precision` is what a training step computes in, and "auto" asks the device.
    """
    return PLANS["small"].changed(
        n_steps=n_steps,
        warm_up_steps=n_steps // 4,
        batch_size=batch,
        crop_size=crop_size,
        seed=seed,
        device=device,
        precision=precision,
        validate_every=0,
    )


def trained(
    condition: Condition, design: NetworkDesign, plan: TrainingPlan, work_folder: str | Path
) -> MembraneNetwork:
    """Return the network of a condition, trained or taken from its finished work folder, in evaluation mode.

    A relative folder lies below the project's root. Each data set and design has a folder of its own in it.
    """
    place = Path(work_folder) if Path(work_folder).is_absolute() else find_root() / work_folder
    names = [image.name for image in condition.images.train]
    recipe = f"{condition.images.fingerprint} {names} {design} {plan.settings()} {torch.__version__}"
    folder = place / f"{condition.name}-{plan.n_steps}-{digest_of(code_digest(*_TRAINING_CODE), recipe)[:12]}"
    return _laid_out(train_network(design, plan, condition.images, folder, resume=True, progress=False).network)


def untrained(design: NetworkDesign, seed: int) -> MembraneNetwork:
    """Return the network before its first step."""
    return _laid_out(build_network(design, seed=seed))


def _laid_out(network: MembraneNetwork) -> MembraneNetwork:
    """Return a network for evaluation, its weights with the channels last, where a CPU is faster."""
    return network.to(memory_format=torch.channels_last).eval()


def survey(
    condition: Condition,
    design: NetworkDesign,
    network: MembraneNetwork,
    options: IntegralOptions,
    *,
    per_class: int,
    seed: int,
) -> ConditionFields:
    """Return the fields of up to `per_class` pixels of each class in every test image of a condition.

    Targets lie at least the network's reach inside the border where the image is large enough, at most a quarter of its
    side otherwise, and half that reach apart.
    """
    field = theoretical_receptive_field(network, stride=network.stride)
    images = []
    for number, source in enumerate(condition.images.labelled_test):
        image, membrane = source.read(), source.read_membrane()
        reach = min(field.reach or min(image.shape), min(image.shape) // 4)
        probability = predict_membrane(network, image)
        sample = sample_pixels(
            probability,
            membrane,
            per_class,
            np.random.default_rng([seed, number]),
            margin=max(LEAST_MARGIN, reach),
            spacing=max(1, reach // 4),
        )
        attribution = options.attribute(network, network_input(image), sample.targets)
        images.append(ImageFields(source.name, image, membrane, probability, sample, attribution))
    return ConditionFields(condition, design, network, field, tuple(images))


def class_counts(fields: ConditionFields) -> dict[str, int]:
    """Return how many targets of each class were attributed."""
    return {name: sum(one.sample.counts[name] for one in fields.images) for name in PIXEL_CLASSES}
