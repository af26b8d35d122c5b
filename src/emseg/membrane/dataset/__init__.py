from emseg.membrane.dataset.folder_set import pair_files
from emseg.membrane.dataset.known_sets import open_membrane_set
from emseg.membrane.dataset.labels import downsampled_pair, grey_of_membrane, read_label
from emseg.membrane.dataset.membrane_set import (
    ArrayImage,
    MembraneImage,
    MembraneSet,
    UnlabelledImage,
    Window,
)

__all__ = [
    "ArrayImage",
    "MembraneImage",
    "MembraneSet",
    "UnlabelledImage",
    "Window",
    "downsampled_pair",
    "grey_of_membrane",
    "open_membrane_set",
    "pair_files",
    "read_label",
]
