"""Outlines of labelme become sections; what cannot be one is counted or named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emseg.errors import InputError
from emseg.wafer.formats.labelme import read_labelme

POLYGON = {"label": "good", "points": [[10, 20], [30, 20], [30, 50]], "shape_type": "polygon"}
BOX = {"label": "fold", "points": [[60, 50], [40, 20]], "shape_type": "rectangle"}


def write(folder: Path, *shapes: Any, image: str | None = "wafer.png", **changes: Any) -> Path:
    Image.new("L", (120, 100)).save(folder / "wafer.png")
    content = {"shapes": list(shapes), "imagePath": image, "imageHeight": 100, "imageWidth": 120, **changes}
    path = folder / "wafer.json"
    path.write_text(json.dumps(content))
    return path


def test_polygons_and_rectangles_are_sections(tmp_path: Path) -> None:
    wafer = read_labelme(write(tmp_path, POLYGON, BOX))
    assert wafer.image_path == tmp_path / "wafer.png"
    first, second = wafer.sections.sections
    np.testing.assert_array_equal(first.polygon, [(20, 10), (20, 30), (50, 30)])
    np.testing.assert_array_equal(second.polygon, [(20, 40), (20, 60), (50, 60), (50, 40)])
    assert (first.label, second.label) == ("good", "fold")
    assert wafer.sections.class_names == ("good", "incomplete", "fold", "damaged")
    assert (wafer.sections.name, wafer.sections.notes) == ("wafer", ())


def test_other_shapes_are_left_out_and_counted(tmp_path: Path) -> None:
    circle = {"label": "dust", "points": [[1, 2], [3, 4]], "shape_type": "circle"}
    wafer = read_labelme(write(tmp_path, POLYGON, circle, circle))
    assert len(wafer.sections.sections) == 1
    assert wafer.sections.notes == ("left out: 2 of shape 'circle', which is no outline",)


def test_labels_of_ones_own_become_the_classes_in_alphabetical_order(tmp_path: Path) -> None:
    wafer = read_labelme(write(tmp_path, POLYGON, {**BOX, "label": "blank"}))
    assert wafer.sections.class_names == ("blank", "good")


@pytest.mark.parametrize("image", ["..\\slides\\wafer.png", "elsewhere/wafer.png"])
def test_an_image_that_moved_beside_the_file_is_found(image: str, tmp_path: Path) -> None:
    assert read_labelme(write(tmp_path, POLYGON, image=image)).image_path == tmp_path / "wafer.png"


@pytest.mark.parametrize(
    ("shapes", "changes", "message"),
    [
        ([], {}, "has no section: it needs polygons or rectangles and holds nothing"),
        ([{**POLYGON, "shape_type": "line"}], {}, "it needs polygons or rectangles and holds line"),
        ([POLYGON], {"image": None}, r"names no image \(`imagePath`\)"),
        ([POLYGON], {"image": "other.png"}, r"was drawn on other\.png, which is not beside it"),
        ([POLYGON], {"imageHeight": 0}, "`imageHeight` of .* must be a positive whole number; it is 0"),
        ([POLYGON], {"imageWidth": None}, "`imageWidth` of .* must be a positive whole number"),
        ([POLYGON], {"shapes": 3}, "is no labelme file"),
        ([{**POLYGON, "points": [[1, 2], [3]]}], {}, r"shape 0 of .* must have points \[x, y\]"),
        ([{**BOX, "points": [[1, 2], [3, 4], [5, 6]]}], {}, "a rectangle has two of them"),
        ([{**POLYGON, "label": ""}], {}, "shape 0 of .* must have a label"),
        ([{**POLYGON, "points": [[0, 0], [9, 9], [9, 0], [0, 9]]}], {}, "must not cross itself; section 0 of wafer"),
        ([{**POLYGON, "points": [[0, 0], [9, 9], [18, 18]]}], {}, "must enclose an area; section 0 of wafer"),
        ([{**POLYGON, "points": [[500, 0], [509, 9], [509, 0]]}], {}, "must touch the image; section 0 of wafer"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    shapes: list[Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read_labelme(write(tmp_path, *shapes, **changes))


def test_an_unknown_class_is_named_with_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one of good, fold; section 0 of wafer is 'goof'\. Did you mean 'good'"):
        read_labelme(write(tmp_path, {**POLYGON, "label": "goof"}), class_names=["good", "fold"])
