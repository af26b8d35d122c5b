from emseg.wafer.synthetic.design import BACKGROUNDS, FOLD_TONES, TISSUES, WaferDesign
from emseg.wafer.synthetic.severity import Severity
from emseg.wafer.synthetic.wafer import WAFER_GENERATOR_VERSION, SyntheticWafer, synthesize_wafer

__all__ = [
    "BACKGROUNDS",
    "FOLD_TONES",
    "TISSUES",
    "WAFER_GENERATOR_VERSION",
    "Severity",
    "SyntheticWafer",
    "WaferDesign",
    "synthesize_wafer",
]
