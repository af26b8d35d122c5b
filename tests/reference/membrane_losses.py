"""The losses of a membrane network as loops over pixels, from probabilities: for small images and float64 only."""

import math

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float64]


def focal(p: Image, y: Image, gamma: float) -> float:
    """Lin et al. 2017, Eq. 4, mean over all pixels of [image, row, column]."""
    total = 0.0
    for probability, truth in zip(p.ravel(), y.ravel(), strict=True):
        p_t = probability if truth == 1 else 1 - probability
        total += -((1 - p_t) ** gamma) * math.log(p_t)
    return total / p.size


def dice(p: Image, y: Image) -> float:
    """One minus the smoothed Dice coefficient of each image, mean over images."""
    losses = []
    for probabilities, truths in zip(p, y, strict=True):
        both = sum(a * b for a, b in zip(probabilities.ravel(), truths.ravel(), strict=True))
        losses.append(1 - (2 * both + 1) / (probabilities.sum() + truths.sum() + 1))
    return sum(losses) / len(losses)


def largest_within(x: Image, radius: int) -> Image:
    """Largest value of the square around each pixel of [row, column], cut off at the image's edge."""
    out = np.empty_like(x)
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            rows = slice(max(row - radius, 0), row + radius + 1)
            out[row, column] = x[rows, max(column - radius, 0) : column + radius + 1].max()
    return out


def boundary(p: Image, y: Image) -> float:
    """One minus the boundary F1 of Bokhovkin and Burnaev 2019 with theta_0 = 3, theta = 5, smoothed by one pixel."""
    losses = []
    for probabilities, truths in zip(p, y, strict=True):
        predicted = largest_within(1 - probabilities, 1) - (1 - probabilities)
        true = largest_within(1 - truths, 1) - (1 - truths)
        precision = ((predicted * largest_within(true, 2)).sum() + 1) / (predicted.sum() + 1)
        recall = ((true * largest_within(predicted, 2)).sum() + 1) / (true.sum() + 1)
        losses.append(1 - 2 * precision * recall / (precision + recall))
    return sum(losses) / len(losses)
