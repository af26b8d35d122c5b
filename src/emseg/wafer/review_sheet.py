"""The review sheet: one HTML file in which a person looks through a result, least certain sections first.

It contains the wafer image (averaged down to at most 4,096 px), a sharp crop of every section and candidate, and all
that it needs to show them; it asks no other machine for anything. What a person decides is exported as
NAME.decisions.json, which `emseg wafer import` applies. Images get smaller until each kind fits its budget, about 15
MB in all.
"""

import base64
import html
import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emseg.checks import require_count
from emseg.errors import InputError
from emseg.files import write_atomically
from emseg.wafer.navigation.exports import Points, found_digest
from emseg.wafer.navigation.found import FoundWafer
from emseg.wafer.section_figures import class_colours

_WAFER_SIDES, _WAFER_BYTES = (4096, 3072, 2048, 1024), 6_000_000
_CROP_SIDES, _CROP_BYTES = (192, 144, 112, 80, 56), 4_500_000
_QUALITY = 78  # of JPEG
_MARGIN = 0.35  # of a section's extent, around it in its crop


def write_review(found: FoundWafer, folder: str | Path, image: Any, *, expected: int | None = None) -> Path:
    """Write NAME.review.html of a result to `folder` and return the file.

    `image` is an 8-bit array (row, column), or a `WaferImage` (`emseg.wafer.wafer_source`) of any file.
    With `expected`, the number of sections that the wafer has, the sheet counts towards it, and begins with the
    likeliest misses where fewer were found. Raises `InputError` for an image of another size.
    """
    if image.shape != (found.height, found.width):
        came = " x ".join(map(str, image.shape))
        raise InputError(
            f"the image must be the one in which the sections were found, {found.height} x {found.width} px; "
            f"it is {came} px. Name that image."
        )
    if expected is not None:
        require_count("expected", expected, least=0)
    is_short = expected is not None and len(found.sections) < expected
    numbered = [("s", number, one) for number, one in enumerate(found.sections)]
    numbered += [("c", number, one) for number, one in enumerate(found.candidates)]
    # the least certain section and the likeliest miss need a look first
    rank = {"s": 1, "c": -1}
    numbered.sort(key=lambda e: ((e[0] == "s") == is_short, rank[e[0]] * e[2].confidence, rank[e[0]] * e[2].score))
    boxes = [_crop_box(one.corners, *image.shape) for _, _, one in numbered]
    crops = _fitting(lambda side: [_crop(image, box, side) for box in boxes], _CROP_SIDES, _CROP_BYTES)
    (wafer,) = _fitting(lambda side: [_jpeg(image, side)], _WAFER_SIDES, _WAFER_BYTES)
    items = []
    for (kind, number, one), (top, left, bottom, right), crop in zip(numbered, boxes, crops, strict=True):
        entry: dict[str, Any] = {
            "key": f"{kind}{number}",
            "number": str(number),
            "label": one.label,
            "reasons": list(one.reasons),
        }
        entry |= {"corners": one.corners[:, ::-1].round(2).tolist(), "angle": one.angle_deg}
        crop_box = (left, top, right - left, bottom - top)
        items.append(entry | {"confidence": one.confidence, "crop": {"box": crop_box, "image": _url(crop)}})
    data: dict[str, Any] = {
        "name": found.name,
        "digest": found_digest(found),
        "expected": expected,
        "notes": list(found.notes),
    }
    data |= {"height": found.height, "width": found.width, "classes": list(found.class_names), "items": items}
    data |= {"colours": class_colours(found.class_names), "image": _url(wafer)}
    text = resources.files("emseg.wafer").joinpath("review_sheet.html").read_text(encoding="utf-8")
    name, content = html.escape(found.name), json.dumps(data).replace("<", "\\u003c")  # no </script> within
    path = Path(folder) / f"{found.name}.review.html"
    write_atomically(path, text.replace("NAME", name, 2).replace(">DATA<", f">{content}<", 1))
    return path


def _crop_box(corners: Points, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a section with a margin, within the image and never empty."""
    low, high = corners.min(0), corners.max(0)
    margin = _MARGIN * (high - low)
    top, left = np.clip(np.floor(low - margin), 0, (height - 1, width - 1)).astype(int).tolist()
    bottom, right = np.clip(np.ceil(high + margin), (top + 1, left + 1), (height, width)).astype(int).tolist()
    return top, left, bottom, right


def _crop(image: Any, box: tuple[int, int, int, int], side: int) -> bytes:
    top, left, bottom, right = box
    return _jpeg(image[top:bottom, left:right], side)


def _jpeg(image: Any, side: int) -> bytes:
    """The image as JPEG, averaged down to at most `side` pixels."""
    scale = min(1.0, side / max(image.shape))
    size = [max(1, round(length * scale)) for length in reversed(image.shape)]
    pixels = np.ascontiguousarray(image)
    small = pixels if scale == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def _fitting(encoded: Callable[[int], list[bytes]], sides: Sequence[int], budget: int) -> list[bytes]:
    """The images at the largest of the `sides` at which all together fit the budget, else at the smallest."""
    images: list[bytes] = []
    for side in sides:
        images = encoded(side)
        if sum(map(len, images)) <= budget:
            break
    return images


def _url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
