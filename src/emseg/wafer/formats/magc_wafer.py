"""The MagC wafer: a real silicon wafer with 433 annotated sections, one mosaic of 4987 x 5380 px.

Example data of SBEMimage. Its pixel size is not stated. All sections are of one class, "section".

Source: Titze, Genoud and Friedrich, SBEMimage: versatile acquisition control software for serial block-face electron
microscopy, Frontiers in Neural Circuits 12:54 (2018); https://github.com/SBEMimage/SBEMimage, array/example.
"""

import numpy as np
from jaxtyping import UInt8

from emseg.data.registry import dataset_path
from emseg.wafer.formats.exchanged_sections import sections_from_magc
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.sections import WaferSections
from emseg.wafer.wafer_image import read_wafer_image

DATASET = "magc_wafer"
_NAME = "wafer_example1"


def load_magc_wafer() -> tuple[UInt8[np.ndarray, "row column"], WaferSections]:
    """Return the image and its 433 sections; raise `InputError` if the data set is not here or damaged."""
    folder = dataset_path(DATASET)
    image = read_wafer_image(folder / f"{_NAME}.jpg")
    height, width = image.shape
    wafer = read_magc(folder / f"{_NAME}.magc")
    return image, sections_from_magc(wafer, name=DATASET, height=height, width=width)
