"""The book as one PDF and as an archive, made from a built book."""

import importlib.util
import json
import re
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from book.browser import ROOT, find_browser, opened, serve, start_page
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
TYPES_ALLOWED = {"Dataset", "File", "CreativeWork", "Person", "Organization", "ScholarlyArticle", "SoftwareSourceCode"}


def tool(name: str) -> ModuleType:
    """Return a script of `tools/` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pdf_holds_the_whole_book_with_its_numbers(html: Path, browser: Browser, tmp_path: Path) -> None:
    """Every chapter, every number as on its page, links that stay within the document, and bookmarks."""
    book_pdf = tool("book_pdf")
    paths = book_pdf.printed_pages(html)
    assert {path.relative_to(html).as_posix() for path in html.glob("book/*/*.html")} - set(paths) <= {
        path.relative_to(html).as_posix() for path in html.glob("book/api/*.html")
    }
    numbers = sum((html / path).read_text("utf-8").count('class="emseg-number"') for path in paths)
    with serve(html) as address:
        page = browser.new_page()
        page.set_default_timeout(book_pdf.TIME_LIMIT_MS)
        book_pdf.join_pages(page, address, paths)
        assert page.locator(".emseg-number").count() == numbers > 100
        dead = page.evaluate(
            """() => [...document.querySelectorAll('article a[href^="#"]')].map(link => link.getAttribute("href"))
            .filter(target => !document.getElementById(target.slice(1)))"""
        )
        assert dead == []
        book_pdf.print_page(page, tmp_path / "book.pdf")
        page.close()
    content = (tmp_path / "book.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", content)) > 2 * len(paths)
    assert b"/Outlines" in content
    assert b"127.0.0.1" not in content


def test_the_archive_opens_offline(html: Path, browser: Browser, tmp_path: Path) -> None:
    """Unzipped, the first page and a chapter open as files: no error, no request beyond the folder."""
    profile = html.name
    if not (ROOT / "_build" / "staged" / profile / "build.json").exists():
        pytest.skip("NO STAGED BOOK: the archive needs the build that made the pages")
    target = tmp_path / "book.zip"
    names = tool("book_archive").write_archive(ROOT, profile, target)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == names
        archive.extractall(tmp_path / "book")
    check_crate(tmp_path / "book")
    unpacked = tmp_path / "book" / "html"
    chapter = next(unpacked.glob("book/urisc/*.html"))
    for path in (start_page(unpacked), chapter):
        with opened(browser, path.as_uri(), "light") as (page, seen):
            assert page.locator("article h1").first.is_visible()
            asked = [url for url in seen.external_requests if not url.startswith("file:")]
        assert asked == []
        assert seen.errors == []


def check_crate(folder: Path) -> None:
    """Check the description against RO-Crate 1.1: descriptor, root, references that resolve, files that exist."""
    crate: dict[str, Any] = json.loads((folder / "ro-crate-metadata.json").read_text("utf-8"))
    assert crate["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = {one["@id"]: one for one in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert {"name", "description", "datePublished", "license", "author", "hasPart"} <= set(root)
    assert root["version"] == str(yaml.safe_load((folder / "CITATION.cff").read_text("utf-8"))["version"])
    for entity in entities.values():
        types = entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]
        assert set(types) <= TYPES_ALLOWED
    for part in root["hasPart"]:
        assert part["@id"] in entities
        assert (folder / part["@id"]).exists()
    assert all(one["@id"] in entities for one in [root["license"], *root["author"], *root["citation"]])
    assert {"html/", "notebooks/", "records/", "requirements.lock", "CITATION.cff"} <= set(entities)


def test_the_tools_say_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Without a built book the PDF is refused with what to run first."""
    monkeypatch.setattr("sys.argv", ["book_pdf.py", str(tmp_path), str(tmp_path / "book.pdf")])
    assert tool("book_pdf").main() == 1
    assert "make book" in capsys.readouterr().err
    assert find_browser() is None or not (tmp_path / "book.pdf").exists()
