"""Places on a wafer that are worth a look: the most crowded one, the exceptional situations, single sections by class.

The situations are those of the paper's Fig. 2, found in the truth of synthetic wafers:

    knife       one or more incomplete sections that touch, cut one after the other, and the good one that follows
    fold        folded sections stuck to good ones
    damaged     several damaged sections near each other
    dust        most specks of dust on sections; found by drawing the same wafer without dust
    stuck       a long row of sections that stick together, with incomplete ones at its end

Each situation takes the best place that shows nothing of the places chosen before; a wafer that has none leaves it out.

Source: Sun et al. 2021 (FANet), Fig. 2 (a to e).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from chapters.wafer_dataset.dataset_statistics import touching_pairs
from emseg.errors import UsageError
from emseg.sections import WaferSections
from emseg.synthetic.wafer import SyntheticWafer, synthesize_wafer
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES

SITUATIONS = ("knife", "fold", "damaged", "dust", "stuck")
_SIDE = 3.2  # of a window, in section lengths
_DUST_SIDE = 2.4
_DUST_CONTRAST = 15  # grey levels; less is a shadow or a change of brightness
_SMALLEST_SPECK_PX = 3  # square pixels; fewer are noise
_LARGEST_SPECK = 0.15  # of a section's length, a side; what is larger is no dust but the debris of a section
_LONGEST_SIDE = {"knife": 4.8, "fold": _SIDE, "stuck": 7.0}
_MOVED = 2.5  # points that a scene loses when the wafer's border moves it out of its window's middle
_MARGIN = 0.25  # of a section's length, left around what a window shows

Neighbours = Mapping[int, set[int]]


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
    """Return the window about a section that holds the centres of most sections."""
    centers = np.array([section.center for section in sections.sections])
    windows = [window_about(center, side, sections.height, sections.width) for center in centers]
    counts = [
        int(((centers >= (one.row, one.column)) & (centers < (one.row + one.side, one.column + one.side))).all(1).sum())
        for one in windows
    ]
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
    return {
        name: tuple([int(place) for place in order if labels[place] == name][:n_each]) for name in sections.class_names
    }


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
            near = np.abs(centers - center).max(axis=1) < 0.5 * (_SIDE - 1) * length
            score = float((near & np.array(damaged)).sum())
            yield Scene("damaged", number, window_about(center, _SIDE * length, *size), score)
    if wafer.design.dust:
        specks = dust_specks(wafer)
        on_sections = specks[wafer.label_image()[tuple(specks.astype(int).T)] > 0]
        for center in centers:
            near = np.abs(on_sections - center).max(axis=1) < 0.5 * _DUST_SIDE * length
            yield Scene("dust", number, window_about(center, _DUST_SIDE * length, *size), float(near.sum()))


def _rows(neighbours: Neighbours) -> Iterator[list[int]]:
    """Yield the longest rows of sections cut one after the other, each touching the next; one alone is a row too."""
    row = [0]
    for place in range(1, len(neighbours)):
        if place in neighbours[row[-1]]:
            row.append(place)
            continue
        yield row
        row = [place]
    yield row


def _leading(row: Sequence[int], which: Sequence[bool]) -> int:
    """Return with how many sections of the kind a row begins."""
    count = 0
    while count < len(row) and which[row[count]]:
        count += 1
    return count


def _scene(situation: str, wafer: SyntheticWafer, number: int, places: Sequence[int], score: float) -> Scene:
    """Return the scene of some sections, in the middle of a window of at least `_SIDE` section lengths."""
    length = wafer.design.section_length_px
    points = np.concatenate([wafer.truth.sections[place].polygon for place in places])
    low, high = points.min(axis=0), points.max(axis=0)
    side = (high - low).max() + 2 * _MARGIN * length
    side = float(np.clip(side, _SIDE * length, _LONGEST_SIDE[situation] * length))
    middle = 0.5 * (low + high)
    window = window_about(middle, side, wafer.truth.height, wafer.truth.width)
    moved = np.abs(np.array([window.row, window.column]) + 0.5 * window.side - middle).max()
    return Scene(situation, number, window, score - _MOVED * (moved > _MARGIN * length))
