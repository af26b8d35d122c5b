"""The directives `{forest-plot}` and `{results-table}`: all verdicts in a picture, all claims in a table to filter.

    ```{forest-plot}      every claim whose test bears on it: estimate and interval against the tolerances
    ```{results-table}    every claim, with boxes to choose verdict, paper and chapter

The forest plot is a table, one strip a claim, so that it reads with and without eyes. A strip's axis runs in units of
the wider tolerance t, with the claimed value v at 0: an estimate m is drawn at (m - v) / t, and at the border, as an
arrow, where it lies further out than `REACH`. The filter is a script of the page; without it the whole table shows.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from emseg.errors import InputError
from emseg.reported import OUTCOMES, Claim, Judged, judge_records, load_claims, verdict_markup
from emseg.reported.display import bearing_text, expected_text
from emseg.runs.project import list_chapters
from emseg.wording import as_html
from emseg_book.claims import CLAIMS_PAGE
from emseg_book.evidence import read_evidence
from emseg_book.findings import estimate_words
from emseg_book.markup import link_html

logger = logging.getLogger(__name__)
PAPER_NAMES = {"fanet": "FANet", "urisc": "U-RISC"}
WIDTH, HEIGHT, REACH = 220, 26, 3.0
AXIS = "Estimate against the tolerances"
FILTER = """
<script>
for (const form of document.querySelectorAll("form.emseg-filter")) {
  const rows = [...document.querySelectorAll("table.emseg-results tbody tr")];
  const choose = () => {
    const wanted = [...form.querySelectorAll("select")].filter(box => box.value);
    for (const row of rows) row.hidden = wanted.some(box => row.dataset[box.name] !== box.value);
    form.querySelector("output").textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} rows`;
  };
  form.hidden = false;
  form.addEventListener("input", choose);
  form.addEventListener("reset", () => setTimeout(choose));
  form.addEventListener("submit", event => event.preventDefault());
  choose();
}
</script>
"""


class ResultsDirective(SphinxDirective):
    """Reads the judged claims; a subclass defines how they are shown."""

    def run(self) -> list[nodes.Node]:
        """Return the table, or nothing but a warning when the book was not staged."""
        try:
            judged = judge_records(load_claims(), read_evidence(self.env.srcdir).committed)
        except InputError as error:
            logger.warning("{%s}: %s", self.name, error, location=self.get_location(), type="emseg")
            return []
        return [nodes.raw("", self.html(judged), format="html")]

    def html(self, judged: Sequence[Judged]) -> str:
        """Return the directive's HTML."""
        raise NotImplementedError

    def statement(self, claim: Claim) -> str:
        """Return the claim in short, as a link to its row with quotation, tolerances and runs."""
        page = self.env.app.builder.get_relative_uri(self.env.docname, CLAIMS_PAGE)
        return link_html(f"{page}#claim-{claim.id}", as_html(short_statement(claim)))


class ForestPlot(ResultsDirective):
    """Draws the claims whose test bears on them, by verdict."""

    def html(self, judged: Sequence[Judged]) -> str:
        """Return the plot as a table."""
        rows = sorted((row for row in judged if row.decides), key=lambda row: OUTCOMES.index(row.outcome))
        lines = []
        for row in rows:
            strip = strip_svg(row)
            lines.append(
                f'<tr><th scope="row">{self.statement(row.claim)}</th>'
                f"<td>{verdict_markup(row.outcome)}</td><td>{strip}</td><td>{as_html(estimate_words(row))}</td>"
                f"<td>{as_html(expected_text(row.claim))}</td></tr>"
            )
        head = "".join(
            f'<th scope="col">{name}</th>' for name in ("Claim", "Verdict", AXIS, "Estimate (95 % interval)", "Claimed")
        )
        return (
            f'<div class="emseg-table" tabindex="0" role="region" aria-label="{AXIS}">'
            f'<table class="emseg-forest"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
        )


class ResultsTable(ResultsDirective):
    """Lists all claims, filtered by verdict, paper and chapter."""

    def html(self, judged: Sequence[Judged]) -> str:
        """Return the form, hidden until its script runs, and the table."""
        known = {chapter.name: chapter.title() for chapter in list_chapters(Path(self.env.srcdir))}
        lines, chapters = [], {}
        for row in judged:
            chapter, page = row.claim.chapter, f"book/{row.claim.chapter}"
            chapters[chapter] = known.get(chapter, chapter)
            paper = row.claim.paper.rstrip("0123456789")
            name = escape(chapters[chapter])
            found = page in self.env.found_docs
            link = link_html(self.env.app.builder.get_relative_uri(self.env.docname, page), name) if found else name
            estimate = "–" if row.estimate is None else as_html(estimate_words(row))
            lines.append(
                f'<tr data-verdict="{row.outcome}" data-paper="{paper}" data-chapter="{chapter}">'
                f'<th scope="row">{self.statement(row.claim)}</th><td>{verdict_markup(row.outcome)}</td>'
                f"<td>{estimate}</td><td>{as_html(expected_text(row.claim))}</td>"
                f"<td>{escape(bearing_text(row))}</td><td>{PAPER_NAMES.get(paper, paper)}: {link}</td></tr>"
            )
        present = [outcome for outcome in OUTCOMES if any(row.outcome == outcome for row in judged)]
        papers = dict.fromkeys(row.claim.paper.rstrip("0123456789") for row in judged)
        boxes = [
            _select("verdict", "Verdict", {outcome: outcome for outcome in present}),
            _select("paper", "Paper", {paper: PAPER_NAMES.get(paper, paper) for paper in papers}),
            _select("chapter", "Chapter", chapters),
        ]
        form = (
            f'<form class="emseg-filter" hidden aria-label="Filter the claims">{"".join(boxes)}'
            '<button type="reset">Show all</button><output aria-live="polite"></output></form>'
        )
        columns = ("Claim", "Verdict", "Estimate (95 % interval)", "Claimed", "Bearing", "Chapter")
        head = "".join(f'<th scope="col">{name}</th>' for name in columns)
        return (
            f'{form}<div class="emseg-table" tabindex="0" role="region" aria-label="All claims">'
            f'<table class="emseg-results"><caption>All claims</caption><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>{FILTER}"
        )


def short_statement(claim: Claim) -> str:
    """Return the statement up to the colon before what is measured: one clause."""
    return claim.statement.split(": ")[0].rstrip(".")


def strip_svg(row: Judged) -> str:
    """Return the strip of one claim: bands of both tolerances, the interval as a line, the estimate as a dot."""
    assert row.estimate is not None
    claim = row.claim
    unit = claim.close_tolerance or abs(claim.value) or 1.0
    top = claim.value if claim.upper is None else claim.upper
    bands = []
    for css_class, tolerance in (("close", claim.close_tolerance), ("match", claim.match_tolerance)):
        low, high = (claim.value - tolerance - claim.value) / unit, (top + tolerance - claim.value) / unit
        if claim.relation in ("at_most", "below"):
            low = -REACH
        if claim.relation in ("at_least", "above"):
            high = REACH
        left, right, height = _x(low), _x(high), HEIGHT - 6
        bands.append(
            f'<rect class="{css_class}" x="{left:.1f}" y="3" width="{max(right - left, 0.0):.1f}" height="{height}"/>'
        )
    value = (row.estimate.value - claim.value) / unit
    low, high = ((end - claim.value) / unit for end in row.estimate.interval or (row.estimate.value,) * 2)
    middle = HEIGHT / 2
    if abs(value) > REACH:  # too far out: an arrow at the border
        tip, back = (_x(REACH), -9) if value > 0 else (_x(-REACH), 9)
        mark = f'<path d="M{tip:.1f} {middle} l{back} -5 v10 z"/>'
    else:
        mark = f'<circle cx="{_x(value):.1f}" cy="{middle}" r="4"/>'
    label = f"{row.outcome}; estimate {estimate_words(row)}, claimed {expected_text(claim)}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(bands)}'
        f'<line class="claimed" x1="{_x(0):.1f}" x2="{_x(0):.1f}" y1="0" y2="{HEIGHT}"/>'
        f'<line x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="{middle}" y2="{middle}"/>{mark}</svg>'
    )


def _x(value: float) -> float:
    """Return the place on a strip of a deviation in units of the wider tolerance, at most at the border."""
    return WIDTH / 2 + max(-REACH, min(REACH, value)) / REACH * (WIDTH / 2 - 5)


def _select(name: str, label: str, options: dict[str, str]) -> str:
    choices = "".join(f'<option value="{escape(key)}">{escape(text)}</option>' for key, text in options.items())
    return f'<label>{label} <select name="{name}"><option value="">all</option>{choices}</select></label>'
