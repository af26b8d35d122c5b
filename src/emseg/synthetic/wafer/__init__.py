from emseg.synthetic.wafer.design import BACKGROUNDS, FOLD_TONES, TISSUES, WaferDesign
from emseg.synthetic.wafer.severity import Severity
from emseg.synthetic.wafer.wafer import WAFER_GENERATOR_VERSION, SyntheticWafer, synthesize_wafer

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
