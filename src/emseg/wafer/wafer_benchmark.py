"""Making benchmarks, COCO folders to train on: from a user's annotated wafers, or from synthetic ones.

Synthetic wafers are drawn and cut one by one, in several processes if wanted; the splits then choose among the tiles.
`emseg.wafer.formats.benchmark_folder` states when an existing folder is reused.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from emseg.checks import plain, require_count, require_one_of
from emseg.data import DATA_KINDS
from emseg.data.registry import cache_root
from emseg.errors import InputError, UsageError
from emseg.files import DIGEST_LENGTH, digest_of
from emseg.synthetic.wafer import WAFER_GENERATOR_VERSION, synthesize_wafer
from emseg.synthetic.wafer.benchmark_design import BenchmarkDesign, preset
from emseg.wafer.annotated_wafer import Wafer, require_8_bit
from emseg.wafer.formats.benchmark_folder import (
    Benchmark,
    find_kept,
    made_whole,
    open_benchmark,
    require_wafer_name,
    write_annotations,
    write_tiles,
)
from emseg.wafer.splits import SPLITS, Split, require_regions, split_crops, split_regions, split_wafers, thin
from emseg.wafer.tiles import Tile, Tiling, plan_tiles, require_same_size

CUTTING_VERSION = 2
"""Raised with any change of `tiles` or `splits` that changes tiles; WAFER_GENERATOR_VERSION does so for wafers."""
_BYTES_PER_PIXEL = 0.9  # of a tile as PNG, at most
_ROWS_AT_ONCE = 512


def benchmark_from_wafers(
    wafers: Sequence[Wafer],
    folder: str | Path,
    *,
    split: str = "region",
    tiling: Tiling | None = None,
    train_share: float = 0.6,
    columns: tuple[float, float] = (0.0, 1.0),
    validation_wafers: Sequence[str] = (),
    seed: int = 0,
    kind: str = "real",
) -> Benchmark:
    """Return a user's wafers as a benchmark in `folder`, under one split.

    `train_share` is the left fraction of the columns for "region", of those between the fractions `columns` of the
    width, and the fraction of the tiles for "crops", drawn with `seed`; for "wafer" the `validation_wafers` are named.
    Raises `InputError` for images and outlines that do not fit, or wafers that differ in classes or pixel size.
    """
    tiling = tiling or Tiling()
    _require_one_kind(wafers)
    truths = [sections for _, sections in wafers]
    require_one_of("split", split, SPLITS)
    tiles = [] if split == "region" else [tile for sections in truths for tile in plan_tiles(sections, tiling)]
    if split == "region":
        chosen = split_regions(truths, tiling, left_share=train_share, columns=columns)
    elif split == "crops":
        chosen = split_crops(tiles, train_share=train_share, seed=seed)
    else:
        chosen = split_wafers(tiles, validation_wafers=validation_wafers)
    outlines = {one.name: [f"{shown.label} {shown.polygon.tolist()}" for shown in one.sections] for one in truths}
    parameters = {
        "wafers": {name: digest_of(*shown) for name, shown in outlines.items()},
        "pixels": {sections.name: _pixels_digest(image) for image, sections in wafers},
        "split": split,
        "tiling": plain(tiling),
        "train_share": train_share,
        "columns": list(columns),
        "validation_wafers": list(validation_wafers),
        "seed": seed,
        "kind": require_one_of("kind", kind, DATA_KINDS),
    }
    place = Path(folder)
    if (kept := find_kept(place, parameters)) is not None:
        return kept
    with made_whole(place) as unfinished:
        digests: dict[str, str] = {}
        for image, sections in wafers:
            own = [tile for tile in (*chosen.train, *chosen.validation) if tile.wafer == sections.name]
            digests |= write_tiles(image, own, unfinished)
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


def make_benchmark(
    design: str | BenchmarkDesign,
    folder: str | Path | None = None,
    *,
    seed: int = 0,
    n_workers: int = 1,
    on_wafer: Callable[[], object] = lambda: None,
) -> Benchmark:
    """Return the synthetic benchmark of a preset or a design, making it in `folder` unless it exists.

    Without a folder it is in the cache (`default_folder`). `n_workers` processes make a wafer each; `on_wafer` is
    called after each. Raises `UsageError` if the folder contains something else or there are too few tiles.
    """
    design = preset(design) if isinstance(design, str) else design
    require_count("n_workers", n_workers)
    require_count("seed", seed, least=0)
    if "region" in design.splits:
        left = round(design.left_share * design.wafer_px)
        require_regions(left, design.wafer_px - left, design.tile, "`wafer_px`")
    parameters = {"design": plain(design), "seed": seed, "version": [WAFER_GENERATOR_VERSION, CUTTING_VERSION]}
    place = default_folder(design, seed) if folder is None else Path(folder)
    if (kept := find_kept(place, parameters)) is not None:
        return kept
    with made_whole(place) as unfinished:
        needed = 2 * (design.n_train + design.n_validation) * design.tile**2 * _BYTES_PER_PIXEL
        free = shutil.disk_usage(unfinished).free
        if free < needed:
            raise InputError(
                f"this benchmark takes up to {needed / 1e9:.1f} GB, and {place.parent} has {free / 1e9:.1f} GB free. "
                "Make room, choose another folder, or a smaller preset."
            )
        made = _make_wafers(design, seed, unfinished, n_workers, on_wafer)
        write_annotations(
            unfinished,
            _synthetic_splits(design, made, seed),
            {name: digest for wafer in made for name, digest in wafer.digests.items()},
            class_names=made[0].class_names,
            kind="synthetic",
            pixel_size_um=made[0].pixel_size_um,
            parameters=parameters,
        )
    return open_benchmark(place)


def default_folder(design: BenchmarkDesign, seed: int) -> Path:
    """Return the folder of the cache that `make_benchmark` uses, one for each design, seed and version."""
    key = digest_of(json.dumps(plain(design), sort_keys=True), f"{seed} {WAFER_GENERATOR_VERSION} {CUTTING_VERSION}")
    return cache_root().parent / "benchmarks" / f"{design.name}-{seed}-{key[:10]}"


@dataclass(frozen=True, eq=False)
class _MadeWafer:
    whole: tuple[Tile, ...]
    region: Split | None
    digests: Mapping[str, str]  # of the tiles that are written
    class_names: tuple[str, ...]
    pixel_size_um: float | None


def _make_wafers(
    design: BenchmarkDesign, seed: int, folder: Path, n_workers: int, on_wafer: Callable[[], object]
) -> list[_MadeWafer]:
    make, made = partial(_make_wafer, design, seed, folder), []
    with ExitStack() as closed:
        many: Callable[..., Iterable[_MadeWafer]] = map
        if n_workers > 1:
            pool = ProcessPoolExecutor(min(n_workers, design.n_wafers), get_context("spawn"))
            closed.callback(pool.shutdown, wait=False, cancel_futures=True)
            many = pool.map
        for wafer in many(make, range(design.n_wafers)):
            made.append(wafer)
            on_wafer()
    return made


def _make_wafer(design: BenchmarkDesign, seed: int, folder: Path, index: int) -> _MadeWafer:
    """Draw wafer `index` and write the tiles that any of the splits may use."""
    own_seed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
    wafer = synthesize_wafer(design.wafer(index), seed=own_seed, name=design.wafer_name(index))
    tiling = Tiling(design.tile, design.overlap, design.minimum_visible)
    whole = plan_tiles(wafer.truth, tiling) if {"crops", "wafer"} & set(design.splits) else ()
    region = split_regions([wafer.truth], tiling, left_share=design.left_share) if "region" in design.splits else None
    of_region = () if region is None else (*region.train, *region.validation)
    digests = write_tiles(wafer.image, [*whole, *of_region], folder)
    return _MadeWafer(whole, region, digests, wafer.truth.class_names, wafer.truth.pixel_size_um)


def _synthetic_splits(design: BenchmarkDesign, made: Sequence[_MadeWafer], seed: int) -> list[Split]:
    tiles = [tile for wafer in made for tile in wafer.whole]
    splits = []
    for name in design.splits:
        if name == "region":
            regions = [wafer.region for wafer in made if wafer.region is not None]
            train, validation = (one.train for one in regions), (one.validation for one in regions)
            split = Split(name, tuple(chain.from_iterable(train)), tuple(chain.from_iterable(validation)))
        elif name == "wafer":
            split = split_wafers(tiles, validation_wafers=design.validation_names())
        else:
            share = design.n_train / (design.n_train + design.n_validation)
            split = split_crops(tiles, train_share=share, seed=seed)
        splits.append(thin(split, n_train=design.n_train, n_validation=design.n_validation, seed=seed))
    return splits


def _require_one_kind(wafers: Sequence[Wafer]) -> None:
    """Raise unless the wafers have names and sizes that fit, and the same classes and pixel size."""
    if not wafers:
        raise UsageError("`wafers` must contain at least one wafer; it is empty.")
    names = [require_wafer_name(sections.name) for _, sections in wafers]
    if len(set(names)) < len(names):
        raise UsageError(f"wafers must have different names, for they name tiles; got {', '.join(names)}.")
    first = wafers[0][1]
    for image, sections in wafers:
        require_same_size(require_8_bit(image, sections.name).shape, sections)
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


def _pixels_digest(image: UInt8[np.ndarray, "row column"]) -> str:
    """A short digest of the pixels, read a few rows at a time."""
    digest = hashlib.sha256()
    for start in range(0, len(image), _ROWS_AT_ONCE):
        digest.update(image[start : start + _ROWS_AT_ONCE].tobytes())
    return digest.hexdigest()[:DIGEST_LENGTH]
