"""Parts of pages that need no browser: trimmed style sheets, the reference of the library, citations, search words."""

from typing import Any

import pytest
from emseg_book.api import docstring_html, entry_html, exports
from emseg_book.bibliography import AuthorYearLabels, author_year
from emseg_book.colophon import bibtex, colophon_html
from emseg_book.light import keep_used_rules, used_words
from emseg_book.searching import HyphenatedEnglish
from pybtex.database import Entry, Person

CITATION: dict[str, Any] = {"title": "The book", "version": "1.2", "authors": [{"name": "Some authors"}]}
BUILD = {"built": "2026-11-21T20:00:00Z", "commit": "0123456789", "tree_clean": True}


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".used{a:b}.gone{a:b}", ".used{a:b}"),
        (".used,.gone .used,p{a:b}", ".used,p{a:b}"),
        ("@media print{.gone{a:b}}p{a:b}", "p{a:b}"),
        ("@media print{.used{a:b}.gone{c:d}}", "@media print{.used{a:b}}"),
        ("p:not(.gone){a:b}", "p:not(.gone){a:b}"),
        (":is(.used,.gone) p{a:b}", ":is(.used,.gone) p{a:b}"),
        ("@font-face{font-family:x}", "@font-face{font-family:x}"),
        ('@charset "UTF-8";.gone{a:b}p{a:b}', '@charset "UTF-8";p{a:b}'),
        ("@keyframes turn{from{a:b}to{a:c}}", "@keyframes turn{from{a:b}to{a:c}}"),
    ],
)
def test_only_rules_of_classes_in_use_are_kept(css: str, kept: str) -> None:
    """A selector that needs a class of no page is dropped, and a rule without selectors."""
    assert keep_used_rules(css, used_words(['<p class="used">'])) == kept


def test_the_reference_lists_what_a_package_exports() -> None:
    """Names by the module that defines them, with signature and docstring."""
    offered = exports("emseg.frequency")
    assert "dct2" in offered["emseg.frequency.dct"]
    assert set(offered) <= {f"emseg.frequency.{name}" for name in ("aliasing", "attention", "dct", "pooling", "resnet")}
    html = entry_html("emseg.frequency.attention", "FanetAttention")
    assert "channels: int" in html
    assert "self" not in html.split("</code>")[0]
    assert "(Eq. 6)" in html


def test_equations_in_docstrings_keep_their_lines() -> None:
    """An indented block stays as it is; words in backquotes are code; all is escaped."""
    html = docstring_html("Return `x` < 1.\n\n        f = a\n          + b\n\n    Last.")
    assert "<p>Return <code>x</code> &lt; 1.</p>" in html
    assert "f = a\n  + b</pre>" in html


def test_a_citation_names_page_version_and_commit() -> None:
    """And no address as long as the repository's is a stand-in; then the page says so."""
    entry = bibtex(CITATION, BUILD, "book/urisc/x", '<span class="n">7. </span>A title', "")
    assert entry.startswith("@incollection{wafer-to-membrane:x,")
    assert "title = {A title}" in entry
    assert "Version 1.2, commit 0123456" in entry
    assert "url" not in entry
    assert "stand-in" in colophon_html(CITATION, BUILD, "book/x", "X", "")
    public = colophon_html(CITATION, BUILD, "book/x", "X", "https://example.org/book")
    assert "stand-in" not in public
    assert "url = {https://example.org/book}" in public


def test_bibliography_labels_are_author_and_year() -> None:
    """Two equal ones get letters."""
    one, two, three = ({"author": [Person(f"{name}, A.") for name in names]} for names in ("A", "AB", "ABC"))
    entries = [Entry("article", {"year": "2020"}, persons) for persons in (one, two, three, three)]
    assert [author_year(entry) for entry in entries[:2]] == ["A, 2020", "A and B, 2020"]
    assert list(AuthorYearLabels().format_labels(entries))[2:] == ["A et al., 2020a", "A et al., 2020b"]


def test_hyphenated_words_are_indexed_whole_and_in_parts() -> None:
    """So that V-Rand is found as such."""
    language = HyphenatedEnglish({})
    assert language.split("The V-Rand score") == ["The", "V", "Rand", "score", "V-Rand"]
    assert language.stem("V-Rand") == "v-rand"
