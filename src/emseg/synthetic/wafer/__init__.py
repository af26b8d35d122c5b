from emseg.synthetic.wafer.benchmark_design import PRESETS, BenchmarkDesign, preset
from emseg.synthetic.wafer.drawn_wafer import WAFER_GENERATOR_VERSION, SyntheticWafer, synthesize_wafer
from emseg.synthetic.wafer.section_crops import CropSet, SectionCrop, draw_section_crop, section_crops
from emseg.synthetic.wafer.wafer_design import (
    BACKGROUNDS,
    FOLD_TONES,
    SECTION_CLASSES,
    TISSUES,
    Severity,
    WaferDesign,
)

__all__ = [
    "BACKGROUNDS",
    "FOLD_TONES",
    "PRESETS",
    "SECTION_CLASSES",
    "TISSUES",
    "WAFER_GENERATOR_VERSION",
    "BenchmarkDesign",
    "CropSet",
    "SectionCrop",
    "Severity",
    "SyntheticWafer",
    "WaferDesign",
    "draw_section_crop",
    "preset",
    "section_crops",
    "synthesize_wafer",
]
