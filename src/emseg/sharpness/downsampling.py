"""Downsampling as between the tracks of the U-RISC competition, by six resampling kernels.

Track 1 keeps 9,958 x 9,959 pixels, Track 2 has 1,024 x 1,024: a factor of 9.72 along each axis. The paper does not
name the kernel. The six below are what the common tools do when asked to resize, and fall into two kinds:

    nearest, bilinear, bicubic            read the 1, 4 or 16 source pixels nearest to each new pixel (OpenCV)
    area, bilinear_antialiased, lanczos   average over all source pixels a new pixel covers (OpenCV, Pillow, Pillow)

The first kind keeps the contrast and the noise of single pixels and folds fine structure into coarse (aliasing); the
second averages noise and fine structure away. All align the corners of the image, not its corner pixels' centres.
"""

from typing import Any, Literal, get_args

import cv2
import numpy as np
from jaxtyping import Shaped
from PIL import Image

from emseg.checks import require_number, require_one_of
from emseg.errors import UsageError
from emseg.images import require_gray

ResamplingKernel = Literal["nearest", "bilinear", "bicubic", "area", "bilinear_antialiased", "lanczos"]
RESAMPLING_KERNELS: tuple[ResamplingKernel, ...] = get_args(ResamplingKernel)
KERNEL_LABELS: dict[str, str] = {
    **{kernel: kernel for kernel in RESAMPLING_KERNELS},
    "bilinear_antialiased": "bilinear, antialiased",
    "lanczos": "Lanczos, antialiased",
}
_OPENCV = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}
_PILLOW = {"bilinear_antialiased": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}
_NATIVE = (np.uint8, np.uint16, np.float32, np.float64)


def reduced_shape(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return the shape (rows, columns) after dividing each side by `factor`, rounded, at least one pixel."""
    require_number("factor", factor, least=1, unit="source pixels for each new one")
    return max(round(shape[0] / factor), 1), max(round(shape[1] / factor), 1)


def downsample(image: Any, shape: tuple[int, int], kernel: str = "area") -> Shaped[np.ndarray, "row column"]:
    """Return the grey image (row, column) resampled to `shape` (rows, columns), in its own type.

    Integers are rounded and clipped to their range. Pillow's two kernels compute in float32. Raises UsageError for an
    unknown kernel or a shape larger than the image.
    """
    image = require_gray(image)
    require_one_of("kernel", kernel, RESAMPLING_KERNELS)
    if not (1 <= shape[0] <= image.shape[0] and 1 <= shape[1] <= image.shape[1]):
        raise UsageError(
            f"shape must lie between 1 x 1 and the image's {image.shape[0]} x {image.shape[1]}; "
            f"got {shape[0]} x {shape[1]}. This function does not enlarge."
        )
    dtype = image.dtype.newbyteorder("=")
    native = np.ascontiguousarray(image, dtype=dtype if dtype in _NATIVE else np.float64)
    if kernel in _OPENCV:
        values = np.asarray(cv2.resize(native, shape[::-1], interpolation=_OPENCV[kernel]))
    else:
        source = native if native.dtype == np.uint8 else native.astype(np.float32)
        values = np.asarray(Image.fromarray(source).resize(shape[::-1], _PILLOW[kernel]))
    if values.dtype != dtype and np.issubdtype(dtype, np.integer):
        values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return values.astype(dtype, copy=False)
