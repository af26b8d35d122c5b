"""Train a network a condition, choose pixels of every class in images it has not seen, and attribute them.

What comes out is all that the chapter's figures and numbers are made of: `ConditionFields`, with the maps of each test
image and the image number of each target, so that resampling can draw images before targets.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray
from torch import nn

from emseg.attribution.attribution import Attribution
from emseg.attribution.baselines import network_input
from emseg.attribution.conditions import Condition
from emseg.attribution.field import PAPER_THRESHOLD, Normalisation, Sign, area_holding, field_area, radius_holding
from emseg.attribution.field_statistics import Grouped
from emseg.attribution.integrated_gradients import attribute_pixels
from emseg.attribution.path import Quadrature
from emseg.attribution.pixel_classes import PIXEL_CLASSES, PixelClass, PixelSample, sample_pixels
from emseg.attribution.receptive_field import ReceptiveField, theoretical_receptive_field
from emseg.errors import InputError
from emseg.membrane.networks import MembraneNetwork, NetworkDesign, build_network
from emseg.membrane.training import PLANS, TrainingPlan, predict_membrane, train_network
from emseg.membrane.training.plan import settings_of
from emseg.runs.project import find_root

LEAST_MARGIN = 8


@dataclass(frozen=True)
class IntegralOptions:
    """How the maps are computed: points of the path, rule of the integral, and what the path starts from.

    With `reach`, how far the network sees in px, and its `stride`, each target is attributed in a window that holds all
    it can see: the same map in less time. Without, in the whole image.
    """

    n_steps: int = 100
    quadrature: Quadrature = "riemann_right"
    baseline: float = 0.0
    reach: int | None = None
    stride: int = 1

    def attribute(
        self,
        network: nn.Module,
        image: NDArray[np.float32],
        targets: NDArray[np.int64],
        baseline: NDArray[np.float32] | None = None,
    ) -> Attribution:
        """Return the exact integrated gradients of some pixels."""
        start = np.full_like(image, self.baseline) if baseline is None else baseline
        if self.reach is None or min(image.shape) <= 2 * self.reach:
            return self._attribute(network, image, targets, start)
        maps = np.zeros((len(targets), *image.shape), dtype=np.float32)
        scores, base_scores, last = np.empty(len(targets)), np.empty(len(targets)), None
        for number, target in enumerate(targets):
            window, corner = visible_window(image.shape, target, self.reach, self.stride)
            last = self._attribute(network, image[window], (target - corner)[None], start[window])
            maps[number][window] = last.maps[0]
            scores[number], base_scores[number] = last.scores[0], last.baseline_scores[0]
        assert last is not None
        return replace(last, maps=maps, targets=np.asarray(targets), scores=scores, baseline_scores=base_scores)

    def _attribute(
        self,
        network: nn.Module,
        image: NDArray[np.float32],
        targets: NDArray[np.int64],
        baseline: NDArray[np.float32],
    ) -> Attribution:
        return attribute_pixels(
            network,
            np.ascontiguousarray(image),
            targets,
            baseline=np.ascontiguousarray(baseline),
            n_steps=self.n_steps,
            quadrature=self.quadrature,
        )


def integral_options(design: NetworkDesign, n_steps: int, quadrature: Quadrature) -> IntegralOptions:
    """Return the options for networks of a design, which decides how far they see."""
    network = untrained(design, 0)
    field = theoretical_receptive_field(network, stride=network.stride)
    return IntegralOptions(n_steps, quadrature, reach=field.reach, stride=network.stride)


def visible_window(
    shape: tuple[int, ...], target: NDArray[np.int64], reach: int, stride: int
) -> tuple[tuple[slice, slice], NDArray[np.int64]]:
    """Return the window that holds all pixels within `reach` of a target, on the network's grid, and its corner."""
    top, left = (max(0, (int(place) - reach) // stride * stride) for place in target)
    bottom, right = (
        min(side, -(-(int(place) + reach + 1) // stride) * stride) for side, place in zip(shape, target, strict=True)
    )
    return (slice(top, bottom), slice(left, right)), np.array([top, left], dtype=np.int64)


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


def training_plan(n_steps: int, batch: int, crop_size: int, seed: int, device: str) -> TrainingPlan:
    """Return the plan of a small network: as long as asked for, no looks at validation images."""
    return PLANS["small"].changed(
        n_steps=n_steps,
        warm_up_steps=n_steps // 4,
        batch_size=batch,
        crop_size=crop_size,
        seed=seed,
        device=device,
        precision="fp32",
        validate_every=0,
    )


def trained(
    condition: Condition, design: NetworkDesign, plan: TrainingPlan, work_folder: str | Path
) -> MembraneNetwork:
    """Return the network of a condition, trained or taken from its finished work folder, in evaluation mode.

    A relative folder lies below the project's root. Each data set and design has a folder of its own in it.
    """
    place = Path(work_folder) if Path(work_folder).is_absolute() else find_root() / work_folder
    recipe = f"{condition.images.fingerprint} {design} {settings_of(plan)}"
    folder = place / f"{condition.name}-{plan.n_steps}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    network = train_network(design, plan, condition.images, folder, resume=True, progress=False).network
    return network.to(memory_format=torch.contiguous_format).eval()


def untrained(design: NetworkDesign, seed: int) -> MembraneNetwork:
    """Return the network before its first step."""
    return build_network(design, seed=seed).eval()


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
