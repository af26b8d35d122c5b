"""An error map as a picture: false positives red, false negatives blue, pale where they are within the tolerance."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emseg.membrane.scoring.error_map import FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, TRUE_NEGATIVE, TRUE_POSITIVE

COLOURS = {  # after Okabe and Ito, whose colours differ for all kinds of colour vision
    TRUE_NEGATIVE: (255, 255, 255),
    TRUE_POSITIVE: (110, 110, 110),
    FALSE_NEGATIVE: (0, 114, 178),
    FALSE_POSITIVE: (213, 94, 0),
    FALSE_NEGATIVE + NEAR: (154, 202, 232),
    FALSE_POSITIVE + NEAR: (248, 196, 156),
}


def write_error_picture(codes: NDArray[np.uint8], path: Path) -> None:
    """Write the codes of an error map as a PNG with a palette, one colour a code."""
    palette = [0] * 24
    for code, colour in COLOURS.items():
        palette[3 * code : 3 * code + 3] = colour
    picture = Image.fromarray(codes)
    picture.putpalette(palette)
    picture.save(path)
