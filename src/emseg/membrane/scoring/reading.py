"""Reading a truth or a prediction from a file: as membrane, whatever its polarity, and naming what it is.

A label is 8-bit grey with two values, or what `label_files` makes one of. Membrane is dark in the labels of U-RISC and
ISBI 2012 (0, and 255 for the rest); `polarity` says which it is, and nothing is turned over unasked. U-RISC's labels
are partly lossy (greys 0 to 8 and 248 to 255) and partly resized, and are made binary at 122: membrane is where
dark-membrane grey is at most 122.

A prediction may also be a probability map: 8-bit grey, or float in [0, 1].
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError
from emseg.images import read_gray
from emseg.membrane.scoring import distance_kernels
from emseg.membrane.scoring.label_files import read_label_file
from emseg.membrane.scoring.orientation import Polarity, other_polarity

Kind = Literal["label", "lossy label", "probability map"]

LABEL_THRESHOLD = 122
_LOSSY_RANGE = 8
MAX_MEMBRANE_SHARE = 0.5
MAX_GREY_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """`probability` uint8 or float [height, width], large on membrane; `kind`: what the file holds."""

    probability: NDArray[Any]
    kind: Kind


def read_truth(path: Path, polarity: Polarity, page: int | None = None) -> NDArray[np.bool_]:
    """Return the membrane mask of a label; `InputError` names anything else, an inverted label too."""
    grey = _eight_bit(_read(path, page), path)
    counts = _counts(grey, path)
    if counts[_LOSSY_RANGE + 1 : 255 - _LOSSY_RANGE].sum() > MAX_GREY_SHARE * grey.size:
        raise InputError(f"{path} must be a label; most of its pixels are grey. Is it the image or a probability map?")
    if polarity == "dark":
        membrane = grey <= LABEL_THRESHOLD
    else:
        membrane = grey >= 255 - LABEL_THRESHOLD
    share = np.count_nonzero(membrane) / membrane.size
    if share > MAX_MEMBRANE_SHARE:
        other = other_polarity(polarity)
        raise InputError(
            f"{path} looks inverted: {polarity} pixels are {share:.0%} of this truth, and membrane is the smaller "
            f"class. If its membranes are {other}, say --truth-membrane {other}."
        )
    return membrane


def read_prediction(path: Path, polarity: Polarity, page: int | None = None) -> Prediction:
    """Return a prediction as probability of membrane, and what the file holds; `InputError` names anything else."""
    image = _read(path, page)
    if image.dtype.kind == "f":
        lowest, highest = float(image.min()), float(image.max())
        if not 0 <= lowest <= highest <= 1:
            raise InputError(
                f"{path} must hold probabilities in 0 to 1; it holds {lowest:g} to {highest:g}. "
                "Apply the sigmoid, or divide by 255."
            )
        margin = _LOSSY_RANGE / 255
        binary = bool(np.logical_or(image <= margin, image >= 1 - margin).all())
        if polarity == "dark":
            image = np.subtract(1, image, dtype=image.dtype)
        return Prediction(image, "label" if binary else "probability map")
    grey = _eight_bit(image, path)
    counts = _counts(grey, path)
    kind: Kind = "label"
    if counts[1:255].any():
        kind = "probability map" if counts[_LOSSY_RANGE + 1 : 255 - _LOSSY_RANGE].any() else "lossy label"
    if polarity == "dark":
        grey = np.subtract(255, grey, out=grey if grey.flags.writeable else None)
    return Prediction(grey, kind)


def _read(path: Path, page: int | None) -> NDArray[Any]:
    label = read_label_file(path, page)
    if label is not None:
        return label
    image = read_gray(path, page=page)
    if image.dtype == np.uint16:
        raise InputError(
            f"{path} must be 8-bit or float in 0 to 1; it is 16-bit, which does not say what white means. "
            "Convert it, for example by (image // 257).astype(np.uint8) where white is 65535."
        )
    return np.ascontiguousarray(image)


def _eight_bit(image: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    if not (image.min() >= 0 and image.max() <= 1):
        raise InputError(
            f"{path} must be an 8-bit label; it is float, {image.min():g} to {image.max():g}. Save it as 0 and 255."
        )
    return (image * 255).astype(np.uint8)


def _counts(grey: NDArray[np.uint8], path: Path) -> NDArray[np.int64]:
    counts = np.zeros(256, np.int64)
    distance_kernels.count_values(grey, counts)
    if counts[1] and not counts[2:].any():
        raise InputError(f"{path} must use the greys 0 to 255; it holds 0 and 1 only. Multiply it by 255.")
    return counts
