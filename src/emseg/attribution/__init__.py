"""Attribution fields: which pixels of the image a segmentation network looked at for one pixel of its answer."""

from emseg.attribution.attribution import Attribution, PackingError

__all__ = ["Attribution", "PackingError"]
