"""Three tests of the competition's conclusions, and the places where predictions go wrong.

Imbalance. With p the membrane fraction, r the recall and a the false alarm rate (the fraction of background that is
called membrane), as fractions of the image,

    TP = r p      FP = a (1 - p)      FN = (1 - r) p      F1 = 2 r p / (r p + a (1 - p) + p)

Where precision and recall are equal, r = F and a = (1 - F) p / (1 - p); the fraction of wrong pixels is 2 (1 - F) p.

Line width. A membrane of width w moved across itself by s keeps 1 - s / w of its area. w = 2 A / L from the area A of a
mask and its boundary length L = (pi / 4) (changes along rows and columns), exact on average for lines of all directions
(Cauchy and Crofton).

Track 2. Its label is the full-size label resized bilinearly, from four source pixels each, and made binary again. A
predictor that knows every full-size pixel can call a new pixel membrane where at least a fraction t of its area is
(covered), as the nearest source pixel (nearest), or repeat the authors' resizing on a displaced truth (moved).

Errors are shown for a trained network: the given one, else the one that the book keeps for the data set in

    book/weights/urisc/DATA_TRACK_ARCHITECTURE.safetensors, .json     weights; training parameters, threshold, SHA-256

else for dark ridges: membrane is where the largest eigenvalue of the Hessian of the smoothed image is large.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from chapters import urisc_competition as board
from chapters.drawing import diagrams
from chapters.drawing.interactive import Interactive, slider
from chapters.urisc_baselines import most_wrong
from emseg.checks import require_one_of
from emseg.errors import InputError
from emseg.figures import COLOURS, PAGE_WIDTH_IN, add_scale_bar, show_image
from emseg.files import digest_of_file, find_root, read_json
from emseg.membrane import scoring
from emseg.membrane.dataset.labels import TRACK_2_FACTOR, downsampled_pair
from emseg.membrane.scoring.pixels import COLOURS as ERROR_COLOURS
from emseg.membrane.scoring.pixels import FALSE_NEGATIVE, FALSE_POSITIVE, NEAR
from emseg.reported import load_reported, select_reported
from emseg.runs.session import Run

SHIFTS_PX = (1, 2, 3)
COVERAGES = tuple(round(0.05 * k, 2) for k in range(1, 20))
MEMBRANE_NM = 30.0
GAPS_PX = (0, 1, 2, 4, 8, 16, 32, 64, 128)
FOLDER = Path("book") / "weights" / "urisc"

Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class ErrorRates:
    """`recall`: fraction of membrane that is found. `false_alarms`: fraction of background called membrane."""

    recall: float
    false_alarms: float

    def f1(self, fraction: float) -> float:
        """Return the membrane's F1 of these rates where membrane is this fraction of the image."""
        found, false = self.recall * fraction, self.false_alarms * (1 - fraction)
        return 2 * found / (found + false + fraction)


@dataclass(frozen=True, eq=False)
class Labels:
    """Membrane masks of one set: `name` for figures, `key` for metrics, the kind of their data, their pixel size."""

    key: str
    name: str
    kind: str
    pixel_size_nm: float
    masks: tuple[Mask, ...]
    fingerprint: str

    @property
    def fraction(self) -> float:
        """The mean membrane fraction."""
        return statistics.fmean(float(mask.mean()) for mask in self.masks)

    @property
    def line_width_px(self) -> float:
        """The mean width of a membrane, in pixels."""
        return statistics.fmean(map(line_width, self.masks))


@dataclass(frozen=True)
class Shifted:
    """F1 of one label moved by `shift_px`: strict, of the background, and within a tolerance; one number an image."""

    shift_px: int
    f1: tuple[float, ...]
    background_f1: tuple[float, ...]
    tolerant_f1: tuple[float, ...]

    @property
    def mean_f1(self) -> float:
        """Strict F1 of membrane, mean over images."""
        return statistics.fmean(self.f1)


@dataclass(frozen=True, eq=False)
class Downsampled:
    """One label before and after, and the F1 of perfect predictors; `moved_f1_full`: the same shifts at full size.

    `factor`: source pixels for each new one along an axis. `kept`: the label that keeps every pixel with
    membrane. `broken`: membranes of it that the label breaks.
    """

    factor: float
    truth: Mask
    label: Mask
    kept: Mask
    covered_f1: tuple[float, ...]
    nearest_f1: float
    moved_f1: tuple[float, ...]
    moved_f1_full: tuple[float, ...]
    broken: int
    cells_before: int
    cells_after: int

    @property
    def half_covered_f1(self) -> float:
        """F1 of the predictor that calls a pixel membrane where half of it is."""
        return self.covered_f1[COVERAGES.index(0.5)]


@dataclass(frozen=True)
class KeptNetwork:
    """A kept network: its file, the matrix cell that trained it, and the threshold that its validation images chose."""

    weights: Path
    cell: str
    threshold: float
    about: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Example:
    """A test image with its error codes and scores; `key` names its metrics, `predictor` is what predicted."""

    key: str
    title: str
    image: Bytes
    codes: Bytes
    scores: scoring.ImageScores
    pixel_size_nm: float
    predictor: str


def rates_of_scores(precision: float, recall: float, fraction: float) -> ErrorRates:
    """Return the error rates of a prediction from its precision and recall at a membrane fraction."""
    return ErrorRates(recall, recall * fraction * (1 - precision) / precision / (1 - fraction))


def pixel_error(f1: float, fraction: float) -> float:
    """Return the fraction of wrong pixels, half missed and half false, at which a class of this `fraction` has `f1`."""
    return 2 * (1 - f1) * fraction


def f1_at_pixel_error(error: float, fraction: float) -> float:
    """Return the F1 of a class of this `fraction` where this fraction of pixels is wrong, half each way."""
    return max(1 - error / (2 * fraction), 0.0)


def paper_fraction(data_set: str) -> float:
    """Return the paper's membrane fraction of "U-RISC" or "ISBI 2012"."""
    row = select_reported(load_reported("urisc"), "membrane_fraction", dataset=data_set)[0]
    assert row.value is not None
    return row.value / 100


def network_f1(runs: pd.DataFrame, data_set: board.DataSet) -> dict[str, tuple[float, float]]:
    """Return (membrane F1, background F1) of the best plain network of each architecture on a data set."""
    main, found = board.main_experiment(runs, data_set), {}
    for architecture, name in board.ARCHITECTURES.items():
        f1 = [board.best_of_architecture(main, architecture, f"test_{of}_f1") for of in ("membrane", "background")]
        if f1[0] and f1[1]:
            found[name] = (f1[0].mean, f1[1].mean)
    return found


def error_rates(runs: pd.DataFrame, data_set: board.DataSet, fraction: float) -> dict[str, ErrorRates]:
    """Return the rates of the paper's 0.97, with precision equal to recall, and of our best network."""
    stated, main = board.text_f1(dataset="ISBI 2012", entrant="U-Net"), board.main_experiment(runs, data_set)
    ours: dict[float, tuple[str, ErrorRates]] = {}
    for network in board.networks(main):
        scores = [board.seed_score(main, network, f"test_membrane_{of}") for of in ("f1", "precision", "recall")]
        f1, precision, recall = (score.mean if score else math.nan for score in scores)
        if not math.isnan(f1 + precision + recall):
            ours[f1] = (f"ours: {network.title}", rates_of_scores(precision, recall, fraction))
    best = [ours[max(ours)]] if ours else []
    return dict([(f"the paper's {stated:g}", rates_of_scores(stated, stated, fraction)), *best])


def label_sets(data: str, *, folder: str = "", n_images: int, size_um: float, seed: int) -> tuple[Labels, ...]:
    """Return the labels to move and downsample: real ones, or two synthetic tissues, each at two pixel sizes.

    So one thing changes at a time: at one resolution the tissue, in one tissue the resolution. `size_um`: side of a
    synthetic image. Raises `UsageError` for an unknown name, `InputError` where data are missing.
    """
    require_one_of("data", data, ("synthetic", "isbi2012", "urisc"))
    if data != "synthetic":
        from emseg.membrane.dataset import open_membrane_set

        opened = open_membrane_set(data, folder=folder)
        images = (*opened.train, *opened.validation, *opened.labelled_test)[: n_images or None]
        key, name = ("isbi", "ISBI 2012") if data == "isbi2012" else ("urisc", "U-RISC")
        masks = tuple(image.read_membrane() for image in images)
        return (Labels(key, name, opened.kind, opened.pixel_size_nm or 0.0, masks, opened.fingerprint),)
    from emseg.synthetic import tissue as drawn

    found = []
    for key, title, tissue in (("urisc", "U-RISC-like", drawn.URISC_LIKE), ("isbi", "ISBI-like", drawn.ISBI_LIKE)):
        for grain, nm in (("fine", drawn.URISC_PIXEL_SIZE_NM), ("coarse", drawn.ISBI_PIXEL_SIZE_NM)):
            shape, seeds = (round(1000 * size_um / nm),) * 2, range(seed, seed + n_images)
            options: dict[str, Any] = {"pixel_size_nm": nm, "tissue": tissue}
            masks = tuple(drawn.synthesize_tissue(shape, seed=one, **options).membrane for one in seeds)
            names = " ".join(drawn.fingerprint(shape, seed=one, **options) for one in seeds)
            found.append(Labels(f"{key}_{grain}", f"{title} tissue, {nm:g} nm/px", "synthetic", nm, masks, names))
    return tuple(found)


def line_width(mask: Mask) -> float:
    """Return the mean width of the lines of a mask in pixels; NaN without a boundary."""
    changes = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    return 2 * int(np.count_nonzero(mask)) / (math.pi / 4 * changes) if changes else math.nan


def shift_scores(labels: Labels, shifts_px: Sequence[int], tolerance_nm: float) -> tuple[Shifted, ...]:
    """Return the scores of the labels against themselves, moved down, and moved right, by each shift; their means."""
    found = []
    for shift in shifts_px:
        pairs = [[_moved(mask, by, labels, tolerance_nm) for by in ((shift, 0), (0, shift))] for mask in labels.masks]
        names = ("membrane", "background", "membrane_tolerant")
        f1 = (tuple(statistics.fmean(one[name].f1 for one in pair) for pair in pairs) for name in names)
        found.append(Shifted(shift, *f1))
    return tuple(found)


def tolerance_curve(labels: Labels, shift_px: int, tolerances_nm: Sequence[float]) -> list[float]:
    """Return the mean tolerant F1 of the labels moved right by `shift_px` for each tolerance."""
    return [
        statistics.fmean(_moved(mask, (0, shift_px), labels, one)["membrane_tolerant"].f1 for mask in labels.masks)
        for one in tolerances_nm
    ]


def _moved(mask: Mask, shift: tuple[int, int], labels: Labels, tolerance_nm: float) -> dict[str, scoring.ClassScores]:
    moved, still = (np.ascontiguousarray(one) for one in scoring.shifted_pair(mask, *shift))
    return scoring.map_errors(still, moved, tolerance_nm / labels.pixel_size_nm).scores()


@dataclass(frozen=True, eq=False)
class GapSeries:
    """A ground truth, the same with gaps of growing width in the membrane between two of its cells, and the scores."""

    truth: Mask
    place: tuple[int, int]
    widths_nm: tuple[float, ...]
    masks: tuple[Mask, ...]
    scores: tuple[scoring.ImageScores, ...]
    pixel_size_nm: float


def open_gaps(truth: Mask, pixel_size_nm: float, widths_px: Sequence[int] = GAPS_PX) -> GapSeries:
    """Return `truth` with gaps in the middle of the membrane between two large cells, and its scores."""
    cells = scoring.label_thinned_cells(truth)
    around = np.zeros((*truth.shape, 4), np.int64)  # the cells above, below, left and right of a pixel
    sides = [cells[:-2, 1:-1], cells[2:, 1:-1], cells[1:-1, :-2], cells[1:-1, 2:]]
    around[1:-1, 1:-1] = np.stack(sides, axis=2)
    largest = around.max(axis=2)
    between = np.stack([np.where(around, around, cells.max() + 1).min(axis=2), largest], axis=2)
    on_line = (cells == 0) & (between[..., 0] < largest)  # a line of one pixel between two cells
    if not on_line.any():
        raise InputError("a gap needs a membrane between two cells; the label has none. Use a larger label.")
    pairs = np.unique(between[on_line], axis=0)
    merged = np.bincount(cells.ravel())[pairs].prod(axis=1)  # pairs of pixels that a gap would join
    line = np.argwhere(on_line & (between == pairs[merged.argmax()]).all(axis=2))
    place = line[np.hypot(*(line - line.mean(axis=0)).T).argmin()]
    near = line[np.hypot(*(line - place).T) < 3 * MEMBRANE_NM / pixel_size_nm]
    direction = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)[2][0]  # along the membrane
    offsets = np.indices(truth.shape).transpose(1, 2, 0) - place
    along, across = np.abs(offsets @ direction), np.abs(offsets @ (-direction[1], direction[0]))
    in_membrane = across < MEMBRANE_NM / pixel_size_nm
    masks = tuple(truth & ~(in_membrane & (along < width / 2)) for width in widths_px)
    settings = scoring.ScoreSettings(pixel_size_nm=pixel_size_nm)
    scores = tuple(scoring.score_image(mask, truth, settings) for mask in masks)
    widths_nm = tuple(width * pixel_size_nm for width in widths_px)
    return GapSeries(truth, (int(place[0]), int(place[1])), widths_nm, masks, scores, pixel_size_nm)


def gap_slider(series: GapSeries) -> Interactive:
    """Return a slider over the width of the gap: the cells of the prediction, and the scores at all widths."""
    lines = {"F1": ("blue", "o"), "V-Rand": ("vermilion", "s"), "V-Info": ("green", "^")}
    values = np.array([(one.membrane.f1, one.cells.v_rand, one.cells.v_info) for one in series.scores])
    names = ("sky", "orange", "green", "purple", "blue", "vermilion")
    tints = [np.array(diagrams.tint(name, white)) for white in (0.6, 0.2) for name in names]
    true_cells, places = scoring.label_cells(series.truth), np.arange(len(series.masks))
    frames, labels, alts = [], [], []
    for number, mask in enumerate(series.masks):
        figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.3), width_ratios=(1.0, 1.15))
        cells, picture = scoring.label_cells(mask), np.zeros((*mask.shape, 3))
        for cell in range(1, int(cells.max()) + 1):
            inside = cells == cell  # the colour is that of the true cell of which it has most pixels
            picture[inside] = tints[int(np.bincount(true_cells[inside]).argmax()) % len(tints)]
        left.imshow(picture)
        left.set(xticks=[], yticks=[], title=f"predicted cells: {int(cells.max())}")
        row, column = series.place
        left.plot(column, row, "o", ms=22, mfc="none", color="black")
        add_scale_bar(left, mask.shape[1], series.pixel_size_nm)
        for (name, (colour, marker)), score in zip(lines.items(), values.T, strict=True):
            right.plot(
                places, score, marker, ls="-", ms=3.5, color=COLOURS[colour], label=f"{name} {score[number]:.4f}"
            )
            right.plot(number, score[number], marker, ms=8, color=COLOURS[colour])
        right.set(xlabel="width of the gap, nm", ylabel="score", ylim=(values.min() - 0.1, 1.02))
        right.set_xticks(places, [f"{width:.3g}" for width in series.widths_nm])
        right.legend(loc="lower left")
        frames.append(figure)
        labels.append(f"{series.widths_nm[number]:.3g} nm")
        words = ", ".join(f"{name} {score:.3f}" for name, score in zip(lines, values[number], strict=True))
        alts.append(f"Cells of a label with a gap of {labels[-1]}: {int(cells.max())} cells; {words}.")
    return slider(frames, labels, name="Width of the gap", alts=alts, start=2)


def track2_factor(pixel_size_nm: float) -> float:
    """Return how many pixels of this size make one of Track 2, which is 21.2 nm wide."""
    from emseg.synthetic.tissue import URISC_PIXEL_SIZE_NM

    return TRACK_2_FACTOR * URISC_PIXEL_SIZE_NM / pixel_size_nm


def downsample_label(truth: Mask, shifts_px: Sequence[int], factor: float = TRACK_2_FACTOR) -> Downsampled:
    """Return a label as on Track 2, and the F1 that can be reached on it.

    `shifts_px`: by how many source pixels the truth is displaced, along both axes. The image is first cropped so that
    the largest shift stays inside.
    """
    side = int((min(truth.shape) - max(shifts_px, default=0)) / factor)
    source = round(side * factor)

    def resized(mask: Mask) -> Mask:  # as the authors did it
        return downsampled_pair(np.zeros(mask.shape, np.uint8), np.ascontiguousarray(mask), (side, side))[1]

    whole = truth[:source, :source]
    label = resized(whole)
    coverage = np.asarray(cv2.resize(whole.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA))
    nearest = cv2.resize(whole.view(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    moved = [truth[by : by + source, by : by + source] for by in shifts_px]
    strict = scoring.ScoreSettings(tolerance_px=0.0)
    return Downsampled(
        *(factor, whole, label, coverage > 0),
        covered_f1=tuple(f1_of_masks(coverage >= least, label) for least in COVERAGES),
        nearest_f1=f1_of_masks(nearest, label),
        moved_f1=tuple(f1_of_masks(resized(one), label) for one in moved),
        moved_f1_full=tuple(f1_of_masks(one, whole) for one in moved),
        broken=scoring.score_image(label, coverage > 0, strict).objects.broken_membranes,
        cells_before=scoring.find_patches(np.ascontiguousarray(whole), 4, value=False).n,
        cells_after=scoring.find_patches(label, 4, value=False).n,
    )


def f1_of_masks(prediction: Mask, truth: Mask) -> float:
    """Return the strict F1 of True; 1 where both are empty."""
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(prediction & truth)) / total if total else 1.0


def best_coverage(found: Sequence[Downsampled]) -> tuple[float, float]:
    """Return the fraction of area with the highest mean F1, chosen on these labels, and that F1."""
    means = [statistics.fmean(one.covered_f1[k] for one in found) for k in range(len(COVERAGES))]
    best = max(range(len(means)), key=means.__getitem__)
    return COVERAGES[best], means[best]


def find_network(data: str, track: str, *, architecture: str = "unet", root: Path | None = None) -> KeptNetwork | None:
    """Return the network that is kept for a data set, None where there is none; `root` is the project's.

    Raises `InputError` where the weights are not those that the JSON next to them describes.
    """
    name = "_".join(part for part in (data, track, architecture) if part)
    weights = (root or find_root()) / FOLDER / f"{name}.safetensors"
    if not weights.is_file():
        return None
    about = read_json(weights.with_suffix(".json"))
    if digest_of_file(weights) != about["sha256"]:
        must = f"must be the file that {name}.json describes, by its SHA-256"
        raise InputError(f"{weights.name} {must}; it is another. Restore both files.")
    return KeptNetwork(weights, str(about["cell"]), float(about["threshold"]), about)


def ridge_strength(image: Bytes, pixel_size_nm: float) -> NDArray[np.float32]:
    """Return how strongly a dark line as wide as a membrane passes through each pixel; at least 0."""
    sigma = max(MEMBRANE_NM / pixel_size_nm / 2, 1.0)
    smooth = cv2.GaussianBlur(image.astype(np.float32) / 255, (0, 0), sigma)
    rows, columns = np.gradient(smooth)
    (rr, rc), (_, cc) = np.gradient(rows), np.gradient(columns)
    largest = (rr + cc) / 2 + np.sqrt(((rr - cc) / 2) ** 2 + rc**2)
    return np.asarray(np.maximum(largest * sigma**2, 0), dtype=np.float32)


def ridge_threshold(strengths: Sequence[NDArray[np.float32]], truths: Sequence[Mask]) -> float:
    """Return the threshold with the best mean F1 of membrane on some images; score others with it."""
    candidates = np.quantile(np.concatenate([one.ravel()[::7] for one in strengths]), np.linspace(0.5, 0.99, 50))

    def mean_f1(threshold: float) -> float:
        return statistics.fmean(f1_of_masks(one >= threshold, t) for one, t in zip(strengths, truths, strict=True))

    return float(max(candidates, key=mean_f1))


def predict_examples(
    data: str, *, folder: str = "", weights: str = "", threshold: float = 0.5, size_px: int = 0, seed: int = 0
) -> tuple[Example, ...]:
    """Return a test image of each data set that is shown, of synthetic ones two, with its errors.

    With `weights` that network predicts, at `threshold`; else the one that the book keeps for the data set, at the
    threshold that its validation images chose; else dark ridges, at the threshold that is best on the validation
    images here. `size_px`: side of an image of Track 1; an image of another pixel size shows the same area.
    """
    from emseg.membrane.dataset import open_membrane_set
    from emseg.membrane.dataset.known_sets import synthetic_track
    from emseg.membrane.networks import load_network
    from emseg.membrane.training import predict_membrane

    shown = {"synthetic": (("track1", "track1"), ("isbi_like", "isbi_like")), "isbi2012": (("", "isbi"),)}
    found = []
    for track, key in shown.get(data, (("track1", "track1"),)):
        kept = None if weights else find_network(data, track)
        counts: dict[str, Any] = {"size_px": size_px}
        if data == "synthetic":
            zoom = synthetic_track("track1").pixel_size_nm / synthetic_track(track).pixel_size_nm
            counts = {"n_train": 1, "n_validation": 1, "n_test": 1, "size_px": round(size_px * zoom)}
        opened = open_membrane_set(data, track=track or "track1", folder=folder, seed=seed, **counts)
        nm, test = opened.pixel_size_nm, opened.labelled_test[0]
        assert nm is not None
        image, truth = test.read(), test.read_membrane()
        if kept is None and not weights:
            predictor = "dark ridges, for no network is kept for this data set"
            strengths = [ridge_strength(one.read(), nm) for one in opened.validation]
            least = ridge_threshold(strengths, [one.read_membrane() for one in opened.validation])
            prediction = ridge_strength(image, nm) >= least
        else:
            place = Path(weights).expanduser() if kept is None else kept.weights
            predictor = place.stem if kept is None else f"the kept network {kept.cell}"
            least = threshold if kept is None else kept.threshold
            prediction = predict_membrane(load_network(place), image) >= least
        compared = scoring.compare(prediction, truth, scoring.ScoreSettings(pixel_size_nm=nm))
        title = board.DATA_SETS[data, track]
        found.append(Example(key, title, image, compared.codes, compared.scores, nm, predictor))
    return tuple(found)


def worst_places(
    example: Example, side_px: int, n: int, *, false: bool, taken: Sequence[tuple[slice, slice]] = ()
) -> list[tuple[slice, slice]]:
    """Return `n` windows, apart from each other and from `taken`, with most false or missed membrane."""
    wrong = example.codes == (FALSE_POSITIVE if false else FALSE_NEGATIVE)
    windows = [(rows, columns) for rows, columns, _ in most_wrong(wrong, side_px, n + 4 * len(taken))]

    def apart(one: tuple[slice, slice]) -> bool:
        return all(
            any(max(a.start, b.start) >= min(a.stop, b.stop) for a, b in zip(one, t, strict=True)) for t in taken
        )

    return list(filter(apart, windows))[:n]


def report_examples(run: Run, examples: Sequence[Example]) -> None:
    """Note the scores of the images whose errors are shown."""
    names = {"membrane_f1": "Membrane F1", "background_f1": "Background F1"}
    names |= {"broken_membranes": "Broken membranes", "spurious_membranes": "Spurious membranes"}
    for one in examples:
        for score, label in names.items():
            text = f"{label} of the image of errors, {one.title}; {one.predictor}"
            name = f"example_{one.key}_{score.removesuffix('_membranes')}"
            run.metric(name, one.scores.row()[score], n=1, label=text)


def plot_errors(examples: Sequence[Example], *, side_nm: float = 700) -> Figure:
    """Draw, for each image, its place with most missed membrane and, elsewhere, that with most false membrane.

    Each place is shown as it is and with its errors, false membrane orange and missed membrane blue, `side_nm` wide or
    a third of the image, whichever is less.
    """
    size = (PAGE_WIDTH_IN, len(examples) * (PAGE_WIDTH_IN / 4 + 0.25))
    figure, grid = plt.subplots(len(examples), 4, figsize=size, squeeze=False)
    for axes, example in zip(grid, examples, strict=True):
        nm, side_px = example.pixel_size_nm, min(round(side_nm / example.pixel_size_nm), min(example.image.shape) // 3)
        missed = worst_places(example, side_px, 1, false=False)
        false = worst_places(example, side_px, 1, false=True, taken=missed)
        for pair, kind, places in ((axes[:2], "false", false), (axes[2:], "missed", missed)):
            pair[0].set_title(f"{example.title}: {kind}", loc="left", fontsize=9)
            for ax in pair:
                ax.set_axis_off()
            for window in places:
                image, codes = example.image[window], example.codes[window] & np.uint8(NEAR - 1)
                picture = np.repeat(image[..., None], 3, axis=2).astype(np.float32)
                for code in (FALSE_NEGATIVE, FALSE_POSITIVE):
                    picture[codes == code] = 0.25 * picture[codes == code] + 0.75 * np.array(ERROR_COLOURS[code])
                show_image(pair[0], image, nm, grey_range=(0.0, 255.0))
                pair[1].imshow(picture.astype(np.uint8))
                add_scale_bar(pair[1], image.shape[1], nm)
    return figure
