"""What the notebook `wafer_dataset` needs besides the library: statistics of tiles, leaks, scenes and tables.

**Statistics.** A crowd (a section of which a tile shows too little to recognize its class) counts nowhere. A section is
*touching* if its outline is within 2 % of a usual section's side (the square root of the median area) of another
outline on its tile, and *clipped* if its outline reaches the tile's border. Sizes are COCO's: small below 32^2 px,
large above 96^2 px, by the area that the tile shows (https://cocodataset.org/#detection-eval).

**Leaks.** The pixel leak (`emseg.wafer.splits`) is measured for the splits of a benchmark, and for planned wafers:
tiles are rectangles, so no image is needed. The section leak is the fraction of the sections on validation tiles that
training tiles show too, in whole or in part.

**Scenes** are the situations of the paper's Fig. 2, found in the truth of synthetic wafers:

    knife       one or more touching incomplete sections, cut one after the other, and the good one that follows
    fold        folded sections stuck to good ones
    damaged     several damaged sections near each other
    dust        most specks of dust on sections; found by drawing the same wafer without dust
    stuck       a long row of sections that stick together, with incomplete ones at its end

Source: Sun et al. 2021 (FANet), section 4.1 (tiles, overlap, random split; it gives the number of tiles and nothing of
their content) and Fig. 2. The measures are ours.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pandas as pd
import shapely
from jaxtyping import Bool, Float64, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from chapters.fanet_results import NETWORK, NOT_RUN, difference_text, leak_gain, report_difference
from emseg.checks import require_count, require_number, require_one_of
from emseg.errors import InputError, UsageError
from emseg.figures import add_scale_bar
from emseg.files import read_json
from emseg.reported import DisplayTable, text_table
from emseg.runs.session import Run
from emseg.sections import Section, WaferSections
from emseg.synthetic.wafer import SyntheticWafer, synthesize_wafer
from emseg.wafer import SECTION_CLASSES, Benchmark, Tiling, pixel_leak, plan_tiles
from emseg.wafer.formats import CocoSet
from emseg.wafer.scores import METRIC_LABELS
from emseg.wafer.section_figures import class_colours
from emseg.wafer.splits import SPLITS, TRAIN, VALIDATION, PixelLeak, split_crops

SMALL_SIDE_PX, LARGE_SIDE_PX = 32, 96
TOUCHING_SHARE = 0.02  # of a usual section's side; the generator's stuck sections are nearer, the others farther
TRAINING = "training"
SITUATIONS = {
    "knife": "(a) after a knife change",
    "fold": "(b) fold, stuck to good",
    "damaged": "(c) damaged",
    "dust": "(d) dust",
    "stuck": "(e) stuck together",
}
ROI_SHARE = 0.4  # of a section's side
_ON_BORDER_PX = 0.01  # annotations are rounded to hundredths of a pixel
_SIDE = 3.2  # of a window, in section lengths
_DUST_SIDE = 2.4
_DUST_CONTRAST = 15  # grey levels; less is a shadow or a change of brightness
_SMALLEST_SPECK_PX = 3  # square pixels; fewer are noise
_LARGEST_SPECK = 0.15  # of a section's length, a side; larger spots are the debris of a section
_LONGEST_SIDE = {"knife": 4.8, "fold": _SIDE, "stuck": 7.0}
_MOVED = 2.5  # points that a scene loses when the wafer's border moves it out of its window's middle
_MARGIN = 0.25  # of a section's length, left around what a window shows

Image = UInt8[np.ndarray, "row column"]


@dataclass(frozen=True, eq=False)
class TileStatistics:
    """The sections of a set of tiles, without crowds; `per_tile` is for each tile, other arrays for each section.

    A section that two tiles show counts twice.
    """

    class_names: tuple[str, ...]
    labels: tuple[str, ...]
    areas_px: Float64[np.ndarray, " section"]
    touching: Bool[np.ndarray, " section"]
    clipped: Bool[np.ndarray, " section"]
    per_tile: Int64[np.ndarray, " tile"]

    @property
    def size_shares(self) -> dict[str, float]:
        """The fractions of small, medium and large sections, by the side of a square of a section's area."""
        sides = np.sqrt(self.areas_px)
        small, large = float((sides < SMALL_SIDE_PX).mean()), float((sides > LARGE_SIDE_PX).mean())
        return {"small": small, "medium": 1.0 - small - large, "large": large}


def tile_statistics(coco: CocoSet) -> TileStatistics:
    """Return the statistics of the tiles of a COCO file; raises `InputError` if no section counts."""
    counted = np.array([not one.crowd for one in coco.annotations])
    if not counted.any():
        raise InputError(f"{coco.path} has crowds alone; no section counts. Lower the least visible share.")
    areas = np.array([one.area_px for one in coco.annotations], dtype=np.float64)
    shapes = [shapely.unary_union([shapely.Polygon(part) for part in one.parts]) for one in coco.annotations]
    gap, touching, clipped = touching_gap_px(areas[counted]), np.zeros(len(shapes), bool), np.zeros(len(shapes), bool)
    of_image: dict[int, list[int]] = {image.id: [] for image in coco.images}
    for place, one in enumerate(coco.annotations):
        of_image[one.image_id].append(place)
    for image in coco.images:
        places = of_image[image.id]
        for first, second in near_pairs([shapes[place] for place in places], gap):
            touching[[places[first], places[second]]] = True
        end = np.array([image.height, image.width]) - _ON_BORDER_PX
        for place in places:
            points = np.concatenate(coco.annotations[place].parts)
            clipped[place] = (points <= _ON_BORDER_PX).any() or (points >= end).any()
    return TileStatistics(
        coco.class_names,
        tuple(one.label for one in coco.annotations if not one.crowd),
        areas[counted],
        touching[counted],
        clipped[counted],
        np.array([counted[of_image[image.id]].sum() for image in coco.images], dtype=np.int64),
    )


def benchmark_statistics(benchmark: Benchmark, split: str, *, of: str = "") -> dict[str, TileStatistics]:
    """Return the statistics of the two parts of a split, named "training" and "validation", after the text `of`."""
    before, parts = f"{of}: " if of else "", {TRAINING: TRAIN, VALIDATION: VALIDATION}
    return {before + name: tile_statistics(benchmark.read(split, part)) for name, part in parts.items()}


def touching_gap_px(areas_px: Float64[np.ndarray, " section"]) -> float:
    """Return the distance up to which sections of these areas count as touching."""
    return TOUCHING_SHARE * float(np.sqrt(np.median(areas_px)))


def near_pairs(shapes: Sequence[shapely.Geometry], gap_px: float) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of shapes within `gap_px` of each other, in order."""
    if not shapes:
        return []
    pairs = shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=gap_px)
    return sorted((int(i), int(j)) for i, j in pairs.T if i < j)


def touching_pairs(sections: WaferSections) -> list[tuple[int, int]]:
    """Return the pairs of sections of a whole wafer that touch, as places in its list."""
    areas = np.array([section.area_px for section in sections.sections], dtype=np.float64)
    return near_pairs([shapely.Polygon(section.polygon) for section in sections.sections], touching_gap_px(areas))


_MEASURES: tuple[tuple[str, Callable[[TileStatistics], str]], ...] = (
    ("Sections on a tile, mean", lambda one: f"{one.per_tile.mean():.1f}"),
    ("Sections on a tile, most", lambda one: f"{one.per_tile.max()}"),
    ("Touching another section", lambda one: f"{one.touching.mean():.1%}"),
    ("Reaching the tile's border", lambda one: f"{one.clipped.mean():.1%}"),
    (f"Small (below {SMALL_SIDE_PX}² px)", lambda one: f"{one.size_shares['small']:.1%}"),
    ("Medium", lambda one: f"{one.size_shares['medium']:.1%}"),
    (f"Large (above {LARGE_SIDE_PX}² px)", lambda one: f"{one.size_shares['large']:.1%}"),
)


def statistics_table(sets: Mapping[str, TileStatistics]) -> DisplayTable:
    """Return the statistics of named sets of tiles, one column each."""
    rows = [("Tiles", *(f"{len(one.per_tile):,}" for one in sets.values()))]
    rows.append(("Sections", *(f"{len(one.labels):,}" for one in sets.values())))
    for name in dict.fromkeys(name for one in sets.values() for name in one.class_names):
        counts = [Counter(one.labels)[name] if name in one.class_names else None for one in sets.values()]
        rows.append((f"of class {name}", *("no such class" if n is None else f"{n:,}" for n in counts)))
    rows += [(what, *(text(one) for one in sets.values())) for what, text in _MEASURES]
    return text_table(
        "Content of the tiles; sections of which a tile shows too little are not counted.",
        ("", *sets),
        {f"statistics-{number}": row for number, row in enumerate(rows)},
    )


def report_statistics(run: Run, train: TileStatistics, validation: TileStatistics) -> None:
    """Note the statistics of a benchmark in a run: counts of both parts, fractions over the two together."""
    for part, name, one in ((TRAIN, TRAINING, train), (VALIDATION, VALIDATION, validation)):
        n = len(one.per_tile)
        run.metric(f"n_tiles_{part}", n, n=n, label=f"Tiles for {name}")
        run.metric(f"n_sections_{part}", len(one.labels), n=n, label=f"Sections on the tiles for {name}")
    n, per_tile = len(train.labels) + len(validation.labels), np.concatenate([train.per_tile, validation.per_tile])
    spread = per_tile.std(ddof=1) if len(per_tile) > 1 else None
    run.metric("sections_per_tile", per_tile.mean(), n=len(per_tile), spread=spread, label="Sections on a tile")
    counts = Counter(train.labels + validation.labels)
    shares = {name: (counts[name] / n, f"Fraction of class {name}") for name in train.class_names}
    for name, label in (("touching", "touch another"), ("clipped", "reach the tile's border")):
        both = np.concatenate([getattr(train, name), getattr(validation, name)])
        shares[name] = (both.mean(), f"Sections that {label}")
    for size in train.size_shares:
        total = sum(one.size_shares[size] * len(one.labels) for one in (train, validation))
        shares[size] = (total / n, f"Sections that are {size} by COCO's borders")
    for name, (share, label) in shares.items():
        run.metric(f"share_{name}", share, n=n, label=label)


def split_leak(benchmark: Benchmark, split: str) -> PixelLeak:
    """Return the pixel leak of a benchmark's split; raises `InputError` if its files do not give the tiles' places."""
    return pixel_leak(benchmark.read(split, TRAIN).places, benchmark.read(split, VALIDATION).places)


def section_leak(benchmark: Benchmark, split: str) -> float:
    """Return the fraction of the sections on validation tiles that training tiles show too, without crowds."""
    shown = []
    for path in (benchmark.split(split).train, benchmark.split(split).validation):
        document = read_json(path)
        try:
            wafer = {image["id"]: image["wafer"] for image in document["images"]}
            counted = [one for one in document["annotations"] if not one["iscrowd"]]
            shown.append([(wafer[one["image_id"]], one["section"]) for one in counted])
        except KeyError as error:
            raise InputError(f"{path} lacks {error}: only annotations of `emseg wafer tiles` have it.") from error
    trained_on = set(shown[0])
    return sum(section in trained_on for section in shown[1]) / len(shown[1])


def random_split_leak(wafer_px: int, tiling: Tiling, *, train_share: float, n_wafers: int, seed: int) -> PixelLeak:
    """Return the pixel leak of all tiles of `n_wafers` square wafers under a random split; empty tiles are kept."""
    require_count("n_wafers", n_wafers)
    wafers = [WaferSections(f"planned-{number}", wafer_px, wafer_px, ()) for number in range(n_wafers)]
    tiles = [tile for wafer in wafers for tile in plan_tiles(wafer, tiling)]
    split = split_crops(tiles, train_share=train_share, seed=seed)
    return pixel_leak(split.train, split.validation)


def expected_leak(overlap: float, train_share: float) -> float:
    """Return the mean leak of a tile with eight neighbours, each for training with probability p.

    With an overlap of the fraction o of the side, up to 0.5, four edges of o (1 - 2 o) are shared with one neighbour
    each and four corners of o^2 with three:  leak = 4 o (1 - 2 o) p + 4 o^2 (1 - (1 - p)^3).  On a real wafer the last
    tile ends at the border and overlaps more, and the tiles on the border have fewer neighbours.
    """
    require_number("overlap", overlap, least=0, most=0.5)
    require_number("train_share", train_share, least=0, most=1)
    edges = 4 * overlap * (1 - 2 * overlap) * train_share
    return edges + 4 * overlap**2 * (1 - (1 - train_share) ** 3)


def report_split_leak(run: Run, split: str, leak: PixelLeak, *, sections: float, n_sections: int) -> None:
    """Record the leak of a split: mean over tiles, fraction of tiles affected, and the section leak."""
    report_leak_mean(run, split, leak, f"split by {split}")
    label = f"Validation tiles of which a pixel was trained on, split by {split}"
    run.metric(f"{split}_leak_touched", leak.share_touched, n=len(leak.shares), label=label)
    label = f"Sections on validation tiles that were trained on, split by {split}"
    run.metric(f"{split}_sections_seen", sections, n=n_sections, label=label)


def report_leak_mean(run: Run, name: str, leak: PixelLeak, of: str) -> None:
    """Record the mean leak as `{name}_leak_mean`, with its standard deviation over tiles."""
    n, label = len(leak.shares), f"Fraction of a validation tile's pixels that was trained on, {of}"
    spread = float(leak.shares.std(ddof=1)) if n > 1 else None
    run.metric(f"{name}_leak_mean", leak.mean, n=n, spread=spread, label=label)


def report_leak(run: Run, trained: pd.DataFrame, split: str, metric: str = "ap") -> None:
    """Note the score on a split's own validation tiles minus that on fresh wafers, as `{split}_gain_{metric}`."""
    label = f"{METRIC_LABELS[metric]} on validation tiles minus on fresh wafers, split by {split}"
    report_difference(run, f"{split}_gain_{metric}", leak_gain(trained, split=split, metric=metric), label)


def same_networks(trained: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the networks that `others` has as well, so that levels compare; all if it has none."""
    return trained if others.empty else trained.merge(others[NETWORK].drop_duplicates(), on=NETWORK)


def leak_table(runs: Sequence[tuple[str, pd.DataFrame]], metric: str = "ap") -> DisplayTable:
    """Return the effect of a split on AP: a row for each (split, its runs), the runs of one experiment each."""
    rows = {}
    for split, trained in runs:
        require_one_of("split", split, SPLITS)
        means = (trained[name].mean() for name in (metric, f"fresh_{metric}"))
        scores = (NOT_RUN if pd.isna(mean) else f"{mean:.1f}" for mean in means)
        gain = difference_text(leak_gain(trained, split=split, metric=metric))
        rows[f"leak-{split}"] = (split, *scores, gain, str(len(trained)))
    return text_table(
        "Mask AP in % on a split's own validation tiles and on held-out wafers, means over runs; the difference in "
        "points with its 95 % interval over runs, which needs three.",
        ("Split by", "AP on validation tiles", "AP on held-out wafers", "Difference", "Runs"),
        rows,
    )


@dataclass(frozen=True)
class Window:
    """A square of a wafer: [row, row + side) x [column, column + side)."""

    row: int
    column: int
    side: int

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the window's pixels, as a view."""
        return image[self.row : self.row + self.side, self.column : self.column + self.side]

    def meets(self, other: "Window") -> bool:
        """Whether two windows of one wafer share a pixel."""
        rows = self.row < other.row + other.side and other.row < self.row + self.side
        return rows and self.column < other.column + other.side and other.column < self.column + self.side


@dataclass(frozen=True)
class Scene:
    """A window of wafer number `wafer` that shows a situation, the better the higher its score."""

    situation: str
    wafer: int
    window: Window
    score: float


def window_about(center: Sequence[float], side: float, height: int, width: int) -> Window:
    """Return the square of `side` pixels about `center` (row, column), moved into the image and no larger than it."""
    whole = min(int(side), height, width)
    row, column = (
        int(np.clip(middle - whole / 2, 0, size - whole)) for middle, size in zip(center, (height, width), strict=True)
    )
    return Window(row, column, whole)


def fullest_window(sections: WaferSections, side: int) -> Window:
    """Return the window about a section that contains the centres of most sections."""
    centers = np.array([section.center for section in sections.sections])
    windows = [window_about(center, side, sections.height, sections.width) for center in centers]
    offsets = [centers - (one.row, one.column) for one in windows]
    counts = [((gap >= 0) & (gap < one.side)).all(axis=1).sum() for gap, one in zip(offsets, windows, strict=True)]
    return windows[int(np.argmax(counts))]


def find_scenes(wafers: Sequence[SyntheticWafer]) -> dict[str, Scene]:
    """Return the best scene of each of `SITUATIONS` that the wafers show, in that order."""
    if not wafers:
        raise UsageError("scenes need at least one wafer to be found on; got none.")
    candidates = [scene for number, wafer in enumerate(wafers) for scene in _scenes(wafer, number)]
    chosen: dict[str, Scene] = {}
    for situation in ("stuck", "knife", "fold", "damaged", "dust"):  # the rarest first
        free = (
            scene
            for scene in candidates
            if scene.situation == situation
            and not any(scene.wafer == one.wafer and scene.window.meets(one.window) for one in chosen.values())
        )
        best = max(free, key=lambda scene: scene.score, default=None)
        if best is not None:
            chosen[situation] = best
    return {situation: chosen[situation] for situation in SITUATIONS if situation in chosen}


def dust_specks(wafer: SyntheticWafer) -> Float64[np.ndarray, "speck 2"]:
    """Return where dust lies: the middles of small spots that the same wafer without dust does not have."""
    clean = synthesize_wafer(replace(wafer.design, dust=0.0), seed=wafer.seed)
    differs = (cv2.absdiff(wafer.image, clean.image) > _DUST_CONTRAST).astype(np.uint8)
    _, _, measures, middles = cv2.connectedComponentsWithStats(differs)
    areas = measures[1:, cv2.CC_STAT_AREA]
    largest = (_LARGEST_SPECK * wafer.design.section_length_px) ** 2
    spots: Float64[np.ndarray, "speck 2"] = middles[1:][(areas >= _SMALLEST_SPECK_PX) & (areas <= largest), ::-1]
    return spots


def sections_by_class(sections: WaferSections, n_each: int) -> dict[str, tuple[int, ...]]:
    """Return for each class the places of `n_each` sections, those that touch fewest others first."""
    degree = np.zeros(len(sections.sections), dtype=int)
    for pair in touching_pairs(sections):
        degree[list(pair)] += 1
    order = np.argsort(degree, kind="stable")
    labels = [section.label for section in sections.sections]
    of_class = {name: [int(place) for place in order if labels[place] == name] for name in sections.class_names}
    return {name: tuple(places[:n_each]) for name, places in of_class.items()}


def _scenes(wafer: SyntheticWafer, number: int) -> Iterator[Scene]:
    sections = wafer.truth
    if not sections.sections:
        return
    length = wafer.design.section_length_px
    size = sections.height, sections.width
    labels = [section.label for section in sections.sections]
    good, incomplete, fold, damaged = ([label == name for label in labels] for name in SECTION_CLASSES)
    neighbours: dict[int, set[int]] = {place: set() for place in range(len(labels))}
    for first, second in touching_pairs(sections):
        neighbours[first].add(second)
        neighbours[second].add(first)
    for row in _rows(neighbours):
        ends = max(_leading(row, incomplete), _leading(row[::-1], incomplete))
        if len(row) >= 4 and ends:
            yield _scene("stuck", wafer, number, row, 10 * min(ends, 3) + min(len(row), 9))
        for start, place in enumerate(row):
            run = _leading(row[start:], incomplete)
            before = start > 0 and incomplete[row[start - 1]]
            if run and not before and start + run < len(row) and good[row[start + run]]:
                yield _scene("knife", wafer, number, row[start : start + run + 1], run)
            if fold[place] and (stuck := [other for other in sorted(neighbours[place]) if good[other]]):
                yield _scene("fold", wafer, number, [place, *stuck], len(stuck))
    centers = np.array([section.center for section in sections.sections])
    for place, center in enumerate(centers):
        if damaged[place]:
            near = np.abs(centers[damaged] - center).max(axis=1) < 0.5 * (_SIDE - 1) * length
            yield Scene("damaged", number, window_about(center, _SIDE * length, *size), float(near.sum()))
    if wafer.design.dust:
        specks = dust_specks(wafer)
        on_sections = specks[wafer.label_image()[tuple(specks.astype(int).T)] > 0]
        for center in centers:
            near = np.abs(on_sections - center).max(axis=1) < 0.5 * _DUST_SIDE * length
            yield Scene("dust", number, window_about(center, _DUST_SIDE * length, *size), float(near.sum()))


def _rows(neighbours: Mapping[int, set[int]]) -> Iterator[list[int]]:
    """Yield the longest rows of sections cut one after the other, each touching the next; one alone is a row too."""
    ends = [place + 1 for place in neighbours if place + 1 not in neighbours[place]]  # the last place is one
    yield from (list(range(first, end)) for first, end in zip([0, *ends], ends, strict=False))


def _leading(row: Sequence[int], which: Sequence[bool]) -> int:
    """The number of sections of the kind at the beginning of a row."""
    return next((count for count, place in enumerate(row) if not which[place]), len(row))


def _scene(situation: str, wafer: SyntheticWafer, number: int, places: Sequence[int], score: float) -> Scene:
    """Return the scene of some sections, in the middle of a window of at least `_SIDE` section lengths."""
    length = wafer.design.section_length_px
    points = np.concatenate([wafer.truth.sections[place].polygon for place in places])
    low, high = points.min(axis=0), points.max(axis=0)
    middle, side = 0.5 * (low + high), (high - low).max() + 2 * _MARGIN * length
    side = float(np.clip(side, _SIDE * length, _LONGEST_SIDE[situation] * length))
    window = window_about(middle, side, wafer.truth.height, wafer.truth.width)
    moved = np.abs(np.array([window.row, window.column]) + 0.5 * window.side - middle).max()
    return Scene(situation, number, window, score - _MOVED * (moved > _MARGIN * length))


def show_window(ax: Axes, image: Image, window: Window, pixel_size_um: float | None, *, bar: bool = True) -> None:
    """Draw a window of an image in the wafer's own coordinates."""
    pixels = window.of(image)
    low, high = np.percentile(image[:: max(image.shape[0] // 512, 1), :: max(image.shape[1] // 512, 1)], (0.5, 99.5))
    ax.imshow(pixels, vmin=low, vmax=high, extent=_extent(window, pixels), interpolation="antialiased")
    ax.set(xlim=_extent(window, pixels)[:2], ylim=_extent(window, pixels)[2:])
    ax.set_axis_off()
    if bar:
        add_scale_bar(ax, pixels.shape[1], pixel_size_um and 1000 * pixel_size_um)


def class_handles(names: tuple[str, ...]) -> list[Line2D]:
    """Return a line for the legend in the colour of each class."""
    return [Line2D([], [], color=colour, label=name) for name, colour in class_colours(names).items()]


def _extent(place: Window, pixels: Image) -> tuple[int, int, int, int]:
    height, width = pixels.shape
    return place.column, place.column + width, place.row + height, place.row


def region_to_image(section: Section) -> Float64[np.ndarray, "4 2"] | None:
    """Return the corners (x, y) of the region to image, rotated with it; None where its angle is not known."""
    if section.angle_deg is None:
        return None
    along = np.array([math.cos(math.radians(section.angle_deg)), math.sin(math.radians(section.angle_deg))])
    across = np.array([-along[1], along[0]])
    offsets = section.polygon - section.center
    half = [0.5 * ROI_SHARE * float(np.ptp(offsets @ axis)) for axis in (along, across)]
    corners = [a * half[0] * along + b * half[1] * across for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    return (np.array(corners) + section.center)[:, ::-1]
