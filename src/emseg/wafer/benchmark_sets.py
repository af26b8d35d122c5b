"""Making a benchmark: synthetic wafers, or one wafer of the user, as a COCO folder that can be trained on.

A folder is made beside its place and renamed when it is whole, so a run that was killed leaves nothing that looks
finished. A folder that is there is used again if it was made from the same parameters, seed and code; if files of it
are missing it is made again; anything else is refused by name, never overwritten.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from jaxtyping import UInt8

from emseg.data.places import cache_root
from emseg.errors import InputError, UsageError
from emseg.runs.digest import code_tree, digest_of
from emseg.wafer.benchmark_design import BenchmarkDesign, preset
from emseg.wafer.coco import read_json
from emseg.wafer.coco_folder import IMAGES, STATEMENT, Benchmark, open_benchmark
from emseg.wafer.coco_writing import require_wafer_name, write_annotations, write_tiles
from emseg.wafer.sections import WaferSections
from emseg.wafer.splits import Split, split_crops, split_regions, split_wafers, thin
from emseg.wafer.synthetic import synthesize_wafer
from emseg.wafer.tiles import Tile, Tiling, plan_tiles, require_same_size

_CODE = ("synthetic/*.py", "section*.py", "tiles.py", "splits.py", "coco_writing.py", "benchmark_design.py")
_BYTES_PER_PIXEL = 0.9  # of a tile as PNG, at most

Made = tuple[WaferSections, dict[str, str]]


def make_benchmark(
    design: str | BenchmarkDesign,
    folder: str | Path | None = None,
    *,
    seed: int = 0,
    n_workers: int = 1,
    on_wafer: Callable[[], object] = lambda: None,
) -> Benchmark:
    """Return the benchmark of a preset or a design, making it in `folder` unless it is there.

    Without a folder it lies in the cache (`default_folder`). `n_workers` processes make a wafer each; `on_wafer` is
    called after each. Raises `UsageError` if the folder holds something else or too few tiles come out.
    """
    design = preset(design) if isinstance(design, str) else design
    if n_workers < 1:
        raise UsageError(f"`n_workers` must be at least 1; got {n_workers}.")
    if seed < 0:
        raise UsageError(f"`seed` must not be negative; got {seed}.")
    parameters = _plain({"design": asdict(design), "seed": seed, "code": code_digest()})
    place = default_folder(design, seed) if folder is None else Path(folder)
    kept = find_kept(place, parameters)
    if kept is not None:
        return kept
    with made_whole(place) as unfinished:
        _require_room(unfinished, 2 * (design.n_train + design.n_validation) * design.tile**2 * _BYTES_PER_PIXEL)
        made = _make_wafers(design, seed, unfinished, n_workers, on_wafer)
        splits = _synthetic_splits(design, [sections for sections, _ in made], seed)
        digests = {name: digest for _, of_wafer in made for name, digest in of_wafer.items()}
        _finish(unfinished, splits, digests, made[0][0], "synthetic", parameters)
    return open_benchmark(place)


def benchmark_from_wafer(
    image: UInt8[np.ndarray, "row column"],
    sections: WaferSections,
    folder: str | Path,
    *,
    tiling: Tiling | None = None,
    left_share: float = 0.6,
    kind: str = "real",
) -> Benchmark:
    """Return one wafer as a benchmark in `folder`: split by region, the left share of its columns to train on.

    An existing folder is used again, made again or refused as by `make_benchmark`.
    """
    require_same_size(image, sections)
    require_wafer_name(sections.name)
    tiling = tiling or Tiling(keep_empty=False)
    split = split_regions([sections], tiling, left_share=left_share)
    outlines = digest_of(*(f"{section.label} {section.polygon.tolist()}" for section in sections.sections))
    own = {
        "wafer": sections.name,
        "left_share": left_share,
        "tiling": asdict(tiling),
        "outlines": outlines,
        "kind": kind,
    }
    parameters = _plain(own)
    place = Path(folder)
    kept = find_kept(place, parameters)
    if kept is not None:
        return kept
    with made_whole(place) as unfinished:
        digests = write_tiles(image, [*split.train, *split.validation], unfinished)
        _finish(unfinished, [split], digests, sections, kind, parameters)
    return open_benchmark(place)


def default_folder(design: BenchmarkDesign, seed: int) -> Path:
    """Return the folder of the cache that `make_benchmark` uses; each design, seed and state of the code has one."""
    key = digest_of(json.dumps(_plain(asdict(design)), sort_keys=True), str(seed), code_digest())
    return cache_root().parent / "benchmarks" / f"{design.name}-{seed}-{key[:10]}"


@cache
def code_digest() -> str:
    """Return the digest of the code that a benchmark comes from, comments and docstrings left out."""
    here = Path(__file__).parent
    files = sorted(file for pattern in _CODE for file in here.glob(pattern))
    return digest_of(*(part for file in files for part in (file.name, code_tree(file.read_text(encoding="utf-8")))))


def find_kept(place: Path, parameters: Mapping[str, Any]) -> Benchmark | None:
    """Return the benchmark in `place` if it was made from these parameters and is whole; None if it must be made.

    Raises `UsageError`, naming what differs, if the folder holds anything else.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return None
    if not (place / STATEMENT).is_file():
        raise UsageError(f"{place} is not empty and holds no benchmark of ours. Choose another folder or remove it.")
    kept = open_benchmark(place) if _is_whole(place) else None
    made_from = read_json(place / STATEMENT).get("parameters", {})
    different = _differences(made_from, parameters)
    if different:
        raise UsageError(
            f"{place} holds a benchmark made from other parameters: {'; '.join(different[:3])}. "
            "Choose another folder, remove this one, or ask for what it holds."
        )
    return kept


@contextmanager
def made_whole(place: Path) -> Iterator[Path]:
    """Yield an empty folder beside `place` that takes its name when the body is done, and goes if it fails."""
    place.parent.mkdir(parents=True, exist_ok=True)
    begin = f".{place.name}.unfinished-{socket.gethostname()}-"
    for old in place.parent.glob(f"{begin}*"):  # left by a process that was killed
        owner = old.name.removeprefix(begin)
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    unfinished = place.with_name(f"{begin}{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        yield unfinished
        if (place / STATEMENT).is_file() and not _is_whole(place):
            shutil.rmtree(place)
        try:
            unfinished.rename(place)
        except OSError:
            if not _is_whole(place):  # another process may have made the same in the meantime
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _make_wafers(
    design: BenchmarkDesign, seed: int, folder: Path, n_workers: int, on_wafer: Callable[[], object]
) -> list[Made]:
    made: list[Made] = []
    if n_workers == 1:
        for index in range(design.n_wafers):
            made.append(_make_wafer(design, seed, index, folder))
            on_wafer()
        return made
    with ProcessPoolExecutor(min(n_workers, design.n_wafers), get_context("spawn")) as pool:
        futures = [pool.submit(_make_wafer, design, seed, index, folder) for index in range(design.n_wafers)]
        try:
            for future in futures:
                made.append(future.result())
                on_wafer()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return made


def _make_wafer(design: BenchmarkDesign, seed: int, index: int, folder: Path) -> Made:
    """Draw wafer `index` and write the tiles that any of the splits may use."""
    own_seed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
    wafer = synthesize_wafer(design.wafer(index), seed=own_seed, name=design.wafer_name(index))
    tiles: list[Tile] = []
    if {"crops", "wafer"} & set(design.splits):
        tiles += plan_tiles(wafer.truth, design.tiling)
    if "region" in design.splits:
        split = split_regions([wafer.truth], design.tiling, left_share=design.left_share)
        tiles += (*split.train, *split.validation)
    return wafer.truth, write_tiles(wafer.image, tiles, folder)


def _synthetic_splits(design: BenchmarkDesign, wafers: Sequence[WaferSections], seed: int) -> list[Split]:
    splits = []
    for name in design.splits:
        if name == "region":
            split = split_regions(wafers, design.tiling, left_share=design.left_share)
        else:
            tiles = [tile for wafer in wafers for tile in plan_tiles(wafer, design.tiling)]
            if name == "wafer":
                split = split_wafers(tiles, validation_wafers=design.validation_names())
            else:
                share = design.n_train / (design.n_train + design.n_validation)
                split = split_crops(tiles, train_share=share, seed=seed)
        splits.append(thin(split, n_train=design.n_train, n_validation=design.n_validation, seed=seed))
    return splits


def _finish(
    folder: Path,
    splits: Sequence[Split],
    digests: Mapping[str, str],
    sections: WaferSections,
    kind: str,
    parameters: Mapping[str, Any],
) -> None:
    """Write the annotations, and remove the tiles that no split uses."""
    used = {tile.file_name for split in splits for tile in (*split.train, *split.validation)}
    for name in set(digests) - used:
        (folder / IMAGES / name).unlink()
    write_annotations(
        folder,
        splits,
        digests,
        class_names=sections.class_names,
        kind=kind,
        pixel_size_um=sections.pixel_size_um,
        parameters=parameters,
    )


def _is_whole(place: Path) -> bool:
    try:
        n_images = open_benchmark(place).statement["n_images"]
        return sum(1 for _ in (place / IMAGES).glob("*.png")) == int(n_images)
    except (InputError, OSError, KeyError, ValueError):
        return False


def _require_room(folder: Path, n_bytes: float) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise InputError(
            f"this benchmark takes up to {n_bytes / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free. "
            "Make room, choose another folder, or a smaller preset."
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(set(old) | set(new)):
        was, wanted = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(wanted, dict):
            found += _differences(was, wanted, f"{prefix}{key}.")
        elif was != wanted:
            found.append(f"{prefix}{key} is {was!r} there, {wanted!r} was asked for")
    return found


def _plain(value: Any) -> Any:
    """Return what JSON makes of a value, so that it compares with what a file holds."""
    return json.loads(json.dumps(value))
