"""Making a benchmark of synthetic wafers: a COCO folder that can be trained on, from a preset or a design.

Wafers are drawn and cut one by one, in several processes if wanted; the splits then choose among the tiles. What a
folder that is already there is good for, `emseg.wafer.formats.kept_folder` says.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from emseg.data.registry import cache_root
from emseg.errors import UsageError
from emseg.runs.digest import code_tree, digest_of
from emseg.synthetic.wafer import synthesize_wafer
from emseg.synthetic.wafer.benchmark_design import BenchmarkDesign, preset
from emseg.wafer.formats.coco_folder import Benchmark, open_benchmark
from emseg.wafer.formats.coco_writing import write_annotations, write_tiles
from emseg.wafer.formats.kept_folder import find_kept, made_whole, plain, require_room
from emseg.wafer.splits import Split, split_crops, split_regions, split_wafers, thin
from emseg.wafer.tiles import Tile, plan_tiles

_CODE = ("synthetic/*.py", "section*.py", "tiles.py", "splits.py", "coco_writing.py", "benchmark_design.py")
_BYTES_PER_PIXEL = 0.9  # of a tile as PNG, at most


@dataclass(frozen=True, eq=False)
class MadeWafer:
    """What is known of a wafer once its tiles are written: those of the whole, and those of its two regions."""

    whole: tuple[Tile, ...]
    region: Split | None
    digests: Mapping[str, str]
    class_names: tuple[str, ...]
    pixel_size_um: float | None


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
    parameters = plain({"design": asdict(design), "seed": seed, "code": code_digest()})
    place = default_folder(design, seed) if folder is None else Path(folder)
    kept = find_kept(place, parameters)
    if kept is not None:
        return kept
    with made_whole(place) as unfinished:
        require_room(unfinished, 2 * (design.n_train + design.n_validation) * design.tile**2 * _BYTES_PER_PIXEL)
        made = _make_wafers(design, seed, unfinished, n_workers, on_wafer)
        splits = _synthetic_splits(design, made, seed)
        digests = {name: digest for wafer in made for name, digest in wafer.digests.items()}
        write_annotations(
            unfinished,
            splits,
            digests,
            class_names=made[0].class_names,
            kind="synthetic",
            pixel_size_um=made[0].pixel_size_um,
            parameters=parameters,
        )
    return open_benchmark(place)


def default_folder(design: BenchmarkDesign, seed: int) -> Path:
    """Return the folder of the cache that `make_benchmark` uses; each design, seed and state of the code has one."""
    key = digest_of(json.dumps(plain(asdict(design)), sort_keys=True), str(seed), code_digest())
    return cache_root().parent / "benchmarks" / f"{design.name}-{seed}-{key[:10]}"


@cache
def code_digest() -> str:
    """Return the digest of the code that a benchmark comes from, comments and docstrings left out."""
    here = Path(__file__).parent
    files = sorted(file for pattern in _CODE for file in here.glob(pattern))
    return digest_of(*(part for file in files for part in (file.name, code_tree(file.read_text(encoding="utf-8")))))


def _make_wafers(
    design: BenchmarkDesign, seed: int, folder: Path, n_workers: int, on_wafer: Callable[[], object]
) -> list[MadeWafer]:
    made: list[MadeWafer] = []
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


def _make_wafer(design: BenchmarkDesign, seed: int, index: int, folder: Path) -> MadeWafer:
    """Draw wafer `index` and write the tiles that any of the splits may use."""
    own_seed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
    wafer = synthesize_wafer(design.wafer(index), seed=own_seed, name=design.wafer_name(index))
    whole = plan_tiles(wafer.truth, design.tiling) if {"crops", "wafer"} & set(design.splits) else ()
    region = None
    if "region" in design.splits:
        region = split_regions([wafer.truth], design.tiling, left_share=design.left_share)
    of_region = () if region is None else (*region.train, *region.validation)
    digests = write_tiles(wafer.image, [*whole, *of_region], folder)
    return MadeWafer(whole, region, digests, wafer.truth.class_names, wafer.truth.pixel_size_um)


def _synthetic_splits(design: BenchmarkDesign, made: Sequence[MadeWafer], seed: int) -> list[Split]:
    tiles = [tile for wafer in made for tile in wafer.whole]
    splits = []
    for name in design.splits:
        if name == "region":
            regions = [wafer.region for wafer in made if wafer.region is not None]
            split = Split(
                name,
                tuple(tile for region in regions for tile in region.train),
                tuple(tile for region in regions for tile in region.validation),
            )
        elif name == "wafer":
            split = split_wafers(tiles, validation_wafers=design.validation_names())
        else:
            share = design.n_train / (design.n_train + design.n_validation)
            split = split_crops(tiles, train_share=share, seed=seed)
        splits.append(thin(split, n_train=design.n_train, n_validation=design.n_validation, seed=seed))
    return splits
