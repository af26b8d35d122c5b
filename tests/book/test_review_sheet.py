"""The review sheet of a found wafer in a real browser: keys, pointer, export, speed, accessibility, widths."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from book.browser import SCHEMES, axe_violations, opened, serve
from playwright.sync_api import Browser, Page
from wafer.navigation.found_wafers import found_wafer

from emseg.wafer.navigation.corrections import import_corrections
from emseg.wafer.navigation.exports import read_found, write_wafer
from emseg.wafer.navigation.found import FoundWafer
from emseg.wafer.review_sheet import write_review

pytestmark = pytest.mark.browser
LONGEST_FRAME_MS = 50
LARGEST_MB = 15


def wafer(n: int, **more: object) -> FoundWafer:
    found = found_wafer(n, pitch=200 if n < 100 else 100)
    extra = replace(found.sections[0], corners=found.sections[0].corners + 3, confidence=0.1, reasons=("a low score",))
    return replace(found, candidates=(extra,), **more)


def picture(found: FoundWafer) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(128, 20, (found.height, found.width)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sheet")
    found = wafer(12)
    write_wafer(found, folder)
    write_review(found, folder, picture(found), expected=14)
    return folder


@pytest.fixture
def sheet(folder: Path, browser: Browser) -> Iterator[Page]:
    with serve(folder) as address, opened(browser, address + "made.review.html", "light") as (page, seen):
        page.wait_for_selector("html[data-ready]")
        yield page
        assert seen.errors == []
        assert seen.external_requests == []


def exported(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.keyboard.press("e")
    assert download.value.suggested_filename == "made.decisions.json"
    path = folder / "decisions.json"
    download.value.save_as(path)
    return path


def test_decisions_by_keyboard_are_imported(sheet: Page, folder: Path, tmp_path: Path) -> None:
    """Accept, reject, relabel and undo with keys alone; the exported file does just that."""
    found = read_found(folder)
    order = sorted(range(12), key=lambda number: found.sections[number].confidence)
    assert sheet.locator("#counts").inner_text() == "12 sections of 14 expected, 0 of 13 reviewed"
    sheet.keyboard.press("j")
    assert sheet.locator("#title").inner_text() == "Possible miss 0"  # fewer than expected: misses come first
    for key in ("a", "a", "r", "r", "u", "k"):
        sheet.keyboard.press(key)
    assert sheet.locator("#title").inner_text() == f"Section {order[1]}"
    sheet.keyboard.press("j")
    assert sheet.locator("#title").inner_text() == f"Section {order[2]}"
    sheet.keyboard.press("3")
    assert sheet.locator("#counts").inner_text() == "12 sections of 14 expected, 4 of 13 reviewed"
    after, changes, _ = import_corrections(folder, exported(sheet, tmp_path), out=tmp_path / "out")
    assert (len(changes.added), changes.removed, changes.n_reviewed) == (1, (order[1],), 4)
    label = found.sections[order[2]].label
    assert changes.relabelled == (() if label == "fold" else ((order[2], label, "fold"),))
    assert after.candidates == ()
    assert changes.moved == ()


def test_decisions_outlive_the_page(sheet: Page) -> None:
    for key in ("j", "a", "r"):
        sheet.keyboard.press(key)
    sheet.reload()
    sheet.wait_for_selector("html[data-ready]")
    assert "2 of 13 reviewed" in sheet.locator("#counts").inner_text()


def test_an_exported_file_is_loaded_in_another_browser(
    sheet: Page, folder: Path, browser: Browser, tmp_path: Path
) -> None:
    """With verdicts, classes and an added section; loading twice adds nothing, one of another result is refused."""
    found = read_found(folder)
    for key in ("j", "a", "r", "2", "0", "n"):
        sheet.keyboard.press(key)
    side = found.height
    for point in ([side - 60, side - 60], [side - 30, side - 60], [side - 30, side - 20], [side - 60, side - 20]):
        sheet.mouse.click(*place(sheet, point))
    path = exported(sheet, tmp_path)
    with serve(folder) as address, opened(browser, address + "made.review.html", "light") as (page, seen):
        page.wait_for_selector("html[data-ready]")
        for _ in range(2):
            page.locator("#file").set_input_files(path)
            page.wait_for_function("document.getElementById('counts').textContent.includes('4 of 14 reviewed')")
        (again := tmp_path / "again").mkdir()
        assert exported(page, again).read_bytes() == path.read_bytes()
        path.write_text(path.read_text().replace('"digest": "', '"digest": "0'))
        page.locator("#file").set_input_files(path)
        page.wait_for_function("document.getElementById('what').textContent.includes('nothing was loaded')")
        assert seen.errors == []


def place(page: Page, point: list[float]) -> tuple[float, float]:
    """Where on the page a place (x, y) of the wafer is."""
    script = """([x, y]) => { const box = canvas.getBoundingClientRect();
      return [box.left + (x - view.x) * view.scale, box.top + (y - view.y) * view.scale]; }"""
    return tuple(page.evaluate(script, point))


def test_a_corner_is_dragged_and_a_section_added_by_four_clicks(sheet: Page, folder: Path, tmp_path: Path) -> None:
    found = read_found(folder)
    centre = found.sections[5].corners.mean(0)[::-1].tolist()
    sheet.mouse.click(*place(sheet, centre))
    assert sheet.locator("#title").inner_text() == "Section 5"
    x, y = place(sheet, found.sections[5].corners[1, ::-1].tolist())
    sheet.mouse.move(x, y)
    sheet.mouse.down()
    sheet.mouse.move(x + 9, y + 2, steps=4)
    sheet.mouse.up()
    scale = sheet.evaluate("view.scale")
    side = found.height
    added = [[side - 60, side - 60], [side - 30, side - 60], [side - 30, side - 20], [side - 60, side - 20]]
    sheet.keyboard.press("n")
    for point in added:
        sheet.mouse.click(*place(sheet, point))
    after, changes, _ = import_corrections(folder, exported(sheet, tmp_path), out=tmp_path / "out")
    assert (changes.added, changes.removed) == ((12,), ())
    assert changes.moved == ((5, pytest.approx(np.hypot(9, 2) / scale, rel=0.2)),)
    assert np.allclose(after.sections[5].corners[[0, 2, 3]], found.sections[5].corners[[0, 2, 3]], atol=0.01)
    assert np.allclose(
        sorted(map(tuple, after.sections[12].corners[:, ::-1])), sorted(map(tuple, added)), atol=2 / scale
    )


def test_the_list_is_filtered_by_class_and_state(sheet: Page) -> None:
    rows = sheet.locator("#list li:not([hidden])")
    assert rows.count() == 13
    sheet.locator("#classes input[value=good]").uncheck()
    assert rows.count() == 13 - 4
    sheet.locator("#classes input[value=good]").check()
    sheet.locator("#show").select_option("missed")
    assert rows.count() == 1
    sheet.locator("#show").select_option("reasons")
    assert rows.count() == 4


@pytest.mark.parametrize("width", [390, 768, 1400])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_sheet_is_accessible_at_every_width(folder: Path, browser: Browser, scheme: str, width: int) -> None:
    """Axe finds no serious violation, in either colour scheme, and nothing is wider than the screen."""
    with (
        serve(folder) as address,
        opened(browser, address + "made.review.html", scheme, width) as (page, seen),
    ):
        page.wait_for_selector("html[data-ready]")
        for key in ("j", "a", "r"):
            page.keyboard.press(key)
        page.locator("details").evaluate("element => { element.open = true; }")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        assert axe_violations(page) == []
        assert seen.errors == []


def test_a_thousand_sections_are_smooth(tmp_path: Path, browser: Browser) -> None:
    """A frame of the whole wafer takes under 50 ms on an idle processor, a key under 100; the file stays small."""
    found = wafer(1000)
    path = write_review(found, tmp_path, picture(found))
    assert path.stat().st_size < LARGEST_MB * 1e6
    with serve(tmp_path) as address, opened(browser, address + path.name, "light", 1400) as (page, seen):
        page.wait_for_selector("html[data-ready]")
        drawing = """() => { const times = []; whole();
          for (let k = 0; k < 15; k++) {
            view.x += 2; const start = performance.now(); paint(); context.getImageData(0, 0, 1, 1);
            times.push(performance.now() - start); }
          return times.sort((a, b) => a - b)[3]; }"""
        frame_ms = page.evaluate(drawing)
        pressing = """() => { const times = [];
          for (let k = 0; k < 15; k++) {
            const start = performance.now();
            document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "a", bubbles: true}));
            by("list").offsetHeight; paint(); times.push(performance.now() - start); }
          return times.sort((a, b) => a - b)[3]; }"""
        page.keyboard.press("j")
        key_ms = page.evaluate(pressing)
        assert "15 of 1001 reviewed" in page.locator("#counts").inner_text()
        print(f"{frame_ms:.1f} ms a frame, {key_ms:.1f} ms a key, {path.stat().st_size / 1e6:.1f} MB")
        assert frame_ms < LONGEST_FRAME_MS
        assert key_ms < 2 * LONGEST_FRAME_MS
        assert seen.errors == []
