"""Pictures of every page of the built book: wide and light, wide and dark, as on a phone.

python tests/book/screenshots.py [FOLDER]     default folder: _build/screenshots; the book from $EMSEG_HTML

One more, `readme.png`, is the window of README's picture, `.github/page.png`: a figure with its text and the side bar.
"""

import sys
from pathlib import Path

from browser import ROOT, find_browser, find_html, launch, list_pages, opened, serve

README_PAGE, README_FIGURE = "book/urisc/sharpness_analysis.html", "fig-sharpness-response"
VIEWS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 360), "phone-dark": ("dark", 360)}


def main(folder: Path) -> int:
    """Write one PNG a page and view; return the exit code."""
    html, executable = find_html(), find_browser()
    if html is None or executable is None:
        print("screenshots: a built book and Chrome or Chromium are needed. Run `make book`.", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with serve(html) as address, launch(executable) as browser:
        for page in list_pages(html):
            for view, (scheme, width) in VIEWS.items():
                with opened(browser, address + page, scheme, width) as (tab, _):
                    name = f"{page.removesuffix('.html').replace('/', '-')}-{view}.png"
                    tab.screenshot(path=folder / name, full_page=True)
        with opened(browser, address + README_PAGE, "light", 1280) as (tab, _):
            tab.evaluate("name => document.getElementById(name).scrollIntoView({block: 'end'})", README_FIGURE)
            tab.screenshot(path=folder / "readme.png")
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_build" / "screenshots"))
