"""Every page of the built book, in a real browser: light and dark, from a phone to a desk."""

import functools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
import yaml
from book.browser import (
    ROOT,
    SCHEMES,
    WIDTHS,
    Seen,
    find_html,
    inspect_page,
    list_pages,
    opened,
    serve,
    start_page,
    transferred,
)
from playwright.sync_api import Browser, Page

Look = Callable[[str], Seen]
pytestmark = pytest.mark.browser
HTML = find_html()
PAGES = list_pages(HTML) if HTML else []
TEXT_PAGES = [page for page in PAGES if page.startswith("book/")]


def _each(pages: list[str]) -> pytest.MarkDecorator:
    """Parametrize by page; all tests of a page go to the same worker, which opens it once."""
    marked = [pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in pages or ["no built book"]]
    return pytest.mark.parametrize("page", marked)


every_page, every_text_page = _each(PAGES), _each(TEXT_PAGES)
in_both_schemes = pytest.mark.parametrize("scheme", SCHEMES)
FAULTY_PAGE = """<!DOCTYPE html><html><head><title>Faulty</title>
<link rel="stylesheet" href="http://fonts.example.org/font.css"></head><body><main><article><h1>Faulty</h1>
<img src="figures/plot.png" alt="figures/plot.png"><p style="color:#bbb;background:#fff">faint</p>
<div style="width:900px">wide</div><span class="math">\\(x\\)</span>
<script>console.error("broken")</script></article></main></body></html>"""

PAPER_WIDTH = 700  # px of an A4 sheet between its margins
SCROLLS = """() => [...document.querySelectorAll("article *")].filter(one => one.checkVisibility()
  && one.clientWidth && one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX !== "visible"
  && !one.closest("mjx-container, .math")).map(one => one.outerHTML.slice(0, 120))"""
STATE = """figure => [figure.style.getPropertyValue("--at"), figure.querySelector("input").ariaValueText,
  ...[...figure.querySelectorAll(".frame")].map(frame => frame.checkVisibility())].join()"""


def tip_text(page: Page) -> str:
    """Return what is shown beside a link, waiting for it."""
    page.locator("#emseg-tip").wait_for(state="visible")
    return page.locator("#emseg-tip").inner_text().strip()


def has_useful_alt(image: dict[str, str | bool | None]) -> bool:
    """Return whether an image has alternative text, and not its own path in place of one."""
    alt, source = image["alt"], str(image["source"])
    if alt is None or (image["in_article"] and not str(alt).strip()):
        return False
    return str(alt) not in source and not re.search(r"\.(png|svg|jpe?g|gif|webp)$", str(alt).strip())


@every_page
def test_a_page_opens_without_errors_in_the_console(page: str, look: Look) -> None:
    """Neither a script nor a missing file makes the console complain, in either colour scheme."""
    assert look(page).errors == []


@every_page
def test_a_page_asks_no_other_machine_for_anything(page: str, look: Look) -> None:
    """Fonts, MathJax, style sheets and scripts all come from the book itself."""
    assert look(page).external_requests == []


@every_page
def test_every_image_has_alternative_text(page: str, look: Look) -> None:
    """A figure without `alt` would show its path as text; that counts as missing."""
    assert [image for image in look(page).images if not has_useful_alt(image)] == []


@every_page
def test_every_formula_is_typeset(page: str, look: Look) -> None:
    """MathJax found its files and understood each formula."""
    assert look(page).not_typeset == []


@every_page
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_never_scrolls_sideways(page: str, width: int, look: Look) -> None:
    """Wide tables, formulas and code scroll in their own boxes."""
    assert look(page).too_wide[width] == []


@every_page
@in_both_schemes
def test_axe_finds_no_serious_violation(page: str, scheme: str, look: Look) -> None:
    """Contrast, names, order of headings and the rest, with every fold opened."""
    assert look(page).violations[scheme] == []


@every_text_page
def test_a_page_says_where_it_comes_from(page: str, html: Path) -> None:
    """Exactly one badge stands on a page, below its title."""
    text = (html / page).read_text(encoding="utf-8")
    assert text.count('class="emseg-badge"') == 1
    assert text.index("<h1") < text.index('class="emseg-badge"')


@every_page
def test_every_link_within_the_book_leads_somewhere(page: str, html: Path) -> None:
    """Pages, files and anchors exist: above all those of the runs that the numbers link to."""
    dead = []
    for link in _read(html / page).links:
        path, anchor = urldefrag(link)
        if re.match(r"[a-z]+:", path) or "?" in path:
            continue
        target = html / unquote(urljoin(page, path) if path else page)
        if not target.exists() or (anchor and target.suffix == ".html" and unquote(anchor) not in _read(target).ids):
            dead.append(link)
    assert dead == []


def test_the_address_of_the_book_leads_to_its_first_page(html: Path) -> None:
    assert start_page(html).exists()


@every_text_page
def test_figures_are_numbered_and_described(page: str, html: Path) -> None:
    """Each figure's caption begins with its number, and says something."""
    text = (html / page).read_text(encoding="utf-8")
    for figure in re.findall(r"<figure.*?</figure>", text, re.DOTALL):
        assert re.search(r'<span class="caption-number">Fig\. [\d.]+ </span>', figure), figure[:200]
        assert len(re.sub(r"<[^>]+>", "", figure.split('class="caption-text">')[1])) > 20


def test_the_download_of_a_chapter_is_its_executed_notebook(html: Path) -> None:
    """The notebook behind the download button carries the outputs that the page shows."""
    notebooks = sorted((html / "_sources").rglob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in cells), path.name
        assert any(cell["outputs"] for cell in cells), path.name
        page = path.relative_to(html / "_sources").with_suffix(".html")
        assert f"_sources/{path.relative_to(html / '_sources').as_posix()}" in (html / page).read_text("utf-8")


@every_text_page
def test_a_page_offers_its_source(page: str, html: Path) -> None:
    """The repository, the page to edit and the file to download; for a notebook also a place to run it."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]
    (source,) = (html / "_sources").glob(f"{page.removesuffix('.html')}.*")
    path = source.relative_to(html / "_sources").as_posix()
    links = _read(html / page).links
    assert repository["url"] in links
    assert f"{repository['url']}/edit/{repository['branch']}/{path}" in links
    assert any(link.endswith(f"_sources/{path}") for link in links)
    launches = [link for link in links if link.startswith("https://mybinder.org/")]
    assert [link.endswith(f"urlpath=lab/tree/{path}") for link in launches] == [True] * (source.suffix == ".ipynb")


def test_the_search_finds_words_without_a_server(site: str, browser: Browser) -> None:
    """The index is part of the book."""
    with opened(browser, site + "search.html?q=membrane", "light") as (page, seen):
        page.wait_for_selector("ul.search li")
        assert page.locator("ul.search li").count() > 0
    assert seen.errors == seen.external_requests == []


def test_the_search_finds_hyphenated_words(html: Path, site: str, browser: Browser) -> None:
    """Pages found for V-Rand contain V-Rand, not "v" and "random"."""
    with opened(browser, site + "search.html?q=V-Rand", "light") as (page, _):
        page.wait_for_selector("ul.search li")
        found = page.locator("ul.search li > a").evaluate_all("links => links.map(one => new URL(one.href).pathname)")
    assert any(path.endswith("notation.html") for path in found)
    for path in found:
        assert "v-rand" in (html / path.lstrip("/")).read_text("utf-8").lower(), path


def test_pages_load_little(html: Path, site: str, browser: Browser) -> None:
    """The first page takes at most 1.5 MB, and later pages at most 300 kB besides their figures."""
    first = start_page(html).relative_to(html).as_posix()
    added = transferred(browser, site, [first, *(page for page in PAGES if page != first)])
    assert added.pop(first) < 1_500_000
    assert {page: size for page, size in added.items() if size >= 300_000} == {}


@every_text_page
def test_a_page_can_be_printed(page: str, site: str, browser: Browser) -> None:
    """On paper: no side bars, every fold open, nothing wider than the sheet."""
    with opened(browser, site + page, "light", PAPER_WIDTH) as (tab, _):
        tab.emulate_media(media="print")
        tab.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
        for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".emseg-cite"):
            assert not tab.locator(part).first.is_visible(), part
        folds = tab.locator("details.emseg-fold")
        assert all(folds.nth(n).get_attribute("open") is not None for n in range(folds.count()))
        assert tab.evaluate(SCROLLS) == []


@every_text_page
def test_sliders_move_by_keyboard(page: str, html: Path, site: str, browser: Browser) -> None:
    """An arrow key shows the next picture, and its label; the line of a swipe moves."""
    if 'class="emseg-interactive' not in (html / page).read_text("utf-8"):
        return
    with opened(browser, site + page, "light") as (tab, _):
        figures = tab.locator(".emseg-interactive")
        for n in range(figures.count()):
            figure, control = figures.nth(n), figures.nth(n).locator("input[type=range]")
            before = figure.evaluate(STATE)
            backwards = control.evaluate("input => input.value === input.max")
            control.focus()
            tab.keyboard.press("ArrowLeft" if backwards else "ArrowRight")
            assert figure.evaluate(STATE) != before


def test_a_term_shows_its_definition_on_hover_and_focus(html: Path, site: str, browser: Browser) -> None:
    """The definition is in the page; Escape closes it."""
    start = next(page for page in TEXT_PAGES if "data-meaning=" in (html / page).read_text("utf-8"))
    with opened(browser, site + start, "light") as (tab, seen):
        link = tab.locator("article a[data-meaning]:visible").first
        meaning = link.get_attribute("data-meaning")
        link.hover()
        assert tip_text(tab) == meaning
        tab.keyboard.press("Escape")
        tab.locator("#emseg-tip").wait_for(state="detached")
        tab.mouse.move(1, 1)
        link.focus()
        assert tip_text(tab) == meaning
        assert link.get_attribute("aria-describedby") == "emseg-tip"
    assert seen.errors == []


def test_a_link_to_a_figure_previews_it(html: Path, site: str, browser: Browser) -> None:
    """The figure of the same page with its caption; of another page too."""
    pattern = re.compile(r'class="reference internal" href="#(fig-[\w-]+)"')
    start, name = next(
        (page, found[1]) for page in TEXT_PAGES if (found := pattern.search((html / page).read_text("utf-8")))
    )
    with opened(browser, site + start, "light") as (tab, _):
        tab.locator(f'article a.reference.internal[href="#{name}"]').first.focus()
        assert "Fig." in tip_text(tab)


@every_text_page
def test_a_page_can_be_cited(page: str, html: Path) -> None:
    """Version, date and a BibTeX entry end a page, and a notice while the repository's address is a stand-in."""
    text = (html / page).read_text(encoding="utf-8")
    settings = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
    version = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"]
    colophon = text[text.index('class="emseg-colophon"') :]
    assert f"Version {version}, built 20" in colophon
    assert f"@incollection{{wafer-to-membrane:{Path(page).stem}," in colophon
    assert ("stand-in address" in colophon) == settings["emseg_repository_is_a_stand_in"]


def test_a_number_leads_to_its_open_record(html: Path, site: str, browser: Browser) -> None:
    """One click on a number shows its run: the kind of data, the commit, and the numbers unfolded."""
    start = next(page for page in TEXT_PAGES if 'class="emseg-result"' in (html / page).read_text("utf-8"))
    page = browser.new_page()
    page.goto(site + start)
    page.locator("a.emseg-result").first.click()
    run = page.locator("section.emseg-run:target")
    facts = run.locator("dl.emseg-facts")
    facts.wait_for(state="visible")  # the ledger is a long page; times out with an error where it stays hidden
    assert {"Run", "Data", "Device", "Cost", "Commit"} <= set(facts.locator("dt").all_inner_texts())
    run.locator("table.emseg-metrics").wait_for(state="visible")
    page.close()


def test_the_inspection_sees_each_kind_of_fault(tmp_path: Path, browser: Browser) -> None:
    """A page with one fault of each kind is caught on all counts, so the tests above can fail."""
    (tmp_path / "faulty.html").write_text(FAULTY_PAGE, encoding="utf-8")
    with serve(tmp_path) as address:
        seen = inspect_page(browser, address + "faulty.html")
    assert "broken" in seen.errors
    assert any(violation.startswith("html-has-lang") for violation in seen.violations["dark"])
    assert set(seen.external_requests) == {"http://fonts.example.org/font.css"}
    assert not has_useful_alt(seen.images[0])
    assert seen.not_typeset == ["\\(x\\)"]
    assert seen.too_wide[360]
    assert not seen.too_wide[WIDTHS[-1]]
    assert any(violation.startswith("color-contrast") for violation in seen.violations["light"])


class _Reader(HTMLParser):
    """Collects the ids and the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if value and name in ("href", "src") and value != "#":
                self.links.append(value)


@functools.cache  # above all the ledger, to which the numbers of all pages link
def _read(path: Path) -> _Reader:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader
