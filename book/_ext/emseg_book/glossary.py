"""The glossary in the text: the first use of a technical term on a page is linked, and its definition shown on hover.

Linked are terms with a distinctive form, such as V-Rand, stand-in or receptive field; words of everyday language only
where a page links them itself (`{term}`). The definition is part of the link, so that it needs no other page.
"""

import re
from functools import lru_cache
from html import escape
from typing import Any

from docutils import nodes
from sphinx.addnodes import glossary
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

GLOSSARY_PAGE = "book/notation"
MAX_DEFINITION = 400  # characters
_TECHNICAL = re.compile(r".*[A-Z].*|.*[ -].*|halo|logit|embedding")
_LINK = re.compile(r'<a class="reference internal"( [^>]*)?href="[^"]*#(?P<id>term-[\w-]+)"')
_NOT_PROSE = (nodes.reference, nodes.title, nodes.literal, nodes.raw, nodes.math, nodes.caption, nodes.emphasis)


class LinkTerms(SphinxPostTransform):
    """Links the first use of each technical term in the paragraphs of a page."""

    default_priority = 20

    def run(self, **kwargs: Any) -> None:
        """Replace text of this page by links to the glossary."""
        page = self.env.docname
        if self.app.builder.format != "html" or page == GLOSSARY_PAGE or GLOSSARY_PAGE not in self.env.found_docs:
            return
        objects = self.env.get_domain("std").objects  # type: ignore[attr-defined]
        ids = {name: target for (kind, name), (_, target) in objects.items() if kind == "term"}
        terms = {name: target for name, target in ids.items() if _TECHNICAL.fullmatch(name)}
        if not terms:
            return
        words = "|".join(re.escape(name) for name in sorted(terms, key=len, reverse=True))
        pattern, address = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])"), self._address(page)
        for paragraph in list(self.document.findall(nodes.paragraph)):
            for text in list(paragraph.findall(nodes.Text)):
                found = next((one for one in pattern.finditer(text) if one[0] in terms), None)
                if found is None or _inside(text, paragraph):
                    continue
                target = terms[found[0]]
                terms = {name: other for name, other in terms.items() if other != target}
                link = nodes.reference(
                    "", found[0], internal=True, refuri=f"{address}#{target}", classes=["emseg-term"]
                )
                before, after = nodes.Text(text[: found.start()]), nodes.Text(text[found.end() :])
                text.parent.replace(text, [before, link, after])

    def _address(self, page: str) -> str:
        return self.app.builder.get_relative_uri(page, GLOSSARY_PAGE)


def _inside(text: nodes.Node, paragraph: nodes.Node) -> bool:
    at = text.parent
    while at is not paragraph:
        if isinstance(at, _NOT_PROSE):
            return True
        at = at.parent
    return isinstance(paragraph.parent, nodes.footnote | nodes.citation | nodes.caption)


def show_definitions(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the definition of a term into each link to it; connected to Sphinx's `html-page-context`."""
    if "body" not in context or GLOSSARY_PAGE not in app.env.found_docs or page == GLOSSARY_PAGE:
        return
    meanings = definitions(app)

    def complete(link: re.Match[str]) -> str:
        meaning = meanings.get(link["id"], "")
        return f'{link[0]} data-meaning="{escape(meaning)}"' if meaning else link[0]

    context["body"] = _LINK.sub(
        complete, context["body"].replace('"emseg-term reference internal"', '"reference internal"')
    )


@lru_cache(maxsize=1)
def definitions(app: Sphinx) -> dict[str, str]:
    """Return the definition of each term of the glossary as plain text, by the anchor of the term."""
    found = {}
    for table in app.env.get_doctree(GLOSSARY_PAGE).findall(glossary):
        for item in table.findall(nodes.definition_list_item):
            text = " ".join(part.astext() for part in item.findall(nodes.definition)).replace("\n", " ")
            short = text if len(text) <= MAX_DEFINITION else text[:MAX_DEFINITION].rsplit(" ", 1)[0] + " …"
            for term in item.findall(nodes.term):
                found |= {str(name): short for name in term["ids"]}
    return found
