"""The review sheet as a file; how it behaves in a browser is tested in tests/book/test_review_sheet.py."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wafer.navigation.found_wafers import found_wafer

from emseg.errors import InputError, UsageError
from emseg.wafer.navigation.found import FoundWafer
from emseg.wafer.review_sheet import write_review

ROOT = Path(__file__).parents[2]


def content(path: Path) -> dict:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(text)


def black(found: FoundWafer) -> np.ndarray:
    return np.zeros((found.height, found.width), np.uint8)


def test_the_least_certain_come_first_and_likely_misses_before_them_where_some_are_missing(tmp_path: Path) -> None:
    found = found_wafer()
    found = replace(found, candidates=tuple(replace(found.sections[0], confidence=one) for one in (0.4, 0.2, 0.3)))
    for expected, first in ((None, False), (12, False), (13, True)):
        items = content(write_review(found, tmp_path, black(found), expected=expected))["items"]
        assert (items[0]["key"] == "c0") == first
        sure = [item["confidence"] for item in items if item["key"][0] == "s"]
        assert sure == sorted(sure)
        assert [item["confidence"] for item in items if item["key"][0] == "c"] == [0.4, 0.3, 0.2]


def test_a_wafer_without_sections_has_a_sheet(tmp_path: Path) -> None:
    found = FoundWafer("empty", 40, 50, (), ("good",))
    assert content(write_review(found, tmp_path, black(found)))["items"] == []


def test_texts_of_a_wafer_cannot_break_out_of_their_place(tmp_path: Path) -> None:
    found = found_wafer(1)
    section = replace(found.sections[0], reasons=("</script><script>alert(1)</script>", ">DATA<"))
    path = write_review(replace(found, sections=(section,)), tmp_path, black(found))
    assert content(path)["items"][0]["reasons"] == list(section.reasons)
    assert path.read_text().count("<script") == 2


def test_the_sheet_names_no_other_machine(tmp_path: Path) -> None:
    text = write_review(found_wafer(), tmp_path, black(found_wafer())).read_text()
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text))


def test_a_section_over_the_border_has_a_crop_within_the_image(tmp_path: Path) -> None:
    found = found_wafer(1)
    away = replace(found.sections[0], corners=found.sections[0].corners - (60.0, -60.0))
    (item,) = content(write_review(replace(found, sections=(away,)), tmp_path, black(found)))["items"]
    left, top, width, height = item["crop"]["box"]
    assert min(left, top) >= 0
    assert min(width, height) > 0
    assert left + width <= found.width
    assert top + height <= found.height


def test_an_image_of_another_size_or_an_impossible_count_is_refused(tmp_path: Path) -> None:
    found = found_wafer(1)
    with pytest.raises(InputError, match="100 x 100 px; it is 100 x 101 px"):
        write_review(found, tmp_path, np.zeros((100, 101), np.uint8))
    with pytest.raises(UsageError, match="`expected` must be a whole number of at least 0"):
        write_review(found, tmp_path, black(found), expected=-1)
    assert not list(tmp_path.iterdir())


def test_the_template_is_part_of_the_package() -> None:
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["emseg"]
    assert "**/*.html" in packed
