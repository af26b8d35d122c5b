"""A label's greys as a membrane mask, and the ways in which a file is no label.

In U-RISC and ISBI 2012 a label is 0 on membrane and 255 elsewhere. Some of U-RISC's are lossy (greys 0 to 8 and 248 to
255), those of Track 2 were resized; all are made binary at 122. Nothing is turned over unasked: a label most of which
would be membrane is refused.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError
from emseg.membrane.dataset.bands import read_bands
from emseg.membrane.dataset.downsampled import membrane_of_grey

LOSSY_RANGE = 8
MOST_MEMBRANE = 0.5
MOST_GREY = 0.5


class LabelBands:
    """The mask of a label file, band by band; the share of membrane and the checks are known at the end."""

    def __init__(self, path: Path, *, dark: bool = True) -> None:
        self.path, self.dark = path, dark
        self._counts = np.zeros(256, np.int64)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        """Yield masks [rows, width], True on membrane; raise `InputError` after the last if the file is no label."""
        for band in read_bands(self.path):
            self._counts += np.bincount(band.reshape(-1), minlength=256)
            yield membrane_of_grey(band, dark=self.dark)
        require_label(self._counts, self.path, dark=self.dark)

    @property
    def share(self) -> float:
        """Share of the pixels read so far that are membrane."""
        return membrane_share(self._counts, dark=self.dark)


def membrane_share(counts: NDArray[np.int64], *, dark: bool) -> float:
    """Return the share of membrane from the number of pixels of each grey, [256]."""
    is_membrane = membrane_of_grey(np.arange(256, dtype=np.uint8), dark=dark)
    return float(counts[is_membrane].sum() / max(counts.sum(), 1))


def require_label(counts: NDArray[np.int64], path: Path, *, dark: bool) -> None:
    """Raise `InputError` if the number of pixels of each grey, [256], shows that a file is no label, or inverted."""
    total = int(counts.sum())
    if counts[1] and not counts[2:].any():
        raise InputError(f"{path} must use the greys 0 to 255; it holds 0 and 1 only. Multiply it by 255.")
    if counts[LOSSY_RANGE + 1 : 255 - LOSSY_RANGE].sum() > MOST_GREY * total:
        raise InputError(f"{path} must be a label; most of its pixels are grey. Is it the image or a probability map?")
    share = membrane_share(counts, dark=dark)
    if share > MOST_MEMBRANE:
        said, other = ("dark", "bright") if dark else ("bright", "dark")
        raise InputError(
            f"{path} looks inverted: {said} pixels are {share:.0%} of this label, and membrane is the smaller class. "
            f"Invert it (255 - label); in a folder of your own, set.json may say that membranes are {other}."
        )
