"""What moves the area of a field besides the data set.

Each factor takes the same correct membrane pixels of two conditions, changes one choice, and measures the mean areas S
of both again:

    effect   S changed / S unchanged, of the first condition, paired by target
    ratio    S first / S second, both changed: what a paper would print that had made this choice

A choice that moves the ratio as far as the paper's 46,000 / 10,300 = 4.5 could make the paper's finding by itself.
"Halved, native pixel" halves the images and counts pixels with the area of the full image's pixel: a quarter of what is
covered, as the authors' numbers suggest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from chapters.attribution_fields import PAPER_RATIO, ConditionFields, ImageFields, Integral, halve, report_estimate
from emseg.attribution import Attribution
from emseg.attribution.attribute import mean_over_baselines
from emseg.attribution.field import PAPER_THRESHOLD, Estimate, Grouped, bootstrap_mean, bootstrap_ratio, field_area
from emseg.attribution.inputs import make_baseline, network_input
from emseg.errors import InputError
from emseg.runs.session import Run

BASELINE_LABELS = {"black": "black", "mean": "the image's mean", "blurred": "the image, blurred"}
BASELINE_LABELS |= {"patches": "real patches, averaged"}
METHOD_LABELS = {"saliency": "saliency", "smoothgrad": "SmoothGrad", "integrated_gradients": "integrated gradients"}
METHOD_LABELS |= {"deeplift": "DeepLift", "gradient_shap": "GradientSHAP", "occlusion": "occlusion"}
METHOD_LABELS |= {"grad_cam": "Grad-CAM"}
Targets = NDArray[np.int64]
Attribute = Callable[[ImageFields, Targets], Attribution]
MakeNetwork = Callable[[ConditionFields], nn.Module]


@dataclass(frozen=True)
class Factor:
    """One choice: `key` names it in metrics, `group` its kind; areas, effect and ratio with their intervals."""

    key: str
    group: str
    label: str
    first: Estimate
    second: Estimate
    effect: Estimate
    ratio: Estimate

    @property
    def reaches_paper(self) -> bool:
        """Whether the interval of the ratio includes the paper's, or is above it."""
        return self.ratio.high >= PAPER_RATIO


@dataclass(frozen=True)
class Comparing:
    """Two conditions whose correct membrane pixels are measured, how maps are made, and how intervals are drawn."""

    first: ConditionFields
    second: ConditionFields
    integral: Integral
    n_resamples: int
    seed: int

    def factor(self, key: str, group: str, label: str, areas: Callable[[ConditionFields], Grouped]) -> Factor:
        """Return the row of one choice; `areas` gives the changed areas of a condition, target by target."""
        one, other, unchanged = areas(self.first), areas(self.second), self.first.areas()
        rng = np.random.default_rng([self.seed, 1])
        how: dict[str, Any] = {"n_resamples": self.n_resamples, "generator": rng}
        means = bootstrap_mean(one, **how), bootstrap_mean(other, **how)
        effect = bootstrap_ratio(one, unchanged, paired=np.array_equal(one.images, unchanged.images), **how)
        return Factor(key, group, label, *means, effect, bootstrap_ratio(one, other, **how))

    def definition_factors(self, thresholds: Sequence[float]) -> list[Factor]:
        """Return what threshold, normalisation, sign and class of pixels do: choices that need no new maps."""
        keys = {k: f"threshold_{k:g}".replace(".", "p").replace("-", "_") for k in thresholds if k != PAPER_THRESHOLD}
        table: list[tuple[str, str, str, dict[str, Any]]] = [
            ("paper", "definition", "as in the paper", {}),
            *((key, "threshold", f"k > {k:g}", {"threshold": k}) for k, key in keys.items()),
            *((sign, "sign", f"{sign} attribution", {"sign": sign}) for sign in ("negative", "absolute")),
            ("unscaled", "threshold", "k > 0.01 in logits, no maximum", {"normalise": "none"}),
        ]
        half = self.factor("half_area", "definition", "area with half of |w|", ConditionFields.half_areas)
        return [*(self.factor(*row[:3], partial(ConditionFields.areas, **row[3])) for row in table), half]

    def baseline_factors(self, names: Sequence[str], *, n_patches: int, sigma_nm: float) -> list[Factor]:
        """Return what the baseline does, for each name of `BASELINE_NAMES` but the authors' mid-grey."""

        def areas(fields: ConditionFields, name: str) -> Grouped:
            references = [network_input(image.read()) for image in fields.condition.images.train]
            generator = np.random.default_rng([self.seed, 2])

            def attribute(one: ImageFields, targets: Targets) -> Attribution:
                how: dict[str, Any] = {"n_patches": n_patches, "generator": generator, "references": references}
                baselines = make_baseline(name, one.scaled, sigma_px=sigma_nm / fields.pixel_size_nm, **how)
                integrate = partial(self.integral.attribute, fields.network, one.scaled, targets)
                return mean_over_baselines(integrate, baselines)

            return _grouped(each_image(fields, attribute), fields.pixel_size_nm)

        labels = {name: f"baseline: {BASELINE_LABELS[name]}" for name in names if name != "mid_grey"}
        return [
            self.factor(f"baseline_{name}", "baseline", label, partial(areas, name=name))
            for name, label in labels.items()
        ]

    def training_factors(self, networks: Sequence[tuple[str, str, MakeNetwork]]) -> list[Factor]:
        """Return what training does: (key, label, network of a condition) replaces the trained ones, same targets."""

        def areas(fields: ConditionFields, make: MakeNetwork) -> Grouped:
            network = make(fields)
            found = each_image(fields, lambda one, targets: self.integral.attribute(network, one.scaled, targets))
            return _grouped(found, fields.pixel_size_nm)

        return [self.factor(key, "training", label, partial(areas, make=make)) for key, label, make in networks]

    def halved_factors(self) -> list[Factor]:
        """Return what halved inputs do, with the area of a pixel as it then is, and as the full image has it."""

        def attribute(fields: ConditionFields, one: ImageFields, targets: Targets) -> Attribution:
            small = network_input(halve(one.image))
            inside = np.minimum(targets // 2, np.array(small.shape) - 1)
            return self.integral.attribute(fields.network, small, inside)

        maps = {id(one): each_image(one, partial(attribute, one)) for one in (self.first, self.second)}

        def areas(fields: ConditionFields, pixels: int) -> Grouped:
            return _grouped(maps[id(fields)], pixels * fields.pixel_size_nm)

        choices = (("halved", "inputs halved", 2), ("halved_native", "inputs halved, native pixel area", 1))
        return [self.factor(key, "halved inputs", label, partial(areas, pixels=n)) for key, label, n in choices]


def each_image(fields: ConditionFields, attribute: Attribute) -> list[Attribution | None]:
    """Return the new maps of the correct membrane pixels of each image; None for an image that has none."""
    chosen = [one.sample.targets[one.sample.of("correct_membrane")] for one in fields.images]
    pairs = zip(fields.images, chosen, strict=True)
    return [attribute(one, targets) if len(targets) else None for one, targets in pairs]


def _grouped(maps: Sequence[Attribution | None], pixel_nm: float) -> Grouped:
    areas = [np.zeros(0) if one is None else field_area(one, PAPER_THRESHOLD, pixel_nm) for one in maps]
    images = np.repeat(np.arange(len(areas)), [len(one) for one in areas])
    return Grouped.of(np.concatenate(areas), images)


def report_factors(run: Run, factors: Sequence[Factor]) -> None:
    """Record each factor's effect on the first area, the ratio it leads to, and how many reach the paper's."""
    for one in factors:
        report_estimate(run, f"effect_{one.key}", one.effect, "1", f"Effect on S: {one.label}")
        report_estimate(run, f"ratio_{one.key}", one.ratio, "1", f"Ratio of S: {one.label}")
    defined = [one for one in factors if one.group != "training"]
    ratios = [one.ratio.value for one in defined]
    effects = [one.effect.value for one in defined if one.effect.value > 0]
    reaching, wide = [float(one.reaches_paper) for one in factors], max(effects) / min(effects)
    many, text = "Factors with which the ratio's interval reaches the paper's", "ratio of S over all definitions"
    for key, value, n, label in (
        ("ratio_smallest", min(ratios), len(ratios), f"Smallest {text}"),
        ("ratio_largest", max(ratios), len(ratios), f"Largest {text}"),
        ("effect_range", wide, len(effects), "Largest over smallest S of one network by definition alone"),
        ("factors_reaching_paper", sum(reaching), len(reaching), many),
    ):
        run.metric(key, value, n=n, label=label)


def correct_targets(fields: ConditionFields, n_most: int) -> list[tuple[ImageFields, Targets]]:
    """Return up to `n_most` correct membrane pixels with their images, the images taking turns."""
    queues = [[(one, one.sample.targets[i]) for i in one.sample.of("correct_membrane")] for one in fields.images]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    if not turns:
        raise InputError(f"{fields.condition.label} has no correct membrane pixel. Train its network for more steps.")
    return turns[:n_most]
