from emseg.wafer.detector.design import DetectorDesign, design_from_dict
from emseg.wafer.detector.sizes import DetectorSize, detector_size

__all__ = ["DetectorDesign", "DetectorSize", "design_from_dict", "detector_size"]
