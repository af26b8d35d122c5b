from emseg.wafer.detector.build import build_config, build_design, build_detector
from emseg.wafer.detector.design import BACKBONES, DETECTORS, DetectorDesign, design_from_dict
from emseg.wafer.detector.model_config import model_config
from emseg.wafer.detector.sizes import SIZES, DetectorSize, detector_size
from emseg.wafer.detector.weights import load_weights, read_weights, save_weights

__all__ = [
    "BACKBONES",
    "DETECTORS",
    "SIZES",
    "DetectorDesign",
    "DetectorSize",
    "build_config",
    "build_design",
    "build_detector",
    "design_from_dict",
    "detector_size",
    "load_weights",
    "model_config",
    "read_weights",
    "save_weights",
]
