"""COCO files are read as they are meant, and every fault is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emseg.errors import InputError
from emseg.wafer.formats.coco import read_coco


def document() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 50, "width": 60},
            {"id": 9, "file_name": "b.png", "height": 50, "width": 60, "wafer": "w", "row": 10, "column": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "segmentation": [[1, 2, 31, 2, 31, 12, 1, 12]]},
            {
                "id": 2,
                "image_id": 9,
                "category_id": 1,
                "segmentation": [[1, 2, 31, 2, 31, 12], [40, 40, 50, 40, 50, 45, 40, 45, 40, 40]],
                "iscrowd": 1,
            },
        ],
        "categories": [{"id": 2, "name": "fold"}, {"id": 1, "name": "good"}],
    }


def write(folder: Path, content: Any) -> Path:
    path = folder / "train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_x_is_the_column_and_parts_stay_parts(tmp_path: Path) -> None:
    coco = read_coco(write(tmp_path, document()))
    first, second = coco.annotations
    np.testing.assert_array_equal(first.parts[0], [(2, 1), (2, 31), (12, 31), (12, 1)])
    assert first.area_px == 300
    assert [len(part) for part in second.parts] == [3, 4]  # the repeated last point is gone
    assert second.area_px == 150 + 50
    assert second.crowd
    assert coco.class_names == ("good", "fold")
    assert coco.of_image(coco.images[0]) == (first,)
    assert (coco.count("fold"), coco.count("good")) == (1, 0)


def change(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to

    return apply


ONE = ("annotations", 0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("images", to={}), "its list 'images' is missing"),
        (change("images", to=[]), "annotation 1 of .* belongs to image 7, which is not in the list"),
        (change("annotations", to=[]), "has no section in any image"),
        (change("categories", to=[]), "at least one category"),
        (change("images", 1, "id", to=7), "image ids must be unique; .* has 7 more than once"),
        (change("images", 1, "file_name", to="a.png"), "file names of images must be unique; .*a.png"),
        (change("annotations", 1, "id", to=1), "annotation ids must be unique; .* has 1 more"),
        (change("categories", 1, "id", to=2), "category ids must be unique; .* has 2"),
        (change("categories", 1, "name", to="fold"), "category names must be unique"),
        (change("images", 0, "height", to=0), "`height` must be a whole number of at least 1; a.png in .* has 0"),
        (change("images", 0, "height", to="50"), "`height` must be a whole number of at least 1; a.png in .* has '50'"),
        (change("images", 0, to=["a.png"]), "`id` must be a whole number; image 0"),
        (change("images", 0, "file_name", to=None), "`file_name` must be a text; image 7"),
        (change(*ONE, "image_id", to=8), "annotation 1 of .* belongs to image 8"),
        (change(*ONE, "category_id", to=3), r"is of category 3, which is not one of 1 \(good\), 2 \(fold\)"),
        (
            change(*ONE, "segmentation", to={"counts": [5, 3], "size": [50, 60]}),
            "the runs of a mask must add up to its size; those of annotation 1",
        ),
        (change(*ONE, "segmentation", to=[]), "annotation 1 of .* has no outline"),
        (change(*ONE, "segmentation", to=[[1, 2, 3]]), "must be points x1, y1, x2, y2"),
        (change(*ONE, "segmentation", to=[[1, 2, "x", 4]]), "must be points x1, y1, x2, y2"),
        (change(*ONE, "segmentation", to=[[[1, 2, 3], [3, 4, 5]]]), "must be points x1, y1, x2, y2"),
        (change(*ONE, "segmentation", to=[[1, 2, 3, 4]]), "at least three points; annotation 1 of .* has 2"),
        (change(*ONE, "segmentation", to=[[1, 2, 3, 4, 5, 6]]), "must enclose an area; annotation 1"),
        (change(*ONE, "segmentation", to=[[0, 0, 9, 9, 9, 0, 0, 9]]), "must not cross itself; annotation 1"),
        (change(*ONE, "segmentation", to=[[100, 2, 131, 2, 131, 12]]), "must touch the image; annotation 1 .*50 x 60"),
    ],
)
def test_every_fault_of_a_file_is_named(spoil: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    content = document()
    spoil(content)
    with pytest.raises(InputError, match=message):
        read_coco(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not valid JSON .*line 1"), ("[]", "must be a COCO file, an object"), ("{}", "list 'images' is missing")],
)
def test_a_file_of_another_kind_is_named(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_coco(write(tmp_path, content))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json does not exist"):
        read_coco(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="directory"):
        read_coco(tmp_path)
    (tmp_path / "latin.json").write_bytes('"é"'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.json is not valid JSON .*utf-8"):
        read_coco(tmp_path / "latin.json")


def test_missing_images_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    with pytest.raises(InputError, match=r"names images that are not in .*images: b\.png\. Copy them"):
        read_coco(path, image_folder=tmp_path / "images")
    with pytest.raises(InputError, match="elsewhere, which is not a folder"):
        read_coco(path, image_folder=tmp_path / "elsewhere")


def test_unknown_classes_are_named_with_what_was_meant(tmp_path: Path) -> None:
    content = document()
    content["categories"][0]["name"] = "folds"
    with pytest.raises(InputError, match=r"classes must be good, fold; .* has 'folds'\. Did you mean 'fold'"):
        read_coco(write(tmp_path, content), class_names=["good", "fold"])


def test_a_file_that_does_not_say_where_its_images_were_cut_has_no_places(tmp_path: Path) -> None:
    coco = read_coco(write(tmp_path, document()))
    with pytest.raises(InputError, match=r"does not state where a\.png was cut"):
        _ = coco.places
