"""Compiled ground: random numbers and smooth noise that belong to places, and points against capsules.

Every random quantity is `hash_at(seed, stream, i, j)`, a function of integer lattice coordinates alone, so any window
at any pixel size meets the same tissue. Lengths are nm, coordinates (y, x) = (row, column). Noise: Perlin, Improving
noise, SIGGRAPH 2002; mixing: the finaliser of splitmix64 (Steele, Lea, Flood 2014).
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Columns of the table of sites: centre, axis, half length of the axis, radius (a capsule).
SITE_Y, SITE_X, AXIS_Y, AXIS_X, HALF_LENGTH, RADIUS = range(6)
N_SITE = 6


@njit(cache=True, nogil=True)
def hash_at(seed: int, stream: int, i: int | np.int64, j: int | np.int64) -> np.uint64:
    """Return 64 well mixed bits of four integers (the finaliser of splitmix64, applied after each)."""
    h = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15)
    for word in (np.int64(stream), np.int64(i), np.int64(j)):
        h = (h ^ np.uint64(word)) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
        h = h ^ (h >> np.uint64(31))
    return h


@njit(cache=True, nogil=True)
def uniform_at(seed: int, stream: int, i: int | np.int64, j: int | np.int64) -> float:
    """Return a number in [0, 1)."""
    return np.float64(hash_at(seed, stream, i, j) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def hash_grid(seed: int, stream: int, n: int) -> NDArray[np.uint64]:
    """Return the hashes of a square of lattice points."""
    out = np.empty((n, n), np.uint64)
    for i in range(n):
        for j in range(n):
            out[i, j] = hash_at(seed, stream, i, j)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def gradient_noise(seed: int, stream: int, y: float, x: float) -> float:
    """Return Perlin's noise with a quintic fade: smooth, zero at the lattice, standard deviation about 0.25."""
    i, j = math.floor(y), math.floor(x)
    fy, fx = y - i, x - j
    wy = fy * fy * fy * (fy * (fy * 6.0 - 15.0) + 10.0)
    wx = fx * fx * fx * (fx * (fx * 6.0 - 15.0) + 10.0)
    total = 0.0
    for di in range(2):
        for dj in range(2):
            h = hash_at(seed, stream, np.int64(i) + di, np.int64(j) + dj)
            gy = np.float64(h & np.uint64(0xFFFF)) / 32767.5 - 1.0
            gx = np.float64((h >> np.uint64(16)) & np.uint64(0xFFFF)) / 32767.5 - 1.0
            weight = (wy if di else 1.0 - wy) * (wx if dj else 1.0 - wx)
            total += weight * (gy * (fy - di) + gx * (fx - dj))
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def distance_to_axis(y: float, x: float, site: NDArray[np.float64]) -> float:
    """Return the distance of a point from the axis of a capsule."""
    dy, dx = y - site[SITE_Y], x - site[SITE_X]
    along = min(max(dy * site[AXIS_Y] + dx * site[AXIS_X], -site[HALF_LENGTH]), site[HALF_LENGTH])
    dy -= along * site[AXIS_Y]
    dx -= along * site[AXIS_X]
    return math.sqrt(dy * dy + dx * dx)
