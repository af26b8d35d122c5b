"""Wafers with sections: reading and cutting them, finding and classifying their sections, scoring what was found.

Synthetic wafers are drawn by `emseg.synthetic.wafer`; detectors are in `emseg.wafer.detector`, which alone needs mmdet,
scores in `emseg.wafer.scores`, file formats in `emseg.wafer.formats`.
"""

from emseg.sections import Section, WaferSections
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES, CropSet, SectionCrop, draw_section_crop, section_crops
from emseg.wafer.annotated_wafer import load_magc_wafer, read_annotated_wafer, read_wafer_image
from emseg.wafer.formats.benchmark_folder import Benchmark, open_benchmark
from emseg.wafer.splits import pixel_leak
from emseg.wafer.tiles import Tiling, cut_tiles, plan_tiles
from emseg.wafer.wafer_benchmark import benchmark_from_wafers, make_benchmark

__all__ = [
    "SECTION_CLASSES",
    "Benchmark",
    "CropSet",
    "Section",
    "SectionCrop",
    "Tiling",
    "WaferSections",
    "benchmark_from_wafers",
    "cut_tiles",
    "draw_section_crop",
    "load_magc_wafer",
    "make_benchmark",
    "open_benchmark",
    "pixel_leak",
    "plan_tiles",
    "read_annotated_wafer",
    "read_wafer_image",
    "section_crops",
]
