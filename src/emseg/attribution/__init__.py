"""Attribution fields: which pixels of the image a segmentation network looked at for one pixel of its answer."""

from emseg.attribution.attribution import Attribution, PackingError
from emseg.attribution.integrated_gradients import attribute_pixels
from emseg.attribution.packing import PackingOptions

__all__ = ["Attribution", "PackingError", "PackingOptions", "attribute_pixels"]
