"""The bibliography: entries labelled by author and year as the text cites them, and roles that screen readers know.

Docutils marks a bibliography as a list whose entries have the role `doc-biblioentry`. ARIA has deprecated that role and
no longer counts it as an entry of a list, so the list is announced as empty. `listitem` gives the same result and is
valid.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as PlainStyle
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx

STYLE = "emseg_author_year"  # `bibtex_default_style`
BIBLIOGRAPHY_PAGE = "book/bibliography"
_ARXIV = re.compile(r"(?<![/>])\barXiv:(\d{4}\.\d{4,5})")
DEPRECATED_ROLE = 'role="doc-biblioentry"'
VALID_ROLE = 'role="listitem"'


class AuthorYearLabels(BaseLabelStyle):
    """Labels such as "Shi et al., 2022", with a letter after the year where two would be equal."""

    def format_labels(self, entries: Sequence[Entry]) -> Iterator[str]:
        """Yield the label of each entry, in order."""
        labels = [author_year(entry) for entry in entries]
        counts, seen = Counter(labels), Counter[str]()
        for label in labels:
            letter = "abcdefgh"[seen[label]] if counts[label] > 1 else ""
            seen[label] += 1
            yield label + letter


class AuthorYearStyle(PlainStyle):
    """The plain style with these labels."""

    default_label_style = STYLE
    default_sorting_style = "author_year_title"


def author_year(entry: Entry) -> str:
    """Return "Shi et al., 2022" for an entry; the key without authors."""
    names = [" ".join(person.prelast_names + person.last_names) for person in entry.persons.get("author", [])]
    if not names:
        return str(entry.key)
    authors = " and ".join(names) if len(names) <= 2 else f"{names[0]} et al."
    return ", ".join(filter(None, [authors.translate({ord(brace): None for brace in "{}"}), entry.fields.get("year")]))


def register() -> None:
    """Make the style known to the bibliography."""
    register_plugin("pybtex.style.labels", STYLE, AuthorYearLabels)
    register_plugin("pybtex.style.formatting", STYLE, AuthorYearStyle)


def name_roles(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Replace the deprecated role in a page's body and link arXiv numbers; for `html-page-context`."""
    if "body" in context:
        body = context["body"].replace(DEPRECATED_ROLE, VALID_ROLE)
        linked = r'<a class="reference external" href="https://arxiv.org/abs/\1">arXiv:\1</a>'
        context["body"] = _ARXIV.sub(linked, body) if page == BIBLIOGRAPHY_PAGE else body
