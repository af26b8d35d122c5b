"""The chapter `urisc_dataset`: what a set of micrographs contains, and rounds of annotation as learning.

    membrane fraction p = membrane pixels / pixels, per image
    imbalance = (1 - p) / p, background pixels for each pixel of membrane
    F1 of calling everything membrane = 2 p / (1 + p)

Each round of annotation is scored against the last, which U-RISC takes as the truth. Rounds come from a model of an
annotator applied to a synthetic truth, from one kind of its errors alone, or from U-RISC's own folder
`Human_Annotation_Process/1st`, `2nd`, `final`. The errors are

    missed     a stretch of membrane is left out: from one junction to the next, at most about 600 nm of it
    spurious   an outline as wide as a membrane is drawn inside a cell, where an organelle may be
    displaced  a smooth random field moves every point of the lines

Stretches and outlines are put in a random order, u = (place + 1/2) / number of stretches; those with u below the
requested fraction are wrong, and the displacement field has a fixed shape. With one seed, a better round therefore
contains a subset of the errors of a worse one. The model is ours: its parameters were chosen, not measured.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from pydantic import Field
from skimage.morphology import skeletonize

from emseg.checks import Fraction, require_one_of, validated
from emseg.errors import InputError, UsageError
from emseg.figures import COLOURS, show_image
from emseg.membrane.dataset import MembraneImage, MembraneSet, Window, grey_of_membrane, pair_files, read_label
from emseg.membrane.dataset.known_sets import missing_urisc
from emseg.membrane.scoring import ImageScores, ScoreSettings, class_scores, score_image, summarize
from emseg.membrane.scoring.pixels import FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, PALETTE, TRUE_POSITIVE
from emseg.reported import DisplayTable, load_reported, select_reported, text_table
from emseg.runs.session import Run
from emseg.wording import format_number

BAND_ROWS = 2048
_THIN_PX = 6.0
_PAPER_SETS = ("U-RISC", "ISBI 2012")
SET_NAMES = {"track1": "U-RISC-like, Track 1", "track2": "U-RISC-like, Track 2", "isbi_like": "ISBI-like"}

ORGANELLE_NM = (90.0, 260.0)
"""Smallest and largest half axis of a spurious outline; those that do not fit inside their cell are drawn smaller."""
LONGEST_STRETCH_NM = 600.0
DISPLACEMENT_SCALE_NM = 250.0  # distance over which the displacement changes
ERROR_KINDS = {"missed": "missed membranes", "spurious": "spurious outlines", "displacement_nm": "displaced lines"}
MOST = {"missed": 1.0, "spurious": 1.0, "displacement_nm": 60.0}
ROUNDS_FOLDER = "Human_Annotation_Process"
SHOWN_SCORES = {"membrane_f1": "F1", "membrane_precision": "precision", "membrane_recall": "recall"}
SHOWN_SCORES |= {"membrane_tolerant_f1": "tolerant F1", "v_rand": "V-Rand", "v_info": "V-Info"}
_IN_TABLE = {name: SHOWN_SCORES[name] for name in ("membrane_f1", "membrane_tolerant_f1", "v_rand", "v_info")}
_OBJECTS = {"broken_membranes": "Broken membranes", "spurious_membranes": "Spurious membranes"}


@dataclass(frozen=True, eq=False)
class SetStatistics:
    """A set in numbers, means over the labelled images of its three parts; `fractions` has an entry for each of them.

    `fraction_sd` is with n - 1, NaN for one image; `width_px` is over images that have lines, NaN without any.
    """

    name: str
    kind: str
    pixel_size_nm: float | None
    n_images: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    fractions: NDArray[np.float64]
    fraction: float
    fraction_sd: float
    imbalance: float
    f1_of_all_membrane: float
    f1_of_all_background: float
    width_px: float


def set_statistics(opened: MembraneSet) -> SetStatistics:
    """Return the statistics of a set; raise `InputError` if none of its images is labelled.

    Images are read in bands, so one may be larger than memory.
    """
    images = [image for part in opened.parts.values() for image in part]
    measured = np.array([measure_membrane(image) for image in images if image.labelled])
    if not len(measured):
        raise InputError(f"{opened.name} has no labelled image, so nothing can be counted. Add labels.")
    p, widths = measured.T
    mean, known = float(p.mean()), widths[np.isfinite(widths)]
    return SetStatistics(
        *(opened.name, opened.kind, opened.pixel_size_nm),
        n_images=tuple(len(part) for part in opened.parts.values()),
        sizes=tuple(sorted({(image.height, image.width) for image in images})),
        fractions=p,
        fraction=mean,
        fraction_sd=float(p.std(ddof=1)) if len(p) > 1 else math.nan,
        imbalance=(1 - mean) / mean if mean else math.inf,
        f1_of_all_membrane=float((2 * p / (1 + p)).mean()),
        f1_of_all_background=float((2 * (1 - p) / (2 - p)).mean()),
        width_px=float(known.mean()) if len(known) else math.nan,
    )


def measure_membrane(image: MembraneImage) -> tuple[float, float]:
    """Return the membrane fraction of an image and the mean width of its lines in px, NaN without any."""
    starts = range(0, image.height, BAND_ROWS)
    windows = [(slice(start, min(start + BAND_ROWS, image.height)), slice(0, image.width)) for start in starts]

    def bands() -> Iterator[NDArray[np.bool_]]:
        return (image.read_membrane(window) for window in windows)

    n = sum(int(np.count_nonzero(band)) for band in bands())
    return n / (image.height * image.width), _width(bands, n)


def line_width_px(membrane: NDArray[np.bool_]) -> float:
    """Return the mean width of the lines of a mask, in px; NaN without any.

    Across a line of w px, w even, the distance to the background rises from 1 to w/2 and falls again, w/4 + 1/2 on
    average; so w = 4 (mean - 1/2). For odd w that is 1/w too much, so lines that seem thinner than 6 px are measured
    again on pixels of half the side.
    """
    return _width(lambda: iter([membrane]), int(np.count_nonzero(membrane)))


def _width(bands: Callable[[], Iterator[NDArray[np.bool_]]], n: int) -> float:
    if not n:
        return math.nan
    width = 4.0 * (sum(_distance_sum(band) for band in bands()) / n - 0.5)
    if width >= _THIN_PX:
        return width
    halved = (np.repeat(np.repeat(band, 2, axis=0), 2, axis=1) for band in bands())
    return 2.0 * (sum(_distance_sum(band) for band in halved) / (4 * n) - 0.5)


def _distance_sum(membrane: NDArray[np.bool_]) -> float:
    distance = cv2.distanceTransform(membrane.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(np.asarray(distance).sum(dtype=np.float64))


def statistics_table(sets: Mapping[str, SetStatistics]) -> DisplayTable:
    """Return Figure 2 (C) of the paper as a table: our sets, and in the last two columns the paper's values."""
    labels = (
        *("Data", "Images: train, validation, test", "Size, px", "Pixel size, nm", "Side of an image, µm"),
        *("Membrane, % of pixels", "Lines, px wide", "Lines, nm wide", "Background pixels to one of membrane"),
        "F1 of calling everything membrane",
    )
    columns = [_column(one) for one in sets.values()] + [_paper_column(name) for name in _PAPER_SETS]
    caption = "The datasets in numbers, means ± standard deviations over images; last two columns: the paper."
    header = (
        "",
        *(SET_NAMES.get(key, one.name) for key, one in sets.items()),
        *(f"paper: {name}" for name in _PAPER_SETS),
    )
    rows = {f"set-{number}": row for number, row in enumerate(zip(labels, *columns, strict=True))}
    return text_table(caption, header, rows)


def _column(one: SetStatistics) -> list[str]:
    nm = math.nan if one.pixel_size_nm is None else one.pixel_size_nm
    side, *rest = map(_number, (one.sizes[0][0] * nm / 1000, one.width_px, one.width_px * nm, one.imbalance))
    fraction, trivial = _percent(one.fraction, one.fraction_sd), _number(one.f1_of_all_membrane)
    return [one.kind, ", ".join(map(str, one.n_images)), _sizes(one.sizes), _number(nm), side, fraction, *rest, trivial]


def _paper_column(name: str) -> list[str]:
    def values(quantity: str) -> list[float]:
        rows = select_reported(load_reported("urisc"), quantity, dataset=name)
        return [row.value for row in rows if row.value is not None and not row.about("track")]

    (n_images,), (nm,), sides = values("n_images"), values("pixel_size"), values("image_side")
    p, sd = paper_fraction(name)
    kind, size = "licensed" if name == "U-RISC" else "real", _sizes([(int(sides[0]), int(sides[-1]))])
    balance = (_number((1 - p) / p), _number(2 * p / (1 + p)))
    side, width = _number(sides[0] * nm / 1000), 2 * ["not stated"]
    return [kind, f"{n_images:,.0f} together", size, _number(nm), side, _percent(p, sd), *width, *balance]


def paper_fraction(dataset: str) -> tuple[float, float]:
    """Return the membrane fraction that the paper gives for "U-RISC" or "ISBI 2012", and its standard deviation."""
    row = next(iter(select_reported(load_reported("urisc"), "membrane_fraction", dataset=dataset)))
    return float(row.value or math.nan) / 100, float(row.sd or math.nan) / 100


def report_set(run: Run, prefix: str, one: SetStatistics) -> None:
    """Record the statistics of a set in a run; metric names begin with `prefix`."""
    sd = None if math.isnan(one.fraction_sd) else one.fraction_sd
    width_nm = math.nan if one.pixel_size_nm is None else one.width_px * one.pixel_size_nm
    for name, value, label, unit in (
        ("membrane_fraction", one.fraction, "Membrane fraction", "1"),
        ("f1_of_all_membrane", one.f1_of_all_membrane, "F1 of all membrane", "1"),
        ("f1_of_all_background", one.f1_of_all_background, "F1 of all background", "1"),
        ("imbalance", one.imbalance, "Background to membrane", "1"),
        ("line_width_px", one.width_px, "Width of lines", "px"),
        ("line_width_nm", width_nm, "Width of lines", "nm"),
    ):
        if math.isfinite(value):
            n, text, spread = len(one.fractions), f"{label}, {one.name}", sd if name == "membrane_fraction" else None
            run.metric(f"{prefix}_{name}", value, n=n, label=text, unit=unit, spread=spread, data=[one.kind])


def show_pair(
    axes: Sequence[Axes], image: MembraneImage, window: Window, nm: float | None, title: str, label_title: str
) -> None:
    """Draw a window of an image on the first of two axes and its label on the second: black is membrane."""
    show_image(axes[0], image.read(window), nm, title=title, grey_range=(0.0, 255.0))
    label = grey_of_membrane(image.read_membrane(window))
    show_image(axes[1], label, nm, title=label_title, grey_range=(0.0, 255.0))
    axes[1].add_patch(Rectangle((-0.5, -0.5), *label.shape[::-1], fill=False, edgecolor=COLOURS["grey"], lw=0.8))


def _sizes(sizes: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{height:,} × {width:,}" for height, width in sizes)


def _number(value: float) -> str:
    return format_number(value, 3) if math.isfinite(value) else "unknown"


def _percent(fraction: float, sd: float) -> str:
    return f"{100 * fraction:.2f}" + ("" if math.isnan(sd) else f" ± {100 * sd:.2f}")


@validated
class AnnotationErrors:
    """How much is wrong in an annotation."""

    missed: Fraction = 0.0  # of the stretches of membrane
    spurious: Fraction = 0.0  # false outlines for each true stretch
    displacement_nm: Annotated[float, Field(ge=0, le=500)] = 0.0  # root mean square displacement of lines


@dataclass(frozen=True, eq=False)
class Tracing:
    """A truth taken apart, so that annotations of it can be made quickly; see `trace`."""

    membrane: NDArray[np.bool_]
    pixel_size_nm: float
    line_width_px: float
    stretches: NDArray[np.int32]  # [height, width]: on membrane the stretch's number, 1 to `n_stretches`, else 0
    chances: NDArray[np.float64]  # [n_stretches + 1]: u of each stretch
    outlines: NDArray[np.float64]  # [n, 5]: row, column, two half axes in px, angle in degrees
    outline_chances: NDArray[np.float64]  # [n]: u of each outline
    field: NDArray[np.float32]  # [height, width, 2]: displacement (row, column) of root mean square length 1

    @property
    def n_stretches(self) -> int:
        """How many stretches of membrane there are."""
        return len(self.chances) - 1

    def annotate(self, errors: AnnotationErrors) -> NDArray[np.bool_]:
        """Return the membrane mask of an annotation with these errors."""
        drawn = self.membrane & (self.chances[self.stretches] >= errors.missed)
        if errors.spurious:
            width = max(round(self.line_width_px), 1)
            canvas = drawn.astype(np.uint8)
            for row, column, first, second, angle in self.outlines[self.outline_chances < errors.spurious]:
                centre, axes = (int(column), int(row)), (max(round(first), 1), max(round(second), 1))
                cv2.ellipse(canvas, centre, axes, float(angle), 0.0, 360.0, (1.0,), thickness=width)
            drawn = canvas.astype(np.bool_)
        if errors.displacement_nm:
            field = self.field * np.float32(errors.displacement_nm / self.pixel_size_nm)
            rows, columns = np.indices(drawn.shape, dtype=np.float32)
            where = (columns + field[:, :, 1], rows + field[:, :, 0])
            moved = cv2.remap(drawn.view(np.uint8), *where, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            drawn = np.asarray(moved).astype(np.bool_)
        return drawn


FIRST_ROUND = AnnotationErrors(missed=0.05, spurious=0.015, displacement_nm=2.5)
SECOND_ROUND = AnnotationErrors(missed=0.008, spurious=0.002, displacement_nm=0.6)
"""Chosen so that F1 comes near the paper's 0.92 and 0.99; nothing about annotators follows from them."""


@dataclass(frozen=True, eq=False)
class ScoredRound:
    """One round: its name, and the scores of its images against the final round."""

    name: str
    scores: tuple[ImageScores, ...]

    @property
    def f1(self) -> float:
        """Mean over images of the membrane's F1, as the competition counts."""
        return float(np.mean([one.membrane.f1 for one in self.scores]))


def trace(membrane: NDArray[np.bool_], pixel_size_nm: float, *, seed: int) -> Tracing:
    """Divide a truth into stretches and draw all random numbers; raises InputError if it has no membrane."""
    if not membrane.any():
        raise InputError(
            "a ground truth must contain membrane for an annotation of it to have errors; it contains none."
        )
    generator = np.random.default_rng(seed)
    width_px = line_width_px(membrane)
    stretches, n = _stretches(membrane, max(round(LONGEST_STRETCH_NM / pixel_size_nm), 4))
    chances = np.concatenate([[1.0], (generator.permutation(n) + 0.5) / n])
    outlines = _places_for_outlines(membrane, n, width_px, pixel_size_nm, generator)
    outline_chances = (generator.permutation(len(outlines)) + 0.5) / n
    step = max(DISPLACEMENT_SCALE_NM / pixel_size_nm / 2, 1.0)  # a smooth random field of root mean square length 1
    height, width = membrane.shape
    coarse = generator.standard_normal((int(height / step) + 4, int(width / step) + 4, 2)).astype(np.float32)
    field = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    field /= np.float32(np.sqrt((field**2).sum(axis=2).mean()))
    return Tracing(membrane, pixel_size_nm, width_px, stretches, chances, outlines, outline_chances, field)


def _stretches(membrane: NDArray[np.bool_], longest_px: int) -> tuple[NDArray[np.int32], int]:
    """Return, on membrane, the number of the nearest stretch of the skeleton, and how many there are."""
    skeleton: NDArray[np.bool_] = skeletonize(membrane)  # type: ignore[no-untyped-call]
    neighbours = cv2.boxFilter(skeleton.view(np.uint8), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    lines = skeleton & (neighbours - 1 < 3)  # a junction has at least three neighbours
    lines[longest_px // 2 :: longest_px] = False
    lines[:, longest_px // 2 :: longest_px] = False
    if not lines.any():
        lines = skeleton
    how = (cv2.DIST_L2, cv2.DIST_MASK_5)
    _, nearest = cv2.distanceTransformWithLabels((~lines).view(np.uint8), *how, labelType=cv2.DIST_LABEL_CCOMP)
    numbers = np.asarray(nearest, np.int32)
    return np.where(membrane, numbers, 0), int(numbers.max())


def _places_for_outlines(
    membrane: NDArray[np.bool_], n: int, width_px: float, pixel_size_nm: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    room = np.asarray(cv2.distanceTransform((~membrane).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5))
    rows, columns = (generator.integers(0, side, n) for side in membrane.shape)
    smallest, largest = (length / pixel_size_nm for length in ORGANELLE_NM)
    first = generator.uniform(smallest, largest, n)
    slimness, angles = generator.uniform(0.45, 0.9, n), generator.uniform(0.0, 180.0, n)
    first = np.minimum(first, room[rows, columns] - 1.5 * width_px)
    fits = first >= max(1.5 * width_px, 0.4 * smallest)
    outlines = np.stack([rows, columns, first, first * slimness, angles], axis=1)
    return np.asarray(outlines[fits], np.float64)


def trace_images(images: Sequence[MembraneImage], pixel_size_nm: float, *, seed: int) -> list[Tracing]:
    """Return the truth of every image taken apart; each image draws from (seed, its place)."""
    own = [int(word) for word in np.random.SeedSequence(seed).generate_state(len(images), np.uint32)]
    return [trace(image.read_membrane(), pixel_size_nm, seed=one) for image, one in zip(images, own, strict=True)]


def synthetic_round(
    name: str, tracings: Sequence[Tracing], errors: AnnotationErrors, settings: ScoreSettings
) -> ScoredRound:
    """Return the scores of annotations with these errors."""
    return score_round(name, ((one.annotate(errors), one.membrane) for one in tracings), settings)


def errors_of_one_kind(tracings: Sequence[Tracing], kind: str, f1: float) -> AnnotationErrors:
    """Return errors of one kind alone that bring the mean F1 to `f1`, to 0.001 or as near as whole errors allow.

    Raises `UsageError` if these images have not enough places for them.
    """
    require_one_of("kind", kind, ERROR_KINDS)

    def reached(strength: float) -> float:
        errors, found = AnnotationErrors(**{kind: strength}), []
        for one in tracings:
            drawn = one.annotate(errors)
            both, n_drawn, n_true = (int(mask.sum()) for mask in (drawn & one.membrane, drawn, one.membrane))
            found.append(class_scores(both, n_drawn, both, n_true).f1)
        return float(np.mean(found))

    low, high = (0.0, 1.0), (MOST[kind], reached(MOST[kind]))
    if high[1] > f1:
        raise UsageError(f"F1 {f1:g} is out of reach with {ERROR_KINDS[kind]} alone; the lowest is {high[1]:.3f}.")
    for step in range(24):
        along = (low[1] - f1) / (low[1] - high[1]) if step % 2 == 0 else 0.5  # the chord alternates with the middle
        strength = low[0] + along * (high[0] - low[0])
        found = (strength, reached(strength))
        low, high = (found, high) if found[1] > f1 else (low, found)
        if abs(found[1] - f1) < 1e-3:
            break
    strength, _ = min((low, high), key=lambda end: abs(end[1] - f1))
    return AnnotationErrors(**{kind: strength})


def file_rounds(folder: Path, settings: ScoreSettings, n_images: int = 0) -> list[ScoredRound]:
    """Return U-RISC's first and second rounds, scored against the final one; `n_images` other than 0 takes the first.

    Raises `InputError` if the folder of rounds is not there or their files do not match.
    """
    place = folder / ROUNDS_FOLDER
    if not place.is_dir():
        raise missing_urisc(place)
    rounds = []
    for name in ("1st", "2nd"):
        pairs = pair_files(place / name, place / "final")[: n_images or None]
        files = ((pair.image, pair.label or pair.image, pair.page) for pair in pairs)
        masks = ((read_label(image, page=page), read_label(label, page=page)) for image, label, page in files)
        rounds.append(score_round(f"{name} round", masks, settings))
    return rounds


def score_round(
    name: str, pairs: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]], settings: ScoreSettings
) -> ScoredRound:
    """Return the scores of pairs (annotation, truth); raise `InputError` if their sizes differ."""
    scores = []
    for annotation, truth in pairs:
        if annotation.shape != truth.shape:
            raise InputError(f"{name} and final must have one size; got {annotation.shape} and {truth.shape}.")
        scores.append(score_image(annotation, truth, settings))
    return ScoredRound(name, tuple(scores))


def rounds_table(rounds: Sequence[ScoredRound]) -> DisplayTable:
    """Return the scores of rounds against the last one, a row each."""
    rows = {}
    for number, one in enumerate(rounds):
        summary = summarize(one.scores)
        cells = [_mean_sd(summary[score].mean, summary[score].sd) for score in _IN_TABLE]
        objects = [f"{summary[score].mean:.1f}" for score in _OBJECTS]
        rows[f"round-{number}"] = (one.name, *cells, *objects)
    caption = (
        "Annotations against the ground truth, means ± standard deviations over images; broken and spurious per image."
    )
    return text_table(caption, ("Annotation", *_IN_TABLE.values(), *_OBJECTS.values()), rows)


def _mean_sd(mean: float, sd: float) -> str:
    return f"{mean:.3f}" + ("" if math.isnan(sd) else f" ± {sd:.3f}")


def round_title(one: ScoredRound) -> str:
    """Return a round's name, and below it F1 and V-Rand."""
    v_rand = np.mean([scores.cells.v_rand for scores in one.scores])
    return f"{one.name}\nF1 {one.f1:.2f}, V-Rand {v_rand:.2f}"


def window_of_errors(truth: NDArray[np.bool_], annotations: Sequence[NDArray[np.bool_]], side: int) -> Window:
    """Return the square window in which the rarest of the annotations' errors are most frequent."""
    corners = product(*(range(0, length - side + 1, max(side // 4, 1)) for length in truth.shape))
    windows = [(slice(top, top + side), slice(left, left + side)) for top, left in corners]
    wrong = [truth != one for one in annotations]
    return max(windows, key=lambda window: min(int(np.count_nonzero(one[window])) for one in wrong))


def error_legend(figure: Figure) -> None:
    """Explain the colours of an error map below a figure."""
    labels = {TRUE_POSITIVE: "true membrane", FALSE_POSITIVE: "false membrane", FALSE_NEGATIVE: "missed membrane"}
    labels |= {FALSE_POSITIVE + NEAR: "false, but near", FALSE_NEGATIVE + NEAR: "missed, but near"}
    handles = [Patch(fc=PALETTE[code] / 255, label=label, ec="black", lw=0.4) for code, label in labels.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7)


def report_round(run: Run, prefix: str, one: ScoredRound) -> None:
    """Note the scores of a round in a run; metric names begin with `prefix`."""
    summary = summarize(one.scores)
    for name, label in {**SHOWN_SCORES, "assd_nm": "ASSD", **_OBJECTS}.items():
        score, unit = summary[name], "nm" if name == "assd_nm" else "1"
        if score.n:
            more: dict[str, Any] = {"unit": unit, "spread": None if math.isnan(score.sd) else score.sd}
            run.metric(f"{prefix}_{name}", score.mean, n=score.n, label=f"{label}, {one.name}", **more)
