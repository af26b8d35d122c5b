from emseg.membrane.dataset.images import ArrayImage, CroppedImage, MembraneImage, Window
from emseg.membrane.dataset.membrane_set import MembraneSet
from emseg.membrane.dataset.opening import open_membrane_set

__all__ = ["ArrayImage", "CroppedImage", "MembraneImage", "MembraneSet", "Window", "open_membrane_set"]
