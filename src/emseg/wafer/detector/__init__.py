from emseg.wafer.detector.detector_build import build_config, build_design, load_weights, read_weights
from emseg.wafer.detector.detector_design import BACKBONES, DETECTORS, SIZES, DetectorDesign, DetectorSize
from emseg.wafer.detector.detector_plan import PLANS, DetectorPlan
from emseg.wafer.detector.detector_prediction import predict, predict_folder
from emseg.wafer.detector.detector_trainer import TrainedDetector, train_detector
from emseg.wafer.detector.mmdet_config import config_text, model_config, runner_config

__all__ = [
    "BACKBONES",
    "DETECTORS",
    "PLANS",
    "SIZES",
    "DetectorDesign",
    "DetectorPlan",
    "DetectorSize",
    "TrainedDetector",
    "build_config",
    "build_design",
    "config_text",
    "load_weights",
    "model_config",
    "predict",
    "predict_folder",
    "read_weights",
    "runner_config",
    "train_detector",
]
