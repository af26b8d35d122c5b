"""The book's own Sphinx pieces: numbers, badges, the ledger and the table of claims, all read from run records.

    {result}         role: a number of a run record in prose or a table, linked to its run       (result.py)
    {reported}       role: a number that one of the papers prints                                 (reported.py)
    {claim} {words} {verdict} {tally}  roles: a claim's estimate, and words chosen by a number        (findings.py)
    {ledger}         directive: every run record                                                  (ledger.py)
    {claims-ledger}  directive: every claim of the papers with its verdicts                       (claims.py)
    {verdicts}       directive: the claims that one chapter tests, with their verdicts            (claims.py)
    {forest-plot} {results-table}  directives: all verdicts in one picture, all claims to filter    (results.py)
    {house-picture}  directive: the rooms of the code and what imports what                       (house.py)
    {api}            directive: what a package of the library offers                              (api.py)
    links to the glossary with definitions                                                        (glossary.py)
    the end of each page: version, date, citation                                                 (colophon.py)
    a search that keeps hyphenated words                                                          (searching.py)
    pages without the styles, icons and scripts that none uses                                    (light.py)
    the badge below each page's title: which run made the page, or that none did                  (badge.py)
    roles in the bibliography that screen readers understand                                      (bibliography.py)

Everything comes from the staged book (`build.json` and `records/`, see evidence.py). When one of those changes, Sphinx
reads all pages again, so that no page keeps an old number.
"""

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from emseg_book.api import Api
from emseg_book.badge import add_badge
from emseg_book.bibliography import name_roles, register
from emseg_book.claims import ClaimsLedger, Verdicts
from emseg_book.colophon import STAND_IN, add_colophon
from emseg_book.evidence import digest_of
from emseg_book.findings import ClaimRole, TallyRole, VerdictRole, WordsRole
from emseg_book.glossary import LinkTerms, show_definitions
from emseg_book.house import HousePicture
from emseg_book.ledger import Ledger, write_records
from emseg_book.light import MATHJAX_CONFIGURATION, MATHJAX_STARTUP, trim
from emseg_book.reported import ReportedRole
from emseg_book.result import ResolveResults, ResultRole, result_node
from emseg_book.results import ForestPlot, ResultsTable
from emseg_book.searching import HyphenatedEnglish

DIGEST_VALUE = "emseg_evidence_digest"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the roles, the directives, the badge and the digest that makes changed records rebuild the book."""
    app.add_config_value(DIGEST_VALUE, "", "env", [str])
    app.connect("config-inited", _set_digest)
    app.add_node(result_node)
    app.add_role("result", ResultRole())
    app.add_role("reported", ReportedRole())
    for name, role in (("claim", ClaimRole), ("words", WordsRole), ("verdict", VerdictRole), ("tally", TallyRole)):
        app.add_role(name, role())
    app.add_post_transform(ResolveResults)
    app.add_directive("ledger", Ledger)
    app.add_directive("claims-ledger", ClaimsLedger)
    app.add_directive("verdicts", Verdicts)
    app.add_directive("forest-plot", ForestPlot)
    app.add_directive("results-table", ResultsTable)
    app.add_directive("house-picture", HousePicture)
    app.connect("doctree-resolved", add_badge)
    app.connect("html-page-context", name_roles)
    app.add_directive("api", Api)
    app.add_post_transform(LinkTerms)
    app.connect("html-page-context", show_definitions)
    app.add_config_value(STAND_IN, True, "html", [bool])
    app.connect("html-page-context", add_colophon)
    app.add_search_language(HyphenatedEnglish)
    app.connect("build-finished", write_records)
    app.connect("build-finished", trim, priority=900)  # after all that copies files
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _set_digest(app: Sphinx, config: Config) -> None:
    config[DIGEST_VALUE] = digest_of(app.srcdir)
    register()
    if "sphinx-mathjax-offline" in config.extensions:
        config["mathjax_path"] = MATHJAX_STARTUP
        config["mathjax3_config"] = MATHJAX_CONFIGURATION
