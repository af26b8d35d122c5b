"""Tiled inference as a textbook writes it: two accumulators as large as the image, one division at the end.

Tiles begin every `step` pixels, the last ends at the border; each answer is added times the product of two weights, and
so are the weights; no streaming, no batches.
"""

import numpy as np
import torch


def blended(network, image, tile, step, weight):
    """Return the weighted mean of the answers for all tiles; `weight(row, rows)` weighs a tile's places on an axis."""
    height, width = image.shape
    total, weights = 0.0, np.zeros((height, width))
    for top in origins(height, tile, step):
        for left in origins(width, tile, step):
            pixels = torch.from_numpy(image[top : top + tile, left : left + tile].astype(np.float32))
            answer = network(pixels[None, None])[0].double().numpy()
            w = np.outer(weight(top, height), weight(left, width))
            padded = np.zeros((len(answer), height, width))
            padded[:, top : top + tile, left : left + tile] = answer * w
            total = total + padded
            weights[top : top + tile, left : left + tile] += w
    return total / weights


def origins(length, tile, step):
    """Return where tiles begin when `length - tile` is divisible by `step`."""
    assert (length - tile) % step == 0
    return range(0, length - tile + 1, step)
