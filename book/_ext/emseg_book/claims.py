"""The directive `{claims-ledger}`: every claim of the papers that the book checks, with its verdicts from the records.

A claim has one row for each kind of data on which it was measured, or one row "not run". Test runs (profile smoke)
count only where no other run of the same kind of data exists.
"""

from collections.abc import Sequence
from html import escape

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from emseg.errors import InputError
from emseg.reported import VERDICTS, Judged, count_verdicts, load_claims, verdict_markup, verdicts_from_records
from emseg.reported.display import expected_text, tolerance_text
from emseg.wording import as_html
from emseg_book.evidence import read_evidence
from emseg_book.markup import chip_html, link_html, number_html, table_html
from emseg_book.result import LEDGER_PAGE
from emseg_book.wording import run_anchor

logger = logging.getLogger(__name__)
COLUMNS = ("Claim", "Verdict", "Measured", "Expected", "Data", "Where", "Chapter")
VERDICTS_MEASURED = [verdict for verdict in VERDICTS if verdict != "not run"]


class ClaimsLedger(SphinxDirective):
    """Shows the claims, grouped by paper, with the count of verdicts at the top."""

    def run(self) -> list[nodes.Node]:
        """Return a paragraph of counts and a section a paper."""
        try:
            evidence = read_evidence(self.env.srcdir)
            judged = verdicts_from_records(load_claims(), evidence.by_weight())
        except InputError as error:
            logger.warning("{claims-ledger}: %s", error, location=self.get_location(), type="emseg")
            return []
        sections: list[nodes.Node] = [nodes.raw("", counts_html(judged), format="html")]
        for paper in dict.fromkeys(row.claim.paper for row in judged):
            rows = [row for row in judged if row.claim.paper == paper]
            title = {"fanet": "Claims of FANet", "urisc": "Claims of U-RISC"}.get(paper.rstrip("0123456789"), paper)
            table = nodes.raw("", self._table(title, rows), format="html")
            sections.append(nodes.section("", nodes.title("", title), table, ids=[nodes.make_id(title)], names=[title]))
        return sections

    def _table(self, title: str, rows: Sequence[Judged]) -> str:
        cells = [
            (
                f"{escape(row.claim.statement)}{_quotation_html(row)}",
                verdict_html(row),
                self._measured(row),
                expected_html(row),
                chip_html(row.measured.data_kinds) if row.measured else "–",
                escape(row.claim.place),
                self._chapter(row.claim.chapter),
            )
            for row in rows
        ]
        return table_html(f"{title} and what the runs say", COLUMNS, cells, css_class="emseg-claim-ledger")

    def _measured(self, row: Judged) -> str:
        if row.measured is None:
            return "–"
        ledger = self.env.app.builder.get_relative_uri(self.env.docname, LEDGER_PAGE)
        number = number_html(row.measured.value, row.measured.unit)
        return link_html(f"{ledger}#{run_anchor(row.measured.run_id)}", number, f"profile {row.measured.profile}")

    def _chapter(self, chapter: str) -> str:
        page = f"book/{chapter}"
        if page not in self.env.found_docs:
            return f"{escape(chapter)} (planned)"
        return link_html(self.env.app.builder.get_relative_uri(self.env.docname, page), escape(chapter))


def counts_html(judged: Sequence[Judged]) -> str:
    """Return the count of each verdict, apart for each kind of data, as a table."""
    kinds = sorted({row.measured.data_kinds for row in judged if row.measured})
    rows = []
    for data_kinds in kinds:
        counts = count_verdicts(row for row in judged if row.measured and row.measured.data_kinds == data_kinds)
        rows.append((chip_html(data_kinds), *(str(counts[verdict]) for verdict in VERDICTS_MEASURED)))
    n_claims = len({row.claim.id for row in judged})
    n_open = sum(row.measured is None for row in judged)
    table = table_html(
        "Verdicts by kind of data", ("Data", "Match", "Close", "Differs"), rows, css_class="emseg-counts"
    )
    return f"<p>The book lists {n_claims} claims; {n_open} of them have not been run.</p>{table if rows else ''}"


def expected_html(row: Judged) -> str:
    """Return what the claim expects, with the tolerances that were declared for it."""
    tolerances = f"match, close: {tolerance_text(row.claim)}"
    return f'{as_html(expected_text(row.claim))}<br><span class="emseg-note">{as_html(tolerances)}</span>'


def verdict_html(row: Judged) -> str:
    """Return the verdict as a chip, with a remark where the data stand in for the paper's."""
    remark = f'<br><span class="emseg-note">standing in for {escape(row.claim.data)} images</span>'
    return verdict_markup(row.verdict) + (remark if row.stands_in else "")


def _quotation_html(row: Judged) -> str:
    return f'<br><q class="emseg-note">{escape(row.claim.quotation)}</q>' if row.claim.quotation else ""
