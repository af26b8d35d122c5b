"""Track 2 of U-RISC: images and labels downsampled from 9,958 x 9,959 to 1,024 x 1,024 px.

The authors' code makes the label binary (0 and 255), resizes image and label bilinearly, and makes the label binary
again at 122. Bilinear interpolation without a low-pass filter reads four source pixels for each new one and leaves out
the other ninety, so thin membranes break where none of the four lies on them.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from emseg.errors import UsageError

LABEL_THRESHOLD = 122
"""Grey up to which a dark-membrane label is membrane."""
TRACK_1_SIDE, TRACK_2_SIDE = 9958, 1024
TRACK_2_FACTOR = TRACK_1_SIDE / TRACK_2_SIDE


def membrane_of_grey(grey: NDArray[np.uint8], *, dark: bool = True) -> NDArray[np.bool_]:
    """Return the membrane mask of a label, lossy or resized ones too: dark is membrane, unless told otherwise."""
    mask: NDArray[np.bool_] = grey <= LABEL_THRESHOLD if dark else grey >= 255 - LABEL_THRESHOLD
    return mask


def grey_of_membrane(membrane: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a label as U-RISC keeps it: 0 on membrane, 255 elsewhere."""
    return np.where(membrane, np.uint8(0), np.uint8(255))


def downsampled_pair(
    image: NDArray[np.uint8], membrane: NDArray[np.bool_], shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return image and membrane mask reduced to `shape` (rows, columns) as the authors did."""
    if not (1 <= shape[0] <= image.shape[0] and 1 <= shape[1] <= image.shape[1]):
        raise UsageError(f"`shape` must lie between 1 x 1 and the image's {image.shape}; got {shape}.")
    size = (shape[1], shape[0])
    grey = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    label = np.asarray(cv2.resize(grey_of_membrane(membrane), size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return grey, membrane_of_grey(label)
