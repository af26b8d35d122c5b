"""The microscope's files as SBEMimage and MagFinder read them: the same sections, regions, landmarks and orders.

Both readers are rewritten here from their rules (SBEMimage, src/ArrayData.py; MagFinder, MagFinder_.py): an INI parser
without our tolerance, parts recognized by the beginning of their name, numbers by splitting at dots.
"""

import configparser
import json
from collections import defaultdict

import numpy as np
import pytest
from wafer.navigation.found_wafers import ribbon, section_at, wafer_of

from emseg.wafer.navigation.exports import write_wafer
from emseg.wafer.navigation.found import Region
from emseg.wafer.navigation.order import order_sections
from emseg.wafer.navigation.stage import propagate

MARKS = np.array([(100.0, 200.0), (3800.0, 300.0), (2000.0, 3900.0)])


@pytest.fixture(scope="module", params=[None, ("good",)], ids=["all", "good"])
def written(request, tmp_path_factory):
    """A wafer with two ROIs, focus points and a magnet on each section; its files; the numbers in them."""
    sections = [section_at(700 + 300 * k, 900, 40 * k, label=("good", "fold")[k % 3 == 1]) for k in range(8)]
    sections = [*sections, *ribbon(4, 2600, 2600, 60)]
    sections = [
        section_at(*one.corners.mean(0), one.angle_deg, label=one.label, magnet=(700.5, 3.25)) for one in sections
    ]
    middle = sections[0].corners.mean(0)
    drawn = [
        Region(kind, np.array([(-9, -7), (8, -6), (5, 9)]) + middle + k)
        for k, kind in enumerate(["roi", "roi", "focus"])
    ]
    found = order_sections(propagate(wafer_of(sections, landmarks=MARKS), drawn))
    folder = tmp_path_factory.mktemp("files")
    write_wafer(found, folder, classes=request.param)
    numbers = [k for k, one in enumerate(sections) if request.param is None or one.label in request.param]
    return found, folder, numbers


def parts_of(path):
    """Part name and keys of an INI file, as Python's own parser has them."""
    parser = configparser.ConfigParser()
    with path.open() as file:
        parser.read_file(file)
    return {name: dict(parser.items(name)) for name in parser.sections()}


def points(text):
    return np.reshape([float(word) for word in text.split(",")], (-1, 2))[:, ::-1]


def sbemimage(path):
    """Sections by number, landmarks, orders; regions of a section that was not read before are an error."""
    sections, landmarks, orders = {}, {}, {}
    for name, keys in parts_of(path).items():
        head, *ids = name.split(".")
        ids = [int(one) for one in ids]
        if head in ("section", "sections") and ids:
            sections[ids[0]] = {"sample": points(keys["polygon"]), "angle": float(keys["angle"]), "rois": {}}
        elif head in ("roi", "rois") and ids:
            sections[ids[0]]["rois"][ids[1] if len(ids) > 1 else 0] = points(keys["polygon"])
        elif head == "focus" and ids:
            sections[ids[0]]["focus"] = points(keys["polygon"])
        elif head in ("magnet", "magnets") and ids:
            sections[ids[0]]["magnet"] = points(keys["location"])
        elif head in ("landmark", "landmarks") and ids:
            landmarks[ids[0]] = points(keys["location"])[0]
        elif head in ("serialorder", "serial_order", "tsporder", "stage_order"):
            orders[head[:2]] = None if keys[head] == "[]" else [int(one) for one in keys[head].split(",")]
    return sections, landmarks, orders.get("se"), orders.get("ts", orders.get("st"))


def mass(path):
    """The same from a `.mass.json` file, whose keys become numbers."""
    content = json.loads(path.read_text())
    place = lambda shape: np.array([shape["location"]])[:, ::-1]  # noqa: E731
    sections = {}
    for key, held in content["sections"].items():
        outline = {
            name: {int(k): np.array(one["polygon"])[:, ::-1] for k, one in held[name].items()} for name in ("rois",)
        }
        focus = np.vstack([place(held["focus"][str(k)]) for k in range(len(held["focus"]))])
        sample, magnet = (np.array(held[name]["polygon"])[:, ::-1] for name in ("sample", "magnet"))
        known = {"sample": sample, "angle": held["sample"]["angle"], "focus": focus, "magnet": magnet}
        sections[int(key)] = outline | known
    landmarks = {int(key): place(one["source"])[0] for key, one in content["landmarks"].items()}
    return sections, landmarks, content["serial_order"] or None, content["stage_order"] or None


@pytest.mark.parametrize(
    ("suffix", "read"), [(".magc", sbemimage), (".magfinder.magc", sbemimage), (".mass.json", mass)]
)
def test_sbemimage_reads_the_same(written, suffix, read):
    found, folder, numbers = written
    sections, landmarks, serial, stage = read(folder / f"drawn{suffix}")
    assert list(sections) == numbers
    for number, one in sections.items():
        ours = found.sections[number]
        np.testing.assert_allclose(one["sample"], ours.corners, atol=6e-4)
        assert one["angle"] == pytest.approx(ours.angle_deg, abs=6e-4)
        np.testing.assert_allclose(
            [one["rois"][0], one["rois"][1], one["focus"]], [r.points for r in ours.regions], atol=6e-4
        )
        np.testing.assert_allclose(one["magnet"], [ours.magnet], atol=6e-4)
    np.testing.assert_allclose([landmarks[k] for k in range(3)], MARKS)
    assert serial is None  # it is known of the ribbon alone
    assert stage == [number for number in found.stage_order if number in numbers]


def test_magfinder_reads_the_same(written):
    """It knows a part by the first kind that its name contains, and needs the second number of a ROI."""
    found, folder, numbers = written
    kinds = ("section", "roi", "focus", "magnet", "landmark")
    held, orders = defaultdict(dict), {}
    for name, keys in parts_of(folder / "drawn.magfinder.magc").items():
        if "." in name:
            head, *ids = name.split(".")
            kind = next(one for one in kinds if one in head)
            place = (int(ids[0]), int(ids[1])) if kind == "roi" else int(ids[0])
            (text,) = (value for key, value in keys.items() if key in ("polygon", "location"))
            held[kind][place] = points(text)
        elif name in ("serial_order", "stage_order"):
            orders[name] = keys[name]
    assert list(held["section"]) == list(held["focus"]) == list(held["magnet"]) == numbers
    assert list(held["roi"]) == [(number, k) for number in numbers for k in (0, 1)]
    for number in numbers:
        np.testing.assert_allclose(held["section"][number], found.sections[number].corners, atol=6e-4)
    np.testing.assert_allclose(np.vstack([held["landmark"][k] for k in range(3)]), MARKS)
    assert orders["serial_order"] == "[]"  # of all sections: MagFinder shows no others than those it lists
    assert orders["stage_order"] == ",".join(str(one) for one in found.stage_order if one in numbers)
