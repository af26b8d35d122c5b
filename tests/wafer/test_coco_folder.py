"""What is written as a COCO folder is what was cut, for us and for pycocotools; users' folders open as they are."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from wafer.made_wafers import QUALITIES, picture, random_wafer

from emseg.errors import InputError, UsageError
from emseg.wafer.formats.benchmark_folder import (
    Benchmark,
    open_benchmark,
    own_benchmark,
    require_wafer_name,
    write_annotations,
    write_tiles,
)
from emseg.wafer.formats.coco import coco_document
from emseg.wafer.splits import split_crops
from emseg.wafer.tiles import Tile, TilePlace, Tiling, plan_tiles

WAFER = random_wafer(0)
TILES = plan_tiles(WAFER, Tiling(64, 0.25, minimum_visible=0.3))


def made(folder: Path) -> Benchmark:
    split = split_crops(TILES, train_share=0.6, seed=0)
    folder.mkdir(exist_ok=True)
    digests = write_tiles(picture(WAFER), TILES, folder)
    return write_annotations(
        folder,
        [split],
        digests,
        class_names=QUALITIES,
        kind="synthetic",
        pixel_size_um=2.0,
        parameters={"seed": 0},
    )


def test_pixels_and_outlines_come_back_as_they_were_cut(tmp_path: Path) -> None:
    benchmark = made(tmp_path / "made")
    assert (benchmark.kind, benchmark.class_names, benchmark.pixel_size_um) == ("synthetic", QUALITIES, 2.0)
    tiles = {tile.file_name: tile for tile in TILES}
    for which in ("train", "validation"):
        coco = benchmark.read("crops", which)
        for image, place in zip(coco.images, coco.places, strict=True):
            tile = tiles.pop(image.file_name)
            assert place == TilePlace(tile.wafer, tile.row, tile.column, tile.height, tile.width)
            pixels = cv2.imread(str(benchmark.split("crops").train_images / image.file_name), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(pixels, tile.pixels(picture(WAFER)))
            for one, shown in zip(coco.of_image(image), tile.sections, strict=True):
                assert (one.label, one.crowd) == (shown.label, shown.crowd)
                for part, expected in zip(one.parts, shown.parts, strict=True):
                    np.testing.assert_allclose(part, expected, atol=0.0006)
    assert not tiles


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
def test_pycocotools_reads_the_same_areas_boxes_and_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = made(tmp_path / "made")
    coco = COCO(str(benchmark.split("crops").train))
    capsys.readouterr()
    ours = {one.id: one for one in benchmark.read("crops", "train").annotations}
    assert set(coco.anns) == set(ours)
    for number, annotation in coco.anns.items():
        mask = coco.annToMask(annotation)
        assert mask.sum() == pytest.approx(ours[number].area_px, abs=0.1 * annotation["area"] + 12)
        assert annotation["area"] == pytest.approx(ours[number].area_px, abs=0.1)
        x, y, width, height = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        if not len(rows):  # a sliver between pixel centres
            continue
        assert columns.min() >= x - 1
        assert rows.max() <= y + height + 1
        assert columns.max() <= x + width + 1
        assert coco.cats[annotation["category_id"]]["name"] == ours[number].label


def test_ids_follow_the_order_of_the_classes_and_none_comes_twice() -> None:
    content = coco_document(TILES, QUALITIES, "test")
    assert [entry["name"] for entry in content["categories"]] == list(QUALITIES)
    for key in ("images", "annotations", "categories"):
        ids = [entry["id"] for entry in content[key]]
        assert ids == list(range(1, len(ids) + 1))


def test_the_fingerprint_changes_with_pixels_and_with_outlines_only(tmp_path: Path) -> None:
    first, again = made(tmp_path / "a"), made(tmp_path / "b")
    assert first.fingerprint == again.fingerprint
    split = split_crops(TILES, train_share=0.6, seed=0)
    other = tmp_path / "c"
    digests = write_tiles(picture(WAFER, seed=1), TILES, other)
    keywords: dict[str, Any] = {"class_names": QUALITIES, "kind": "synthetic", "pixel_size_um": 2.0, "parameters": {}}
    assert write_annotations(other, [split], digests, **keywords).fingerprint != first.fingerprint
    digests = write_tiles(picture(WAFER), TILES, other)
    assert write_annotations(other, [split], digests, **keywords).fingerprint == first.fingerprint
    split = split_crops(TILES, train_share=0.6, seed=1)
    assert write_annotations(other, [split], digests, **keywords).fingerprint != first.fingerprint


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    benchmark = made(tmp_path / "made")
    with pytest.raises(UsageError, match=r"must be one of crops for .* got 'crop'\. Did you mean 'crops'"):
        benchmark.split("crop")
    with pytest.raises(UsageError, match="`which` must be one of 'train', 'validation'; got 'test'"):
        benchmark.read("crops", "test")


def test_a_folder_that_lost_a_file_is_named(tmp_path: Path) -> None:
    benchmark = made(tmp_path / "made")
    benchmark.split("crops").train.unlink()
    with pytest.raises(InputError, match=r"is incomplete: .*train\.json is missing"):
        open_benchmark(tmp_path / "made")
    (tmp_path / "made" / "benchmark.json").write_text('{"kind": "synthetic"}')
    with pytest.raises(InputError, match="lacks 'counts'; it was not written by this version"):
        open_benchmark(tmp_path / "made")


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (("train.json", "val.json"), ("images", "images")),
        (("train.json", "validation.json"), (".", ".")),
        (("instances_train2017.json", "instances_val2017.json"), ("images/train", "images/val")),
    ],
)
def test_a_users_folder_opens_as_it_is(names: tuple[str, str], images: tuple[str, str], tmp_path: Path) -> None:
    folder = users_folder(tmp_path, names, images)
    benchmark = open_benchmark(folder)
    assert (benchmark.kind, list(benchmark.splits)) == ("licensed", ["given"])
    assert len(benchmark.read("given", "train").images) == round(0.6 * len(TILES))
    assert len(benchmark.read("given", "validation").images) == len(TILES) - round(0.6 * len(TILES))


def test_an_image_on_both_sides_of_a_users_split_is_named(tmp_path: Path) -> None:
    folder = users_folder(tmp_path, ("train.json", "val.json"), ("images", "images"))
    shutil.copy(folder / "annotations" / "train.json", folder / "annotations" / "val.json")
    with pytest.raises(InputError, match=r"either trained on or validated on; made_r.*\.png is in .*train\.json"):
        open_benchmark(folder)


def test_a_users_folder_that_cannot_be_opened_is_told_why(tmp_path: Path) -> None:
    folder = users_folder(tmp_path, ("train.json", "val.json"), ("images", "images"))
    next((folder / "images").glob("*.png")).unlink()
    with pytest.raises(InputError, match=r"names images that are not in .*images: made_r"):
        open_benchmark(folder)
    content = json.loads((folder / "annotations" / "val.json").read_text())
    content["categories"][3]["name"] = "broken"
    (folder / "annotations" / "val.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"must have the same classes; .* damaged, .* broken"):
        open_benchmark(folder)
    (folder / "annotations" / "val.json").unlink()
    with pytest.raises(InputError, match=r"no annotations for validation: annotations/validation\.json is missing"):
        open_benchmark(folder)
    with pytest.raises(InputError, match="nowhere is not a folder"):
        open_benchmark(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["a/b", "", "..", "wafer 1", "wäfer"])
def test_a_wafer_name_that_cannot_name_files_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="a wafer's name must be letters"):
        require_wafer_name(name)


def test_a_place_has_one_name_whatever_the_split() -> None:
    assert Tile("w", 3, 12345, 8, 8).file_name == "w_r00003_c12345.png"


def users_folder(folder: Path, names: tuple[str, str], images: tuple[str, str]) -> Path:
    ours, theirs = made(folder / "ours"), folder / "theirs"
    (theirs / "annotations").mkdir(parents=True)
    for which, name, place in zip(("train", "validation"), names, images, strict=True):
        shutil.copy(getattr(ours.split("crops"), which), theirs / "annotations" / name)
        (theirs / place).mkdir(parents=True, exist_ok=True)
        for image in ours.read("crops", which).images:
            shutil.copy(ours.folder / "images" / image.file_name, theirs / place / image.file_name)
    return theirs


def test_a_users_folder_is_rewritten_with_boxes_and_areas_of_its_outlines(tmp_path: Path) -> None:
    """Whatever boxes, areas, ids and image folders it has; images are those of the user."""
    theirs = users_folder(tmp_path, ("train.json", "val.json"), ("images/train", "images/val"))
    right = {}
    for path in sorted((theirs / "annotations").iterdir()):
        content = json.loads(path.read_text())
        right[path.stem] = [(one["bbox"], one["area"]) for one in content["annotations"]]
        for entry in content["categories"]:
            entry["id"] += 10
        for one in content["annotations"]:
            one.update(category_id=one["category_id"] + 10, bbox=[0, 0, 1, 1])
            del one["area"]
        path.write_text(json.dumps(content))
    own = own_benchmark(theirs, tmp_path / "rewritten")
    assert (own.folder, own.class_names, own.kind) == (tmp_path / "rewritten", QUALITIES, "licensed")
    for which, stem in (("train", "train"), ("validation", "val")):
        given, coco = open_benchmark(theirs).read("given", which), own.read("given", which)
        assert [image.id for image in coco.images] == [image.id for image in given.images]
        content = json.loads(coco.path.read_text())
        assert [entry["id"] for entry in content["categories"]] == [1, 2, 3, 4]
        for one, (box, area) in zip(content["annotations"], right[stem], strict=True):
            np.testing.assert_allclose([*one["bbox"], one["area"]], [*box, area], rtol=1e-3, atol=0.01)
        image = coco.images[0]
        theirs_path = theirs / "images" / ("train" if which == "train" else "val") / given.images[0].file_name
        assert (own.folder / "images" / image.file_name).read_bytes() == theirs_path.read_bytes()
    assert own_benchmark(theirs, tmp_path / "rewritten").fingerprint == own.fingerprint
    assert own_benchmark(own.folder, tmp_path / "unused").folder == own.folder
    assert not (tmp_path / "unused").exists()
    path = theirs / "annotations" / "val.json"
    path.write_text(path.read_text().replace("damaged", "broken"))
    with pytest.raises(InputError, match="must have the same classes"):
        own_benchmark(theirs, tmp_path / "rewritten")


def test_windows_separators_in_file_names_are_read(tmp_path: Path) -> None:
    theirs = users_folder(tmp_path, ("train.json", "val.json"), ("images", "images"))
    path = theirs / "annotations" / "val.json"
    path.write_text(path.read_text().replace('"file_name": "', '"file_name": ".\\\\'))
    assert len(open_benchmark(theirs).read("given", "validation").images) == len(TILES) - round(0.6 * len(TILES))
