from emseg.membrane.dataset.folder_set import pair_files
from emseg.membrane.dataset.known_sets import open_membrane_set
from emseg.membrane.dataset.labels import downsampled_pair, grey_of_membrane, membrane_of_grey, read_label
from emseg.membrane.dataset.membrane_set import (
    ArrayImage,
    CroppedImage,
    MembraneImage,
    MembraneSet,
    UnlabelledImage,
    Window,
    require_window,
)

__all__ = [
    "ArrayImage",
    "CroppedImage",
    "MembraneImage",
    "MembraneSet",
    "UnlabelledImage",
    "Window",
    "downsampled_pair",
    "grey_of_membrane",
    "membrane_of_grey",
    "open_membrane_set",
    "pair_files",
    "read_label",
    "require_window",
]
