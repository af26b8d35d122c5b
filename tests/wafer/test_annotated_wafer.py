"""One wafer gives the same sections whatever program its outlines were written for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wafer.made_wafers import picture, random_wafer

from emseg.errors import InputError
from emseg.wafer.annotated_wafer import read_annotated_wafer, wafer_document
from emseg.wafer.formats.magc import magc_from_sections, write_magc
from emseg.wafer.formats.mass_json import mass_from_sections, write_mass_json

MADE = random_wafer(0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(picture(MADE)).save(tmp_path / "made.png")
    return tmp_path / "made.png"


def write(folder: Path, kind: str) -> Path:
    path = folder / {"magc": "made.magc", "mass": "made.mass.json"}.get(kind, f"{kind}.json")
    if kind == "magc":
        write_magc(magc_from_sections(MADE), path)
    elif kind == "mass":
        write_mass_json(mass_from_sections(MADE), path)
    elif kind == "coco":
        path.write_text(json.dumps(wafer_document(MADE, "made.png")))
    else:
        shapes = [
            {"label": one.label, "points": one.polygon[:, ::-1].tolist(), "shape_type": "polygon"}
            for one in MADE.sections
        ]
        size = {"imageHeight": MADE.height, "imageWidth": MADE.width}
        path.write_text(json.dumps({"shapes": shapes, "imagePath": "elsewhere.png", **size}))
    return path


@pytest.mark.parametrize("kind", ["magc", "mass", "coco", "labelme"])
def test_every_format_gives_the_same_outlines(kind: str, image: Path) -> None:
    pixels, sections = read_annotated_wafer(image, write(image.parent, kind), pixel_size_um=2.0)
    np.testing.assert_array_equal(pixels, picture(MADE))
    assert sections.pixel_size_um == 2.0
    knows_classes = kind in ("coco", "labelme")
    for before, after in zip(MADE.sections, sections.sections, strict=True):
        assert after.area_px == pytest.approx(before.area_px, abs=0.1)
        assert after.center == pytest.approx(before.center, abs=0.01)
        assert after.label == (before.label if knows_classes else "section")


def test_parts_of_a_coco_file_stay_together_and_crowds_are_counted(image: Path) -> None:
    content = wafer_document(MADE, "made.png")
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["segmentation"].append([50, 50, 60, 50, 60, 60])
    path = image.parent / "coco.json"
    path.write_text(json.dumps(content))
    _, sections = read_annotated_wafer(image, path)
    assert len(sections.sections) == len(MADE.sections) - 1
    assert sections.notes == ("1 crowds were left out",)
    first = sections.sections[0]
    assert len(first.parts) == 2
    assert first.area_px == pytest.approx(MADE.sections[1].area_px + 50, abs=0.1)


def test_the_image_is_found_by_its_name_among_several(image: Path) -> None:
    content = wafer_document(MADE, "slides/made.png")
    content["images"].append({**content["images"][0], "id": 2, "file_name": "other.png"})
    path = image.parent / "coco.json"
    path.write_text(json.dumps(content))
    assert len(read_annotated_wafer(image, path)[1].sections) == len(MADE.sections)
    Image.fromarray(picture(MADE)).save(image.with_name("third.png"))
    with pytest.raises(InputError, match=r"lists 2 images, 0 of them called third\.png"):
        read_annotated_wafer(image.with_name("third.png"), path)
    Image.fromarray(picture(MADE)).save(image.with_name("other.png"))
    with pytest.raises(InputError, match=r"has no section in other\.png"):
        read_annotated_wafer(image.with_name("other.png"), path)


@pytest.mark.parametrize("content", [{}, [], {"boxes": []}])
def test_annotations_of_no_known_format_are_refused(content: Any, image: Path) -> None:
    path = image.parent / "notes.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"must be a \.magc file, a \.mass\.json file, .*; it is none of them"):
        read_annotated_wafer(image, path)


def test_outlines_of_another_image_are_refused(image: Path) -> None:
    path = write(image.parent, "labelme")
    Image.fromarray(picture(MADE)[:-1]).save(image)
    with pytest.raises(InputError, match="made is 150 x 200 px by its outlines, the image 149 x 200"):
        read_annotated_wafer(image, path)


def test_a_wafer_is_named_after_its_image_so_that_it_can_name_tiles(image: Path) -> None:
    moved = image.rename(image.with_name("wafer 3 (new).tif.png"))
    _, sections = read_annotated_wafer(moved, write(moved.parent, "magc"))
    assert sections.name == "wafer_3_new_"
