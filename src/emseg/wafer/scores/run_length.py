"""Run-length codes of masks: how COCO stores them, checked before pycocotools sees them.

A mask is read column by column as runs of 0 and 1 by turns, the first of 0. The compressed code writes each run, from
the fourth on less the run two before it, in groups of five bits, least first: one character a group, 48 plus the five
bits plus 32 where another group follows; the last group's highest bit is the sign.

pycocotools does not check that the runs add up to the mask. Given a code that was cut short, its `iou` never ends.

Source: pycocotools 2.0, maskApi.c (rleFrString).
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from pycocotools import mask as rle_masks

from emseg.errors import InputError

Rle = dict[str, Any]


def as_run_length(segmentation: Any, size: tuple[int, int], name: str) -> Rle:
    """Return polygons or a run-length code as a compressed code of the image's size, (height, width).

    Raises `InputError`, naming the mask by `name`, for another size and for anything that holds no mask.
    """
    height, width = size
    if isinstance(segmentation, Mapping):
        given = tuple(int(side) for side in segmentation.get("size", ()))
        if given != size:
            shown = " x ".join(str(side) for side in given) or "none"
            raise InputError(
                f"a mask must have its image's size, {height} x {width} (height x width); {name} has {shown}. Resize "
                "masks to the image before encoding them."
            )
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            if sum(counts) != height * width or any(count < 0 for count in counts):
                raise _broken(name)
            return dict(rle_masks.frPyObjects({"size": list(size), "counts": counts}, height, width))
        if not isinstance(counts, str | bytes):
            raise InputError(f"a run-length code needs `counts`; {name} has none. Encode it with pycocotools.")
        code = counts.encode() if isinstance(counts, str) else counts
        runs = run_lengths(code)
        if runs is None or runs.min() < 0 or runs.sum() != height * width:
            raise _broken(name)
        return {"size": list(size), "counts": code}
    usable = isinstance(segmentation, Sequence) and not isinstance(segmentation, str) and len(segmentation) > 0
    if not usable or not all(
        isinstance(part, Sequence) and len(part) >= 6 and len(part) % 2 == 0 and np.isfinite(part).all()
        for part in segmentation
    ):
        raise InputError(
            f"a segmentation must be polygons [x, y, x, y, x, y, ...] of three points at least, or a run-length code; "
            f"{name} has neither. Remove it or redraw it."
        )
    return dict(rle_masks.merge(rle_masks.frPyObjects(segmentation, height, width)))


def decoded(rle: Rle) -> Bool[np.ndarray, "row column"]:
    """Return the mask that a compressed run-length code holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 does not know NumPy 2's `copy` yet
        return np.asarray(rle_masks.decode(rle)).astype(bool)


def run_lengths(code: bytes) -> Int64[np.ndarray, "run"] | None:
    """Return the runs of a compressed code; None where it is none: empty, cut within a run, or of other characters."""
    groups = np.frombuffer(code, dtype=np.uint8).astype(np.int64) - 48
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        return None
    ends = np.flatnonzero((groups & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:  # a run fits into 32 bits
        return None
    runs = np.add.reduceat((groups & 31) << (5 * place), starts)
    runs -= np.where(groups[ends] & 16, np.int64(1) << (5 * (place[ends] + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return np.asarray(runs)


def _broken(name: str) -> InputError:
    return InputError(f"the runs of a mask must add up to its size; those of {name} do not. Encode it anew.")
