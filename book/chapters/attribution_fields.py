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
from emseg.reported import DisplayTable, text_table
from emseg.runs.session import Run
from emseg.source_code import code_digest
from emseg.tiling.receptive_field import Dependence, ReceptiveField, theoretical_receptive_field
from emseg.wording import format_measured, format_number

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
        """Return the area in nm^2 that contains half of the absolute attribution."""
        return self.values(lambda one: area_holding(one, 0.5, self.pixel_size_nm))

    def radii(self, share: float) -> Grouped:
        """Return the radius in nm that contains a fraction of the absolute attribution."""
        return self.values(lambda one: radius_holding(one, one.targets, share, self.pixel_size_nm))

    def window(self, one: ImageFields, target: NDArray[np.int64]) -> tuple[Image, NDArray[np.int64]]:
        """Return the part of an image that contains the target's receptive field, and the target [1, 2] in it."""
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
            (f"half_area_{name}", fields.half_areas(), "nm^2", "Area with half of |w|"),
            (f"radius_50_{name}", fields.radii(0.5), "nm", "Radius with 50% of |w|"),
            (f"radius_90_{name}", fields.radii(0.9), "nm", "Radius with 90% of |w|"),
        ):
            estimate = bootstrap_mean(values, n_resamples=n_resamples, generator=rng)
            report_estimate(run, key, estimate, unit, f"{text}, {label}")
        height, width = fields.images[0].image.shape
        area, scale = run.metrics[f"field_area_{name}"], 100 / (height * width * fields.pixel_size_nm**2)
        ends, text = [scale * end for end in area.interval or ()], "S at k = 0.01 as a fraction of the image"
        more: dict[str, Any] = {"interval": (ends[0], ends[1]), "unit": "%"}
        run.metric(f"field_share_{name}", scale * area.value, n=area.n, label=f"{text}, {label}", **more)
        seen, text = fields.field.area_nm2(fields.pixel_size_nm, height, width), "Theoretical receptive field"
        run.metric(f"receptive_field_{name}", seen, n=1, unit="nm^2", label=f"{text}, within the image, {label}")
        maps = [one.attribution for one in fields.images]
        gaps = [np.abs(one.completeness_gap) for one in maps]
        sums = [np.abs(one.maps).sum(axis=(1, 2), dtype=np.float64) for one in maps]
        shares = [gap / np.maximum(one, 1e-300) for gap, one in zip(gaps, sums, strict=True)]
        alphas, path = np.linspace(0, 1, 41), "Position on the path by which half of the score's change has happened"
        followed = [one.sample.targets[: -(-N_FOLLOWED // len(fields.images))] for one in fields.images]
        places = [
            np.array([halfway(alphas, fields.path_scores(one, target, alphas)) for target in targets])
            for one, targets in zip(fields.images, followed, strict=True)
        ]
        for key, found, text in (
            ("completeness_gap", [one.relative_gap for one in maps], "|Completeness gap| over |f(x) - f(baseline)|"),
            ("completeness_gap_logits", gaps, "|Completeness gap| in logits"),
            ("completeness_gap_share", shares, "|Completeness gap| over sum of |w|"),
            ("path_halfway", places, path),
        ):
            by_image = [one[np.isfinite(one)] for one in found if np.isfinite(one).any()]
            if by_image:
                median = bootstrap_median(by_image, n_resamples=n_resamples, generator=rng)
                report_estimate(run, f"{key}_{name}", median, "1", f"{text}, median, {label}")
        f1, n = [one.f1 for one in fields.images], len(fields.images)
        sd = float(np.std(f1, ddof=1)) if n > 1 else None
        run.metric(f"f1_{name}", float(np.mean(f1)), n=n, spread=sd, label=f"F1 of membrane at 0.5, {label}")
        n_targets = sum(len(one.sample.targets) for one in fields.images)
        run.metric(f"n_targets_{name}", float(n_targets), n=n, label=f"Attributed pixels, {label}")


def bootstrap_median(
    by_image: Sequence[NDArray[np.float64]], *, n_resamples: int, generator: np.random.Generator
) -> Estimate:
    """Return the median of all values with its 95 % interval, images drawn first and values within them."""
    draws = [
        np.median(np.concatenate([generator.choice(by_image[i], len(by_image[i])) for i in chosen]))
        for chosen in generator.integers(len(by_image), size=(n_resamples, len(by_image)))
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    joined = np.concatenate(by_image)
    return Estimate(float(np.median(joined)), float(low), float(high), len(joined), len(by_image))


def fields_table(run: Run, surveys: Sequence[ConditionFields]) -> DisplayTable:
    """Return a row for each condition: how good its network is, its areas and radii, and the bound of any area."""

    def shown(name: str) -> str:
        metric = run.metrics[name]
        low, high = metric.interval or (metric.value, metric.value)
        return " to ".join(format_measured(end, (high - low) / 2) for end in (low, high))

    rows = {}
    for fields in surveys:
        name = fields.condition.name
        f1, bound = run.metrics[f"f1_{name}"].value, run.metrics[f"receptive_field_{name}"].value
        cells = [shown(f"{key}_{name}") for key in ("field_area", "half_area", "radius_50")]
        rows[f"field-{name.replace('_', '-')}"] = (fields.condition.label, f"{f1:.2f}", *cells, f"{bound:,.0f}")
    header = ("Condition", "F1 of the network", "S at k = 0.01 (nm²)", "Area with half of |w| (nm²)")
    more = ("Radius with half of |w| (nm)", "Receptive field (nm²)")
    return text_table("Fields of correct membrane pixels: 95 % intervals of the means.", (*header, *more), rows)


def report_comparisons(
    run: Run, study: Study, surveys: Sequence[ConditionFields], *, n_resamples: int, seed: int
) -> dict[str, Difference]:
    """Record the ratios of areas between conditions, in nm^2 and in pixels, with p values."""
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
            ("smallest_p", difference.smallest_p, n_images, "Smallest p possible with this number of images"),
        ):
            run.metric(f"{question}_{key}", value, n=n, label=f"{label}: {text}")
        scale = (second.pixel_size_nm / first.pixel_size_nm) ** 2
        pixels = bootstrap_ratio(first.areas(), second.areas(), n_resamples=n_resamples, generator=rng)
        pixels = replace(pixels, value=pixels.value * scale, low=pixels.low * scale, high=pixels.high * scale)
        report_estimate(run, f"{question}_pixel_ratio", pixels, "1", f"Ratio of pixel counts: {text}")
        found[question] = difference
    return found


def show_field(
    ax: Axes,
    one: NDArray[Any],
    pixel_size_nm: float,
    target: Sequence[int],
    half_px: int,
    title: str = "",
    top: float | None = None,
) -> None:
    """Draw a map about its target as the paper's Figure 8 does: blue where a pixel supports membrane, red against.

    The colour is full at `top`, by default a tenth of the largest value, or the single largest pixel would leave all
    others white.
    """
    window, (row, column) = window_about(one, target, half_px)
    top = max(top or float(np.abs(window).max()) * _SATURATION, np.finfo(float).tiny)
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


def path_frames(fields: ConditionFields, one: ImageFields, target: NDArray[np.int64], n: int) -> dict[str, Figure]:
    """Return a figure for each of `n` steps of the integral, by its position: image, gradient, sum so far, score.

    The first is the baseline, before any step; step k takes the gradient in the middle of the k-th piece of the path.
    """
    image, place = fields.window(one, target)
    x, (row, column) = torch.from_numpy(image), place[0].tolist()
    device = next(fields.network.parameters()).device
    ends = np.linspace(0, 1, n + 1)
    scores, total, sums = fields.path_scores(one, target, ends), np.zeros_like(image), [0.0]
    maps = [(0.0, total, total)]
    for alpha in (ends[:-1] + ends[1:]) / 2:
        point = (alpha * x).to(device).requires_grad_()
        score = fields.network(point[None, None])[0, 0, row, column]
        step = torch.autograd.grad(score, point)[0].detach().cpu().numpy() * image / n
        total = total + step
        maps.append((alpha, step, total))
        sums.append(float(total.sum(dtype=np.float64)))
    half, top = min(fields.half_width, 32), float(np.abs(total).max()) * _SATURATION
    frames = {}
    for k, (alpha, step, so_far) in enumerate(maps):
        figure, axes = plt.subplots(1, 4, figsize=(PAGE_WIDTH_IN, 1.9), width_ratios=(1, 1, 1, 1.35))
        window, (r, c) = window_about(alpha * image, (row, column), half)
        show_image(axes[0], window, fields.pixel_size_nm, title="image on the path", grey_range=(-1.0, 1.0))
        axes[0].plot(c, r, marker="+", color=CLASS_COLOURS["correct_membrane"], markersize=8)
        for ax, one_map, scale, title in ((axes[1], step, n, "this step"), (axes[2], so_far, 1, "sum so far")):
            show_field(ax, one_map, fields.pixel_size_nm, (row, column), half, title, top=top / scale)
        axes[3].plot(ends, scores - scores[0], color=COLOURS["grey"], label="score")
        axes[3].plot(ends[: k + 1], sums[: k + 1], "o", color=COLOURS["blue"], markersize=3.5, label="sum of the map")
        axes[3].set(xlabel="α", xlim=(-0.03, 1.03), title="rise of the score")
        axes[3].legend(loc="best", fontsize=7)
        frames[f"α = {alpha:.2f}" if k else "baseline, α = 0"] = figure
    return frames


def pixel_frames(fields: ConditionFields, *, number: int = 0, n_most: int = 6) -> dict[str, Figure]:
    """Return a figure of the image and one pixel's field for up to `n_most` pixels of an image, by class and place."""
    one = fields.images[number]
    queues = [list(np.flatnonzero(one.sample.classes == kind)) for kind in range(len(PIXEL_CLASSES))]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    if not turns:
        raise UsageError(f"image {number} has no attributed pixels. Choose another.")
    frames = {}
    for index in turns[:n_most]:
        (row, column), kind = one.sample.targets[index].tolist(), PIXEL_CLASSES[int(one.sample.classes[index])]
        figure, (left, right) = plt.subplots(1, 2, figsize=(5.2, 2.75))
        show_image(left, one.image, fields.pixel_size_nm, title=kind.replace("_", " "), grey_range=(0, 255))
        left.add_patch(Circle((column, row), one.image.shape[1] / 40, fill=False, ec=CLASS_COLOURS[kind], lw=2))
        show_field(right, one.attribution.maps[index], fields.pixel_size_nm, (row, column), fields.half_width)
        right.set_title(_sizes(one.attribution, int(index), fields.pixel_size_nm), fontsize=8)
        frames[f"{kind.replace('_', ' ')} at row {row}, column {column}"] = figure
    return frames


def _sizes(found: Attribution, index: int, pixel_size_nm: float) -> str:
    maps, targets = found.maps[index : index + 1], found.targets[index : index + 1]
    area = float(field_area(maps, PAPER_THRESHOLD, pixel_size_nm)[0])
    half = float(radius_holding(maps, targets, 0.5, pixel_size_nm)[0])
    return f"S = {format_number(area, 3)} nm², half of |w| within {format_number(half, 2)} nm"
