from emseg.wafer.section_crops import (
    SECTION_CLASSES,
    CropSet,
    SectionCrop,
    draw_section_crop,
    section_crops,
)

__all__ = ["SECTION_CLASSES", "CropSet", "SectionCrop", "draw_section_crop", "section_crops"]
