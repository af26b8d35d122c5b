"""CASENet's classification modules, sliced concatenation and grouped fusion as loops, for M classes and small maps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]


def classify(features: Map, weight: Map, bias: Map) -> Map:
    """1 x 1 convolution of one image's [channel, row, column] to [class, row, column]."""
    out = np.zeros((len(weight), *features.shape[1:]))
    for m in range(len(weight)):
        for c in range(len(features)):
            out[m] += weight[m, c] * features[c]
        out[m] += bias[m]
    return out


def enlarge(image: Map, height: int, width: int) -> Map:
    """Bilinear interpolation of [row, column], pixel centres at halves, edges repeated."""
    rows, columns = image.shape
    out = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((column + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            down, across = y - top, x - left
            upper = (1 - across) * image[top, left] + across * image[top, right]
            lower = (1 - across) * image[bottom, left] + across * image[bottom, right]
            out[row, column] = (1 - down) * upper + down * lower
    return out


def sliced_concatenation(sides: Sequence[Map]) -> list[Map]:
    """The class maps of all sides, class by class, each class's sides in order: S M maps."""
    sliced = []
    for m in range(len(sides[0])):
        for side in sides:
            sliced.append(side[m])
    return sliced


def fuse(sides: Sequence[Map], weight: Map, bias: Map) -> Map:
    """1 x 1 convolution of M groups on the sliced concatenation; weight [class, side]."""
    sliced, n_sides = sliced_concatenation(sides), len(sides)
    fused = []
    for m in range(len(weight)):
        group = sliced[m * n_sides : (m + 1) * n_sides]
        fused.append(sum(w * x for w, x in zip(weight[m], group, strict=True)) + bias[m])
    return np.array(fused)
