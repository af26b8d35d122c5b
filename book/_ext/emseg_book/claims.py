"""The directives `{claims-ledger}` and `{verdicts}`: the papers' claims with what the committed records show for them.

    {claims-ledger}       directive: all claims, by paper, with the tally of verdicts
    {verdicts} CHAPTER    directive: those that a chapter tests

The claim of a paper is a sentence; our readings of it are rows below. Verdicts come from committed records alone; the
number of the present build's own run is shown next to them, with whether it agrees. A stand-in has no verdict: its row
shows what we saw instead, and what a verdict would take.
"""

from collections.abc import Iterable, Sequence
from html import escape

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from emseg.errors import InputError, UsageError
from emseg.intervals import metric_interval
from emseg.reported import (
    OUTCOMES,
    Claim,
    Judged,
    compare,
    count_outcomes,
    judge_records,
    load_claims,
    sentence_outcomes,
    verdict_markup,
)
from emseg.reported.display import bearing_text, estimate_text, expected_text, tolerance_text
from emseg.runs.gathering import TEST_PROFILE
from emseg.wording import as_html, format_measured
from emseg_book.evidence import Evidence, read_evidence
from emseg_book.markup import chip_html, link_html, table_html
from emseg_book.result import LEDGER_PAGE
from emseg_book.wording import run_anchor

logger = logging.getLogger(__name__)
CLAIMS_PAGE = "book/claims"
COLUMNS = ("Checked as", "Verdict", "Estimate (95 % interval)", "Expected", "Bearing")
PAPERS = {"fanet": "Claims of FANet", "urisc": "Claims of U-RISC"}


class ClaimsLedger(SphinxDirective):
    """Shows the claims, grouped by paper, with the tally of verdicts at the top."""

    def run(self) -> list[nodes.Node]:
        """Return the tally and a section a paper."""
        try:
            evidence = read_evidence(self.env.srcdir)
            judged = judge_records(load_claims(), evidence.committed)
        except InputError as error:
            logger.warning("{claims-ledger}: %s", error, location=self.get_location(), type="emseg")
            return []
        sections: list[nodes.Node] = [nodes.raw("", tally_html(judged), format="html")]
        for paper in dict.fromkeys(row.claim.paper for row in judged):
            rows = [row for row in judged if row.claim.paper == paper]
            title = PAPERS.get(paper.rstrip("0123456789"), paper)
            table = nodes.raw("", Table(self, evidence).html(title, rows), format="html")
            sections.append(nodes.section("", nodes.title("", title), table, ids=[nodes.make_id(title)], names=[title]))
        return sections


class Verdicts(SphinxDirective):
    """Shows the claims that one chapter tests."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table of the chapter's claims."""
        chapter = self.arguments[0]
        try:
            evidence = read_evidence(self.env.srcdir)
            rows = judge_records(load_claims(chapter), evidence.committed)
        except (InputError, UsageError) as error:
            logger.warning("{verdicts} %s: %s", chapter, error, location=self.get_location(), type="emseg")
            return []
        return [nodes.raw("", Table(self, evidence).html("What the committed records show", rows), format="html")]


class Table:
    """Writes rows of claims as HTML, with links from the directive's page."""

    def __init__(self, directive: SphinxDirective, evidence: Evidence) -> None:
        self.env, self.evidence = directive.env, evidence

    def html(self, caption: str, rows: Sequence[Judged]) -> str:
        """Return a table with a group of rows for each sentence of a paper, headed by its quotation."""
        groups = []
        for sentence, outcome in sentence_outcomes(rows).items():
            readings: dict[str, list[Judged]] = {}
            for row in rows:
                if row.claim.sentence == sentence:
                    readings.setdefault(row.claim.id, []).append(row)
            claim = next(iter(readings.values()))[0].claim
            head = f"<q>{escape(claim.quotation)}</q> {_note(claim.place)}"
            if len(readings) > 1:
                n_bearing = sum(found[0].decides for found in readings.values())
                head += f" {verdict_markup(outcome)} {_note(f'{n_bearing} of {len(readings)} readings bear')}"
            scope = f'<th scope="rowgroup" colspan="{len(COLUMNS)}"><span>{head}</span></th>'
            body = "".join(map(self._row, readings.values()))
            groups.append(f'<tbody><tr class="emseg-sentence">{scope}</tr>{body}</tbody>')
        columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in COLUMNS)
        return (
            f'<div class="emseg-table" tabindex="0" role="region" aria-label="{escape(caption)}">'
            f'<table class="emseg-claim-ledger"><caption>{escape(caption)}</caption>'
            f"<thead><tr>{columns}</tr></thead>{''.join(groups)}</table></div>"
        )

    def _row(self, found: Sequence[Judged]) -> str:
        """Return the row of one reading: its only judgement, or a stand-in for each kind of data."""
        claim = found[0].claim
        note = f" {_note(claim.note)}" if claim.note else ""
        own = own_text(claim, self.evidence)
        saw = f"{_note('What we saw instead:')} " if found[0].outcome == "no verdict" and not found[0].decides else ""
        takes = "" if found[0].decides else f"<br>{_note(f'A verdict would take: {claim.takes}')}"
        cells = (
            verdict_markup(found[0].outcome),
            saw + "<br>".join(map(self._estimate, found)) + (f"<br>{_note(own)}" if own else ""),
            f"{as_html(expected_text(claim))}<br>{_note(tolerance_text(claim))}",
            "<br>".join(map(_bearing, found)) + takes,
        )
        first = f'<th scope="row">{escape(claim.statement)}{note} {self._chapter(claim.chapter)}</th>'
        anchor = f' id="claim-{claim.id}"' if self.env.docname == CLAIMS_PAGE else ""
        return f"<tr{anchor}>{first}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

    def _estimate(self, row: Judged) -> str:
        if row.estimate is None:
            return "–"
        ledger = self.env.app.builder.get_relative_uri(self.env.docname, LEDGER_PAGE)
        records = [one for one in self.evidence.committed if one["run_id"] in row.estimate.run_ids]
        links = ", ".join(link_html(f"{ledger}#{run_anchor(one['run_id'])}", escape(one["profile"])) for one in records)
        behind = _note("(older code)") if any(map(self.evidence.n_older, records)) else ""
        return f"{as_html(estimate_text(row.estimate))} {chip_html(row.estimate.data_kinds)} {links} {behind}"

    def _chapter(self, chapter: str) -> str:
        """Return a link to the chapter, nothing on its own page."""
        page = f"book/{chapter}"
        if page == self.env.docname:
            return ""
        if page not in self.env.found_docs:
            return f"{escape(chapter)} (planned)"
        return link_html(self.env.app.builder.get_relative_uri(self.env.docname, page), escape(chapter.split("/")[-1]))


def tally_html(judged: Sequence[Judged]) -> str:
    """Return the tally over the papers' sentences; stand-ins are counted apart, for they give no verdict."""
    outcomes = sentence_outcomes(judged)
    counts = count_outcomes(outcomes.values())
    decided = [outcome for outcome in OUTCOMES if outcome not in ("no verdict", "not run")]
    claims = list({row.claim.id: row.claim for row in judged}.values())
    table = table_html(
        "Verdicts on sentences whose test bears on them",
        [outcome.capitalize() for outcome in decided],
        [[str(counts[outcome]) for outcome in decided]],
        css_class="emseg-counts",
    )
    bearing = _counted(sum(counts[one] for one in decided), "a test that bears")
    rest = (
        f"{_counted(counts['no verdict'], 'only stand-ins or depend on a vague word')}, "
        f"and {_counted(counts['not run'], 'no run yet')}"
    )
    return (
        f"<p>The table has {len(claims)} readings of {len(outcomes)} sentences. {_declared(claims)} "
        f"Of the sentences, {bearing} (exact, or on the same data), {rest}.</p>{table}"
    )


def own_text(claim: Claim, evidence: Evidence) -> str:
    """Return the number of this build's own run next to the committed ones: "yours 0.31 (laptop): agrees"."""
    own = evidence.current(claim.chapter)
    if (
        own is None
        or own["profile"] == TEST_PROFILE
        or own["run_id"] in evidence.build["committed"]
        or claim.metric not in own["metrics"]
    ):
        return ""
    committed = evidence.committed
    metric = own["metrics"][claim.metric]
    low, high = metric_interval(metric) or (metric["value"], metric["value"])
    value = format_measured(metric["value"], (high - low) / 2)
    return f"yours {value} ({own['profile']}): {compare(claim, own, committed)}"


def _bearing(row: Judged) -> str:
    return escape(bearing_text(row))


def _counted(n: int, what: str) -> str:
    return f"{n} {'has' if n == 1 else 'have'} {what}"


def _declared(claims: Iterable[Claim]) -> str:
    found = list(claims)
    after = sum(claim.declared == "after" for claim in found)
    return f"{after} of the {len(found)} tolerances were declared after a first result; their rows are marked."


def _note(text: str) -> str:
    return f'<span class="emseg-note">{as_html(text)}</span>'
