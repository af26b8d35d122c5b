"""Textbook versions of the tessellation: every place against every capsule, and distances on a raster."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def nearest_capsule(y: NDArray[np.float64], x: NDArray[np.float64], capsules: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the capsule (y, x, axis y, axis x, half length, radius) with the least signed distance."""
    best = np.full(y.shape, np.inf)
    owner = np.zeros(y.shape, np.int64)
    for index, (cy, cx, ay, ax, half_length, radius) in enumerate(capsules):
        along = np.clip((y - cy) * ay + (x - cx) * ax, -half_length, half_length)
        distance = np.hypot(y - cy - along * ay, x - cx - along * ax) - radius
        owner = np.where(distance < best, index, owner)
        best = np.minimum(best, distance)
    return owner


def distance_to_boundary(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each pixel's distance, in pixels, from the nearest edge between two labels (to half a pixel)."""
    edge = np.zeros((2 * labels.shape[0] - 1, 2 * labels.shape[1] - 1), bool)  # pixels and the gaps between them
    edge[1::2, ::2] = labels[1:] != labels[:-1]
    edge[::2, 1::2] = labels[:, 1:] != labels[:, :-1]
    return ndimage.distance_transform_edt(~edge)[::2, ::2] / 2.0


def capsule_gap(p: NDArray[np.float64], q: NDArray[np.float64], samples: int = 201) -> float:
    """Return the gap between two capsules (negative: overlap), from points along both axes."""
    t = np.linspace(-1.0, 1.0, samples)
    on_p = p[:2] + np.outer(t * p[4], p[2:4])
    on_q = q[:2] + np.outer(t * q[4], q[2:4])
    return float(np.hypot(*(on_p[:, None] - on_q[None]).transpose(2, 0, 1)).min() - p[5] - q[5])
