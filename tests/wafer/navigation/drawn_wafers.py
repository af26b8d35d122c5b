"""Drawn wafers on which a stand-in for the network finds every section: each has a grey value of its own in its tile.

A pixel of section n is brighter than the ground and of grey 60 + n; the stand-in reports each grey that fills more than
a few pixels of a tile, with box, soft mask and a class (the grey's parity), as the network does, cut at tile borders.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely

from emseg.wafer.detector.detector_build import build_design
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.soft_masks import SoftDetections
from emseg.wafer.navigation.finder import SectionFinder

KNOWN_PX = 32.0
CLASSES = ("good", "folded")
GROUND, FIRST, GREYS = 40, 60, 150
GRID = 28


def quad(center, side, angle_deg, aspect=1.0):
    """Return the corners (row, column) of a rotated rectangle of area side^2."""
    half = np.array([side * np.sqrt(aspect), side / np.sqrt(aspect)]) / 2
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * half
    turn = np.deg2rad(angle_deg)
    return corners @ np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]) + np.asarray(center)


def ribbons(n_ribbons, n_sections, side, *, seed=0, gap=1.0):
    """Return quads in oblique ribbons, edge to edge at a `gap` of 1 section, and the size of an image for them."""
    draw = np.random.default_rng(seed)
    quads = []
    for ribbon in range(n_ribbons):
        angle = 12 + draw.uniform(-1, 1)
        step = np.array([-np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))]) * side * gap
        start = np.array([(ribbon * 2.6 + 2.2 + 0.25 * n_sections) * side, 2 * side]) + draw.uniform(0, 9, 2)
        quads += [quad(start + k * step, side, angle) for k in range(n_sections)]
    height = int((n_ribbons * 2.6 + 3 + 0.25 * n_sections) * side)
    return quads, (height, int((n_sections * gap + 3) * side))


def draw(quads, size, *, supersampling=4):
    """Return an image of `size` with the sections; the ground is noise of a few greys."""
    image = np.random.default_rng(1).integers(GROUND - 4, GROUND + 4, size).astype(np.uint8)
    for number, corners in enumerate(quads):
        points = np.round(corners[:, ::-1] * 256 - 128).astype(np.int32)  # pixel centres are at 0.5
        cv2.fillConvexPoly(image, points, FIRST + number % GREYS, lineType=cv2.LINE_8, shift=8)
    return image


@dataclass
class DrawnNetwork:
    """Stands for `predict_soft`: finds the greys of drawn sections; `calls` counts tiles, `scores` are by grey."""

    tiles: list = field(default_factory=list)
    score: float = 0.9
    capped: bool = False
    stop_after: int | None = None
    sizes: tuple = (0.0, np.inf)  # sides of sections that it recognizes

    def __call__(self, model, tiles, *, least_score=0.0, precision="fp32"):
        found = []
        for tile in tiles:
            if self.stop_after is not None and len(self.tiles) >= self.stop_after:
                raise KeyboardInterrupt
            self.tiles.append(tile)
            found.append(self.detect(tile))
        return found

    def detect(self, tile):
        boxes, labels, masks = [], [], []
        # scaling mixes greys at the sections' borders: what is brighter than the ground goes to the nearest pure grey
        core = cv2.erode(tile, np.ones((3, 3), np.uint8))
        pure = np.where((core == cv2.dilate(tile, np.ones((3, 3), np.uint8))) & (tile >= FIRST), tile, 0)
        greys, counts = np.unique(pure[pure > 0], return_counts=True)
        for grey in greys[counts > 12]:
            component = (pure == grey).astype(np.uint8)
            n, parts, stats, _ = cv2.connectedComponentsWithStats(component)
            for part in range(1, n):
                left, top, width, height, area = stats[part]
                if area < 12 or not self.sizes[0] <= np.sqrt(area) <= self.sizes[1]:
                    continue
                low, high = np.array([top, left]) - 1, np.array([top + height, left + width]) + 1  # erosion's pixel
                low, high = np.maximum(low, 0), np.minimum(high, tile.shape)
                whole = cv2.dilate((parts == part).astype(np.uint8), np.ones((3, 3), np.uint8))
                crop = whole[low[0] : high[0], low[1] : high[1]].astype(np.float32)
                boxes.append((*low, *high))
                labels.append(int(grey) % 2)
                masks.append(cv2.resize(crop, (GRID, GRID), interpolation=cv2.INTER_LINEAR))
        n = len(boxes)
        return SoftDetections(
            np.array(boxes, np.float32).reshape(n, 4),
            np.full(n, self.score, np.float32),
            np.array(labels, np.int64),
            np.array(masks, np.float32).reshape(n, GRID, GRID),
            self.capped,
        )


def drawn_finder(**more):
    """Return a finder that knows sections of `KNOWN_PX`; its network is never asked, `DrawnNetwork` answers."""
    changes = {"base_channels": 8, "pyramid_channels": 8, "fc_channels": 8, "mask_channels": 8, "mask_layers": 1}
    design = DetectorDesign(depth=18, size="small", num_classes=2, changes=changes)
    return SectionFinder(build_design(design).eval(), design, CLASSES, KNOWN_PX, **more)


def matched(found, quads):
    """Return the IoU of each quad with the one outline that covers it; fails where a quad is met by two."""
    shapes = [shapely.Polygon(one.outline).buffer(0) for one in found]
    truth = [shapely.Polygon(corners) for corners in quads]
    overlaps = np.array([[a.intersection(b).area / a.union(b).area for b in shapes] for a in truth])
    overlaps = overlaps.reshape(len(truth), len(shapes))
    assert ((overlaps > 0.3).sum(1) <= 1).all(), "a section was found twice"
    assert ((overlaps > 0.3).sum(0) <= 1).all(), "two sections were made one"
    return overlaps.max(1, initial=0)
