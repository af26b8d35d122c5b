"""A built book in a real browser: find one, serve the pages on this machine, look at each as a reader's device would.

`inspect_page` opens a page once, for all widths and both colour schemes, and returns everything that a test asks about
it. Nothing waits for a fixed time. What takes time is axe's colour contrast, so that is measured on a sample: two
elements of each combination of colours, size and weight, since equal ones have equal contrast. Of the ledger's hundred
equal sections ten are handed to axe.
"""

import functools
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
BROWSER_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a page that asks another machine gets no answer
)
START = "index.html"  # refers to the first page at once
WIDTHS = (360, 768, 1400)
HEIGHT = 900
SCHEMES = ("light", "dark")
INSTALL_LIMIT_S = 600

_IMAGES = """() => [...document.querySelectorAll("img")].map(image => ({
  source: image.getAttribute("src"), alt: image.getAttribute("alt"), in_article: !!image.closest("article")}))"""
_TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth, found = [];
  const page = document.scrollingElement;
  if (page.scrollWidth > width + 1) found.push(`the page is ${page.scrollWidth} px wide`);
  for (const element of document.querySelectorAll("article *")) {
    if (element.getBoundingClientRect().right <= width + 1 || element.closest("mjx-assistive-mml")) continue;
    let around = element.parentElement;
    while (around && around.tagName !== "ARTICLE" && getComputedStyle(around).overflowX === "visible")
      around = around.parentElement;
    if (!around || around.tagName === "ARTICLE") found.push(element.outerHTML.slice(0, 120));
  }
  return found;
}"""
_NOT_TYPESET = """() => [...document.querySelectorAll(".math")].filter(formula =>
  !formula.querySelector("mjx-container") || formula.querySelector("mjx-merror")).map(formula => formula.textContent)"""
_SETTLED = """async () => {
  if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
  await document.fonts.ready;
}"""
_STILL = "*, *::before, *::after { animation: none !important; transition: none !important; }"  # colours at rest
_VIOLATIONS = """async () => {
  const report = await axe.run(document, {
    resultTypes: ["violations"], preload: false, rules: {"color-contrast": {enabled: false}}});
  return report.violations.filter(one => ["serious", "critical"].includes(one.impact)).map(one =>
    `${one.id}: ${one.help}: ` + one.nodes.slice(0, 4).map(node => node.html.slice(0, 160)).join(" | "));
}"""
_CONTRAST = """async () => {
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== "none" || style.backgroundColor !== "rgba(0, 0, 0, 0)")
        return style.backgroundColor + style.backgroundImage;
    }
  };
  const groups = new Map();
  for (const element of document.body.querySelectorAll("*")) {
    if (element.closest("mjx-container, script, style, svg") || !element.checkVisibility()) continue;
    if (![...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
    const style = getComputedStyle(element);
    const key = [style.color, behind(element), style.fontSize, style.fontWeight, style.opacity].join();
    groups.set(key, [...(groups.get(key) ?? []), element].slice(0, 2));
  }
  const report = await axe.run({include: [...groups.values()].flat()}, {
    resultTypes: ["violations"], preload: false, runOnly: ["color-contrast"]});
  return report.violations.map(one =>
    `${one.id}: ${one.help}: ` + one.nodes.slice(0, 4).map(node => node.html.slice(0, 160)).join(" | "));
}"""
_OPEN_FOLDS = """() => {
  [...document.querySelectorAll("section.emseg-run")].slice(10).forEach(section => section.remove());
  document.querySelectorAll("details").forEach(part => { part.open = true; });
}"""


@dataclass(frozen=True)
class Seen:
    """What opening a page showed: lists of faults, in words; too wide by width, violations by colour scheme."""

    errors: list[str]
    external_requests: list[str]
    images: list[dict[str, Any]]
    not_typeset: list[str]
    too_wide: dict[int, list[str]]
    violations: dict[str, list[str]]


def find_browser() -> str | None:
    """Return the path of Chrome or Chromium ($CHROME first), or None."""
    named = os.environ.get("CHROME")
    if named:
        return shutil.which(named)
    return next((path for name in BROWSER_NAMES if (path := shutil.which(name))), None)


def may_install() -> bool:
    """Return whether this machine is one where we may install Debian's package: Debian or a child of it, as root."""
    return Path("/etc/debian_version").exists() and os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_browser() -> str | None:
    """Install Debian's Chromium and return its path, or None when that fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]):
        try:
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=INSTALL_LIMIT_S)
        except (OSError, subprocess.SubprocessError):
            return None
    return find_browser()


def find_html() -> Path | None:
    """Return the folder of a built book: $EMSEG_HTML, else the last one built here, or None."""
    named = os.environ.get("EMSEG_HTML")
    if named:
        return Path(named).resolve()
    built = [path.parent for path in (ROOT / "_build" / "html").glob("[!.]*/index.html")]
    return max(built, key=lambda folder: (folder / "index.html").stat().st_mtime, default=None)


def list_pages(html: Path) -> list[str]:
    """Return the addresses of all pages of a built book, relative to its folder; not the one that only redirects."""
    folders_of_assets = ("_static", "_sources")
    pages = (path.relative_to(html) for path in sorted(html.rglob("*.html")))
    return [page.as_posix() for page in pages if page.parts[0] not in folders_of_assets and page != Path(START)]


def start_page(html: Path) -> Path:
    """Return the page that the address of the book itself leads to."""
    target = re.search(r'content="0; url=([^"]+)"', (html / START).read_text(encoding="utf-8"))
    assert target is not None
    return html / target[1]


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine and yield its address."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Say nothing: pytest shows what matters."""


@contextmanager
def launch(executable: str) -> Iterator[Browser]:
    """Start the browser without a window and yield it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(BROWSER_ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, scheme: str, width: int = WIDTHS[-1]) -> Iterator[tuple[Page, Seen]]:
    """Open a page, wait for its formulas and fonts, and yield it with the errors and requests seen so far."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": HEIGHT})
    local = "/".join(address.split("/")[:3]) + "/"
    seen = Seen(errors=[], external_requests=[], images=[], not_typeset=[], too_wide={}, violations={})

    def note(request: Any) -> None:
        if not request.url.startswith((local, "data:", "blob:")):
            seen.external_requests.append(request.url)

    page = context.new_page()
    page.on("request", note)
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("response", lambda answer: seen.errors.append(f"{answer.status} {answer.url}") if not answer.ok else None)
    page.goto(address, wait_until="load")
    page.evaluate(_SETTLED)
    yield page, seen
    context.close()


def inspect_page(browser: Browser, address: str) -> Seen:
    """Open a page and return what was seen at each width and in both colour schemes, with axe's serious violations."""
    with opened(browser, address, SCHEMES[0]) as (page, seen):
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            seen.too_wide[width] = page.evaluate(_TOO_WIDE)
        seen.images.extend(page.evaluate(_IMAGES))
        seen.not_typeset.extend(page.evaluate(_NOT_TYPESET))
        page.add_style_tag(content=_STILL)
        page.evaluate(_OPEN_FOLDS)
        page.evaluate(_axe())
        structure = page.evaluate(_VIOLATIONS)  # at the largest width
        page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})
        structure += page.evaluate(_VIOLATIONS)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            seen.violations[scheme] = structure + page.evaluate(_CONTRAST)
    return seen


def axe_violations(page: Page) -> list[str]:
    """Return axe's serious violations on an open page, colour contrast included."""
    page.add_style_tag(content=_STILL)
    page.evaluate(_axe())
    return [*page.evaluate(_VIOLATIONS), *page.evaluate(_CONTRAST)]


@functools.cache
def _axe() -> str:
    return Path(AXE_FILE_PATH).read_text(encoding="utf-8")


def transferred(browser: Browser, address: str, pages: Sequence[str]) -> dict[str, int]:
    """Return the bytes that each page adds when a reader opens the pages in this order, figures not counted."""
    added, context = {}, browser.new_context(viewport={"width": WIDTHS[-1], "height": HEIGHT})
    for name in pages:
        requests: list[Any] = []
        page = context.new_page()
        page.on("requestfinished", lambda request: requests.append(request))  # noqa: B023
        page.goto(address + name, wait_until="networkidle")
        embedded = sum(map(len, re.findall(r'src="data:image/[^"]+', page.content())))
        counted = [one for one in requests if "/_images/" not in one.url and not one.url.startswith("data:")]
        added[name] = sum(one.sizes()["responseBodySize"] for one in counted) - embedded
        page.close()
    context.close()
    return added
