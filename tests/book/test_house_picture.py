"""The pictures of the code are drawn from its imports: a room is above what it uses, and says so in words."""

import re
from pathlib import Path

from book.staged import build_html, stage
from emseg_book.house import GROUND, Room, draw, library_rooms, package_rooms


def heights(picture: str) -> dict[str, int]:
    """Return how far down each room is drawn."""
    boxes = re.findall(r'translate\(\S+ (\d+)\)"><title>.*?class="name">(.*?)</text>', picture)
    return {name: int(y) for y, name in boxes}


def test_a_room_is_above_all_that_it_imports_and_lines_that_follow_are_left_out():
    rooms = [
        Room("top", "1", frozenset({"middle", "low"})),
        Room("middle", "2", frozenset({"low"})),
        Room("low", "3", frozenset()),
    ]
    picture = draw(rooms)
    found = heights(picture)
    assert found["top"] < found["middle"] < found["low"]
    assert picture.count("<line") == 2  # top to low follows from the other two
    assert "top (1) imports low, middle; middle (2) imports low; low (3) imports none" in picture


def test_rooms_that_import_each_other_share_a_level():
    found = heights(draw([Room("a", "", frozenset({"b"})), Room("b", "", frozenset({"a"}))]))
    assert found["a"] == found["b"]


def test_the_rooms_and_their_sizes_are_those_of_the_code():
    rooms = {room.name: room for room in library_rooms(11)}
    assert {GROUND, "chapters", "frequency", "membrane", "notebooks", "runs", "wafer"} <= set(rooms)
    assert rooms[GROUND].imports == frozenset()
    assert re.fullmatch(r"\d+ modules, [\d,]+ lines", rooms["frequency"].text)
    runs = {room.name: room for room in package_rooms("emseg.runs")}
    assert runs["execute"].text == "Running one chapter"
    assert "gathering" in runs["execute"].imports


def test_a_page_shows_a_picture_strictly_built(tmp_path: Path):
    done = build_html(stage(tmp_path, [], [], {"built": "# Built\n\n```{house-picture} rooms\n```\n"}))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "_html" / "book" / "built.html").read_text(encoding="utf-8")
    assert '<div class="emseg-house" role="region"' in page
    assert "membrane (" in page
