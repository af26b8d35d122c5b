"""The cosine transform and adaptive pooling as a textbook writes them: nested loops over plain numbers."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def textbook_coefficient(x: Rows, h: int, w: int) -> float:
    """Eq. 1 of FANet for one pair (h, w)."""
    height, width = len(x), len(x[0])
    return math.fsum(
        x[u][v] * math.cos(math.pi * h * (2 * u + 1) / (2 * height)) * math.cos(math.pi * w * (2 * v + 1) / (2 * width))
        for u in range(height)
        for v in range(width)
    )


def textbook_dct2(x: Rows) -> list[list[float]]:
    """Eq. 1 of FANet for all pairs."""
    return [[textbook_coefficient(x, h, w) for w in range(len(x[0]))] for h in range(len(x))]


def textbook_printed_inverse(f: Rows) -> list[list[float]]:
    """Eq. 2 of FANet as printed."""
    height, width = len(f), len(f[0])
    return [
        [
            math.fsum(
                f[h][w]
                * math.cos(math.pi * h * (2 * u + 1) / (2 * height))
                * math.cos(math.pi * w * (2 * v + 1) / (2 * width))
                for h in range(height)
                for w in range(width)
            )
            for v in range(width)
        ]
        for u in range(height)
    ]


def fcanet_filter_row(size: int, frequency: int) -> list[float]:
    """One axis of FcaNet's filter: cos(pi f (p + .5) / L) / sqrt(L), times sqrt(2) if f > 0."""
    scale = (1.0 if frequency == 0 else math.sqrt(2)) / math.sqrt(size)
    return [math.cos(math.pi * frequency * (position + 0.5) / size) * scale for position in range(size)]
