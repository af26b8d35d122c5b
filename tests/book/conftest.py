"""The built book, the browser and what the browser sees, each made once."""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from book.browser import Seen, find_html, inspect_page, serve
from book.staged import ROOT
from playwright.sync_api import Browser

sys.path.insert(0, str(ROOT / "book" / "_ext"))  # the book's Sphinx pieces, as _config.yml finds them


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built book."""
    folder = find_html()
    if folder is None or not (folder / "index.html").exists():
        pytest.skip("NO BUILT BOOK: run `make book`, or name the folder of its HTML in EMSEG_HTML")
    return folder


@pytest.fixture(scope="session")
def site(html: Path) -> Iterator[str]:
    """The address at which the built book is served."""
    with serve(html) as address:
        yield address


@pytest.fixture(scope="session")
def look(site: str, browser: Browser) -> Callable[[str], Seen]:
    """What the browser sees of a page; each is opened once."""
    return cache(lambda page: inspect_page(browser, site + page))
