"""The image files that a detector is trained on, checked before the first step.

mmdet reads images by OpenCV, which makes something of everything: 16-bit images lose their lower bits, colour becomes
grey, an image that is larger than its annotations say is taken as it is. Here a tile is 8-bit grey, or 8-bit RGB for a
detector of three channels, and as large as the annotations say. Only headers are read.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from emseg.errors import InputError
from emseg.wafer.formats.coco import CocoSet

_WHAT = {"I;16": "16-bit grey", "1": "1-bit", "P": "a palette image", "RGB": "colour", "RGBA": "colour with alpha"}
_REPAIR = "Convert it, for example by `emseg wafer tiles`, which writes 8-bit grey tiles."


def require_tiles(coco: CocoSet, folder: Path, in_channels: int) -> None:
    """Raise `InputError` that names the first image file which is not what the annotations and the detector need."""
    for image in coco.images:
        path = folder / image.file_name
        width, height = require_tile(path, in_channels)
        if (height, width) != (image.height, image.width):
            raise InputError(
                f"an image must be as large as its annotations say; {path} has {height} x {width} pixels (rows x "
                f"columns), {coco.path} says {image.height} x {image.width}. Annotate the image that is there."
            )


def require_tile(path: Path, in_channels: int) -> tuple[int, int]:
    """Return width and height of an image file; raise `InputError` unless a detector of so many channels takes it."""
    try:
        with Image.open(path) as image:
            mode, size = image.mode, image.size
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}. Write it again as PNG.") from error
    if mode != "L" and not (mode == "RGB" and in_channels == 3):
        wanted = "8-bit grey" if in_channels == 1 else "8-bit grey or RGB"
        raise InputError(f"images must be {wanted}; {path} is {_WHAT.get(mode, f'of mode {mode}')}. {_REPAIR}")
    return size


def read_tile(path: Path, in_channels: int) -> NDArray[np.uint8]:
    """Return the pixels of an image file, [row, column] or, where the file is RGB, [row, column, 3]."""
    require_tile(path, in_channels)
    try:
        with Image.open(path) as image:
            return np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}. Write it again as PNG.") from error
