"""The whole book as one PDF, printed by Chrome or Chromium from the built pages, with the same numbers.

    python tools/book_pdf.py _build/html/laptop book.pdf

The articles of all pages, in the order of the table of contents, are joined into one document; links between pages
become links within it. The library's reference is left out, and of each run in the ledger only the facts are printed.
"""

import argparse
import re
import sys
from pathlib import Path

from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "book"))
from browser import find_browser, launch, serve, start_page

NOT_PRINTED = ("book/api/", "genindex", "search")
TIME_LIMIT_MS = 180_000
_JOIN = r"""async pages => {
  const here = new URL(location.href), base = new URL("..", here);
  const slug = path => path.replace(/\.html$/, "").replace(/[^\w-]+/g, "-");
  const all = new Set(pages), joined = [];
  for (const path of pages) {
    const address = new URL("/" + path, here);
    const text = await (await fetch(address)).text();
    const article = new DOMParser().parseFromString(text, "text/html").querySelector("article");
    for (const image of article.querySelectorAll("img[src]"))
      image.setAttribute("src", new URL(image.getAttribute("src"), address).href);
    for (const link of article.querySelectorAll("a[href]")) {
      const target = new URL(link.getAttribute("href"), address);
      const page = target.pathname.slice(1);
      if (target.origin !== here.origin) continue;
      if (all.has(page)) link.setAttribute("href", `#${slug(page)}--${decodeURIComponent(target.hash.slice(1))}`);
      else link.removeAttribute("href");
    }
    for (const one of article.querySelectorAll("[id]")) one.id = `${slug(path)}--${one.id}`;
    for (const one of article.querySelectorAll("[loading]")) one.removeAttribute("loading");
    article.id = `${slug(path)}--`;
    article.style.breakBefore = joined.length ? "page" : "auto";
    joined.push(document.adoptNode(article));
  }
  document.querySelector("article").replaceWith(...joined);
  for (const part of document.querySelectorAll("article details:not(.hide, .emseg-details)")) part.open = true;
  await MathJax.startup.promise;
  await MathJax.typesetPromise();
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
}"""


def printed_pages(html: Path) -> list[str]:
    """Return the pages of a built book in the order of its table of contents, as the side bar lists them."""
    start = start_page(html)
    bar = re.search(r'<nav class="bd-links.*?</nav>', start.read_text(encoding="utf-8"), re.DOTALL)
    assert bar is not None
    listed = [start, *((start.parent / target) for target in re.findall(r'href="([^"#]+\.html)"', bar[0]))]
    paths = dict.fromkeys(path.resolve().relative_to(html.resolve()).as_posix() for path in listed)
    return [path for path in paths if not path.startswith(NOT_PRINTED)]


def join_pages(page: Page, address: str, paths: list[str]) -> None:
    """Open the first page and add the articles of the others to it."""
    page.goto(address + next(path for path in paths if path.startswith("book/")), wait_until="load")
    page.evaluate(
        "() => document.querySelector('script[src*=mathjax]') ? null : document.head.append("
        "Object.assign(document.createElement('script'), {src: '/_static/mathjax/startup.js'}))"
    )
    page.wait_for_function("() => window.MathJax?.startup?.promise")
    page.evaluate(_JOIN, paths)


def print_page(page: Page, target: Path) -> None:
    """Print an open page with bookmarks; the page numbers are those of the style sheet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    page.pdf(
        path=target,
        prefer_css_page_size=True,  # size, margins and page numbers as emseg.css has them
        print_background=True,
        outline=True,
        tagged=True,
    )


def write_pdf(html: Path, target: Path, executable: str) -> list[str]:
    """Print the book at `html` to `target` and return the pages that it holds."""
    paths = printed_pages(html)
    with serve(html) as address, launch(executable) as browser:
        page = browser.new_page()
        page.set_default_timeout(TIME_LIMIT_MS)
        join_pages(page, address, paths)
        print_page(page, target)
    return paths


def main() -> int:
    """Write the PDF; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("html", type=Path, help="folder of the built book")
    parser.add_argument("pdf", type=Path, help="file to write")
    arguments = parser.parse_args()
    executable = find_browser()
    if executable is None or not (arguments.html / "index.html").exists():
        print("A built book (`make book`) and Chrome or Chromium ($CHROME) are needed.", file=sys.stderr)
        return 1
    paths = write_pdf(arguments.html, arguments.pdf, executable)
    print(f"{arguments.pdf}: {len(paths)} pages of the book, {arguments.pdf.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
