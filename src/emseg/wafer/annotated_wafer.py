"""Reading a wafer: one 8-bit grey image, however large, with its annotations, whatever program they were drawn with.

    .magc (MagFinder, SBEMimage), .mass.json (napari-mass), COCO, labelme, VIA, QuPath's GeoJSON, ImageJ's regions,
    YOLO's segmentation: recognized by their content (`emseg.wafer.formats.outlines`)

An uncompressed TIFF is memory-mapped, so its tiles are read as they are cut; any other file is decoded whole. 16-bit
images are refused unless `grey_range` gives the greys that become black and white: no choice suits all microscopes.

    grey 8-bit = round(255 (grey - low) / (high - low)), clipped to 0 and 255

Crowds of a COCO file are left out; notes count them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from emseg.data.registry import dataset_path
from emseg.errors import InputError, UsageError
from emseg.images import read_gray, require_gray
from emseg.sections import Section, WaferSections
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.wafer.formats.coco import CocoSet, coco_document, read_coco
from emseg.wafer.formats.drawn_outlines import Drawn, read_geojson, read_imagej, read_labelme, read_via, read_yolo
from emseg.wafer.formats.magc import read_magc, sections_from_magc
from emseg.wafer.formats.mass_json import read_mass_json, sections_from_mass
from emseg.wafer.formats.outlines import Faults, Kind, kind_of, wafer_sections
from emseg.wafer.tiles import Tile, TileSection, require_same_size

Wafer = tuple[UInt8[np.ndarray, "row column"], WaferSections]

MAGC_WAFER = "magc_wafer"
_ROWS_AT_ONCE = 512


def read_annotated_wafer(
    image_path: str | Path,
    annotations_path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    grey_range: tuple[float, float] | None = None,
    pixel_size_um: float | None = None,
    faults: Faults = "refuse",
) -> Wafer:
    """Return a wafer image and its sections, named after the image (characters that no tile's name may have are "_").

    `class_names` are those that the annotations may use; `.magc` and `.mass.json` have none. `faults` says what happens
    to outlines that cannot be used: "refuse", "repair" or "skip" (`emseg.wafer.formats.outlines`). Raises `InputError`
    for anything that is wrong with either file or between them.
    """
    kind_of(Path(annotations_path))  # refuses what holds none before the image is read, and exchanged files by name
    image = read_wafer_image(image_path, grey_range=grey_range)
    height, width = image.shape
    options: dict[str, Any] = {"class_names": class_names, "pixel_size_um": pixel_size_um, "faults": faults}
    return image, read_wafer_annotations(annotations_path, image_path, height, width, **options)


def read_wafer_annotations(
    annotations_path: str | Path,
    image_path: str | Path,
    height: int,
    width: int,
    *,
    class_names: Sequence[str] | None = None,
    pixel_size_um: float | None = None,
    faults: Faults = "refuse",
) -> WaferSections:
    """Return the annotated sections of an image of `height` x `width` pixels, which is not read."""
    image_path, path = Path(image_path), Path(annotations_path)
    name, kind = wafer_name(image_path), kind_of(path)
    size: dict[str, Any] = {"name": name, "height": height, "width": width}
    size |= {"pixel_size_um": pixel_size_um, "faults": faults}
    if kind == "magc":
        return sections_from_magc(read_magc(path), **size)
    if kind == "mass":
        return sections_from_mass(read_mass_json(path), **size)
    if kind == "coco":
        coco = read_coco(path, class_names=class_names, faults=faults)
        sections = sections_from_coco(coco, image_path.name, name=name, pixel_size_um=pixel_size_um)
        require_same_size((height, width), sections)
        return sections
    drawn = drawn_outlines(path, kind, image_path.name, (height, width), class_names)
    if drawn.size is not None:
        require_same_size((height, width), WaferSections(name, drawn.size[0], drawn.size[1], ()))
    return wafer_sections(drawn.outlines, path, class_names=class_names, notes=drawn.notes, **size)


def wafer_name(image_path: str | Path) -> str:
    """Return the name of a wafer after its image file; characters that no tile's name may have become "_"."""
    return re.sub(r"[^\w-]+", "_", Path(image_path).name.split(".")[0] or "wafer", flags=re.ASCII)


def drawn_outlines(
    path: Path, kind: Kind, image_name: str, size: tuple[int, ...], class_names: Sequence[str] | None = None
) -> Drawn:
    """Return the outlines of a file of one of the kinds of `formats.drawn_outlines`, in an image of (height, width)."""
    return {
        "labelme": lambda: read_labelme(path),
        "via": lambda: read_via(path, image_name),
        "geojson": lambda: read_geojson(path),
        "imagej": lambda: read_imagej(path, class_names or SECTION_CLASSES),
        "yolo": lambda: read_yolo(path, size[0], size[1], class_names),
    }[kind]()


def load_magc_wafer() -> Wafer:
    """Return the MagC wafer: a real silicon wafer, one mosaic of 4987 x 5380 px with 433 outlined sections.

    Example data of SBEMimage; the pixel size is not stated, all sections are of one class. Raises `InputError` if the
    data set is missing or damaged.

    Source: Titze, Genoud and Friedrich, SBEMimage, Frontiers in Neural Circuits 12:54 (2018);
    https://github.com/SBEMimage/SBEMimage, array/example.
    """
    folder = dataset_path(MAGC_WAFER)
    image, magc = read_wafer_image(folder / "wafer_example1.jpg"), read_magc(folder / "wafer_example1.magc")
    return image, sections_from_magc(magc, name=MAGC_WAFER, height=image.shape[0], width=image.shape[1])


def sections_from_coco(
    coco: CocoSet, file_name: str, *, name: str, pixel_size_um: float | None = None
) -> WaferSections:
    """Return the sections of one image of a COCO file, found by its file name, or the only one there is."""
    named = [image for image in coco.images if Path(image.file_name).name == file_name]
    candidates = named or coco.images
    if len(candidates) != 1:
        raise InputError(
            f"{coco.path} lists {len(coco.images)} images, {len(named)} of them called {file_name}. "
            "Name the image as the file does."
        )
    (image,) = candidates
    found = [one for one in coco.of_image(image) if not one.crowd]
    if not found:
        raise InputError(f"{coco.path} has no section in {image.file_name}. Annotate it or leave the image out.")
    sections = tuple(Section(one.parts[0], one.label, more_parts=one.parts[1:]) for one in found)
    n_crowds = len(coco.of_image(image)) - len(found)
    notes = (*coco.notes, *([f"{n_crowds} crowds were left out"] if n_crowds else []))
    return WaferSections(name, image.height, image.width, sections, coco.class_names, pixel_size_um, notes)


def wafer_document(sections: WaferSections, file_name: str) -> dict[str, Any]:
    """Return the sections of a whole wafer as a COCO document with one image."""
    shown = tuple(
        TileSection(number, section.label, section.parts, section.area_px, 1.0, False)
        for number, section in enumerate(sections.sections)
    )
    tile = Tile(sections.name, 0, 0, sections.height, sections.width, shown)
    document = coco_document([tile], sections.class_names, f"emseg wafer, {sections.name}")
    document["images"][0]["file_name"] = file_name
    return document


def read_wafer_image(
    path: str | Path, *, grey_range: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "row column"]:
    """Return the wafer image in a file, memory-mapped where possible.

    `grey_range` = (black, white) converts an image of more than 8 bits. Raises `InputError` for colour, 1-bit and
    damaged images, for 16-bit ones without a range, and where memory would not suffice.
    """
    path = Path(path)
    image = read_gray(path, memory_map=True)
    return require_8_bit(image, str(path)) if grey_range is None else to_8_bit(image, *grey_range)


def require_8_bit(image: NDArray[Any], name: str = "image") -> UInt8[np.ndarray, "row column"]:
    """Return a grey image of 8 bits; raises `InputError` that states how to convert any other."""
    image = require_gray(image, name)
    if image.dtype != np.uint8:
        low, high = (f"{value:g}" for value in np.percentile(image[:: max(len(image) // 512, 1)], (0.5, 99.5)))
        raise InputError(
            f"a wafer image must have 8 bits; {name} is {image.dtype} of {image.min():g} to {image.max():g}. "
            f"Give the greys that shall be black and white, for example grey_range=({low}, {high}), on the command "
            f"line --grey-range {low} {high}."
        )
    return image


def to_8_bit(image: NDArray[Any], low: float, high: float) -> UInt8[np.ndarray, "row column"]:
    """Return the image with `low` as 0 and `high` as 255, a few rows at a time; values beyond are clipped."""
    if not low < high:
        raise UsageError(f"`grey_range` must be (black, white) with black below white; got ({low:g}, {high:g}).")
    image = require_gray(image)
    scaled = np.empty(image.shape, dtype=np.uint8)
    for start in range(0, len(image), _ROWS_AT_ONCE):
        rows = image[start : start + _ROWS_AT_ONCE].astype(np.float32)
        scaled[start : start + _ROWS_AT_ONCE] = np.clip((rows - low) * (255.0 / (high - low)), 0, 255).round()
    return scaled
