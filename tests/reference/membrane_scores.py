"""Textbook versions of the membrane scores: plain loops over pixels, as the definitions read."""

import math
from collections import Counter, deque

import numpy as np

Mask = np.ndarray


def textbook_class_scores(truth: Mask, prediction: Mask, radius: float) -> tuple[float, float, float]:
    """Return (precision, recall, F1) of the True class; a pixel matches one of the other mask within the radius."""

    def matched(one: Mask, other: Mask) -> tuple[int, int]:
        others = [tuple(place) for place in np.argwhere(other)]
        places = [tuple(place) for place in np.argwhere(one)]
        hits = sum(any((r - a) ** 2 + (c - b) ** 2 <= radius**2 for a, b in others) for r, c in places)
        return hits, len(places)

    hits, n = matched(prediction, truth)
    precision = hits / n if n else 1.0
    hits, n = matched(truth, prediction)
    recall = hits / n if n else 1.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def textbook_patches(mask: Mask, connectivity: int) -> np.ndarray:
    """Return a label image of the connected patches of True pixels, by flooding one after the other."""
    steps = [(-1, 0), (0, -1), (0, 1), (1, 0)]
    if connectivity == 8:
        steps += [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    labels = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        labels[start] = label = labels.max() + 1
        waiting = deque([start])
        while waiting:
            row, column = waiting.popleft()
            for down, right in steps:
                place = row + down, column + right
                inside = 0 <= place[0] < mask.shape[0] and 0 <= place[1] < mask.shape[1]
                if inside and mask[place] and not labels[place]:
                    labels[place] = label
                    waiting.append(place)
    return labels


def textbook_thinning(membrane: Mask) -> np.ndarray:
    """Return Soille and Vincent's watershed of the two-level image, 4 neighbours, as the ISBI 2012 script orders it.

    Minima are the cells, numbered as columns are read. At the membrane's level all pixels beside a cell are queued,
    column by column; then the queue is worked off: a pixel takes the label of a labelled neighbour, or becomes 0 where
    two labels meet.
    """
    open_, queued = -2, -3
    labels = np.ascontiguousarray(textbook_patches(~membrane.T, 4).T)
    if not labels.any():
        return np.ones(membrane.shape, int)
    labels[membrane] = open_
    height, width = membrane.shape

    def neighbours(row: int, column: int) -> list[tuple[int, int]]:
        around = [(row, column - 1), (row - 1, column), (row, column + 1), (row + 1, column)]
        return [(r, c) for r, c in around if 0 <= r < height and 0 <= c < width]

    waiting = deque(
        (row, column)
        for column in range(width)
        for row in range(height)
        if labels[row, column] == open_ and any(labels[place] > 0 for place in neighbours(row, column))
    )
    for place in waiting:
        labels[place] = queued
    while waiting:
        place = waiting.popleft()
        from_line = False
        for other in neighbours(*place):
            if labels[other] > 0:
                if labels[place] == queued or (labels[place] == 0 and from_line):
                    labels[place] = labels[other]
                elif labels[place] > 0 and labels[place] != labels[other]:
                    labels[place], from_line = 0, False
            elif labels[other] == 0:
                if labels[place] == queued:
                    labels[place], from_line = 0, True
            elif labels[other] == open_:
                labels[other] = queued
                waiting.append(other)
    return labels


def textbook_v_scores(truth: np.ndarray, cells: np.ndarray) -> tuple[float, float]:
    """Return (V-Rand, V-Info): the truth's pixels of label 0 are left out, those of `cells` are cells of one pixel."""
    pairs = []
    for number, (t, s) in enumerate(zip(truth.ravel().tolist(), cells.ravel().tolist(), strict=True)):
        if t > 0:
            pairs.append((t, s if s > 0 else -number))  # a pixel on a line is a cell of its own
    n = len(pairs)
    joint = [count / n for count in Counter(pairs).values()]
    true = [count / n for count in Counter(t for t, _ in pairs).values()]
    own = [count / n for count in Counter(s for _, s in pairs).values()]
    v_rand = sum(p * p for p in joint) / (0.5 * sum(s * s for s in own) + 0.5 * sum(t * t for t in true))

    def entropy(shares: list[float]) -> float:
        return -sum(p * math.log(p) for p in shares)

    h_true, h_own = entropy(true), entropy(own)
    information = h_true + h_own - entropy(joint)
    return v_rand, information / (0.5 * h_own + 0.5 * h_true)


def textbook_surface(mask: Mask) -> list[tuple[int, int]]:
    """Return the True pixels with a False 4-neighbour in the image."""
    height, width = mask.shape
    found = []
    for row, column in np.argwhere(mask).tolist():
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        if any(0 <= r < height and 0 <= c < width and not mask[r, c] for r, c in around):
            found.append((row, column))
    return found


def textbook_assd(truth: Mask, prediction: Mask) -> float:
    """Return the average symmetric surface distance in pixels, NaN if a surface is empty."""
    t, s = textbook_surface(truth), textbook_surface(prediction)
    if not t or not s:
        return math.nan
    distances = [min(math.dist(a, b) for b in t) for a in s] + [min(math.dist(a, b) for b in s) for a in t]
    return sum(distances) / len(distances)


def textbook_bridges(patches: np.ndarray, free: Mask, cells: np.ndarray) -> int:
    """Return how many patches have free 4-neighbours in two or more cells."""
    touched: dict[int, set[int]] = {}
    height, width = patches.shape
    for row, column in np.argwhere(patches > 0).tolist():
        for r, c in [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]:
            if 0 <= r < height and 0 <= c < width and free[r, c]:
                touched.setdefault(patches[row, column], set()).add(cells[r, c])
    return sum(len(found) > 1 for found in touched.values())
