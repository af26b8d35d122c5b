"""Images as the bytes of files."""

import io

import numpy as np
import tifffile
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return what Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(image: np.ndarray, **options: object) -> bytes:
    """Return what tifffile writes; by default zero is black."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **{"photometric": "minisblack", **options})
    return buffer.getvalue()
