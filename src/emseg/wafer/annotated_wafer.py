"""A wafer image with its annotations, whatever program they were drawn with.

    wafer.magc            MagFinder, SBEMimage      `emseg.wafer.formats.magc`
    wafer.mass.json       napari-mass               `emseg.wafer.formats.mass_json`
    wafer.json            labelme, or COCO          told apart by their content

In a COCO file the image is found by its name, or is the only one. Each part of a section of several parts is taken as a
section of its own, and crowds are left out; notes count them.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from emseg.errors import InputError
from emseg.wafer.formats.coco import CocoImage, CocoSet, read_coco, read_json
from emseg.wafer.formats.coco_writing import coco_document
from emseg.wafer.formats.exchanged_sections import sections_from_magc, sections_from_mass
from emseg.wafer.formats.labelme import read_labelme
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.formats.mass_json import read_mass_json
from emseg.wafer.sections import Section, WaferSections
from emseg.wafer.tiles import Tile, TileSection, require_same_size
from emseg.wafer.wafer_image import read_wafer_image

Wafer = tuple[UInt8[np.ndarray, "row column"], WaferSections]


def read_annotated_wafer(
    image_path: str | Path,
    annotations_path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    grey_range: tuple[float, float] | None = None,
    pixel_size_um: float | None = None,
) -> Wafer:
    """Return a wafer image and its sections, named after the image (what cannot name a tile's file becomes "_").

    `class_names` are those that labelme and COCO files may use; `.magc` and `.mass.json` know none. Raises
    `InputError` for anything that is wrong with either file or between them.
    """
    image_path, annotations_path = Path(image_path), Path(annotations_path)
    kind = _kind(annotations_path)
    image = read_wafer_image(image_path, grey_range=grey_range)
    height, width = image.shape
    name = re.sub(r"[^\w-]+", "_", image_path.name.split(".")[0] or "wafer", flags=re.ASCII)  # it names tiles
    if kind == "magc":
        magc = read_magc(annotations_path)
        sections = sections_from_magc(magc, name=name, height=height, width=width, pixel_size_um=pixel_size_um)
    elif kind == "mass":
        mass = read_mass_json(annotations_path)
        sections = sections_from_mass(mass, name=name, height=height, width=width, pixel_size_um=pixel_size_um)
    elif kind == "labelme":
        labelled = read_labelme(
            annotations_path, image_path=image_path, class_names=class_names, pixel_size_um=pixel_size_um
        )
        sections = replace(labelled.sections, name=name)
    else:
        coco = read_coco(annotations_path, class_names=class_names)
        sections = sections_from_coco(coco, image_path.name, name=name, pixel_size_um=pixel_size_um)
    require_same_size(image, sections)
    return image, sections


def sections_from_coco(
    coco: CocoSet, file_name: str, *, name: str, pixel_size_um: float | None = None
) -> WaferSections:
    """Return the sections of one image of a COCO file, found by its file name, or the only one there is."""
    image = _image(coco, file_name)
    found = coco.of_image(image)
    sections = tuple(Section(part, one.label) for one in found if not one.crowd for part in one.parts)
    if not sections:
        raise InputError(f"{coco.path} has no section in {image.file_name}. Annotate it or leave the image out.")
    n_crowds = sum(one.crowd for one in found)
    n_many = sum(len(one.parts) > 1 for one in found if not one.crowd)
    counted = ((n_crowds, "crowds were left out"), (n_many, "sections of several parts were taken apart"))
    notes = tuple(f"{count} {what}" for count, what in counted if count)
    return WaferSections(
        name, image.height, image.width, sections, coco.class_names, pixel_size_um=pixel_size_um, notes=notes
    )


def wafer_document(sections: WaferSections, file_name: str) -> dict[str, Any]:
    """Return the sections of a whole wafer as a COCO document with one image."""
    shown = tuple(
        TileSection(number, section.label, (section.polygon,), section.area_px, 1.0, False)
        for number, section in enumerate(sections.sections)
    )
    tile = Tile(sections.name, 0, 0, sections.height, sections.width, shown)
    document = coco_document([tile], sections.class_names, f"emseg wafer, {sections.name}")
    document["images"][0]["file_name"] = file_name
    return document


def _kind(path: Path) -> str:
    if path.suffix.lower() == ".magc":
        return "magc"
    document = read_json(path)
    if isinstance(document, dict):
        for key, kind in (("shapes", "labelme"), ("images", "coco"), ("sections", "mass")):
            if key in document:
                return kind
    raise InputError(f"{path} must be a .magc, .mass.json, labelme or COCO file; it is none of them.")


def _image(coco: CocoSet, file_name: str) -> CocoImage:
    named = [image for image in coco.images if Path(image.file_name).name == file_name]
    if len(named) == 1:
        return named[0]
    if len(coco.images) == 1:
        return coco.images[0]
    raise InputError(
        f"{coco.path} lists {len(coco.images)} images, {len(named)} of them called {file_name}. "
        "Name the image as the file does."
    )
