"""Non-maximum suppression and RoIAlign as their definitions say them, one number at a time.

Box corners are x1, y1, x2, y2. Sources: Girshick et al. 2014 (suppression), He et al. 2017 (RoIAlign).
"""

import math

import numpy as np


def intersection_over_union(a: np.ndarray, b: np.ndarray, offset: float) -> float:
    """Return common over joint area of two boxes whose sides are `offset` longer than their corners say."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    common = width * height
    return common / (areas[0] + areas[1] - common) if common > 0 else 0.0


def suppressed(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: float = 0.0) -> list[int]:
    """Return the boxes that stay: each in turn, best first, unless a better one that stayed overlaps it too much."""
    kept: list[int] = []
    for candidate in np.argsort(-scores, kind="stable"):
        if all(intersection_over_union(boxes[candidate], boxes[other], offset) <= threshold for other in kept):
            kept.append(int(candidate))
    return kept


def bilinear(image: np.ndarray, row: float, column: float) -> float:
    """Return the image between its pixel centres; 0 from one pixel outside on, the edge's value up to there."""
    height, width = image.shape
    if row < -1.0 or row > height or column < -1.0 or column > width:
        return 0.0
    row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    top, left = math.floor(row), math.floor(column)
    down, right = min(top + 1, height - 1), min(left + 1, width - 1)
    a, b = row - top, column - left
    upper = (1 - b) * image[top, left] + b * image[top, right]
    lower = (1 - b) * image[down, left] + b * image[down, right]
    return float((1 - a) * upper + a * lower)


def roi_aligned(
    maps: np.ndarray, rois: np.ndarray, grid: tuple[int, int], scale: float, samples: int, aligned: bool
) -> np.ndarray:
    """Return [region, channel, row, column]: means of samples x samples bilinear values in each cell of the grid.

    `samples` 0 takes as many as the cell has pixels, rounded up. `aligned` shifts by half a pixel, since the value of a
    pixel stands at its centre; without it a region is at least one pixel wide.
    """
    shift = 0.5 if aligned else 0.0
    cells = np.zeros((len(rois), maps.shape[1], *grid))
    for number, (image, *corners) in enumerate(rois):
        left, top, right, bottom = (corner * scale - shift for corner in corners)
        height, width = bottom - top, right - left
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        n_rows = samples if samples > 0 else math.ceil(height / grid[0])
        n_columns = samples if samples > 0 else math.ceil(width / grid[1])
        for channel in range(maps.shape[1]):
            for i, j in np.ndindex(*grid):
                values = [
                    bilinear(
                        maps[int(image), channel],
                        top + (i + (p + 0.5) / n_rows) * height / grid[0],
                        left + (j + (q + 0.5) / n_columns) * width / grid[1],
                    )
                    for p in range(n_rows)
                    for q in range(n_columns)
                ]
                cells[number, channel, i, j] = sum(values) / max(len(values), 1)
    return cells
