"""The chapter on attribution fields: conditions, a network for each, the maps of its pixels, their numbers and figures.

    urisc          U-RISC-like tissue at 2.18 nm/px
    urisc_coarse   the very same tissue at 4 nm/px
    isbi           ISBI-like tissue at 4 nm/px, or ISBI 2012 itself
    isbi_coarse    ISBI 2012 averaged to 8 nm/px, as the authors' code halves its inputs

    area(urisc) / area(isbi)  =  area(urisc) / area(urisc_coarse)  x  area(urisc_coarse) / area(isbi)
                                 resolution: same tissue              content: same pixel size

Metrics carry a condition's name (`field_area_urisc`), ratios the question that they answer (`resolution_ratio`).

Deviation: the coarse synthetic set is imaged anew at the larger pixel, with its own shot noise; averaging pixels of the
fine one would give the same mean and as much noise.
"""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from emseg.attribution import Attribution, attribute_pixels
from emseg.attribution.attribute import digest_of_network
from emseg.attribution.field import (
    PAPER_THRESHOLD,
    Difference,
    Estimate,
    Grouped,
    area_holding,
    bootstrap_mean,
    bootstrap_ratio,
    compare_sets,
    field_area,
    radius_holding,
)
from emseg.attribution.inputs import PIXEL_CLASSES, PixelClass, PixelSample, network_input, sample_pixels
from emseg.checks import require_count, require_one_of
from emseg.errors import InputError, UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.files import digest_of, digest_of_array, find_root
from emseg.membrane.dataset import ArrayImage, MembraneImage, MembraneSet, open_membrane_set
from emseg.membrane.networks import MembraneNetwork, NetworkDesign, build_network
from emseg.membrane.training import PLANS, TrainingPlan, predict_membrane, train_network
from emseg.runs.session import Run
from emseg.source_code import code_digest
from emseg.tiling.receptive_field import Dependence, ReceptiveField, theoretical_receptive_field
from emseg.wording import as_html, format_number

Image = NDArray[np.float32]
COARSE_NM, FINE_NM = 4.0, 2.18
PAPER_AREAS_NM2 = (46_000.0, 10_300.0)
PAPER_RATIO = PAPER_AREAS_NM2[0] / PAPER_AREAS_NM2[1]
LEAST_MARGIN = 8
N_FOLLOWED = 8  # targets of each condition whose score is followed along the path
CLASS_COLOURS = dict(zip(PIXEL_CLASSES, (COLOURS[name] for name in ("green", "orange", "purple", "sky")), strict=True))
CONDITION_STYLES = ((COLOURS["blue"], "o"), (COLOURS["sky"], "s"), (COLOURS["vermilion"], "^"))
_SATURATION = 0.1  # fraction of the largest |w| at which the colour is full
_TRAINING_CODE = ("**/training/*.py", "membrane/*.py", "membrane/networks/*.py", "frequency/**/*.py")
_MAP_CODE = ("attribution/*.py", "tiling/receptive_field.py")


@dataclass(frozen=True, eq=False)
class Condition:
    """One tissue at one pixel size: images to train on and to explain, and its label in figures."""

    name: str
    label: str
    images: MembraneSet

    @property
    def pixel_size_nm(self) -> float:
        """Side of a pixel on the specimen."""
        assert self.images.pixel_size_nm is not None
        return self.images.pixel_size_nm


@dataclass(frozen=True, eq=False)
class Study:
    """Conditions, and `pairs` [question] = (first, second): the area of the first over that of the second."""

    conditions: tuple[Condition, ...]
    pairs: Mapping[str, tuple[str, str]]


def open_study(data: str, *, n_train: int, n_test: int, size_px: int, seed: int) -> Study:
    """Return the conditions; with "isbi2012" the real sections replace ISBI-like tissue.

    `size_px` is the side of a synthetic image at 2.18 nm/px; coarse ones show the same area in fewer pixels. Test
    images of ISBI 2012 are those of its block split.
    """
    for name, value in (("n_train", n_train), ("n_test", n_test)):
        require_count(name, value)
    require_one_of("data", data, ("synthetic", "isbi2012"))
    pairs = {"field_area": ("urisc", "isbi"), "resolution": ("urisc", "urisc_coarse")}
    pairs["content"] = ("urisc_coarse", "isbi")

    def synthetic(name: str, label: str, tissue: str, pixel_nm: float) -> Condition:
        side = round(size_px * FINE_NM / pixel_nm)
        return Condition(name, label, _synthetic(tissue, pixel_nm, side, n_train, n_test, seed))

    urisc = synthetic("urisc", "U-RISC-like, 2.18 nm", "urisc", FINE_NM)
    coarse = synthetic("urisc_coarse", "U-RISC-like, 4 nm", "urisc", COARSE_NM)
    if data == "synthetic":
        return Study((urisc, coarse, synthetic("isbi", "ISBI-like, 4 nm", "isbi", COARSE_NM)), pairs)
    return Study((urisc, coarse, *_isbi(n_train, n_test)), {**pairs, "isbi_resolution": ("isbi", "isbi_coarse")})


def _synthetic(tissue: str, pixel_size_nm: float, size_px: int, n_train: int, n_test: int, seed: int) -> MembraneSet:
    from emseg.synthetic.tissue import ISBI_IMAGING, ISBI_LIKE, URISC_IMAGING, URISC_LIKE, synthesize_tissue

    kind, imaging = (URISC_LIKE, URISC_IMAGING) if tissue == "urisc" else (ISBI_LIKE, ISBI_IMAGING)
    seeds = [1000 * (seed + 1) + i for i in range(n_train + n_test)]
    options: dict[str, Any] = {"pixel_size_nm": pixel_size_nm, "tissue": kind, "imaging": imaging}
    pictures = [synthesize_tissue((size_px, size_px), seed=one, **options) for one in seeds]
    images = tuple(
        ArrayImage(f"tissue {one}", picture.image, picture.membrane)
        for one, picture in zip(seeds, pictures, strict=True)
    )
    name = f"synthetic {'U-RISC' if tissue == 'urisc' else 'ISBI'}-like tissue at {pixel_size_nm:g} nm/px"
    fingerprint = " ".join(picture.fingerprint() for picture in pictures)
    return MembraneSet(name, "synthetic", pixel_size_nm, images[:n_train], (), images[n_train:], fingerprint)


def _isbi(n_train: int, n_test: int) -> tuple[Condition, Condition]:
    native = open_membrane_set("isbi2012", n_train=n_train, n_test=n_test)
    assert native.pixel_size_nm is not None

    def halved(images: Sequence[MembraneImage]) -> tuple[ArrayImage, ...]:
        truths = [halve(image.read_membrane().astype(np.uint8) * 255) >= 128 for image in images]
        pairs = zip(images, truths, strict=True)
        return tuple(ArrayImage(image.name, halve(image.read()), truth) for image, truth in pairs)

    coarse = replace(
        native,
        name=f"{native.name}, averaged to {2 * native.pixel_size_nm:g} nm/px",
        pixel_size_nm=2 * native.pixel_size_nm,
        fingerprint=f"{native.fingerprint} halved",
        train=halved(native.train),
        validation=halved(native.validation),
        test=halved(native.test),
    )
    return Condition("isbi", "ISBI 2012, 4 nm", native), Condition("isbi_coarse", "ISBI 2012, 8 nm", coarse)


def halve(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image at half its size, each pixel the mean of four; an odd last row or column is left out."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    even = np.ascontiguousarray(image[: 2 * height, : 2 * width])
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _in_project(folder: str | Path) -> Path:
    return Path(folder) if Path(folder).is_absolute() else find_root() / folder


def training_plan(n_steps: int, batch: int, crop_size: int, seed: int, device: str, precision: str) -> TrainingPlan:
    """Return the plan of a small network, without validation; "auto" precision depends on the device."""
    steps = {"n_steps": n_steps, "warm_up_steps": n_steps // 4, "validate_every": 0}
    draws = {"batch_size": batch, "crop_size": crop_size, "seed": seed}
    return PLANS["small"].changed(**steps, **draws, device=device, precision=precision)


def trained(
    condition: Condition, design: NetworkDesign, plan: TrainingPlan, work_folder: str | Path
) -> MembraneNetwork:
    """Return the network of a condition, trained or taken from its finished work folder, in evaluation mode."""
    names = [image.name for image in condition.images.train]
    recipe = f"{condition.images.fingerprint} {names} {design} {plan.settings()} {torch.__version__}"
    name = f"{condition.name}-{plan.n_steps}-{digest_of(code_digest(*_TRAINING_CODE), recipe)[:12]}"
    folder = _in_project(work_folder) / name
    return _laid_out(train_network(design, plan, condition.images, folder, resume=True, progress=False).network)


def untrained(design: NetworkDesign, seed: int) -> MembraneNetwork:
    """Return the network before its first step."""
    return _laid_out(build_network(design, seed=seed))


def _laid_out(network: MembraneNetwork) -> MembraneNetwork:
    """Return a network for evaluation, its weights with the channels last, where a CPU is faster."""
    return network.to(memory_format=torch.channels_last).eval()


@dataclass(frozen=True)
class Integral:
    """Points and rule of the path integral, and the folder that keeps finished maps; None keeps none."""

    n_steps: int = 100
    quadrature: str = "riemann_right"
    work_folder: str | Path | None = None

    def attribute(
        self, network: torch.nn.Module, image: Image, targets: NDArray[np.int64], baseline: Image | None = None
    ) -> Attribution:
        """Return the integrated gradients of some pixels, from mid-grey unless there is another baseline."""
        start = np.zeros_like(image) if baseline is None else baseline
        rule = {"n_steps": self.n_steps, "quadrature": self.quadrature}
        folder = None
        if self.work_folder is not None:
            arrays = [digest_of_array(one) for one in (image, start, np.asarray(targets))]
            parts = (code_digest(*_MAP_CODE), torch.__version__, digest_of_network(network), str(rule), *arrays)
            folder = _in_project(self.work_folder) / "maps" / digest_of(*parts)
        found = attribute_pixels(network, image, targets, baseline=start, resume_folder=folder, **rule)  # type: ignore[arg-type]
        return replace(found, maps=np.array(found.maps))


@dataclass(frozen=True, eq=False)
class ImageFields:
    """One test image [row, column], its truth, the prediction, the chosen pixels and their maps."""

    image: NDArray[np.uint8]
    membrane: NDArray[np.bool_]
    probability: Image
    sample: PixelSample
    attribution: Attribution

    @property
    def scaled(self) -> Image:
        """The image as the network gets it."""
        return network_input(self.image)

    @property
    def f1(self) -> float:
        """F1 of membrane at a threshold of a half."""
        found = self.probability >= 0.5
        return 2 * int((found & self.membrane).sum()) / max(1, int(found.sum()) + int(self.membrane.sum()))


@dataclass(frozen=True, eq=False)
class ConditionFields:
    """A condition's network, how far it can see, and the maps of its test images."""

    condition: Condition
    network: MembraneNetwork
    field: ReceptiveField
    images: tuple[ImageFields, ...]

    @property
    def pixel_size_nm(self) -> float:
        """Side of a pixel on the specimen."""
        return self.condition.pixel_size_nm

    def values(
        self, measure: Callable[[Attribution], NDArray[np.float64]], pixel_class: PixelClass = "correct_membrane"
    ) -> Grouped:
        """Return a measure of each target of a class with its image; targets where it is undefined are left out."""
        values = [measure(one.attribution)[one.sample.of(pixel_class)] for one in self.images]
        numbers = np.repeat(np.arange(len(values)), [len(one) for one in values])
        joined = np.concatenate(values)
        kept = np.isfinite(joined)
        if not kept.any():
            reason = "the network finds too little membrane. Train it for more steps, or explain more images."
            raise InputError(f"no {pixel_class} pixel of {self.condition.label} has a field: {reason}")
        return Grouped(joined[kept], numbers[kept])

    def areas(
        self,
        threshold: float = PAPER_THRESHOLD,
        sign: str = "positive",
        normalise: str = "max",
        pixel_class: PixelClass = "correct_membrane",
    ) -> Grouped:
        """Return S_k in nm^2 of each target of a class."""
        return self.values(lambda one: field_area(one, threshold, self.pixel_size_nm, sign, normalise), pixel_class)

    def half_areas(self) -> Grouped:
        """Return the area in nm^2 that holds half of the absolute attribution."""
        return self.values(lambda one: area_holding(one, 0.5, self.pixel_size_nm))

    def radii(self, share: float) -> Grouped:
        """Return the radius in nm that holds a fraction of the absolute attribution."""
        return self.values(lambda one: radius_holding(one, one.targets, share, self.pixel_size_nm))

    def window(self, one: ImageFields, target: NDArray[np.int64]) -> tuple[Image, NDArray[np.int64]]:
        """Return the part of an image that holds the target's receptive field, and the target [1, 2] in it."""
        reach = self.field.reach
        if reach is None:
            return one.scaled, target[None].astype(np.int64)
        seen = Dependence((reach, reach), (reach, reach), self.network.stride)
        top, bottom, left, right = seen.window(target, one.image.shape)
        return np.ascontiguousarray(one.scaled[top:bottom, left:right]), (target - np.array([top, left]))[None]

    def path_scores(self, one: ImageFields, target: NDArray[np.int64], alphas: NDArray[np.float64]) -> NDArray[Any]:
        """Return the score of a target at points of the straight path from mid-grey to its image."""
        image, place = self.window(one, target)
        device = next(self.network.parameters()).device
        points = torch.from_numpy(alphas.astype(np.float32)[:, None, None, None] * image).to(device)
        with torch.inference_mode():
            logits = [self.network(part)[:, 0, int(place[0, 0]), int(place[0, 1])] for part in torch.split(points, 16)]
        return torch.cat(logits).double().cpu().numpy()

    @property
    def half_width(self) -> int:
        """Half the side of a drawn window: the network's reach, or a quarter of the image where that is smaller."""
        side = min(self.images[0].image.shape)
        return int(max(8, min(self.field.reach or side, side // 4)))


def survey(
    condition: Condition, network: MembraneNetwork, integral: Integral, *, per_class: int, seed: int
) -> ConditionFields:
    """Return the fields of up to `per_class` pixels of each class in every test image of a condition.

    Targets are at least the network's reach inside the border where the image is large enough, at most a quarter of its
    side otherwise, and half that reach apart.
    """
    field = theoretical_receptive_field(network, stride=network.stride)
    images = []
    for number, source in enumerate(condition.images.labelled_test):
        image, membrane = source.read(), source.read_membrane()
        reach = min(field.reach or min(image.shape), min(image.shape) // 4)
        probability = predict_membrane(network, image)
        distances = {"margin": max(LEAST_MARGIN, reach), "spacing": max(1, reach // 4)}
        rng = np.random.default_rng([seed, number])
        sample = sample_pixels(probability, membrane, per_class, rng, **distances)
        maps = integral.attribute(network, network_input(image), sample.targets)
        images.append(ImageFields(image, membrane, probability, sample, maps))
    return ConditionFields(condition, network, field, tuple(images))


def halfway(alphas: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return the position by which half of the score's change, up and down, has happened; NaN for a constant score.

    A linear network has 0.5. One that saturates changes in the first few hundredths, between two points of a coarse
    rule (Miglani et al. 2020, "Investigating saturation effects in integrated gradients").
    """
    changed = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(scores)))])
    return float(np.interp(changed[-1] / 2, changed, alphas)) if changed[-1] > 0 else float("nan")


def report_estimate(run: Run, name: str, one: Estimate, unit: str, label: str) -> None:
    """Record an estimate with its interval."""
    run.metric(name, one.value, n=one.n, unit=unit, interval=(one.low, one.high), label=label)


def report_fields(run: Run, surveys: Sequence[ConditionFields], *, n_resamples: int, seed: int) -> None:
    """Record, for each condition, area, fraction of the image, radii, receptive field, completeness and F1."""
    rng = np.random.default_rng([seed, 4])
    for fields in surveys:
        name, label = fields.condition.name, fields.condition.label
        areas = fields.areas()
        for key, values, unit, text in (
            (f"field_area_{name}", areas, "nm^2", "S at k = 0.01, correct membrane"),
            (f"half_area_{name}", fields.half_areas(), "nm^2", "Area that holds half of |w|"),
            (f"radius_50_{name}", fields.radii(0.5), "nm", "Radius that holds 50% of |w|"),
            (f"radius_90_{name}", fields.radii(0.9), "nm", "Radius that holds 90% of |w|"),
        ):
            estimate = bootstrap_mean(values, n_resamples=n_resamples, generator=rng)
            report_estimate(run, key, estimate, unit, f"{text}, {label}")
        height, width = fields.images[0].image.shape
        share = 100 * float(areas.values.mean()) / (height * width * fields.pixel_size_nm**2)
        text = "S at k = 0.01 as a share of the image"
        run.metric(f"field_share_{name}", share, n=len(areas.values), unit="%", label=f"{text}, {label}")
        seen, text = fields.field.area_nm2(fields.pixel_size_nm, height, width), "Theoretical receptive field"
        run.metric(f"receptive_field_{name}", seen, n=1, unit="nm^2", label=f"{text}, within the image, {label}")
        maps = [one.attribution for one in fields.images]
        gaps = np.concatenate([np.abs(one.completeness_gap) for one in maps])
        relative = np.concatenate([one.relative_gap for one in maps])
        sums = np.concatenate([np.abs(one.maps).sum(axis=(1, 2), dtype=np.float64) for one in maps])
        every = [(one, target) for one in fields.images for target in one.sample.targets]
        chosen = np.unique(np.linspace(0, len(every) - 1, min(N_FOLLOWED, len(every))).round().astype(int))
        alphas, followed = np.linspace(0, 1, 41), [every[place] for place in chosen]
        positions = np.array([halfway(alphas, fields.path_scores(one, target, alphas)) for one, target in followed])
        path = "Position on the path by which half of the score's change has happened"
        for key, median, text in (
            ("completeness_gap", relative[np.isfinite(relative)], "|Completeness gap| over |f(x) - f(baseline)|"),
            ("completeness_gap_logits", gaps, "|Completeness gap| in logits"),
            ("completeness_gap_share", gaps[sums > 0] / sums[sums > 0], "|Completeness gap| over sum of |w|"),
            ("path_halfway", positions[np.isfinite(positions)], path),
        ):
            n = len(gaps) if key == "completeness_gap_share" else len(median)
            if len(median):
                run.metric(f"{key}_{name}", float(np.median(median)), n=n, label=f"{text}, median, {label}")
        f1, n = float(np.mean([one.f1 for one in fields.images])), len(fields.images)
        run.metric(f"f1_{name}", f1, n=n, label=f"F1 of membrane at 0.5, {label}")
        run.metric(f"n_targets_{name}", float(len(every)), n=n, label=f"Attributed pixels, {label}")


def report_comparisons(
    run: Run, study: Study, surveys: Sequence[ConditionFields], *, n_resamples: int, seed: int
) -> dict[str, Difference]:
    """Record the ratios of areas between conditions with p values, and what each explains of the paper's ratio."""
    rng = np.random.default_rng([seed, 5])
    by_name, found = {fields.condition.name: fields for fields in surveys}, {}
    for question, pair in study.pairs.items():
        first, second = by_name[pair[0]], by_name[pair[1]]
        difference = compare_sets(first.areas(), second.areas(), n_resamples=n_resamples, generator=rng)
        ratio, n_images = difference.ratio, sum(difference.n_images)
        text = f"{first.condition.label} over {second.condition.label}"
        report_estimate(run, f"{question}_ratio", ratio, "1", f"Ratio of S at k = 0.01: {text}")
        for key, value, n, label in (
            ("ratio_low", ratio.low, ratio.n, "Lower end of the 95 % interval of that ratio"),
            ("p_value", difference.p_value, n_images, "p of the difference, images permuted"),
            ("smallest_p", difference.smallest_p, n_images, "Smallest p that so many images allow"),
        ):
            run.metric(f"{question}_{key}", value, n=n, label=f"{label}: {text}")
        if ratio.value > 0:
            share, label = share_of_paper_ratio(ratio.value), "Share of the paper's logarithmic ratio"
            run.metric(f"{question}_log_share", share, n=ratio.n, label=f"{label}: {text}")
        scale = (second.pixel_size_nm / first.pixel_size_nm) ** 2
        pixels = bootstrap_ratio(first.areas(), second.areas(), n_resamples=n_resamples, generator=rng)
        pixels = replace(pixels, value=pixels.value * scale, low=pixels.low * scale, high=pixels.high * scale)
        report_estimate(run, f"{question}_pixel_ratio", pixels, "1", f"Ratio of pixel counts: {text}")
        found[question] = difference
    return found


def share_of_paper_ratio(ratio: float) -> float:
    """Return log(ratio) / log(paper's ratio): 1 when a factor explains it all, negative when it works against it."""
    return float(np.log(ratio) / np.log(PAPER_RATIO))


def show_field(
    ax: Axes, one: NDArray[Any], pixel_size_nm: float, target: Sequence[int], half_px: int, title: str = ""
) -> None:
    """Draw a map about its target as the paper's Figure 8 does: blue where a pixel supports membrane, red against.

    The colour is full at a tenth of the largest value, or the single largest pixel would leave all others white.
    """
    window, (row, column) = window_about(one, target, half_px)
    top = max(float(np.abs(window).max()) * _SATURATION, np.finfo(float).tiny)
    show_image(ax, np.zeros(window.shape), pixel_size_nm, title=title)
    ax.imshow(window, cmap="RdBu", vmin=-top, vmax=top, zorder=0.5)
    ax.plot(column, row, marker="+", color="black", markersize=7, markeredgewidth=1.0)


def window_about(values: NDArray[Any], target: Sequence[int], half_px: int) -> tuple[NDArray[Any], tuple[int, int]]:
    """Return the square of an image about a target, and the target in it."""
    row, column = int(target[0]), int(target[1])
    top, left = max(0, row - half_px), max(0, column - half_px)
    return values[top : row + half_px + 1, left : column + half_px + 1], (row - top, column - left)


def plot_examples(surveys: Sequence[ConditionFields]) -> Figure:
    """Draw, for each condition, image, prediction and truth, and below the fields of three pixels (Figure 8)."""
    names = PIXEL_CLASSES[:3]
    figure, grid = plt.subplots(2 * len(surveys), 3, figsize=(PAGE_WIDTH_IN * 0.86, 4.6 * len(surveys)))
    for number, fields in enumerate(surveys):
        one = max(fields.images, key=lambda image: sum(bool(len(image.sample.of(name))) for name in names))
        upper, lower = grid[2 * number], grid[2 * number + 1]
        panels = zip((one.image, one.probability, one.membrane), (255.0, 1.0, 1.0), strict=True)
        titles = (fields.condition.label, "probability of membrane", "truth")
        for ax, (panel, white), title in zip(upper, panels, titles, strict=True):
            show_image(ax, np.asarray(panel, dtype=float), fields.pixel_size_nm, title=title, grey_range=(0.0, white))
        for ax, name in zip(lower, names, strict=True):
            places, colour = one.sample.of(name), CLASS_COLOURS[name]
            if not len(places):
                ax.set_axis_off()
                ax.text(0.5, 0.5, f"no {name.replace('_', ' ')}", ha="center", transform=ax.transAxes)
                continue
            target, maps = one.sample.targets[places[0]], one.attribution.maps
            for picture in upper:
                ring = Circle((target[1], target[0]), one.image.shape[1] / 40, fill=False, edgecolor=colour, lw=1.8)
                picture.add_patch(ring)
            show_field(ax, maps[places[0]], fields.pixel_size_nm, target, fields.half_width, name.replace("_", " "))
            ax.set_axis_on()
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=colour, linewidth=2.5)
    return figure


def plot_areas(
    surveys: Sequence[ConditionFields], thresholds: Sequence[float], *, n_resamples: int, seed: int
) -> Figure:
    """Draw S_k against k with intervals, and S_0.01 of each class of pixels (Figure 7B)."""
    resampling = {"n_resamples": n_resamples, "generator": np.random.default_rng([seed, 3])}
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.3))
    for i, (fields, (colour, marker)) in enumerate(zip(surveys, CONDITION_STYLES * 2, strict=False)):
        curve = [bootstrap_mean(fields.areas(k), **resampling) for k in thresholds]  # type: ignore[arg-type]
        label = fields.condition.label
        left.plot(thresholds, [one.value for one in curve], color=colour, marker=marker, markersize=4, label=label)
        low, high = ([max(one, 1.0) for one in ends] for ends in zip(*((c.low, c.high) for c in curve), strict=True))
        left.fill_between(thresholds, low, high, color=colour, alpha=0.2, lw=0)
        for place, name in enumerate(PIXEL_CLASSES):
            if any(len(one.sample.of(name)) for one in fields.images):
                mean = bootstrap_mean(fields.areas(pixel_class=name), **resampling)  # type: ignore[arg-type]
                bars = [[max(0.0, mean.value - mean.low)], [max(0.0, mean.high - mean.value)]]
                x = place + 0.2 * (i - (len(surveys) - 1) / 2)
                right.errorbar([x], [mean.value], yerr=bars, fmt=marker, color=colour, markersize=5, linewidth=1.2)
    for area, paper_set in zip(PAPER_AREAS_NM2, ("U-RISC", "ISBI 2012"), strict=True):
        left.plot([0.01], [area], marker="*", color="black", markersize=8, linestyle="none")
        left.annotate(f"paper, {paper_set}", (0.01, area), xytext=(6, -3), textcoords="offset points", fontsize=7)
    left.set(xscale="log", yscale="log", xlabel="threshold k (fraction of the map's maximum)")
    left.set_ylabel("area of the field $S_k$ (nm²)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    right.set_xticks(range(len(PIXEL_CLASSES)), [name.replace("_", "\n") for name in PIXEL_CLASSES])
    right.set(ylabel="$S_{0.01}$ (nm²)", ylim=(0, None))
    return figure


def within_radii(one: NDArray[Any], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fraction of |w| within 0, 1, 2 ... pixels of the target."""
    rows, columns = np.ogrid[: one.shape[0], : one.shape[1]]
    distance = np.ceil(np.hypot(rows - target[0], columns - target[1])).astype(np.int64)
    sums = np.cumsum(np.bincount(distance.ravel(), weights=np.abs(one, dtype=np.float64).ravel()))
    return np.asarray(np.pad(sums, (0, max(one.shape) * 2 - len(sums)), mode="edge") / max(sums[-1], 1e-300))


def field_page(fields: ConditionFields, *, number: int = 0, name: str = "field", n_most: int = 12) -> dict[str, str]:
    """Return the page of one test image as HTML and text: up to `n_most` of its pixels, with area and radii of each.

    Show it with `display(page, raw=True)`. Each pixel is a radio button on the micrograph, and a style rule shows the
    picture of the one that is checked, so it works without a kernel and by keyboard. `name` keeps two pages of one
    notebook apart.
    """
    one = fields.images[number]
    queues = [list(np.flatnonzero(one.sample.classes == kind)) for kind in range(len(PIXEL_CLASSES))]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    if not turns:
        raise UsageError(f"image {number} has no attributed pixels. Choose another.")
    height, width = one.image.shape
    buttons, panels, rules, lines = "", "", "", []
    for place, index in enumerate(turns[:n_most]):
        row, column = (int(value) for value in one.sample.targets[index])
        kind, key = PIXEL_CLASSES[int(one.sample.classes[index])], f"{name}-{place}"
        words, colour = html.escape(f"{kind.replace('_', ' ')} at row {row}, column {column}"), CLASS_COLOURS[kind]
        lines.append(f"{words}: {_sizes(one.attribution, int(index), fields.pixel_size_nm)}")
        where = f"left:{100 * column / width:.2f}%;top:{100 * row / height:.2f}%"
        look = f"{where};accent-color:{colour};outline:2px solid {colour}"
        checked = "" if place else " checked"
        buttons += f'<input type="radio" name="{name}" id="{key}" aria-label="{words}"{checked} style="{look}">'
        figure, ax = plt.subplots(figsize=(2.4, 2.4), dpi=100)
        show_field(ax, one.attribution.maps[index], fields.pixel_size_nm, (row, column), fields.half_width)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        plt.close(figure)
        alt = f"Attribution field of the {words}: blue pixels support membrane, red ones speak against it."
        panels += f'<div class="panel panel-{place}">{_png(buffer.getvalue(), alt)}<p>{as_html(lines[-1])}</p></div>'
        rules += f"#{name}:has(#{key}:checked) .panel-{place}{{display:block}}"
    alt = f"Micrograph, {html.escape(fields.condition.label)}, with a button on each pixel whose field can be shown."
    markup = (
        f"<style>#{name}{{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}}"
        f"#{name} .picture{{position:relative;width:330px;max-width:100%}}#{name} .picture img{{width:100%;"
        f"display:block}}#{name} input{{position:absolute;transform:translate(-50%,-50%);margin:0;border-radius:50%;"
        f"cursor:pointer}}#{name} .panel{{display:none;margin:0;width:330px;max-width:100%}}#{name} .panel img"
        f'{{width:100%}}{rules}</style><div id="{name}" role="group" aria-label="Pixels and their attribution fields">'
        f'<div class="picture">{_png(cv2.imencode(".png", one.image)[1].tobytes(), alt)}{buttons}</div>{panels}</div>'
    )
    return {"text/html": markup, "text/plain": "\n".join(lines)}


def _png(content: bytes, alt: str) -> str:
    return f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="{alt}">'


def _sizes(found: Attribution, index: int, pixel_size_nm: float) -> str:
    maps, targets = found.maps[index : index + 1], found.targets[index : index + 1]
    area = float(field_area(maps, PAPER_THRESHOLD, pixel_size_nm)[0])
    half, most = (float(radius_holding(maps, targets, share, pixel_size_nm)[0]) for share in (0.5, 0.9))
    area_text, half_text, most_text = (format_number(value, 3) for value in (area, half, most))
    within = f"half of the attribution within {half_text} nm, 90 % within {most_text} nm"
    return f"S = {area_text} nm² at k = {PAPER_THRESHOLD:g}; {within}"


def explore_live(
    fields: ConditionFields, integral: Integral, *, number: int = 0, show: Callable[[Any], None] | None = None
) -> Any:
    """Return sliders for row and column that attribute any pixel at once; they need a running kernel."""
    import ipywidgets  # type: ignore[import-untyped,unused-ignore]

    one = fields.images[number]
    height, width = one.image.shape

    def draw(row: int, column: int) -> None:
        found = integral.attribute(fields.network, one.scaled, np.array([[row, column]]))
        figure, axes = plt.subplots(1, 2, figsize=(7, 3.4))
        axes[0].imshow(one.image, cmap="gray", vmin=0, vmax=255)
        axes[0].plot(column, row, marker="+", color="red")
        axes[0].set_axis_off()
        show_field(axes[1], found.maps[0], fields.pixel_size_nm, (row, column), fields.half_width)
        figure.suptitle(_sizes(found, 0, fields.pixel_size_nm))
        (show or (lambda _: plt.show()))(figure)

    row_slider = ipywidgets.IntSlider(height // 2, 0, height - 1, description="row", continuous_update=False)
    column_slider = ipywidgets.IntSlider(width // 2, 0, width - 1, description="column", continuous_update=False)
    return ipywidgets.interactive(draw, row=row_slider, column=column_slider)
