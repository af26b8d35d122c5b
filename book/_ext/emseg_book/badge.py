"""The badge below a page's title: which run made the page, on what data and device, when, and at what cost.

A page without computation states this and gives the build of the book. A chapter without a run in the present build is
a warning, which fails the build where warnings are errors: a page must never show numbers of unknown origin.
"""

from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from emseg.errors import InputError
from emseg_book.evidence import Evidence, Record, read_evidence
from emseg_book.markup import chip_html, data_kinds, link_html
from emseg_book.result import LEDGER_PAGE, PAGE_CHIP
from emseg_book.wording import SHORT_HASH, code_age, device, duration, peak_memory, run_anchor, when

logger = logging.getLogger(__name__)
BOOK_FOLDER = "book/"


def add_badge(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Insert the badge after the first title of a page; connected to Sphinx's `doctree-resolved`."""
    title = next(iter(doctree.findall(nodes.title)), None)
    if app.builder.format != "html" or title is None:
        return
    try:
        evidence = read_evidence(app.srcdir)
    except InputError as error:
        logger.warning("badge: %s", error, location=page, type="emseg")
        return
    chapter = page.removeprefix(BOOK_FOLDER)
    chip = doctree.get(PAGE_CHIP, "")
    record = evidence.current(chapter)
    if record is not None:
        ledger = app.builder.get_relative_uri(page, LEDGER_PAGE)
        html = run_badge_html(evidence, record, f"{ledger}#{run_anchor(record['run_id'])}", chip)
    elif Path(app.env.doc2path(page)).suffix == ".ipynb":
        logger.warning(
            "badge: this build has no run of chapter %s. Run it first.", chapter, location=page, type="emseg"
        )
        return
    else:
        html = text_badge_html(evidence, chip)
    title.parent.insert(title.parent.index(title) + 1, nodes.raw("", html, format="html"))


def run_badge_html(evidence: Evidence, record: Record, ledger_entry: str, chip: str = "") -> str:
    """Return the badge of a chapter's page.

    `ledger_entry` is the address of its run in the ledger, `chip` the mark that the page's numbers do not repeat.
    """
    gathered = [code_age(evidence, record)] if evidence.gathered(record) else []
    items = [
        f"profile <strong>{escape(record['profile'])}</strong>",
        f"data {chip_html(data_kinds(record))}",
        *_numbers("" if chip == chip_html(data_kinds(record)) else chip),
        escape(device(record["environment"])),
        f"run {when(record['finished'])}",
        f"{duration(record['wall_s'])}, {peak_memory(record)}",
        *gathered,
        link_html(ledger_entry, "record"),
    ]
    return _badge_html("How this page was computed", items)


def text_badge_html(evidence: Evidence, chip: str = "") -> str:
    """Return the badge of a page that computes nothing itself; `chip` is the mark that its numbers do not repeat."""
    build = evidence.build
    commit = f"commit {escape(build['commit'][:SHORT_HASH])}" if build.get("commit") else "no commit known"
    items = [
        "text page, nothing computed here",
        *_numbers(chip),
        f"book built at profile <strong>{escape(build['profile'])}</strong>, {when(build['built'])}",
        commit + (" with uncommitted changes" if build.get("tree_clean") is False else ""),
    ]
    return _badge_html("How this book was built", items)


def _numbers(chip: str) -> list[str]:
    return [f"unmarked numbers: {chip}"] if chip else []


def _badge_html(label: str, items: list[str]) -> str:
    entries = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="emseg-badge" aria-label="{label}">{entries}</ul>'
