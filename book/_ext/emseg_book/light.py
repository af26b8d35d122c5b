"""Light pages: what no page uses is taken out of the built book.

The theme brings all of Font Awesome (as a script and as fonts), all of Bootstrap, and its search index to every page;
MathJax brings its menu and every output. After the build this keeps, of the style sheets, the rules whose classes occur
in a page or a script; of the fonts, the icons in use; of MathJax, the parts that typeset TeX. The index is loaded by
the search page alone. Pages without formulas fetch MathJax when idle, so that the next page has it.
"""

import logging
import re
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

MATHJAX_PARTS = ("core", "input/tex", "output/chtml", "a11y/assistive-mml")
MATHJAX_CONFIGURATION = {  # replaces the single file that holds the menu as well
    "loader": {"load": list(MATHJAX_PARTS)},
    "options": {"enableMenu": False},
}
MATHJAX_STARTUP = "mathjax/startup.js"
_MATHJAX_KEPT = ("startup.js", "core.js", "input/tex.js", "output/chtml.js", "output/chtml/", "input/tex/", "a11y/assi")
_SEARCH_PAGE = "search.html"
_NOT_NEEDED = re.compile(r"[ \t]*<(?:script|link)[^>]*(?:scripts/fontawesome\.js|webfonts/fa-)[^>]*>(?:</script>)?\n?")
_SEARCHING = re.compile(
    r"[ \t]*<script[^>]*(?:searchtools|language_data|searchindex)\.js[^>]*></script>\n?"
    r'|<link rel="preload"[^>]*searchindex[^>]*>'
)
_CLASS = re.compile(r"\.((?:[\w-]|\\.)+)")
_FONT = re.compile(r"url\((?P<path>[^)]*webfonts/(?P<name>fa-[\w-]+)\.woff2)\)[^}]*")


def trim(app: Sphinx, exception: Exception | None) -> None:
    """Trim the built book; connected to Sphinx's `build-finished`, after all that copies files."""
    if exception is None and app.builder.name == "html" and app.config.html_theme == "sphinx_book_theme":
        trim_html(Path(app.outdir))


def trim_html(html: Path) -> None:
    """Trim the style sheets, fonts, scripts and pages of the built book at `html`."""
    pages = {path: path.read_text(encoding="utf-8") for path in html.rglob("*.html")}
    for path, text in pages.items():
        kept = _NOT_NEEDED.sub("", text)
        if path.name != _SEARCH_PAGE:
            kept = _SEARCHING.sub("", kept)
        path.write_text(_fetch_mathjax_early(kept, path, html), encoding="utf-8")
    words = used_words([*pages.values(), *(path.read_text("utf-8") for path in html.glob("_static/**/*.js"))])
    sheets = [path for path in html.glob("_static/**/*.css") if path.name != "emseg.css"]
    for sheet in sheets:
        sheet.write_text(keep_used_rules(sheet.read_text(encoding="utf-8"), words), encoding="utf-8")
    _subset_icons(html, sheets)
    (html / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)
    mathjax = html / "_static" / "mathjax"
    for path in [path for path in mathjax.rglob("*") if path.is_file()]:
        if not path.relative_to(mathjax).as_posix().startswith(_MATHJAX_KEPT):
            path.unlink()


def used_words(texts: list[str]) -> set[str]:
    """Return every word that could be the name of a class in the pages and scripts."""
    return {word for text in texts for word in re.findall(r"[\w-]+", text)}


def keep_used_rules(css: str, words: set[str]) -> str:
    """Return the style sheet without the selectors that name a class outside `words`, and the rules left empty."""
    kept, position = [], 0
    css = re.sub(r"/\*(?!!).*?\*/", "", css, flags=re.DOTALL)
    while (start := css.find("{", position)) >= 0:
        head, end = css[position:start], _closing(css, start)
        statements, separator, selector = head.rpartition(";")  # @charset and @import end before the next rule
        body = css[start + 1 : end - 1]
        if selector.strip().startswith(("@media", "@supports", "@layer", "@container")):
            body = keep_used_rules(body, words)
        elif not selector.strip().startswith("@"):
            selector = ",".join(part for part in _split(selector) if _is_used(part, words))
        kept.append(statements + separator)
        if selector.strip() and body.strip():
            kept.append(f"{selector}{{{body}}}")
        position = end
    return "".join(kept) + css[position:]


def _closing(css: str, start: int) -> int:
    depth = 0
    for found in re.finditer(r"[{}]", css[start:]):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return start + found.end()
    return len(css)


def _split(selector: str) -> list[str]:
    """Split a list of selectors at its commas, not at those within brackets."""
    return re.split(r",(?![^(\[]*[)\]])", selector)


def _is_used(selector: str, words: set[str]) -> bool:
    outside = re.sub(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)", "", selector)
    return all(re.sub(r"\\(.)", r"\1", name) in words or "\\" in name for name in _CLASS.findall(outside))


def _fetch_mathjax_early(text: str, path: Path, html: Path) -> str:
    root = "../" * (len(path.relative_to(html).parts) - 1)
    if f"_static/{MATHJAX_STARTUP}" in text or "</head>" not in text:
        return text
    files = ["startup", *MATHJAX_PARTS]
    links = "".join(f'<link rel="prefetch" href="{root}_static/mathjax/{name}.js" as="script">\n' for name in files)
    return text.replace("</head>", f"{links}</head>", 1)


def _subset_icons(html: Path, sheets: list[Path]) -> None:
    """Replace each icon font by one with the glyphs that the style sheets still name."""
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    styles = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    glyphs = {int(code, 16) for code in re.findall(r"\\([0-9a-f]{4})\b", styles)}
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        for found in _FONT.finditer(text):
            full = (sheet.parent / found["path"]).with_suffix(".ttf")
            if full.exists():
                font = TTFont(full)
                subsetter = subset.Subsetter(subset.Options(layout_features=[], notdef_outline=True))
                subsetter.populate(unicodes=glyphs & set(font.getBestCmap()))
                subsetter.subset(font)
                font.flavor = "woff"
                font.save(full.with_suffix(".woff"))
        text = _FONT.sub(lambda found: f'url({found["path"][:-1]}) format("woff")', text)
        sheet.write_text(text, encoding="utf-8")
    for folder in html.glob("_static/vendor/fontawesome/webfonts"):
        for path in [*folder.glob("*.ttf"), *folder.glob("*.woff2")]:
            path.unlink()
