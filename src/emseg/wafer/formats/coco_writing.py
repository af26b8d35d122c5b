"""Writing tiles and their outlines as a COCO folder; `emseg.wafer.formats.coco_folder` says how it is laid out.

First `write_tiles`, wafer by wafer, so that one wafer is in memory at a time; then `write_annotations` of all splits.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError
from emseg.wafer.formats.coco_folder import ANNOTATIONS, IMAGES, STATEMENT, Benchmark, open_benchmark, require_kind
from emseg.wafer.splits import TRAIN, VALIDATION, Split
from emseg.wafer.tiles import Tile, TileSection

_COMPRESSION = 1  # of PNG: the quickest that compresses at all
_COORDINATE_DIGITS = 3


def write_tiles(image: UInt8[np.ndarray, "row column"], tiles: Sequence[Tile], folder: Path) -> dict[str, str]:
    """Write the pixels of `tiles` below `folder`/images; return the SHA-256 of each tile's pixels by file name."""
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    digests = {}
    for tile in tiles:
        if tile.file_name not in digests:
            pixels = np.ascontiguousarray(tile.pixels(image))
            digests[tile.file_name] = hashlib.sha256(pixels.tobytes()).hexdigest()
            write_png(folder / IMAGES / tile.file_name, pixels)
    return digests


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write an 8-bit PNG quickly; raise `InputError` if the disk does not take it."""
    done, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION])
    assert done
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} could not be written: {reason}. Free some space or choose another folder.") from error


def coco_document(tiles: Sequence[Tile], class_names: Sequence[str], description: str) -> dict[str, Any]:
    """Return tiles as a COCO document; ids count from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for tile in tiles:
        images.append(
            {
                "id": len(images) + 1,
                "file_name": tile.file_name,
                "height": tile.height,
                "width": tile.width,
                "wafer": tile.wafer,
                "row": tile.row,
                "column": tile.column,
            }
        )
        for section in tile.sections:
            annotations.append(_annotation(section, len(annotations) + 1, len(images), class_names))
    categories = [{"id": place, "name": name} for place, name in enumerate(class_names, start=1)]
    return {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def write_annotations(
    folder: Path,
    splits: Sequence[Split],
    digests: Mapping[str, str],
    *,
    class_names: Sequence[str],
    kind: str,
    pixel_size_um: float | None,
    parameters: Mapping[str, Any],
) -> Benchmark:
    """Write annotations and `benchmark.json` beside tiles that `write_tiles` wrote, and return the open benchmark.

    Of the tiles in `digests`, those that no split uses are removed.
    """
    whole = hashlib.sha256()
    counts: dict[str, dict[str, int]] = {}
    for split in splits:
        counts[split.name] = {}
        for which, tiles in ((TRAIN, split.train), (VALIDATION, split.validation)):
            document = coco_document(tiles, class_names, f"emseg wafer tiles, split {split.name}, {which}")
            text = json.dumps(document) + "\n"
            path = folder / ANNOTATIONS / split.name / f"{which}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            whole.update(f"{split.name}/{which}\n{text}".encode())
            counts[split.name][which] = len(tiles)
    names = sorted({tile.file_name for split in splits for tile in (*split.train, *split.validation)})
    for unused in set(digests) - set(names):
        (folder / IMAGES / unused).unlink(missing_ok=True)
    whole.update("".join(f"{digests[name]}  {name}\n" for name in names).encode())
    statement = {
        "kind": require_kind(kind),
        "fingerprint": whole.hexdigest()[:16],
        "class_names": list(class_names),
        "pixel_size_um": pixel_size_um,
        "counts": counts,
        "n_images": len(names),
        "parameters": dict(parameters),
    }
    (folder / STATEMENT).write_text(json.dumps(statement, indent=1) + "\n", encoding="utf-8")
    return open_benchmark(folder)


def require_wafer_name(name: str) -> str:
    """Return `name`, or raise `UsageError` where it cannot be part of a file's name."""
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII) or name.startswith("."):
        raise UsageError(f"a wafer's name must be letters, digits, '.', '_' and '-', for it names files; got {name!r}.")
    return name


def _annotation(section: TileSection, number: int, image: int, class_names: Sequence[str]) -> dict[str, Any]:
    points = np.concatenate(section.parts)
    (top, left), (bottom, right) = points.min(0), points.max(0)
    box = [float(left), float(top), float(right - left), float(bottom - top)]
    return {
        "id": number,
        "image_id": image,
        "category_id": list(class_names).index(section.label) + 1,
        "segmentation": [part[:, ::-1].round(_COORDINATE_DIGITS).ravel().tolist() for part in section.parts],
        "bbox": [round(value, _COORDINATE_DIGITS) for value in box],
        "area": round(section.area_px, _COORDINATE_DIGITS),
        "iscrowd": int(section.crowd),
        "section": section.number,
        "visible": round(section.visible, 6),
    }
