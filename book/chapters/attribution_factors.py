"""What moves the area of a field besides the data set, and whether the maps show the network.

Each factor takes the same correct membrane pixels of two conditions, changes one choice, and measures the mean areas S
of both again:

    effect   S changed / S unchanged, of the first condition, paired by target
    ratio    S first / S second, both changed: what a paper would print that had made this choice

A choice that moves the ratio as far as the paper's 46,000 / 10,300 = 4.5 could make the paper's finding by itself.
"Halved, native pixel" halves the images and counts pixels with the area of the full image's pixel: a quarter of what is
covered, as the authors' numbers suggest.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray
from torch import nn

from chapters.attribution_fields import (
    PAPER_RATIO,
    ConditionFields,
    Image,
    ImageFields,
    Integral,
    halve,
    report_estimate,
)
from emseg.attribution import Attribution
from emseg.attribution.attribute import mean_over_baselines
from emseg.attribution.captum_methods import CAPTUM_METHODS, CaptumOptions, attribute_with_captum
from emseg.attribution.field import PAPER_THRESHOLD, Estimate, Grouped, bootstrap_mean, bootstrap_ratio, field_area
from emseg.attribution.inputs import make_baseline, network_input
from emseg.attribution.sanity import Cascade, Curve, cascading_randomisation, deletion_curve, insertion_curve
from emseg.errors import InputError
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.reported import DisplayTable, text_table
from emseg.runs.session import Run
from emseg.wording import format_number

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
        """Whether the interval of the ratio holds the paper's, or is above it."""
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
        table: dict[str, tuple[str, str, dict[str, Any]]] = {"paper": ("definition", "as in the paper", {})}
        for k in thresholds:
            if k != PAPER_THRESHOLD:
                table[f"threshold_{k:g}".replace(".", "p")] = ("threshold", f"k > {k:g}", {"threshold": k})
        for sign in ("negative", "absolute"):
            table[sign] = ("sign", f"{sign} attribution", {"sign": sign})
        table["unscaled"] = ("threshold", "k > 0.01 in logits, no maximum", {"normalise": "none"})
        rows = [
            self.factor(key, group, label, partial(ConditionFields.areas, **options))
            for key, (group, label, options) in table.items()
        ]
        half = self.factor("half_area", "definition", "area that holds half of |w|", ConditionFields.half_areas)
        return [*rows, half]

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
        report_estimate(run, f"effect_{_snake(one.key)}", one.effect, "1", f"Effect on S: {one.label}")
        report_estimate(run, f"ratio_{_snake(one.key)}", one.ratio, "1", f"Ratio of S: {one.label}")
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


def factor_table(factors: Sequence[Factor], names: tuple[str, str]) -> DisplayTable:
    """Return the factors as a table: areas, effect, ratio, and whether it reaches the paper's ratio."""

    def shown(one: Estimate) -> str:
        value, low, high = (format_number(x, n) for x, n in zip((one.value, one.low, one.high), (3, 2, 2), strict=True))
        return f"{value} ({low} to {high})"

    def area(one: Estimate) -> str:  # some hundred or thousand nm^2, which no power of ten makes easier to compare
        value, low, high = (format_number(round(x)) for x in (one.value, one.low, one.high))
        return f"{value} ({low} to {high})"

    rows = {}
    for one in factors:
        verdict = "yes" if one.ratio.low >= PAPER_RATIO else "within its interval" if one.reaches_paper else "no"
        cells = (one.label, one.group, area(one.first), area(one.second), shown(one.effect), shown(one.ratio), verdict)
        rows[f"factor-{one.key.replace('_', '-')}"] = cells
    caption = (
        "One choice changed at a time, correct membrane pixels; in brackets 95 % intervals. "
        f"The paper's ratio is {format_number(PAPER_RATIO, 2)}."
    )
    areas = (f"S, {names[0]} (nm²)", f"S, {names[1]} (nm²)")
    return text_table(caption, ("Choice", "Kind", *areas, "Effect on the first", "Ratio", "Reaches the paper's"), rows)


def plot_factors(factors: Sequence[Factor], names: tuple[str, str]) -> Figure:
    """Draw, for each choice, the ratio of the two conditions' areas with its interval, and the paper's."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 0.6 + 0.27 * len(factors)), sharey=True)
    for ax, estimates, title in (
        (axes[0], [one.effect for one in factors], f"effect on $S$ of\n{names[0]}"),
        (axes[1], [one.ratio for one in factors], f"$S$ ratio: {names[0]}\nover {names[1]}"),
    ):
        for place, one in enumerate(estimates):
            ax.plot([max(one.low, 1e-3), max(one.high, 1e-3)], [place, place], color=COLOURS["blue"], linewidth=1.4)
            ax.plot([max(one.value, 1e-3)], [place], marker="o", color=COLOURS["blue"], markersize=4.5)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.axvline(1, color=COLOURS["grey"], linewidth=0.8)
        ax.set_xlabel(title)
    axes[1].axvline(PAPER_RATIO, color=COLOURS["vermilion"], linewidth=1.0, linestyle="--")
    axes[1].text(PAPER_RATIO, -0.9, "paper", color=COLOURS["vermilion"], fontsize=8, ha="center")
    axes[0].set_yticks(range(len(factors)), [one.label for one in factors])
    axes[0].set_ylim(len(factors) - 0.4, -1.0)
    return figure


def correct_targets(fields: ConditionFields, n_most: int) -> list[tuple[ImageFields, Targets]]:
    """Return up to `n_most` correct membrane pixels with their images, the images taking turns."""
    queues = [[(one, one.sample.targets[i]) for i in one.sample.of("correct_membrane")] for one in fields.images]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    if not turns:
        raise InputError(f"{fields.condition.label} has no correct membrane pixel. Train its network for more steps.")
    return turns[:n_most]


def maps_by_method(
    fields: ConditionFields, integral: Integral, *, n_samples: int, seed: int
) -> tuple[tuple[Image, Targets], dict[str, Attribution]]:
    """Return one correct membrane pixel's window and its maps by every method that suits a U-Net (LRP does not).

    A window that holds the receptive field gives the target the score and the gradient that it has in the whole image,
    so methods that need many passes run on it. Grad-CAM looks at the encoder's last convolution, its coarsest map.
    """
    image, target = fields.window(*correct_targets(fields, 1)[0])
    layers = [name for name, layer in fields.network.named_modules() if isinstance(layer, nn.Conv2d)]
    layer = [name for name in layers if name.startswith("encoder.")][-1]
    options = CaptumOptions(n_samples=n_samples, window_px=9, stride_px=9, layer=layer, seed=seed)
    maps = {"integrated_gradients": integral.attribute(fields.network, image, target)}
    for method in CAPTUM_METHODS:
        if method not in (*maps, "lrp"):
            maps[method] = attribute_with_captum(fields.network, image, target, method=method, options=options)
    return (image, target), maps


def randomised_maps(
    fields: ConditionFields, integral: Integral, *, n_targets: int, n_stages: int, seed: int
) -> Cascade:
    """Return how maps of correct membrane pixels of one image change while its layers are randomised."""
    correct_targets(fields, 1)
    one = max(fields.images, key=lambda image: len(image.sample.of("correct_membrane")))
    targets = one.sample.targets[one.sample.of("correct_membrane")][:n_targets]
    return cascading_randomisation(
        fields.network, lambda network: integral.attribute(network, one.scaled, targets), n_stages=n_stages, seed=seed
    )


def deletion_and_insertion(
    fields: ConditionFields, integral: Integral, *, n_targets: int, shares: Sequence[float], seed: int
) -> dict[str, tuple[Curve, Curve]]:
    """Return deletion and insertion curves of integrated gradients, of saliency and of a random order of the pixels."""
    rng = np.random.default_rng([seed, 6])
    found: dict[str, list[tuple[Curve, Curve]]] = {}
    for one, place in correct_targets(fields, n_targets):
        image, target = fields.window(one, place)
        integrated = integral.attribute(fields.network, image, target)
        saliency = attribute_with_captum(fields.network, image, target, method="saliency")
        random = replace(integrated, maps=rng.random(integrated.maps.shape, dtype=np.float32))
        for name, maps in (("integrated gradients", integrated), ("saliency", saliency), ("random order", random)):
            deleted = deletion_curve(fields.network, image, maps, shares=shares)
            inserted = insertion_curve(fields.network, image, maps, shares=shares)
            found.setdefault(name, []).append((deleted, inserted))

    def joined(curves: Sequence[Curve]) -> Curve:
        return Curve(curves[0].shares, np.concatenate([curve.scores for curve in curves]))

    return {name: (joined([d for d, _ in pairs]), joined([i for _, i in pairs])) for name, pairs in found.items()}


def report_sanity(run: Run, cascade: Cascade, curves: Mapping[str, tuple[Curve, Curve]]) -> None:
    """Record how far random weights change the maps, and how the score falls when the chosen pixels are deleted."""
    last = cascade.correlation[-1]
    spread = float(last.std(ddof=1)) if len(last) > 1 else None
    label = "Rank correlation of maps before and after all layers are randomised"
    run.metric("randomised_correlation", float(last.mean()), n=len(last), spread=spread, label=label)
    signed = float(cascade.signed[-1].mean())
    run.metric("randomised_correlation_signed", signed, n=len(last), label="The same with signs")
    for name, pair in curves.items():
        for what, curve in zip(("deletion", "insertion"), pair, strict=True):
            label, mean = f"Mean score (logit) along the {what} curve, {name}", float(curve.scores[:, 1:-1].mean())
            run.metric(f"{what}_{_snake(name)}", mean, n=len(curve.scores), label=label)


def _snake(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
