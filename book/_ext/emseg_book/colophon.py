"""The end of each page: version, date and commit, how to cite it, and whether the repository is public.

The citation comes from `CITATION.cff`, the date and commit from `build.json`, the address from `_config.yml`. While
that address is the stand-in of an unpublished book (`emseg_repository_is_a_stand_in`), each page states it.
"""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx

from emseg.runs.staging import BUILD_FILE
from emseg_book.wording import SHORT_HASH, when

CITATION_FILE = "CITATION.cff"
STAND_IN = "emseg_repository_is_a_stand_in"


def add_colophon(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Append the colophon to a page's body; connected to Sphinx's `html-page-context`."""
    source = Path(app.srcdir)
    files = [source / CITATION_FILE, source / BUILD_FILE]
    if doctree is None or not all(path.exists() for path in files):
        return
    citation = yaml.safe_load(files[0].read_text(encoding="utf-8"))
    build = json.loads(files[1].read_text(encoding="utf-8"))
    repository = "" if app.config[STAND_IN] else str(app.config.html_theme_options.get("repository_url", ""))
    context["body"] += colophon_html(citation, build, page, context.get("title", ""), repository)


def colophon_html(citation: dict[str, Any], build: dict[str, Any], page: str, title: str, repository: str) -> str:
    """Return the colophon of a page; an empty `repository` means that its address is not yet known."""
    commit = f", commit {escape(build['commit'][:SHORT_HASH])}" if build.get("commit") else ""
    version = f"Version {escape(str(citation['version']))}, built {when(build['built'])}{commit}."
    notice = "" if repository else " The repository is not public yet: links to it lead to a stand-in address."
    entry = escape(bibtex(citation, build, page, title, repository))
    return (
        f'<div class="emseg-colophon"><p>{version}{notice}</p>'
        f'<details class="emseg-cite"><summary>Cite this page</summary>'
        f'<div class="highlight-bibtex notranslate"><div class="highlight"><pre>{entry}</pre></div></div>'
        "</details></div>"
    )


def bibtex(citation: dict[str, Any], build: dict[str, Any], page: str, title: str, repository: str) -> str:
    """Return the BibTeX entry of one page of the book."""
    authors = " and ".join(
        f"{{{one['name']}}}" if "name" in one else f"{one['family-names']}, {one['given-names']}"
        for one in citation["authors"]
    )
    fields = {
        "author": authors,
        "title": re.sub(r"^[\d.\s]+", "", re.sub(r"<[^>]+>", "", title)).strip(),
        "booktitle": citation["title"],
        "year": build["built"][:4],
        "note": f"Version {citation['version']}, commit {(build.get('commit') or 'unknown')[:SHORT_HASH]}",
        "doi": citation.get("doi", ""),
        "url": repository,
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@incollection{{wafer-to-membrane:{page.rsplit('/', 1)[-1]},", *lines, "}"])
