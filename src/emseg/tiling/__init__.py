"""Networks on images that are too large for them: tiles, halos, blending, streaming, resuming."""

from emseg.tiling.arrays import ImageArray, OutputArray, mirrored, open_output
from emseg.tiling.grid import TileGrid
from emseg.tiling.inference import Precision, device_of, predict_tiled

__all__ = [
    "ImageArray",
    "OutputArray",
    "Precision",
    "TileGrid",
    "device_of",
    "mirrored",
    "open_output",
    "predict_tiled",
]
