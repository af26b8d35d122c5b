"""Networks on images that are too large for them: tiles, halos, blending, streaming, checkpoints."""

from emseg.tiling.grid import TileGrid
from emseg.tiling.inference import predict_tiled
from emseg.tiling.output import open_output

__all__ = ["TileGrid", "open_output", "predict_tiled"]
