"""Attribution fields: which pixels of the image a segmentation network depends on for one pixel of its output."""

from emseg.attribution.attribute import Attribution, attribute_pixels

__all__ = ["Attribution", "attribute_pixels"]
