"""Files of sections and tiles that other programs read and write."""

from emseg.wafer.formats.benchmark_folder import Benchmark, open_benchmark, own_benchmark
from emseg.wafer.formats.coco import CocoSet, read_coco
from emseg.wafer.formats.magc import read_magc, write_magc
from emseg.wafer.formats.mass_json import read_mass_json, write_mass_json

__all__ = [
    "Benchmark",
    "CocoSet",
    "open_benchmark",
    "own_benchmark",
    "read_coco",
    "read_magc",
    "read_mass_json",
    "write_magc",
    "write_mass_json",
]
