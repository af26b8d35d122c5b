from emseg.wafer.synthetic.design import BACKGROUNDS, TISSUES, WaferDesign
from emseg.wafer.synthetic.wafer import WAFER_GENERATOR_VERSION, SyntheticWafer, synthesize_wafer

__all__ = ["BACKGROUNDS", "TISSUES", "WAFER_GENERATOR_VERSION", "SyntheticWafer", "WaferDesign", "synthesize_wafer"]
