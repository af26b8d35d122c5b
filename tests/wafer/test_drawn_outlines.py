"""What strangers' programs write: the same two sections from every one of them, or the name of what a file is."""

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import roifile
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image
from pycocotools import mask as rle_masks

from emseg.cli import main
from emseg.errors import InputError
from emseg.sections import WaferSections
from emseg.wafer import Tiling, open_benchmark, plan_tiles, read_annotated_wafer
from emseg.wafer.detector.detector_prediction import _read_tile, require_tiles
from emseg.wafer.formats import own_benchmark, read_coco, read_magc, write_magc
from emseg.wafer.formats.outlines import outline_of_mask, outline_of_runs

P = [[50, 20], [120, 30], [110, 80], [45, 70]]  # (x, y)
Q = [[200, 120], [260, 125], [255, 170], [195, 165]]
BOX = [[200, 120], [260, 120], [260, 160], [200, 160]]
CROSSING = [Q[0], Q[2], Q[1], Q[3]]
HEIGHT, WIDTH = 200, 300
POLYGON = {"label": "section", "points": P, "shape_type": "polygon", "group_id": None}


MASK = {**POLYGON, "points": [[1, 2], [3, 4]], "shape_type": "mask"}


def flat(points: Sequence[Sequence[float]]) -> list[float]:
    return [float(number) for point in points for number in point]


def area(points: Any) -> float:
    return float(cv2.contourArea(np.array(points, dtype=np.float32)))


def drawn() -> np.ndarray[Any, Any]:
    image = np.full((HEIGHT, WIDTH), 60, np.uint8)
    for points, grey in ((P, 200), (Q, 140)):
        cv2.fillPoly(image, [np.array(points)], grey)
    return image


def save(folder: Path, content: Any, name: str = "file.json", image: str = "wafer.png") -> tuple[Path, Path]:
    Image.fromarray(drawn()).save(folder / image)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / image, folder / name


def corners(sections: WaferSections) -> list[list[list[float]]]:
    """The outlines as (x, y), each from its smallest corner on."""
    found = []
    for section in sections.sections:
        points = section.polygon[:, ::-1].round(2).tolist()
        first = points.index(min(points))
        found.append(points[first:] + points[:first])
    return found


def coco(*segmentations: Any, **entries: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "wafer.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "segmentation": one, **entries}
            for number, one in enumerate(segmentations or ([flat(P)], [flat(Q)]), start=1)
        ],
        "categories": [{"id": 1, "name": "section"}],
    }


def labelme(*shapes: dict[str, Any], **entries: Any) -> dict[str, Any]:
    return {"shapes": list(shapes), "imagePath": "wafer.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, **entries}


def via(regions: Any) -> dict[str, Any]:
    return {"wafer.png1": {"filename": "wafer.png", "size": 1, "regions": regions}}


def via_region(points: Any) -> dict[str, Any]:
    shape = {"name": "polygon", "all_points_x": [x for x, _ in points], "all_points_y": [y for _, y in points]}
    return {"shape_attributes": shape, "region_attributes": {"label": "section"}}


def feature(*rings: Any) -> dict[str, Any]:
    kind, coordinates = ("Polygon", [rings[0]]) if len(rings) == 1 else ("MultiPolygon", [[ring] for ring in rings])
    named = {"objectType": "annotation", "classification": {"name": "section"}}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": named}


YOLO = "".join("0 " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points) + "\n" for points in (P, Q))
FORMATS = {
    "coco": (coco(), "file.json"),
    "coco with backslashes": (
        coco() | {"images": [{**coco()["images"][0], "file_name": "C:\\d\\wafer.png"}]},
        "c.json",
    ),
    "labelme": (labelme(POLYGON, {**POLYGON, "points": Q}), "file.json"),
    "labelme without a size": ({"shapes": [{"label": "section", "points": one} for one in (P, Q)]}, "file.json"),
    "via": (via([via_region(P), via_region(Q)]), "via.json"),
    "via project": ({"_via_img_metadata": via({"0": via_region(P), "1": via_region(Q)})}, "via.json"),
    "qupath": ({"type": "FeatureCollection", "features": [feature([*P, P[0]]), feature([*Q, Q[0]])]}, "q.geojson"),
    "qupath as a list": ([feature([*P, P[0]]), feature([*Q, Q[0]])], "q.json"),
    "yolo": (YOLO, "wafer.txt"),
    "extension of another format": (coco(), "wafer.magc"),
}


@pytest.mark.parametrize("case", FORMATS)
def test_every_program_gives_the_same_two_sections(case: str, tmp_path: Path) -> None:
    content, name = FORMATS[case]
    image, sections = read_annotated_wafer(*save(tmp_path, content, name))
    assert image.shape == (sections.height, sections.width) == (HEIGHT, WIDTH)
    for found, expected in zip(corners(sections), (P, Q), strict=True):
        first = expected.index(min(expected))
        np.testing.assert_allclose(found, expected[first:] + expected[:first], atol=2e-4 * WIDTH)
    assert sections.class_names == ("section",)
    assert sections.notes == ()


def test_imagej_regions_are_read_alone_and_from_an_archive(tmp_path: Path) -> None:
    image, _ = save(tmp_path, "")
    rois = [
        roifile.ImagejRoi.frompoints(np.array(one, dtype=np.float32), name=name)
        for one, name in ((P, "good-1"), (Q, ""))
    ]
    roifile.roiwrite(tmp_path / "both.zip", rois)
    rois[0].tofile(tmp_path / "one.roi")
    _, both = read_annotated_wafer(image, tmp_path / "both.zip", class_names=["good", "section"])
    assert corners(both) == [
        [[45, 70], [50, 20], [120, 30], [110, 80]],
        [[195, 165], [200, 120], [260, 125], [255, 170]],
    ]
    assert [one.label for one in both.sections] == ["good", "section"]
    _, one = read_annotated_wafer(image, tmp_path / "one.roi")
    assert corners(one) == corners(both)[:1]
    with pytest.raises(InputError, match=r"both\.zip is not a \.magc file; it is an ImageJ ROI file or archive"):
        read_magc(tmp_path / "both.zip")
    roifile.ImagejRoi.frompoints(np.array([(1.0, 2.0)]), name="point").tofile(tmp_path / "point.roi")
    (tmp_path / "cut.roi").write_bytes((tmp_path / "one.roi").read_bytes()[:30])
    with pytest.raises(InputError, match=r"cut\.roi is a truncated or damaged ImageJ ROI file"):
        read_annotated_wafer(image, tmp_path / "cut.roi")


def test_a_yolo_box_and_classes_from_data_yaml(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [good, fold]\n")
    _, sections = read_annotated_wafer(*save(tmp_path, "1 0.5 0.5 0.2 0.1\n", "wafer.txt"))
    assert corners(sections) == [[[120, 90], [180, 90], [180, 110], [120, 110]]]
    assert sections.sections[0].label == "fold"


@pytest.mark.parametrize(
    ("line", "came"),
    [
        ("0 .1 .1 .3 .1 .3 .3 .9", r"'0 .1 .1 .3 .1 .3 .3 .9' \(7 after the class\)"),
        ("0 .5 .5 .2", r"'0 .5 .5 .2' \(3 after"),
        *((f"{label} .1 .1 .3 .1 .3 .3", f"'{label} .1") for label in ("9" * 23, "-1", "nan", "inf", "0.5")),
    ],
)
def test_a_line_that_yolo_never_writes_is_a_fault_of_that_line(line: str, came: str, tmp_path: Path) -> None:
    fault = rf"line 1 of .*wafer\.txt must be numbers: a class of 0 to 999999, then pairs .*; it is {came}"
    image, path = save(tmp_path, f"{line}\n{YOLO}a b\n", "wafer.txt")
    with pytest.raises(InputError, match=rf"has 2 faults: {fault}.* line 4 of .*'a b'"):
        read_annotated_wafer(image, path)
    _, sections = read_annotated_wafer(image, path, class_names=["good"], faults="skip")
    assert [section.label for section in sections.sections] == ["good", "good"]
    assert [note[:16] for note in sections.notes] == ["left out: line 1", "left out: line 4"]


def test_yolos_classes_are_the_lines_of_classes_txt_and_no_more(tmp_path: Path) -> None:
    image, path = save(tmp_path, YOLO.replace("\n0", "\n1"), "wafer.txt")
    (tmp_path / "classes.txt").write_bytes("\ufeffgründlich\n".encode())
    assert [one.label for one in read_annotated_wafer(image, path)[1].sections] == ["gründlich", "class 1"]
    (tmp_path / "classes.txt").write_bytes("gründlich\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"classes\.txt is not valid UTF-8 .*Save it as UTF-8"):
        read_annotated_wafer(image, path)


def test_labelmes_groups_are_sections_in_parts_and_stay_so_in_tiles(tmp_path: Path) -> None:
    shapes = [{**POLYGON, "points": points, "group_id": 1} for points in (P, Q)]
    _, sections = read_annotated_wafer(*save(tmp_path, labelme(*shapes)))
    (section,) = sections.sections
    assert section.area_px == pytest.approx(area(P) + area(Q))
    (tile,) = plan_tiles(WaferSections("w", 300, 300, sections.sections), Tiling(300))
    assert [len(part) for part in tile.sections[0].parts] == [4, 4]
    (left, *_) = plan_tiles(sections, Tiling(160, 0.0))
    assert left.sections[0].visible == pytest.approx(area(P) / section.area_px)


@pytest.mark.parametrize("kind", ["rectangle", "oriented_rectangle", "rotation"])
def test_labelmes_rectangles_are_read_by_two_corners_or_four(kind: str, tmp_path: Path) -> None:
    shapes = [POLYGON, {**POLYGON, "points": BOX, "shape_type": kind}]
    if kind == "rectangle":
        shapes.append({**POLYGON, "points": [BOX[2], BOX[0]], "shape_type": kind})
    _, sections = read_annotated_wafer(*save(tmp_path, labelme(*shapes)))
    assert all(one == BOX for one in corners(sections)[1:])


def test_labelmes_masks_are_traced_along_their_pixels(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), bool)
    mask[5:25, 10:40] = True
    mask[5:10, 10:20] = False
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    shape = {**POLYGON, "shape_type": "mask", "points": [[100, 60], [139, 89]], "mask": text}
    _, sections = read_annotated_wafer(*save(tmp_path, labelme(shape)))
    assert sections.sections[0].area_px == mask.sum()
    low, high = sections.sections[0].polygon.min(0), sections.sections[0].polygon.max(0)
    assert (low.tolist(), high.tolist()) == ([65, 110], [85, 140])


def test_other_shapes_are_left_out_and_counted(tmp_path: Path) -> None:
    circle = {**POLYGON, "points": [[1, 2], [3, 4]], "shape_type": "circle"}
    _, sections = read_annotated_wafer(*save(tmp_path, labelme(POLYGON, circle, circle)))
    assert (len(sections.sections), sections.notes) == (1, ("left out: 2 of shape 'circle', which is not an outline",))


def test_labels_of_ones_own_become_the_classes_in_alphabetical_order(tmp_path: Path) -> None:
    shapes = {**POLYGON, "label": "good"}, {**POLYGON, "label": "blank"}
    assert read_annotated_wafer(*save(tmp_path, labelme(*shapes)))[1].class_names == ("blank", "good")
    shapes = {**POLYGON, "label": "good"}, {**POLYGON, "label": "fold"}
    found = read_annotated_wafer(*save(tmp_path, labelme(*shapes)))[1].class_names
    assert found == ("good", "incomplete", "fold", "damaged")


def rotated(folder: Path, orientation: int) -> Path:
    """A JPEG that is stored otherwise than every viewer shows it."""
    stored = {2: np.fliplr, 3: lambda image: np.rot90(image, 2), 6: lambda image: np.rot90(image, 1)}[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(stored(drawn()))).save(folder / "wafer.jpg", exif=exif, quality=95)
    return folder / "wafer.jpg"


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_outlines_lie_on_the_pixels_that_every_viewer_shows(orientation: int, tmp_path: Path) -> None:
    """In figures, cutting, training (mmdet's reader) and prediction alike."""
    path = rotated(tmp_path / "user" / "images" / "train", orientation)
    rotated(tmp_path / "user" / "images" / "val", orientation)
    _, annotations = save(tmp_path, labelme(POLYGON, {**POLYGON, "points": Q}))
    image, _ = read_annotated_wafer(path, annotations)
    content = coco() | {"images": [{"id": 1, "file_name": "wafer.jpg", "height": HEIGHT, "width": WIDTH}]}
    (tmp_path / "user" / "annotations").mkdir()
    for part in ("train", "val"):
        (tmp_path / "user" / "annotations" / f"{part}.json").write_text(json.dumps(content))
    own = own_benchmark(tmp_path / "user", tmp_path / "own")
    files = own.split("given")
    trained_on = files.train_images / own.read("given", "train").images[0].file_name
    given = open_benchmark(tmp_path / "user")
    require_tiles(given.read("given", "train"), given.split("given").train_images, 1)
    seen = [image, cv2.imread(str(trained_on), cv2.IMREAD_GRAYSCALE), _read_tile(path, 1), _read_tile(path, 3)]
    for pixels in seen:
        assert np.abs(pixels.astype(int) - drawn()).mean() < 3


BOXES = {
    "none": {},
    "box, no area": {"bbox": [45, 20, 75, 60]},
    "area of zero": {"bbox": [45, 20, 75, 60], "area": 0},
    "placeholder": {"bbox": [0, 0, 1, 1], "area": 1},
    "corners": {"bbox": [45, 20, 120, 80], "area": 3000},
}


def coco_folder(folder: Path, content: dict[str, Any], image: str = "wafer.png") -> Path:
    """A user's folder whose two parts have one image each."""
    (folder / "annotations").mkdir(parents=True)
    for part in ("train", "val"):
        (folder / "images" / part).mkdir(parents=True)
        save(folder, content, f"annotations/{part}.json", f"images/{part}/{image}")
    return folder


@pytest.mark.parametrize("case", BOXES)
def test_training_sees_the_boxes_and_areas_of_the_outlines(case: str, tmp_path: Path) -> None:
    own = own_benchmark(coco_folder(tmp_path / "user", coco(**BOXES[case])), tmp_path / "own")
    content = json.loads(own.split("given").train.read_text())
    assert [one["bbox"] for one in content["annotations"]] == [[45, 20, 75, 60], [195, 120, 65, 50]]
    assert [one["area"] for one in content["annotations"]] == [area(P), area(Q)]


def test_a_run_length_mask_is_traced(tmp_path: Path) -> None:
    rle = rle_masks.merge(rle_masks.frPyObjects([flat(Q)], HEIGHT, WIDTH))
    mask = {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}
    _, path = save(tmp_path, coco([flat(P)], mask))
    first, second = read_coco(path).annotations
    assert first.area_px == area(P)
    assert second.area_px == float(rle_masks.area(rle))
    assert second.area_px == pytest.approx(area(Q), rel=0.03)
    low, high = second.parts[0].min(0), second.parts[0].max(0)
    np.testing.assert_allclose([*low, *high], [120, 195, 170, 260], atol=1)


def test_a_mask_is_traced_without_decoding_it() -> None:
    """A full mask of 10^12 px, and one run through three columns."""
    assert area(outline_of_runs(np.array([0, 10**12]), 10**6)[0]) == pytest.approx(1e12)
    (part,) = outline_of_runs(np.array([7, 16, 7]), 10)
    assert area(part) == 16
    assert (np.min(part, axis=0).tolist(), np.max(part, axis=0).tolist()) == ([0, 0], [3, 10])


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_the_union_of_the_parts_is_the_mask_without_its_holes(mask: np.ndarray[Any, Any]) -> None:
    parts = [shapely.Polygon(part) for part in outline_of_mask(mask)]
    found = shapely.union_all(parts)
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    inside = shapely.contains_xy(found, columns, rows)
    assert (inside[mask]).all()
    assert inside.sum() == pytest.approx(found.area)
    if not mask.all() and (inside & ~mask).any():  # only what the mask encloses is filled
        assert not (inside & ~mask)[[0, -1]].any()


def test_a_traced_mask_keeps_its_pieces_and_loses_its_holes() -> None:
    mask = np.zeros((12, 14), bool)
    mask[1:6, 1:6] = True
    mask[3, 3] = False
    mask[8:11, 4:13] = True
    areas = sorted(area(part) for part in outline_of_mask(mask))
    assert areas == [25, 27]


def test_all_faults_are_listed_at_once_and_mended_or_left_out_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, outside = [flat([[1, 1], [9, 9], [17, 17]])], [flat([[900, 1], [909, 9], [917, 1]])]
    image, path = save(tmp_path, coco([flat(P)], [flat(CROSSING)], line, outside))
    with pytest.raises(
        InputError, match=r"has 3 faults: .*annotation 2 .*annotation 3 .*annotation 4 .*--repair .*--skip "
    ):
        read_annotated_wafer(image, path)
    _, skipped = read_annotated_wafer(image, path, faults="skip")
    assert [one.area_px for one in skipped.sections] == [area(P)]
    assert [note[:8] for note in skipped.notes] == ["left out"] * 3
    _, repaired = read_annotated_wafer(image, path, faults="repair")
    assert len(repaired.sections) == 2
    assert len(repaired.sections[1].parts) == 2  # the two triangles of the crossing outline
    assert [note[:8] for note in repaired.notes] == ["repaired", "left out", "left out"]
    assert main(["wafer", "show", str(image), str(path), "--out", str(tmp_path / "no.png")]) == 1
    assert "annotation 3" in capsys.readouterr().err
    assert main(["wafer", "show", str(image), str(path), "--repair", "--out", str(tmp_path / "yes.png")]) == 0
    assert "repaired: an outline must not cross itself; annotation 2" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "areas"), [([], 2), (["--skip"], 1)])
def test_a_coco_file_is_written_again_with_what_can_be_used(
    options: list[str], areas: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = coco_folder(tmp_path / "user", coco([flat(P)], [flat(CROSSING)]))
    with pytest.raises(InputError, match=r"annotation 2 .*`emseg wafer repair`"):
        own_benchmark(folder, tmp_path / "own")
    for part in ("train", "val"):
        path = str(folder / "annotations" / f"{part}.json")
        assert main(["wafer", "repair", path, path, *options]) == 0
        assert "sections in 1 images\n" in capsys.readouterr().out
    found = own_benchmark(folder, tmp_path / "own").read("given", "train").annotations
    assert len(found) == areas
    assert found[0].area_px == area(P)


def test_structural_faults_are_listed_at_once_too(tmp_path: Path) -> None:
    content = coco()
    content["annotations"][0]["image_id"] = 9
    content["annotations"][1]["category_id"] = "x"
    content["images"][0]["height"] = 0
    with pytest.raises(InputError, match=r"has 3 faults: `height` .*annotation 1 .* image 9.*`category_id`"):
        read_coco(save(tmp_path, content)[1])


def test_a_category_that_only_groups_others_is_no_class(tmp_path: Path) -> None:
    content = coco()
    content["categories"] = [
        {"id": 0, "name": "sections", "supercategory": "none"},
        {"id": 1, "name": "section", "supercategory": "sections"},
    ]
    found = read_coco(save(tmp_path, content)[1])
    assert (found.class_names, found.category_ids) == (("section",), (1,))
    assert found.notes == ("left out: the class 'sections', which has no section",)
    assert open_benchmark(coco_folder(tmp_path / "user", content)).class_names == ("section",)


LAYOUTS = {
    "CVAT": ("annotations/instances_{}.json", "images/{}/wafer.png"),
    "CVAT, one task a part": ("{}/annotations/instances_default.json", "{}/images/wafer.png"),
    "Roboflow": ("{}/_annotations.coco.json", "{}/wafer.png"),
    "Label Studio": ("{}/result.json", "{}/images/wafer.png"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_the_layouts_of_other_programs_open(case: str, tmp_path: Path) -> None:
    annotations, image = LAYOUTS[case]
    content = coco()
    if case == "Label Studio":
        content["images"][0]["file_name"] = "../../label-studio/data/media/upload/1/wafer.png"
    for part in ("train", "valid"):
        for place in (annotations.format(part), image.format(part)):
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path, content, annotations.format(part), image.format(part))
    own = own_benchmark(tmp_path, tmp_path / "own")
    for part in ("train", "validation"):
        assert [one.area_px for one in own.read("given", part).annotations] == [area(P), area(Q)]


MAGFINDER = """[sections]
number = 2

[section.0000]
polygon = 50.0,20.0,120.0,30.0,110.0,80.0,45.0,70.0
center = 130.0,125.0
area = 3000
angle = 90.0

[section.0001]
polygon = 200.0,120.0,260.0,125.0,255.0,170.0,195.0,165.0
center = 130.0,125.0
area = 3000
angle = 90.0

[end_sections]

[magnets]
number = 1

[magnet.0000]
location = 130.0,125.0

[end_magnets]

[rois]
number = 3

[roi.0000.00]
polygon = 50.0,20.0,120.0,30.0,110.0,80.0

[roi.0000.01]
polygon = 60.0,20.0,120.0,30.0,110.0,80.0

[roi.0001.00]
polygon = 70.0,20.0,120.0,30.0,110.0,80.0

[end_rois]

[serial_order]
serial_order = 1,0

[stage_order]
stage_order = 0,1

[end_serial_order]

"""


def test_magfinders_dialect_is_read_and_written_back_byte_for_byte(tmp_path: Path) -> None:
    image, path = save(tmp_path, MAGFINDER, "wafer.magc")
    wafer = read_magc(path)
    assert (wafer.dialect, wafer.serial_order, wafer.stage_order) == ("MagFinder", (1, 0), (0, 1))
    assert [(roi.number, roi.place) for roi in wafer.rois] == [(0, 0), (0, 1), (1, 0)]
    write_magc(wafer, tmp_path / "again.magc")
    assert (tmp_path / "again.magc").read_text() == MAGFINDER
    _, sections = read_annotated_wafer(image, path)
    assert [one.serial_number for one in sections.sections] == [1, 0]
    assert [one.area_px for one in sections.sections] == [area(P), area(Q)]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            "[sections]\nnumber = 1\n\n[sections.²]\npolygon = 1,1,2,1,2,2\n",
            "w.magc",
            "announces 1 sections, and contains 0",
        ),
        ("<annotations/>", "w.xml", "it is XML .*Export the annotations as COCO"),
        ("[" * 5000, "w.json", r"w\.json is not valid JSON"),
        ({"sections": {"0": {}}}, "w.mass.json", "section 0 of wafer has no outline"),
        ({"features": [{"type": "Feature", "geometry": 1}]}, "w.geojson", "damaged GeoJSON file"),
        (via([{"shape_attributes": {"name": "polygon"}}]), "w.json", "damaged VIA file"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6\n0 a b c\n", "w.txt", "line 2 of .* must be numbers"),
        (labelme({**POLYGON, "label": ""}), "w.json", "shape 0 of .* must have a label"),
        (labelme({**POLYGON, "points": [[1, 2], [3]]}), "w.json", "must be points .*shape 0"),
        (labelme({**POLYGON, "points": BOX[:3], "shape_type": "rectangle"}), "w.json", "a rectangle has two of them"),
        (labelme({**POLYGON, "points": CROSSING}), "w.json", "must not cross itself; shape 0"),
        (labelme(POLYGON, imageHeight=0), "w.json", "must be positive whole numbers; they are 0 and 300\\."),
        (labelme(POLYGON, imageWidth="abc"), "w.json", 'whole numbers; they are 200 and "abc"\\.'),
        (labelme({**MASK, "mask": "bm90IGEgcG5n"}), "w.json", r'mask of shape 0 of .* it is "bm90IGEgcG5n"\. Draw'),
        (labelme(POLYGON, MASK), "w.json", r"mask of shape 1 of .* must be a PNG in base64; it is null\. Draw"),
        ([{"id": 1, "annotations": [], "data": {}}], "w.json", r"it is Label Studio's own JSON\. Export as COCO"),
        ([{"image": "wafer.png", "annotation_id": 1}], "w.json", r"it is Label Studio's own JSON\. Export as COCO"),
        ("", "w.json", r"w\.json must contain annotations; the file is empty\."),
        ("", "w.magc", r"w\.magc must contain annotations; the file is empty\."),
        ("\n", "w.txt", r"w\.txt must contain annotations; the file is empty\."),
        (labelme(POLYGON, imageHeight=199), "w.json", "is 199 x 300 px by its outlines, the image 200 x 300"),
        (labelme(), "w.json", "has no section"),
        (
            labelme({**POLYGON, "points": [[1, 2], [1e300, 3], [5, 9]]}),
            "w.json",
            "shape 0 .* reaches beyond 1e\\+06 px",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(content: Any, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_annotated_wafer(*save(tmp_path, content, name))


def test_a_file_of_one_kind_given_as_another_is_named(tmp_path: Path) -> None:
    image, path = save(tmp_path, labelme(POLYGON))
    with pytest.raises(InputError, match="must be a COCO file; it is a labelme file"):
        read_coco(path)
    with pytest.raises(InputError, match=r"it is an image\. Name the image first"):
        read_annotated_wafer(image, image)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "file.json")
    with pytest.raises(InputError, match=r"a ZIP archive without ImageJ regions\. Unpack it"):
        read_annotated_wafer(image, tmp_path / "a.zip")


def test_an_unknown_class_is_named_with_what_was_meant(tmp_path: Path) -> None:
    image, path = save(tmp_path, labelme({**POLYGON, "label": "goof"}))
    with pytest.raises(InputError, match=r"one of good, fold; shape 0 .* is 'goof'\. Did you mean 'good'"):
        read_annotated_wafer(image, path, class_names=["good", "fold"])


def test_a_feature_without_a_place_is_left_out(tmp_path: Path) -> None:
    """RFC 7946 allows a geometry of null; the file is whole and its polygons count."""
    places = [None, {"type": "Polygon", "coordinates": [[*P, P[0]]]}]
    features = [{"type": "Feature", "properties": {}, "geometry": place} for place in places]
    image, file = save(tmp_path, {"type": "FeatureCollection", "features": features}, "q.geojson")
    _, sections = read_annotated_wafer(image, file)
    assert [section.area_px for section in sections.sections] == [area(P)]
    assert "1 of shape 'unlocated'" in sections.notes[0]


def test_a_file_without_sections_says_what_it_holds_instead(tmp_path: Path) -> None:
    image, file = save(tmp_path, {"shapes": [{"label": "a", "shape_type": "circle", "points": [[9, 9], [12, 9]]}]})
    with pytest.raises(InputError, match=r"no section.*1 of shape 'circle'"):
        read_annotated_wafer(image, file)
    crossing = {"shapes": [{**POLYGON, "points": [[1, 1], [2, 2]]}]}
    image, file = save(tmp_path, crossing)
    with pytest.raises(InputError, match=r"no section.*left out: an outline needs at least three points"):
        read_annotated_wafer(image, file, faults="skip")


def test_geometries_without_features_are_read(tmp_path: Path) -> None:
    """RFC 7946 allows a geometry or a collection of them as the whole file, and a collection as a feature's place."""
    one, other = ({"type": "Polygon", "coordinates": [[*points, points[0]]]} for points in (P, Q))
    several = {"type": "GeometryCollection", "geometries": [one, {"type": "Point", "coordinates": [1, 2]}, other]}
    place = {"type": "Feature", "properties": {"classification": {"name": "good"}}, "geometry": several}
    found = [read_annotated_wafer(*save(tmp_path, content))[1] for content in (one, several, place)]
    assert [[section.area_px for section in one.sections] for one in found] == [
        [area(P)],
        [area(P), area(Q)],
        [area(P) + area(Q)],
    ]
    assert [one.sections[0].label for one in found] == ["section", "section", "good"]
    left_out = ("left out: 1 of shape 'Point', which is not an outline",)
    assert [one.notes for one in found] == [(), left_out, left_out]


@pytest.mark.parametrize(
    ("encoding", "message"), [("utf-16", "; it is UTF-16 text"), ("latin-1", r" is not valid UTF-8 \(.*byte 0xf6.*\)")]
)
def test_text_in_another_encoding_is_told_to_be_saved_as_utf_8(encoding: str, message: str, tmp_path: Path) -> None:
    image, path = save(tmp_path, "", "w.magc")
    path.write_bytes(f"; Größe\n{MAGFINDER}".encode(encoding))
    with pytest.raises(InputError, match=rf"w\.magc.*{message}\. Save it as UTF-8\.$"):
        read_annotated_wafer(image, path)
