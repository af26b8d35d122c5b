"""Labels as membrane masks: how greys are read, how Track 2 of U-RISC was reduced, and when a file is not a label.

In U-RISC and ISBI 2012 a label is 0 on membrane and 255 elsewhere. Some of U-RISC's are lossy (greys 0 to 8 and 248 to
255); those of Track 2 were resized from 9,958 x 9,959 to 1,024 x 1,024 px. The authors' code makes the label binary (0
and 255), resizes image and label bilinearly, and makes the label binary again at 122. Bilinear interpolation without a
low-pass filter reads four source pixels for each new one and skips about ninety, so thin membranes break where none of
the four lies on them. Nothing is inverted unasked: a label that would be mostly membrane is refused.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError
from emseg.images import bands, read_gray

LABEL_THRESHOLD = 122
"""Highest grey of a dark-membrane label that is membrane."""
TRACK_1_SIDE, TRACK_2_SIDE = 9958, 1024
TRACK_2_FACTOR = TRACK_1_SIDE / TRACK_2_SIDE
LOSSY_RANGE = 8
MOST_MEMBRANE = MOST_GREY = 0.5


def membrane_of_grey(grey: NDArray[np.uint8], *, dark: bool = True) -> NDArray[np.bool_]:
    """Return the membrane mask of a label, also of a lossy or resized one; `dark`: membrane is dark."""
    mask: NDArray[np.bool_] = grey <= LABEL_THRESHOLD if dark else grey >= 255 - LABEL_THRESHOLD
    return mask


def grey_of_membrane(membrane: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a label as U-RISC keeps it: 0 on membrane, 255 elsewhere."""
    return np.where(membrane, np.uint8(0), np.uint8(255))


def downsampled_pair(
    image: NDArray[np.uint8], membrane: NDArray[np.bool_], shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return image and membrane mask reduced to `shape` (rows, columns) as the authors of U-RISC did for Track 2."""
    if not (1 <= shape[0] <= image.shape[0] and 1 <= shape[1] <= image.shape[1]):
        raise UsageError(f"`shape` must lie between 1 x 1 and the image's {image.shape}; got {shape}.")
    size = (shape[1], shape[0])
    grey = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    label = np.asarray(cv2.resize(grey_of_membrane(membrane), size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return grey, membrane_of_grey(label)


def two_values(grey: NDArray[Any]) -> tuple[Any, Any] | None:
    """Return the lower and the higher value of an image that has exactly two, else None."""
    low, high = grey.min(), grey.max()
    return (low, high) if low < high and all(((one == low) | (one == high)).all() for one in bands(grey)) else None


def read_label(path: Path, *, dark: bool = True, page: int | None = None) -> NDArray[np.bool_]:
    """Return the membrane mask [row, column] of a label file, whatever its two values and type.

    Two values are two classes in their order, one value is the dark class if it is 0. Labels that are lossy or resized
    are cut at 122 of 255. Raises InputError for a file that is not a label, or whose membrane is the larger class.
    """
    grey = read_gray(path, page=page, as_label=True)
    values = two_values(grey)
    if values is None and grey.min() == grey.max():
        values = (0, max(1, grey.max()))
    membrane = membrane_of_grey(_lossy(path, grey), dark=dark) if values is None else grey == values[0 if dark else 1]
    fraction = np.count_nonzero(membrane) / membrane.size
    if fraction > MOST_MEMBRANE:
        asked, other = ("dark", "bright") if dark else ("bright", "dark")
        raise InputError(
            f"{path} looks inverted: {asked} pixels are {fraction:.0%} of this label, and membrane is the smaller "
            f"class. If its membranes are {other}, declare it: --truth-membrane {other} for `emseg score`, "
            f'"membrane": "{other}" in set.json for a folder of your own.'
        )
    return np.asarray(membrane, np.bool_)


def _lossy(path: Path, grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a label of more than two values in the greys 0 to 255; most of its pixels must be near either end."""
    low, high, kind = grey.min(), grey.max(), grey.dtype.newbyteorder("=")
    if grey.dtype.kind == "f" and low >= 0 and high <= 1:
        grey = np.rint(grey * 255)
    elif kind == np.uint16 and high > 255:
        grey = grey // 257
    if low >= 0 and grey.max() <= 255:
        # In bands: bincount makes 8 bytes of each pixel.
        counts = np.sum([np.bincount(one.astype(np.uint8).reshape(-1), minlength=256) for one in bands(grey)], axis=0)
        if (
            counts[LOSSY_RANGE + 1 : 255 - LOSSY_RANGE].sum() <= MOST_GREY * grey.size
            and counts[255 - LOSSY_RANGE :].any()
        ):
            return grey.astype(np.uint8)
    raise InputError(
        f"{path} must be a label, of two values or of greys near 0 and 255; it contains many from {low:g} to {high:g} "
        f"({kind}). Is it the image or a probability map? If its values number cells, make boundaries of them, for "
        "example by ~skimage.segmentation.find_boundaries(label)."
    )
