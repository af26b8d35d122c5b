"""Wafers with sections: making them, reading them, finding and sorting their sections.

Import from the modules: what a chapter imports decides when its results are old, so this package re-exports only the
crops of single sections. A wafer is drawn by `emseg.synthetic.wafer`, read by `magc`, `mass_json`, `labelme` and
`coco`, cut by `tiles`, divided by `splits`; `detector` trains, `detection_scores` scores. Only `detector` needs mmdet.
"""

from emseg.synthetic.wafer.section_crops import (
    SECTION_CLASSES,
    CropSet,
    SectionCrop,
    draw_section_crop,
    section_crops,
)

__all__ = ["SECTION_CLASSES", "CropSet", "SectionCrop", "draw_section_crop", "section_crops"]
