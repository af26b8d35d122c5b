"""The sharpness indices as printed: one loop over pixels for each, in Python numbers, x the column and y the row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def textbook_indices(image: NDArray[Any]) -> dict[str, float]:
    """Return every index of a small image by nested loops over `f[y][x]`; exact for integers."""
    f = image.tolist()
    height, width = image.shape
    n_pixels = height * width
    rows, columns = range(height), range(width)
    total = sum(f[y][x] for y in rows for x in columns)
    mu = total / n_pixels
    products = sum(f[y][x] * f[y][x + 1] for y in rows for x in range(width - 1))
    smd2 = sum(
        abs(f[y][x] - f[y][x + 1]) * abs(f[y][x] - f[y + 1][x]) for y in range(height - 1) for x in range(width - 1)
    )
    return {
        "brenner_gap1": sum((f[y][x + 1] - f[y][x]) ** 2 for y in rows for x in range(width - 1)),
        "brenner_gap2": sum((f[y][x + 2] - f[y][x]) ** 2 for y in rows for x in range(width - 2)),
        "smd2": smd2,
        "variance": sum((f[y][x] - mu) ** 2 for y in rows for x in columns),
        "vollath": products - n_pixels * mu * mu,
        "vollath_centred": sum((f[y][x] - mu) * (f[y][x + 1] - mu) for y in rows for x in range(width - 1)),
        "vollath_f4": products - sum(f[y][x] * f[y][x + 2] for y in rows for x in range(width - 2)),
    }


def numpy_indices(image: NDArray[Any]) -> dict[str, float]:
    """Return every index by the plain float64 array formulas: what one would write first; the benchmark's baseline."""
    f = image.astype(np.float64)
    mu = f.mean()
    return {
        "brenner_gap1": float(((f[:, 1:] - f[:, :-1]) ** 2).sum()),
        "brenner_gap2": float(((f[:, 2:] - f[:, :-2]) ** 2).sum()),
        "smd2": float((np.abs(f[:-1, :-1] - f[:-1, 1:]) * np.abs(f[:-1, :-1] - f[1:, :-1])).sum()),
        "variance": float(((f - mu) ** 2).sum()),
        "vollath": float((f[:, :-1] * f[:, 1:]).sum() - f.size * mu * mu),
        "vollath_centred": float(((f[:, :-1] - mu) * (f[:, 1:] - mu)).sum()),
        "vollath_f4": float((f[:, :-1] * f[:, 1:]).sum() - (f[:, :-2] * f[:, 2:]).sum()),
    }
