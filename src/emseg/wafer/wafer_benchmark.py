"""Making a benchmark of wafers that the user has, such as the MagC wafer: a COCO folder that can be trained on.

What a folder that is already there is good for, `emseg.wafer.formats.kept_folder` says.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from emseg.errors import InputError, UsageError, suggest
from emseg.runs.digest import digest_of
from emseg.wafer.formats.coco_folder import Benchmark, open_benchmark, require_kind
from emseg.wafer.formats.coco_writing import require_wafer_name, write_annotations, write_tiles
from emseg.wafer.formats.kept_folder import find_kept, made_whole, plain
from emseg.wafer.sections import WaferSections
from emseg.wafer.splits import SPLITS, Split, split_crops, split_regions, split_wafers
from emseg.wafer.tiles import Tiling, plan_tiles, require_same_size
from emseg.wafer.wafer_image import require_8_bit

_ROWS_AT_ONCE = 512

Wafer = tuple[UInt8[np.ndarray, "row column"], WaferSections]


def benchmark_from_wafer(
    image: UInt8[np.ndarray, "row column"],
    sections: WaferSections,
    folder: str | Path,
    *,
    tiling: Tiling | None = None,
    left_share: float = 0.6,
    kind: str = "real",
) -> Benchmark:
    """Return one wafer as a benchmark in `folder`: split by region, the left share of its columns to train on."""
    return benchmark_from_wafers(
        [(image, sections)], folder, split="region", tiling=tiling, train_share=left_share, kind=kind
    )


def benchmark_from_wafers(
    wafers: Sequence[Wafer],
    folder: str | Path,
    *,
    split: str = "region",
    tiling: Tiling | None = None,
    train_share: float = 0.6,
    validation_wafers: Sequence[str] = (),
    seed: int = 0,
    kind: str = "real",
) -> Benchmark:
    """Return wafers of the user as a benchmark in `folder`, under one split.

    `train_share` is the left share of the columns for "region" and the share of the tiles for "crops", drawn with
    `seed`; for "wafer" the `validation_wafers` are named. Raises `InputError` for images and outlines that do not fit,
    or wafers that do not share classes.
    """
    tiling = tiling or Tiling(keep_empty=False)
    _require_one_kind(wafers)
    truths = [sections for _, sections in wafers]
    chosen = _split_wafers(truths, split, tiling, train_share, validation_wafers, seed)
    own = {
        "wafers": {sections.name: _outlines_digest(sections) for sections in truths},
        "pixels": {sections.name: _pixels_digest(image) for image, sections in wafers},
        "split": split,
        "tiling": asdict(tiling),
        "train_share": train_share,
        "validation_wafers": list(validation_wafers),
        "seed": seed,
        "kind": require_kind(kind),
    }
    parameters, place = plain(own), Path(folder)
    kept = find_kept(place, parameters)
    if kept is not None:
        return kept
    with made_whole(place) as unfinished:
        digests: dict[str, str] = {}
        for image, sections in wafers:
            tiles = [tile for tile in (*chosen.train, *chosen.validation) if tile.wafer == sections.name]
            digests |= write_tiles(image, tiles, unfinished)
        write_annotations(
            unfinished,
            [chosen],
            digests,
            class_names=truths[0].class_names,
            kind=kind,
            pixel_size_um=truths[0].pixel_size_um,
            parameters=parameters,
        )
    return open_benchmark(place)


def _split_wafers(
    wafers: Sequence[WaferSections],
    split: str,
    tiling: Tiling,
    train_share: float,
    validation_wafers: Sequence[str],
    seed: int,
) -> Split:
    if split not in SPLITS:
        raise UsageError(f"`split` must be one of {', '.join(SPLITS)}; got {split!r}.{suggest(split, SPLITS)}")
    if split == "region":
        return split_regions(wafers, tiling, left_share=train_share)
    tiles = [tile for wafer in wafers for tile in plan_tiles(wafer, tiling)]
    if split == "crops":
        return split_crops(tiles, train_share=train_share, seed=seed)
    return split_wafers(tiles, validation_wafers=validation_wafers)


def _require_one_kind(wafers: Sequence[Wafer]) -> None:
    """Raise unless the wafers have names and sizes that fit, and the same classes and pixel size."""
    if not wafers:
        raise UsageError("`wafers` must hold at least one wafer; it is empty.")
    names = [require_wafer_name(sections.name) for _, sections in wafers]
    if len(set(names)) < len(names):
        raise UsageError(f"wafers must have different names, for they name tiles; got {', '.join(names)}.")
    first = wafers[0][1]
    for image, sections in wafers:
        require_same_size(require_8_bit(image, sections.name), sections)
        if sections.class_names != first.class_names:
            raise InputError(
                f"wafers must have the same classes; {first.name} has {', '.join(first.class_names)}, {sections.name} "
                f"has {', '.join(sections.class_names)}. Name the classes when you read them."
            )
        if sections.pixel_size_um != first.pixel_size_um:
            raise InputError(
                f"wafers must have one pixel size; {first.name} has {first.pixel_size_um} um, {sections.name} has "
                f"{sections.pixel_size_um} um. Scale one of them, or make two benchmarks."
            )


def _outlines_digest(sections: WaferSections) -> str:
    return digest_of(*(f"{section.label} {section.polygon.tolist()}" for section in sections.sections))


def _pixels_digest(image: UInt8[np.ndarray, "row column"]) -> str:
    """Return a short digest of the pixels, read a few rows at a time."""
    digest = hashlib.sha256()
    for start in range(0, len(image), _ROWS_AT_ONCE):
        digest.update(image[start : start + _ROWS_AT_ONCE].tobytes())
    return digest.hexdigest()[:16]
