"""What a score makes of a truth that is off by a few pixels: the score of a label against itself, moved.

The label moved by (rows, columns) is compared with the label at rest on the pixels that both cover, so nothing has to
be invented at the frame. It shows how much of a low F1 can be due to where an annotator put the line.
"""

import numpy as np
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.membrane.scoring.image_scores import ImageScores, ScoreSettings, score_image


def shifted_pair(mask: NDArray[np.bool_], rows: int, columns: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (the mask moved down by `rows` and right by `columns`, the mask at rest), cropped to what both cover."""
    height, width = mask.shape
    if abs(rows) >= height or abs(columns) >= width:
        raise UsageError(f"a shift must be smaller than the image; got ({rows}, {columns}) for {height} x {width}.")
    moved = mask[max(-rows, 0) : height - max(rows, 0), max(-columns, 0) : width - max(columns, 0)]
    still = mask[max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)]
    return moved, still


def score_shifted(
    truth: NDArray[np.bool_], rows: int, columns: int, settings: ScoreSettings | None = None
) -> ImageScores:
    """Return the scores of a truth, moved by (rows, columns), against the truth at rest."""
    moved, still = shifted_pair(truth, rows, columns)
    return score_image(moved, still, settings)
