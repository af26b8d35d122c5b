"""The data of one training, by name: tiles to learn from, tiles to score on, and wafers that nobody has seen.

    synthetic    a preset of synthetic wafers (`emseg.synthetic.wafer.benchmark_design`), split as asked
    magc_wafer   the real MagC wafer, one class, split by region: the left 60 % of its columns to learn from
    folder       a COCO folder of the user's own, such as the paper's data for whoever has it

Synthetic data also has **fresh** wafers: the preset's validation wafers drawn again from another seed. They are scored
on in the end and never chosen by. Where validation tiles share pixels with training tiles, the score on fresh wafers
is what the score on validation should have been.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from emseg.data.registry import cache_root
from emseg.errors import UsageError, suggest
from emseg.images import read_gray
from emseg.runs.session import Run
from emseg.synthetic.wafer.benchmark_design import preset as preset_design
from emseg.wafer.annotated_wafer import load_magc_wafer
from emseg.wafer.formats.benchmark_folder import Benchmark, open_benchmark
from emseg.wafer.splits import TRAIN, VALIDATION
from emseg.wafer.tiles import Tiling
from emseg.wafer.wafer_benchmark import benchmark_from_wafer, make_benchmark

SOURCES = ("synthetic", "magc_wafer", "folder")
FRESH_SEED = 1_000_003  # added to the seed of the data
FRESH_SPLIT = "wafer"
MAGC_TILING = Tiling(256, 0.25, 0.2, keep_empty=False)  # a quarter of a tile is as long as a section


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A COCO folder with the split to use; `fresh` is another whose validation part is scored on as well, or None."""

    source: str
    benchmark: Benchmark
    split: str
    fresh: Benchmark | None

    @property
    def n_classes(self) -> int:
        """How many classes of sections are told apart."""
        return len(self.benchmark.class_names)

    def truth(self, part: str) -> Path:
        """Return the COCO file of "train", "validation" or "fresh"."""
        if part == "fresh":
            if self.fresh is None:
                raise UsageError(f"there are no fresh wafers of {self.source}: only synthetic ones can be drawn again.")
            return self.fresh.split(FRESH_SPLIT).validation
        files = self.benchmark.split(self.split)
        return files.train if part == TRAIN else files.validation

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that can be scored on."""
        return (VALIDATION,) if self.fresh is None else (VALIDATION, "fresh")


def training_data(
    source: str,
    *,
    preset: str = "laptop",
    split: str = "wafer",
    seed: int = 0,
    folder: str | Path = "",
    n_workers: int = 1,
) -> TrainingData:
    """Return the data of a training, making it where it is not there yet.

    Raises `UsageError` for a source or a split that does not exist, `InputError` for data that cannot be used.
    """
    if source == "synthetic":
        design = preset_design(preset)
        fresh = replace(design, name=f"{design.name}-fresh", n_train_wafers=1, n_train=1, splits=(FRESH_SPLIT,))
        benchmark = make_benchmark(design, seed=seed, n_workers=n_workers)
        benchmark.split(split)
        unseen = make_benchmark(fresh, seed=seed + FRESH_SEED, n_workers=n_workers)
        return TrainingData(source, benchmark, split, unseen)
    if source == "magc_wafer":
        image, sections = load_magc_wafer()
        place = cache_root().parent / "benchmarks" / "magc_wafer"
        benchmark = benchmark_from_wafer(image, sections, place, tiling=MAGC_TILING)
    elif source == "folder":
        if not str(folder):
            raise UsageError("`folder` must name a COCO folder when `data` is 'folder'; it is empty. Give its path.")
        benchmark = open_benchmark(folder)
    else:
        raise UsageError(f"`data` must be one of {', '.join(SOURCES)}; got {source!r}.{suggest(source, SOURCES)}")
    benchmark.split(split)
    return TrainingData(source, benchmark, split, None)


def fullest_tiles(data: TrainingData, *, n: int | None = None) -> dict[int, NDArray[Any]]:
    """Return the images of the `n` validation tiles with most sections, of all without `n`, by image id."""
    coco = data.benchmark.read(data.split, VALIDATION)
    folder = data.benchmark.split(data.split).validation_images
    ranked = sorted(coco.images, key=lambda image: (-len(coco.of_image(image)), image.id))
    return {image.id: read_gray(folder / image.file_name) for image in ranked[:n]}


def report_data(run: Run, data: TrainingData) -> None:
    """Note the data sets in a run, with the number of tiles and the side of a pixel where it is known."""
    for name, benchmark, split in (
        (data.source, data.benchmark, data.split),
        *([("fresh synthetic wafers", data.fresh, FRESH_SPLIT)] if data.fresh is not None else []),
    ):
        counts: Mapping[str, Any] = {part: len(benchmark.read(split, part).images) for part in (TRAIN, VALIDATION)}
        size = benchmark.pixel_size_um
        run.uses(
            {"synthetic": "synthetic wafers"}.get(name, name),
            kind=benchmark.kind,
            fingerprint=benchmark.fingerprint,
            n_images=counts[VALIDATION] if benchmark is data.fresh else sum(counts.values()),
            pixel_size_nm=None if size is None else 1000.0 * size,
        )
