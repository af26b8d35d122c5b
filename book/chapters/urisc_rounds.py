"""Rounds of annotation as learning: each round is scored against the last, which U-RISC takes as the truth.

Three sources of rounds: a model of an annotator, applied to a synthetic truth; the same number of wrong pixels made of
one kind of error alone; and U-RISC's own, if its folder is given (`Human_Annotation_Process/1st`, `2nd`, `final`).

    missed     a stretch of membrane is left out: from one junction to the next, at most about 600 nm of it
    spurious   an outline as wide as a membrane is drawn inside a cell, where an organelle may be
    displaced  a smooth random field moves every point of the lines

Stretches and outlines are put in a random order, u = (place + 1/2) / number of stretches; those with u below the
requested fraction are wrong, and the displacement field has a fixed shape. With one seed, a better round therefore
contains a subset of the errors of a worse one. The model is ours: its parameters were chosen, not measured.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from pydantic import Field
from skimage.morphology import skeletonize

from chapters.urisc_dataset import line_width_px
from emseg.checks import Fraction, require_one_of, validated
from emseg.errors import InputError, UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN, add_scale_bar
from emseg.membrane.dataset import MembraneImage, pair_files, read_label
from emseg.membrane.dataset.known_sets import missing_urisc
from emseg.membrane.scoring import ImageScores, ScoreSettings, class_scores, map_errors, score_image, summarize
from emseg.membrane.scoring.pixels import COLOURS as CODE_COLOURS
from emseg.membrane.scoring.pixels import FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, TRUE_POSITIVE
from emseg.reported import load_reported, select_reported
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run

ORGANELLE_NM = (90.0, 260.0)
"""Smallest and largest half axis of a spurious outline; those that do not fit inside their cell are drawn smaller."""
LONGEST_STRETCH_NM = 600.0
_JUNCTION = 3  # a skeleton pixel with at least this many neighbours is a junction
ERROR_KINDS = {"missed": "missed membranes", "spurious": "spurious outlines", "displacement_nm": "displaced lines"}
MOST = {"missed": 1.0, "spurious": 1.0, "displacement_nm": 60.0}
ROUNDS_FOLDER = "Human_Annotation_Process"
SHOWN_SCORES = {
    "membrane_f1": "F1",
    "membrane_precision": "precision",
    "membrane_recall": "recall",
    "membrane_tolerant_f1": "tolerant F1",
    "v_rand": "V-Rand",
    "v_info": "V-Info",
}
_OBJECTS = {"broken_membranes": "Broken membranes", "spurious_membranes": "Spurious membranes"}
_F1_TOLERANCE = 1e-3
_MOST_STEPS = 24
_LOOKS = (("black", "o"), ("grey", "s"), ("vermilion", "^"), ("orange", "D"), ("blue", "v"))


@validated
class AnnotationErrors:
    """How much is wrong in an annotation."""

    missed: Fraction = 0.0  # of the stretches of membrane
    spurious: Fraction = 0.0  # false outlines for each true stretch
    displacement_nm: Annotated[float, Field(ge=0, le=500)] = 0.0  # root mean square displacement of lines
    displacement_scale_nm: Annotated[float, Field(gt=0, le=10_000)] = 250.0  # distance over which it changes


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
                axes = (max(round(first), 1), max(round(second), 1))
                centre = (int(column), int(row))
                cv2.ellipse(canvas, centre, axes, float(angle), 0.0, 360.0, (1.0,), thickness=width)
            drawn = canvas.astype(np.bool_)
        if errors.displacement_nm:
            drawn = _moved(drawn, self.field * np.float32(errors.displacement_nm / self.pixel_size_nm))
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


def trace(
    membrane: NDArray[np.bool_], pixel_size_nm: float, *, seed: int, displacement_scale_nm: float = 250.0
) -> Tracing:
    """Divide a truth into stretches and draw all random numbers; raises InputError if it has no membrane."""
    if not membrane.any():
        raise InputError("a truth must hold membrane for an annotation of it to have errors; it holds none.")
    generator = np.random.default_rng(seed)
    width_px = line_width_px(membrane)
    stretches, n = _stretches(membrane, max(round(LONGEST_STRETCH_NM / pixel_size_nm), 4))
    chances = np.concatenate([[1.0], (generator.permutation(n) + 0.5) / n])
    outlines = _places_for_outlines(membrane, n, width_px, pixel_size_nm, generator)
    return Tracing(
        membrane=membrane,
        pixel_size_nm=pixel_size_nm,
        line_width_px=width_px,
        stretches=stretches,
        chances=chances,
        outlines=outlines,
        outline_chances=(generator.permutation(len(outlines)) + 0.5) / n,
        field=_unit_field(membrane.shape, displacement_scale_nm / pixel_size_nm, generator),
    )


def _stretches(membrane: NDArray[np.bool_], longest_px: int) -> tuple[NDArray[np.int32], int]:
    """Return, on membrane, the number of the nearest stretch of the skeleton, and how many there are."""
    skeleton: NDArray[np.bool_] = skeletonize(membrane)  # type: ignore[no-untyped-call]
    neighbours = cv2.boxFilter(skeleton.view(np.uint8), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    lines = skeleton & (neighbours - 1 < _JUNCTION)
    lines[longest_px // 2 :: longest_px] = False
    lines[:, longest_px // 2 :: longest_px] = False
    if not lines.any():
        lines = skeleton
    _, nearest = cv2.distanceTransformWithLabels(
        (~lines).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_CCOMP
    )
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


def _unit_field(shape: tuple[int, ...], scale_px: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random field [height, width, 2] whose root mean square length is 1."""
    step = max(scale_px / 2.0, 1.0)
    coarse = generator.standard_normal((int(shape[0] / step) + 4, int(shape[1] / step) + 4, 2)).astype(np.float32)
    field = np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)
    return field / np.float32(np.sqrt((field**2).sum(axis=2).mean()))


def _moved(mask: NDArray[np.bool_], field: NDArray[np.float32]) -> NDArray[np.bool_]:
    rows, columns = np.indices(mask.shape, dtype=np.float32)
    moved = cv2.remap(
        mask.view(np.uint8),
        columns + field[:, :, 1],
        rows + field[:, :, 0],
        interpolation=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved).astype(np.bool_)


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

    Raises `UsageError` if so many cannot be made in these images.
    """
    require_one_of("kind", kind, ERROR_KINDS)

    def reached(strength: float) -> float:
        errors, found = AnnotationErrors(**{kind: strength}), []
        for one in tracings:
            drawn = one.annotate(errors)
            both, n_drawn, n_true = (
                int(np.count_nonzero(mask)) for mask in (drawn & one.membrane, drawn, one.membrane)
            )
            found.append(class_scores(both, n_drawn, both, n_true).f1)
        return float(np.mean(found))

    low, high = (0.0, 1.0), (MOST[kind], reached(MOST[kind]))
    if high[1] > f1:
        raise UsageError(f"F1 {f1:g} is out of reach with {ERROR_KINDS[kind]} alone; the lowest is {high[1]:.3f}.")
    for step in range(_MOST_STEPS):
        along = (low[1] - f1) / (low[1] - high[1]) if step % 2 == 0 else 0.5  # the chord alternates with the middle
        strength = low[0] + along * (high[0] - low[0])
        found = (strength, reached(strength))
        low, high = (found, high) if found[1] > f1 else (low, found)
        if abs(found[1] - f1) < _F1_TOLERANCE:
            break
    strength, _ = min((low, high), key=lambda end: abs(end[1] - f1))
    return AnnotationErrors(**{kind: strength})


def has_rounds(folder: Path) -> bool:
    """Return whether a folder of U-RISC holds its rounds of annotation."""
    return (folder / ROUNDS_FOLDER).is_dir()


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
        masks = ((read_label(pair.image), read_label(pair.label)) for pair in pairs if pair.label is not None)
        rounds.append(score_round(f"{name} round", masks, settings))
    return rounds


def score_round(
    name: str, pairs: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]], settings: ScoreSettings
) -> ScoredRound:
    """Return the scores of pairs (annotation, truth), one at a time; raise `InputError` if their sizes differ."""
    scores = []
    for annotation, truth in pairs:
        if annotation.shape != truth.shape:
            raise InputError(f"{name} and final must have one size; got {annotation.shape} and {truth.shape}.")
        scores.append(score_image(annotation, truth, settings))
    return ScoredRound(name, tuple(scores))


def rounds_table(rounds: Sequence[ScoredRound]) -> DisplayTable:
    """Return the scores of rounds, a row each, and below them what the paper gives for human annotators."""
    rows = []
    for one in rounds:
        summary = summarize(one.scores)
        shown = [summary[score] for score in SHOWN_SCORES]
        cells = [f"{s.mean:.3f}" + ("" if math.isnan(s.sd) else f" ± {s.sd:.3f}") for s in shown]
        distance = summary["assd_nm"].mean
        cells.append(f"{distance:.1f}" if math.isfinite(distance) else "")
        rows.append((one.name, *cells, *(f"{summary[score].mean:.1f}" for score in _OBJECTS)))
    for row in select_reported(load_reported("urisc"), "f1", dataset="U-RISC"):
        if row.about("entrant").startswith("Human") and row.about("track"):
            note = ", repeated from the first round" if row.status == "inconsistent" else ""
            empty = [""] * (len(SHOWN_SCORES) + len(_OBJECTS))
            rows.append((f"paper: {row.about('entrant')}, {row.about('track')}{note}", row.printed, *empty))
    return DisplayTable(
        caption="Rounds of annotation against the last, means ± standard deviations over images; objects per image.",
        header=("", *SHOWN_SCORES.values(), "ASSD, nm", *_OBJECTS.values()),
        rows=tuple(tuple(Shown(text) for text in row) for row in rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"round-{number}" for number in range(len(rows))),
    )


def report_round(run: Run, prefix: str, one: ScoredRound) -> None:
    """Note the scores of a round in a run; metric names begin with `prefix`."""
    summary = summarize(one.scores)
    for name, label in {**SHOWN_SCORES, "assd_nm": "ASSD", **_OBJECTS}.items():
        score, unit = summary[name], "nm" if name == "assd_nm" else "1"
        if score.n:
            spread = None if math.isnan(score.sd) else score.sd
            text = f"{label}, {one.name}"
            run.metric(f"{prefix}_{name}", score.mean, n=score.n, unit=unit, spread=spread, label=text)


def plot_rounds(
    image: NDArray[Any],
    truth: NDArray[np.bool_],
    annotations: Mapping[str, NDArray[np.bool_]],
    pixel_size_nm: float,
    tolerance_px: float,
) -> Figure:
    """Draw a quarter of an image and, next to it, the error map of each annotation: the quarter of the most errors."""
    height, width = (side // 2 for side in truth.shape)
    corners = [(top, left) for top in (0, truth.shape[0] - height) for left in (0, truth.shape[1] - width)]
    windows = [(slice(top, top + height), slice(left, left + width)) for top, left in corners]
    wrong = truth != next(iter(annotations.values()))
    window = max(windows, key=lambda one: int(np.count_nonzero(wrong[one])))
    panels = {"the image": np.repeat(image[..., None], 3, axis=2)}
    panels |= {name: error_picture(truth, one, tolerance_px) for name, one in annotations.items()}
    size = (PAGE_WIDTH_IN, 0.5 + PAGE_WIDTH_IN / len(panels))
    figure, axes = plt.subplots(1, len(panels), figsize=size)
    for ax, (name, picture) in zip(axes, panels.items(), strict=True):
        ax.imshow(picture[window])
        ax.set(title=name, xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(visible=True, color=COLOURS["grey"])
        add_scale_bar(ax, width, pixel_size_nm)
    named = {TRUE_POSITIVE: "membrane", FALSE_NEGATIVE: "missed", FALSE_POSITIVE: "false"}
    named |= {FALSE_NEGATIVE + NEAR: "missed, near", FALSE_POSITIVE + NEAR: "false, near"}
    colours = {code: "#" + bytes(CODE_COLOURS[code]).hex() for code in named}
    handles = [Patch(color=colours[code], label=name) for code, name in named.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def error_picture(truth: NDArray[np.bool_], annotation: NDArray[np.bool_], tolerance_px: float) -> NDArray[np.uint8]:
    """Return an error map as colours [height, width, 3]: false red, missed blue, pale within the tolerance."""
    table = np.array([CODE_COLOURS.get(code, (0, 0, 0)) for code in range(8)], np.uint8)
    return np.asarray(table[map_errors(truth, annotation, tolerance_px).codes])


def plot_scores(rounds: Sequence[ScoredRound]) -> Figure:
    """Draw the scores of rounds, a row for each score, so that others distinguish rounds of one F1."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 2.9))
    rows = np.arange(len(SHOWN_SCORES))[::-1]
    for place, one in enumerate(rounds):
        values = np.array([[scores.row()[name] for scores in one.scores] for name in SHOWN_SCORES])
        colour, marker = _LOOKS[place % len(_LOOKS)]
        sd = values.std(axis=1, ddof=1) if values.shape[1] > 1 else None
        look: dict[str, Any] = {"fmt": marker, "color": COLOURS[colour], "ms": 5, "lw": 1.0}
        ax.errorbar(
            values.mean(axis=1), rows + 0.3 - 0.6 * (place + 0.5) / len(rounds), xerr=sd, label=one.name, **look
        )
    ax.set_yticks(rows, list(SHOWN_SCORES.values()))
    ax.set_xlabel("score against the final round (1 is best)")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_xlim(left=max(ax.get_xlim()[0], 0.0), right=1.01)
    ax.grid(axis="x", lw=0.4)
    return figure
