"""How much of a ratio of two areas follows from how the area is defined: one choice changed at a time.

Each row takes the same correct membrane pixels of two conditions, changes one thing, and measures the mean areas S of
both again:

    effect   S changed / S unchanged, of the first condition, paired by target
    ratio    S first / S second, both changed: what a paper would print that had made this choice

A choice that moves the ratio as far as the paper's 46,000 / 10,300 = 4.5 could make the paper's finding by itself.

    halved, native pixel    images halved, pixels counted with the area of the full image's pixel: a quarter of what is
                            covered, as the authors' numbers suggest
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from chapters.attribution_fields.conditions import halve
from chapters.attribution_fields.field_survey import ConditionFields, ImageFields
from emseg.attribution.attribution import Attribution
from emseg.attribution.baselines import BASELINE_LABELS, make_baseline, mean_over_baselines, network_input
from emseg.attribution.field import PAPER_THRESHOLD, Normalisation, Sign, field_area
from emseg.attribution.field_statistics import Estimate, Grouped, bootstrap_mean, bootstrap_ratio
from emseg.attribution.window_integral import IntegralOptions

PAPER_AREAS_NM2 = (46_000.0, 10_300.0)
PAPER_RATIO = PAPER_AREAS_NM2[0] / PAPER_AREAS_NM2[1]
REFERENCE = "as in the paper"


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
        """Whether the interval of the ratio holds the paper's, or lies above it."""
        return self.ratio.high >= PAPER_RATIO


@dataclass(frozen=True)
class Comparing:
    """Two conditions, whose correct membrane pixels are measured, and how intervals are drawn."""

    first: ConditionFields
    second: ConditionFields
    n_resamples: int
    seed: int

    def factor(self, key: str, group: str, label: str, areas: Callable[[ConditionFields], Grouped]) -> Factor:
        """Return the row of one choice; `areas` gives the changed areas of a condition, target by target."""
        one, other = areas(self.first), areas(self.second)
        rng = np.random.default_rng([self.seed, 1])
        unchanged = self.first.areas()
        paired = np.array_equal(one.images, unchanged.images)
        return Factor(
            key,
            group,
            label,
            bootstrap_mean(one, n_resamples=self.n_resamples, generator=rng),
            bootstrap_mean(other, n_resamples=self.n_resamples, generator=rng),
            bootstrap_ratio(one, unchanged, paired=paired, n_resamples=self.n_resamples, generator=rng),
            bootstrap_ratio(one, other, n_resamples=self.n_resamples, generator=rng),
        )


def definition_factors(comparing: Comparing, thresholds: Sequence[float]) -> list[Factor]:
    """Return what threshold, normalisation, sign and class of pixels do: choices that need no new maps."""
    rows = [comparing.factor("paper", "definition", REFERENCE, lambda one: one.areas())]
    for threshold in thresholds:
        if threshold != PAPER_THRESHOLD:
            rows.append(
                comparing.factor(
                    f"threshold_{threshold:g}".replace(".", "p"),
                    "threshold",
                    f"k > {threshold:g}",
                    lambda one, k=threshold: one.areas(k),  # type: ignore[misc]
                )
            )
    signs: tuple[Sign, ...] = ("negative", "absolute")
    for sign in signs:
        rows.append(comparing.factor(sign, "sign", f"{sign} attribution", lambda one, s=sign: one.areas(sign=s)))  # type: ignore[misc]
    unscaled: Normalisation = "none"
    rows.append(
        comparing.factor(
            "unscaled", "threshold", "k > 0.01 in logits, no maximum", lambda one: one.areas(normalise=unscaled)
        )
    )
    rows.append(
        comparing.factor("half_area", "definition", "area that holds half of |w|", lambda one: one.half_areas())
    )
    return rows


def baseline_factors(
    comparing: Comparing, options: IntegralOptions, names: Sequence[str], *, n_patches: int, sigma_nm: float
) -> list[Factor]:
    """Return what the baseline does, for each name of `BASELINE_NAMES` but the authors' mid-grey."""
    return [
        comparing.factor(
            f"baseline_{name}",
            "baseline",
            f"baseline: {BASELINE_LABELS[name]}",
            lambda one, name=name: with_baseline(  # type: ignore[misc]
                one, options, name, n_patches=n_patches, sigma_nm=sigma_nm, seed=comparing.seed
            ),
        )
        for name in names
        if name != "mid_grey"
    ]


def training_factors(
    comparing: Comparing,
    options: IntegralOptions,
    networks: Sequence[tuple[str, str, Callable[[ConditionFields], nn.Module]]],
) -> list[Factor]:
    """Return what training does: (key, label, network of a condition) in place of the trained ones, same targets."""
    return [
        comparing.factor(
            key,
            "training",
            label,
            lambda one, make=make: with_network(one, options, make(one)),  # type: ignore[misc]
        )
        for key, label, make in networks
    ]


def halved_factors(comparing: Comparing, options: IntegralOptions) -> list[Factor]:
    """Return what halved inputs do, with the area of a pixel as it then is, and as the full image has it."""
    maps = {id(one): halved(one, options) for one in (comparing.first, comparing.second)}

    def areas(one: ConditionFields, pixel_nm: float) -> Grouped:
        return _grouped(one, maps[id(one)], pixel_nm)

    return [
        comparing.factor("halved", "halved inputs", "inputs halved", lambda one: areas(one, 2 * one.pixel_size_nm)),
        comparing.factor(
            "halved_native",
            "halved inputs",
            "inputs halved, native pixel area",
            lambda one: areas(one, one.pixel_size_nm),
        ),
    ]


def with_baseline(
    fields: ConditionFields, options: IntegralOptions, name: str, *, n_patches: int, sigma_nm: float, seed: int
) -> Grouped:
    """Return the areas of a condition's correct membrane pixels with another baseline."""
    references = [network_input(image.read()) for image in fields.condition.images.train]
    generator = np.random.default_rng([seed, 2])

    def attribute(one: ImageFields, targets: NDArray[np.int64]) -> Attribution:
        baselines = make_baseline(
            name,
            one.scaled,
            sigma_px=sigma_nm / fields.pixel_size_nm,
            references=references,
            n_patches=n_patches,
            generator=generator,
        )
        return mean_over_baselines(lambda b: options.attribute(fields.network, one.scaled, targets, b), baselines)

    return _grouped(fields, _each_image(fields, attribute), fields.pixel_size_nm)


def with_network(fields: ConditionFields, options: IntegralOptions, network: nn.Module) -> Grouped:
    """Return the areas of the same pixels by another network."""
    found = _each_image(fields, lambda one, targets: options.attribute(network, one.scaled, targets))
    return _grouped(fields, found, fields.pixel_size_nm)


def halved(fields: ConditionFields, options: IntegralOptions) -> list[Attribution | None]:
    """Return the maps of the same pixels in images of half the size, by the network of the full size."""

    def attribute(one: ImageFields, targets: NDArray[np.int64]) -> Attribution:
        small = network_input(halve(one.image))
        inside = np.minimum(targets // 2, np.array(small.shape) - 1)
        return options.attribute(fields.network, small, inside)

    return _each_image(fields, attribute)


def _each_image(
    fields: ConditionFields, attribute: Callable[[ImageFields, NDArray[np.int64]], Attribution]
) -> list[Attribution | None]:
    """Return the new maps of the correct membrane pixels of each image; None for an image that has none."""
    chosen = [one.sample.targets[one.sample.of("correct_membrane")] for one in fields.images]
    return [
        attribute(one, targets) if len(targets) else None for one, targets in zip(fields.images, chosen, strict=True)
    ]


def _grouped(fields: ConditionFields, maps: Sequence[Attribution | None], pixel_nm: float) -> Grouped:
    areas = [np.zeros(0) if one is None else field_area(one, PAPER_THRESHOLD, pixel_nm) for one in maps]
    images = np.repeat(np.arange(len(areas)), [len(one) for one in areas])
    return Grouped.of(np.concatenate(areas), images)


def share_of_paper_ratio(ratio: float) -> float:
    """Return log(ratio) / log(paper's ratio): 1 when a factor explains it all, negative when it works against it."""
    return float(np.log(ratio) / np.log(PAPER_RATIO))
