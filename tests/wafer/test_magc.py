"""A .magc file comes back as it was, and its angles are ours."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wafer.made_wafers import random_wafer, rectangle

from emseg.data import dataset_path
from emseg.errors import InputError
from emseg.sections import Section, WaferSections
from emseg.wafer.annotated_wafer import load_magc_wafer
from emseg.wafer.formats.magc import (
    MagcItem,
    MagcWafer,
    magc_from_sections,
    read_magc,
    sections_from_magc,
    side_angle_deg,
    write_magc,
)

SMALL = """[sections]
number = 2

[sections.0000]
polygon = 10,10,50.5,10,50.5,30,10,30
center = 30.25,20.0
area = 810
angle = 90
compression = 1

[sections.0007]
polygon = 70,10,70,50,60,50,60,10

[landmarks]
number = 0

[serialorder]
serialorder = 7,0

[tsporder]
tsporder = []

"""


def write(folder: Path, text: str = SMALL) -> Path:
    path = folder / "wafer.magc"
    path.write_text(text)
    return path


def test_a_small_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    wafer = read_magc(write(tmp_path))
    first, second = wafer.sections
    assert first.polygon == ((10, 10), (50.5, 10), (50.5, 30), (10, 30))
    assert (first.number, first.center, first.area, first.angle, first.compression) == (0, (30.25, 20), 810, 90, 1)
    assert (second.number, second.angle, second.area) == (7, None, None)
    assert (wafer.serial_order, wafer.stage_order) == ((7, 0), "[]")


def test_the_real_file_is_written_back_byte_for_byte(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "magc_wafer" / "wafer_example1.magc"
    wafer = read_magc(source)
    assert [len(group) for group in (wafer.sections, wafer.rois, wafer.focus, wafer.magnets, wafer.landmarks)] == [
        433,
        433,
        433,
        433,
        4,
    ]
    assert sorted(wafer.stage_order) == list(range(433))  # type: ignore[type-var]
    write_magc(wafer, tmp_path / "again.magc")
    assert (tmp_path / "again.magc").read_bytes() == source.read_bytes()


def test_unknown_parts_and_keys_are_kept(tmp_path: Path) -> None:
    extra = SMALL.replace("compression = 1", "compression = 1\nKnife = new, at 3 mm") + "[notes]\nWho = us = them\n\n"
    wafer = read_magc(write(tmp_path, extra))
    assert wafer.sections[0].extra == (("Knife", "new, at 3 mm"),)
    assert wafer.other == (("notes", (("Who", "us = them"),)),)
    write_magc(wafer, tmp_path / "again.magc")
    assert read_magc(tmp_path / "again.magc") == wafer


numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6, allow_nan=False))
points = st.tuples(numbers, numbers)
words = st.text(st.characters(categories=("Lu", "Nd"), max_codepoint=127), min_size=1, max_size=8)
known = st.sampled_from(["sections", "rois", "focus", "magnets", "landmarks"])


@st.composite
def items(draw: st.DrawFn) -> tuple[MagcItem, ...]:
    taken = draw(st.lists(st.integers(0, 9999), unique=True, max_size=4))
    return tuple(
        MagcItem(
            number,
            template=draw(st.none() | st.integers(0, 99)),
            polygon=draw(st.none() | st.lists(points, min_size=1, max_size=5).map(tuple)),
            center=draw(st.none() | points),
            area=draw(st.none() | numbers),
            angle=draw(st.none() | numbers),
            compression=draw(st.none() | numbers),
            location=draw(st.none() | points),
            extra=tuple(draw(st.dictionaries(words, words, max_size=2)).items()),
        )
        for number in taken
    )


orders = st.one_of(st.just("[]"), st.lists(st.integers(0, 99), min_size=1, max_size=5).map(tuple))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.builds(MagcWafer, items(), items(), items(), items(), items(), orders, orders))
def test_any_wafer_comes_back_from_its_file(tmp_path_factory: pytest.TempPathFactory, wafer: MagcWafer) -> None:
    path = tmp_path_factory.getbasetemp() / "any.magc"
    write_magc(wafer, path)
    assert read_magc(path) == wafer


def test_the_angle_of_every_real_section_is_that_of_its_first_side(real_data: Path) -> None:
    wafer = read_magc(real_data / "magc_wafer" / "wafer_example1.magc")
    for item in wafer.sections:
        assert item.polygon is not None
        assert item.angle is not None
        polygon = np.array([(y, x) for x, y in item.polygon], dtype=np.float64)
        assert (side_angle_deg(polygon) - item.angle + 180) % 360 - 180 == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize(
    ("end", "angle"), [((1, 0), 0), ((0, 1), 90), ((-1, 0), 180), ((0, -1), -90), ((1, 1), 45), ((-1, -0.0), 180)]
)
def test_an_angle_of_0_points_down_and_grows_to_the_right(end: tuple[float, float], angle: float) -> None:
    assert side_angle_deg(np.array([(0, 0), end, (5, 5)], dtype=np.float64)) == pytest.approx(angle)


def test_sections_have_the_files_angle_or_that_of_their_first_side_and_their_place_in_the_serial_order(
    tmp_path: Path,
) -> None:
    sections = sections_from_magc(read_magc(write(tmp_path)), name="small", height=100, width=120)
    first, second = sections.sections
    np.testing.assert_array_equal(first.polygon, [(10, 10), (10, 50.5), (30, 50.5), (30, 10)])
    assert (first.label, first.angle_deg, first.serial_number) == ("section", 90, 1)
    assert (second.angle_deg, second.serial_number) == (0, 0)
    assert first.center == pytest.approx((20, 30.25))
    assert sections.notes == ()


def test_an_order_that_misses_a_section_gives_no_serial_numbers_and_a_note(tmp_path: Path) -> None:
    wafer = read_magc(write(tmp_path, SMALL.replace("7,0", "7")))
    sections = sections_from_magc(wafer, name="small", height=100, width=120)
    assert [section.serial_number for section in sections.sections] == [None, None]
    assert "no serial order" in sections.notes[0]


@given(st.integers(0, 10_000))
def test_sections_come_back_from_a_magc_file_up_to_the_corner_that_begins(seed: int) -> None:
    made = random_wafer(seed)
    wafer = magc_from_sections(made)
    back = sections_from_magc(wafer, name=made.name, height=made.height, width=made.width)
    for before, after in zip(made.sections, back.sections, strict=True):
        shifts = [np.roll(before.polygon, k, axis=0) for k in range(4)]
        assert min(np.abs(after.polygon - shifted).max() for shifted in shifts) <= 0.0005 + 1e-9
        assert after.angle_deg == pytest.approx(before.angle_deg, abs=0.0005)
        assert after.serial_number == before.serial_number
        off = abs((side_angle_deg(after.polygon) - before.angle_deg + 180) % 360 - 180)  # type: ignore[operator]
        assert off <= 45.1


def test_what_other_programs_need_is_filled_in() -> None:
    outline = rectangle(10, 20, 30, 60)
    item = magc_from_sections(WaferSections("w", 90, 90, (Section(outline),))).sections[0]
    assert (item.area, item.center, item.angle, item.compression) == (800, (40, 20), 90, 1)
    assert magc_from_sections(WaferSections("w", 90, 90, (Section(outline),))).serial_order == "[]"


def test_the_magc_wafer_loads_with_433_sections_that_lie_on_it(real_data: Path) -> None:
    assert dataset_path("magc_wafer").parent == real_data
    image, sections = load_magc_wafer()
    assert (image.shape, image.dtype) == ((4987, 5380), np.uint8)
    assert (len(sections.sections), sections.class_names) == (433, ("section",))
    inside = [image[int(y), int(x)] for y, x in (section.center for section in sections.sections)]
    corner = image[:200, :200]
    assert (
        abs(np.median(inside) - np.median(corner)) > 20
    )  # tissue and bare wafer differ, so rows and columns are right


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("number = 2", "number = 3", "announces 3 sections, and contains 2: it was cut off or edited"),
        ("10,10,50.5,10", "10,10,50.5", r"`polygon` of \[sections.0000\] in .* must be pairs x,y; it has 7 numbers"),
        ("10,10,50.5", "10,ten,50.5", r"`polygon` of \[sections.0000\] in .* must be numbers; it is '10,ten"),
        ("area = 810", "area = 8,10", "`area` of .* must be one number; it is '8,10'"),
        ("30.25,20.0", "1,2,3,4", "`center` of .* must be one point x,y"),
        ("area = 810", "template = 1.5", "`template` of .* must be the number of a section; it is 1.5"),
        ("[sections.0007]", "[sections.000]", "the numbers of sections must be unique"),
        ("[sections.0007]", f"[sections.{'7' * 5000}]", "announces 2 sections, and contains 1"),
        ("[sections.0007]", "[sections.0000]", r"damaged .magc file \(.*already exists"),
        ("area = 810", "area = 810\narea = 811", r"damaged .magc file \(.*already exists"),
        ("[sections]\n", "", r"must be a .magc file, .*; it is none of them"),
    ],
)
def test_a_spoilt_file_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_magc(write(tmp_path, SMALL.replace(old, new)))


def test_what_is_no_magc_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a \.magc file: it has none of the parts"):
        read_magc(write(tmp_path, "[tool]\nx = 1\n"))
    with pytest.raises(InputError, match="does not exist"):
        read_magc(tmp_path / "nowhere.magc")
    with pytest.raises(InputError, match="directory"):
        read_magc(tmp_path)
    (tmp_path / "bytes.magc").write_bytes(b"\xfd\xfe\x00")
    with pytest.raises(InputError, match=r"must be a \.magc file, .*; it is none of them"):
        read_magc(tmp_path / "bytes.magc")


def test_sections_that_cannot_be_outlines_are_named(tmp_path: Path) -> None:
    size = {"name": "small", "height": 100, "width": 120}
    with pytest.raises(InputError, match="small has no section"):
        sections_from_magc(MagcWafer(), **size)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="section 3 of small has no outline"):
        sections_from_magc(MagcWafer((MagcItem(3),)), **size)  # type: ignore[arg-type]
    crossing = MagcItem(0, polygon=((0, 0), (9, 9), (9, 0), (0, 9)))
    with pytest.raises(InputError, match="must not cross itself; section 0 of small"):
        sections_from_magc(MagcWafer((crossing,)), **size)  # type: ignore[arg-type]
    outside = MagcItem(0, polygon=((200, 0), (209, 9), (209, 0)))
    with pytest.raises(InputError, match="must touch the image; section 0 of small"):
        sections_from_magc(MagcWafer((outside,)), **size)  # type: ignore[arg-type]
