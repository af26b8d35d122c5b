"""What was found is read back from every file that was written, by this library as by other programs."""

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from wafer.navigation.found_wafers import found_wafer

from emseg.errors import InputError, UsageError
from emseg.wafer import read_annotated_wafer
from emseg.wafer.formats.magc import read_magc, sections_from_magc
from emseg.wafer.formats.mass_json import read_mass_json
from emseg.wafer.navigation.exports import open_found, read_found, write_wafer
from emseg.wafer.navigation.found import FoundWafer

WITH_CLASSES = (".coco.json", ".geojson", ".rois.zip", ".labelme.json")
WITHOUT_CLASSES = (".magc", ".magfinder.magc", ".mass.json")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "made.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8))
    return path


def same(one: FoundWafer, other: FoundWafer) -> bool:
    plain = [json.dumps(asdict(wafer), default=np.ndarray.tolist) for wafer in (one, other)]
    return plain[0] == plain[1]


def test_the_master_file_holds_everything(tmp_path: Path) -> None:
    """Read back, a result is equal to the last bit, candidates and notes included."""
    found = found_wafer()
    found = replace(found, notes=("look at it",), candidates=found.sections[:2])
    write_wafer(found, tmp_path)
    assert same(read_found(tmp_path), found)
    assert same(read_found(tmp_path / "made.found.json"), found)


def test_a_result_without_sections_is_written_and_read(tmp_path: Path) -> None:
    found = FoundWafer("made", 40, 50, (), ("good",))
    assert len(write_wafer(found, tmp_path)) == 9
    assert same(read_found(tmp_path), found)
    assert (tmp_path / "made.csv").read_text().startswith("section,class")


@pytest.mark.parametrize("suffix", [*WITH_CLASSES, *WITHOUT_CLASSES])
def test_every_file_is_read_with_the_same_corners_and_classes(suffix: str, image: Path, tmp_path: Path) -> None:
    """To 0.01 px, corner by corner; a program without classes has none."""
    found = found_wafer()
    write_wafer(found, tmp_path / "out", image=image)
    _, read = read_annotated_wafer(image, tmp_path / "out" / f"made{suffix}")
    assert len(read.sections) == len(found.sections)
    for one, written in zip(found.sections, read.sections, strict=True):
        assert np.abs(written.polygon - one.corners).max() < 0.01
        assert written.label == (one.label if suffix in WITH_CLASSES else "section")
        if suffix in WITHOUT_CLASSES and one.angle_deg is not None:
            assert written.angle_deg == pytest.approx(one.angle_deg, abs=1e-3)


def test_regions_magnets_landmarks_and_orders_are_written_in_both_dialects(tmp_path: Path) -> None:
    found = found_wafer()
    write_wafer(found, tmp_path)
    for suffix in (".magc", ".magfinder.magc"):
        magc = read_magc(tmp_path / f"made{suffix}")
        assert magc.dialect == ("MagFinder" if "magfinder" in suffix else "SBEMimage")
        assert (magc.serial_order, magc.stage_order) == ("[]", found.stage_order)  # the serial order is of half
        for number, one in enumerate(found.sections):
            roi, focus = one.regions
            assert np.allclose(magc.rois[number].polygon, roi.points[:, ::-1], atol=1e-3)
            assert np.allclose(magc.focus[number].polygon, focus.points[:, ::-1], atol=1e-3)
            assert np.allclose(magc.magnets[number].location, one.magnet[::-1], atol=1e-3)
        assert np.allclose([one.location for one in magc.landmarks], found.landmarks[:, ::-1])
    mass = read_mass_json(tmp_path / "made.mass.json")
    assert (mass.serial_order, mass.stage_order) == ((), found.stage_order)
    assert np.allclose(mass.landmarks["2"]["source"].location, found.landmarks[2, ::-1])
    assert np.allclose(mass.sections["3"].rois["0"].polygon, found.sections[3].regions[0].points[:, ::-1], atol=1e-3)
    assert np.allclose(mass.sections["3"].magnet.polygon, [found.sections[3].magnet[::-1]], atol=1e-3)


def test_several_regions_of_a_section_keep_their_number(tmp_path: Path) -> None:
    found = found_wafer(2)
    twice = replace(found.sections[0], regions=found.sections[0].regions[:1] * 2)
    write_wafer(replace(found, sections=(twice, found.sections[1])), tmp_path)
    for suffix, single in ((".magc", None), (".magfinder.magc", 0)):
        magc = read_magc(tmp_path / f"made{suffix}")
        assert [(roi.number, roi.place) for roi in magc.rois] == [(0, 0), (0, 1), (1, single)]


def test_magfinders_groups_are_closed(tmp_path: Path) -> None:
    write_wafer(found_wafer(1), tmp_path)
    parts = [line for line in (tmp_path / "made.magfinder.magc").read_text().splitlines() if line.startswith("[")]
    groups = ["[sections]", "[section.0000]", "[end_sections]", "[rois]", "[roi.0000.00]", "[end_rois]"]
    groups += ["[focus]", "[focus.0000]", "[end_focus]", "[magnets]", "[magnet.0000]", "[end_magnets]", "[landmarks]"]
    groups += ["[landmark.0000]", "[landmark.0001]", "[landmark.0002]", "[end_landmarks]"]
    assert parts == [*groups, "[serial_order]", "[stage_order]"]


def test_files_of_selected_classes_keep_the_numbers(image: Path, tmp_path: Path) -> None:
    """A section has one number in all files; the master file and that to train on still hold all sections."""
    found = found_wafer()
    write_wafer(found, tmp_path, image=image, classes=("good",))
    good = [number for number, one in enumerate(found.sections) if one.label == "good"]
    assert 0 < len(good) < len(found.sections) == len(read_found(tmp_path).sections)
    magc = read_magc(tmp_path / "made.magc")
    assert [item.number for item in magc.sections] == good
    assert magc.stage_order == tuple(number for number in found.stage_order if number in good)
    assert sorted(map(int, read_mass_json(tmp_path / "made.mass.json").sections)) == good
    document = json.loads((tmp_path / "made.coco.json").read_text())
    assert [one["section"] for one in document["annotations"]] == list(range(len(found.sections)))
    names = [one["properties"]["name"] for one in json.loads((tmp_path / "made.geojson").read_text())["features"]]
    assert names == [f"section {number}" for number in good]
    with (tmp_path / "made.csv").open() as lines:
        assert [int(line["section"]) for line in csv.DictReader(lines)] == good
    size = {"name": "made", "height": found.height, "width": found.width}
    assert len(sections_from_magc(magc, **size).sections) == len(good)


def test_the_table_gives_pixels_and_micrometres(tmp_path: Path) -> None:
    found = found_wafer()
    write_wafer(found, tmp_path)
    with (tmp_path / "made.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert float(table[4]["corner1_x_px"]) == pytest.approx(found.sections[4].corners[1, 1], abs=1e-3)
    assert float(table[4]["corner1_y_um"]) == pytest.approx(found.sections[4].corners[1, 0] * 0.5, abs=1e-3)
    assert [int(line["stage_place"]) for line in table] == [found.stage_order.index(k) for k in range(12)]
    assert table[-1]["angle_deg"] == ""
    assert table[0]["reasons"] == "two classes have similar votes"
    write_wafer(replace(found, pixel_size_um=None), tmp_path)
    assert "_um" not in (tmp_path / "made.csv").read_text()


def test_the_image_of_a_result_is_remembered(image: Path, tmp_path: Path) -> None:
    """Writing it again, as staging does, need not name the image."""
    folder = tmp_path / "out"
    write_wafer(found_wafer(), folder)
    assert open_found(folder).image is None
    write_wafer(found_wafer(), folder, image=image)
    write_wafer(found_wafer(), folder)
    assert open_found(folder).image == str(image)
    at = json.loads((folder / "made.labelme.json").read_text())["imagePath"]  # labelme looks from the file's folder
    assert (folder / at).resolve() == image.resolve()


def broken(folder: Path, change: dict[str, object]) -> Path:
    path = write_wafer(found_wafer(3), folder)[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, "`height` must be at least 1; got 0"),
        ({"sections": [{"corners": [[0, 0]]}]}, "sections.0.corners"),
        ({"stage_order": [0, 0, 1]}, "must list sections, each at most once, from 0 to 2"),
        ({"serial_order": [7]}, "at most once, from 0 to 2"),
        ({"class_names": ["good"]}, "must be one of 'good'; got 'incomplete'"),
        ({"landmarks": [[0, "a"]]}, "landmarks.0.1"),
        ({"name": "../made"}, "must be letters"),
        ({"more": 1}, "more"),
    ],
)
def test_a_damaged_result_is_refused_by_the_place_at_fault(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, UsageError), match=message):
        read_found(broken(tmp_path, change))


def test_a_folder_must_hold_one_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one NAME.found.json; it has 0"):
        read_found(tmp_path)
    write_wafer(found_wafer(1), tmp_path)
    write_wafer(found_wafer(1, name="other"), tmp_path)
    with pytest.raises(InputError, match=r"it has 2 \(made.found.json, other.found.json\). Name one of them"):
        read_found(tmp_path)
    with pytest.raises(InputError, match="it is a labelme file"):
        read_found(tmp_path / "made.labelme.json")


def test_a_wrong_class_or_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'good'"):
        write_wafer(found_wafer(2), tmp_path, classes=("goood",))
    with pytest.raises(UsageError, match="name must be letters"):
        write_wafer(found_wafer(2, name="a/b"), tmp_path)
    assert not list(tmp_path.iterdir())
