"""Claims and verdicts as tables: for a notebook's page, for plain text, for Markdown.

A verdict is always a word; its class (`emseg-match`, `emseg-close`, `emseg-differs`, `emseg-undecided`) lets the book's
style sheet add a colour that suits light and dark. What gives no verdict (`emseg-no-verdict`, `emseg-not-run`) is
neutral. A number is written no finer than its interval.
"""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from emseg.errors import InputError
from emseg.files import find_root, read_json
from emseg.intervals import metric_interval
from emseg.reported.claims import Claim, load_claims
from emseg.reported.verdicts import Estimate, Judged, count_outcomes, judge_records
from emseg.wording import as_html, format_measured, format_number

_RELATION_WORDS = {"equals": "", "at_most": "at most ", "at_least": "at least ", "below": "below ", "above": "above "}
_LEGEND = (
    "Match: the whole 95 % interval lies within the first tolerance; close: within the second; differs: outside both; "
    "undecided: it spans a border, or there is none. A stand-in gives no verdict. "
    "Nor does a vague word, where its plausible readings disagree."
)


@dataclass(frozen=True)
class Shown:
    """One cell of a table: plain `text`, or `markup` (HTML, already escaped) where a page can show more."""

    text: str
    markup: str = ""

    @property
    def html(self) -> str:
        """What a page shows."""
        return self.markup or as_html(self.text)


@dataclass(frozen=True)
class DisplayTable:
    """A table that Jupyter shows as HTML, a console as text; the first column heads its row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Shown, ...], ...]
    css_class: str
    row_ids: tuple[str, ...]

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in self.header)
        body = "".join(
            f'<tr id="{html.escape(row_id)}"><th scope="row">{first.html}</th>'
            + "".join(f"<td>{cell.html}</td>" for cell in rest)
            + "</tr>"
            for row_id, (first, *rest) in zip(self.row_ids, self.rows, strict=True)
        )
        caption = html.escape(self.caption)
        label = html.escape(self.caption.split(". ")[0].removesuffix("."))
        return (
            f'<div class="emseg-table" role="region" aria-label="{label}" tabindex="0">'
            f'<table class="{self.css_class}"><caption>{caption}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _repr_markdown_(self) -> str:
        lines = [self.header, ("---",) * len(self.header), *([cell.text for cell in row] for row in self.rows)]
        table = "\n".join("| " + " | ".join(text.replace("|", r"\|") for text in line) + " |" for line in lines)
        return f"{self.caption}\n\n{table}"

    def __repr__(self) -> str:
        blocks = [
            "\n".join(f"  {name}: {cell.text}" for name, cell in zip(self.header, row, strict=True) if cell.text)
            for row in self.rows
        ]
        return "\n\n".join([self.caption, *blocks])


def text_table(caption: str, header: Iterable[str], rows: Mapping[str, Iterable[str]]) -> DisplayTable:
    """Return a table of plain text; `rows` gives the cells of each row by the row's id."""
    shown = tuple(tuple(map(Shown, cells)) for cells in rows.values())
    return DisplayTable(caption, tuple(header), shown, "emseg-metrics", tuple(rows))


def claims_table(chapter: str) -> DisplayTable:
    """Return the table of claims that a chapter tests, with the tolerances and the bearing declared for them.

    Raises `UsageError` for a chapter that tests no claim.
    """
    claims = load_claims(chapter)
    after = sum(claim.declared == "after" for claim in claims)
    when = "before any run" if not after else f"before any run, except for {after}, declared after a first result"
    return DisplayTable(
        caption=f"The {len(claims)} statements that this chapter tests. Their tolerances were declared {when}.",
        header=("Claim", "Quotation", "Checked as", "Expected", "Tolerance: match, close", "Bearing"),
        rows=tuple(
            (
                Shown(claim.id),
                Shown(
                    f"“{claim.quotation}” ({claim.place})",
                    f"<q>{html.escape(claim.quotation)}</q> ({html.escape(claim.place)})",
                ),
                Shown(" ".join(filter(None, (claim.statement, claim.note)))),
                Shown(expected_text(claim)),
                Shown(tolerance_text(claim)),
                Shown(claim.bearing),
            )
            for claim in claims
        ),
        css_class="emseg-claims",
        row_ids=tuple(f"claim-{claim.id}" for claim in claims),
    )


def verdict_table(chapter: str, run: Any) -> DisplayTable:
    """Return a chapter's claims with the verdicts of the committed records, and the numbers of `run` next to them.

    Raises `UsageError` for a chapter that tests no claim, `InputError` for a metric in another unit than its claim's.
    """
    judged = judge_records(load_claims(chapter), committed_records(chapter))
    counts = ", ".join(f"{n} {outcome}" for outcome, n in count_outcomes(row.outcome for row in judged).items() if n)
    ids = [f"verdict-{row.claim.id}" for row in judged]  # a claim has a row for each kind of data that stands in
    nth = [ids[: place + 1].count(name) for place, name in enumerate(ids)]
    return DisplayTable(
        caption=f"Verdicts of the committed records: {counts}. {_LEGEND}",
        header=("Claim", "Checked as", "Expected", "This run", "Committed (95 % interval)", "Bearing", "Verdict"),
        rows=tuple(
            (
                Shown(row.claim.id),
                Shown(row.claim.statement),
                Shown(f"{expected_text(row.claim)}; {tolerance_text(row.claim)}"),
                Shown(_own_text(row.claim, run)),
                Shown("" if row.estimate is None else estimate_text(row.estimate)),
                Shown(bearing_text(row)),
                Shown(row.outcome, verdict_markup(row.outcome)),
            )
            for row in judged
        ),
        css_class="emseg-verdicts",
        row_ids=tuple(name if count == 1 else f"{name}-{count}" for name, count in zip(ids, nth, strict=True)),
    )


def committed_records(chapter: str) -> list[dict[str, Any]]:
    """Return the records of `chapter` that this checkout of the book has committed; none outside a checkout."""
    try:
        folder = find_root() / "book" / "results" / chapter
    except InputError:
        return []
    return [dict(read_json(path)) for path in sorted(folder.glob("*.json"))]


def verdict_markup(verdict: str) -> str:
    """Return a verdict as HTML: the word, in its own class."""
    return f'<span class="emseg-verdict emseg-{verdict.replace(" ", "-")}">{html.escape(verdict)}</span>'


def expected_text(claim: Claim) -> str:
    """Return what the claim expects in words, such as "at most 0.7" or "1.3 % to 1.7 %"."""
    if claim.upper is not None:
        return f"{_with_unit(claim.value, claim.unit)} to {_with_unit(claim.upper, claim.unit)}"
    text = _RELATION_WORDS[claim.relation] + _with_unit(claim.value, claim.unit)
    return text if claim.loosest is None else f"{text} (a vague word: perhaps {_with_unit(claim.loosest, claim.unit)})"


def tolerance_text(claim: Claim) -> str:
    """Return the two declared tolerances, such as "±0.01, ±0.05", or one where both are the same.

    Tolerances that were declared after a result had been seen are marked.
    """
    tolerances = dict.fromkeys((claim.match_tolerance, claim.close_tolerance))
    text = ", ".join("none" if tolerance == 0 else f"±{_with_unit(tolerance, claim.unit)}" for tolerance in tolerances)
    return text if claim.declared == "before" else f"{text} (declared after a first result)"


def bearing_text(row: Judged) -> str:
    """Return what the row's test rests on, such as "stand-in: synthetic data for licensed"."""
    if row.estimate is None or row.bearing != "stand-in":
        return row.bearing
    kinds = " and ".join(row.estimate.data_kinds)
    return f"stand-in: {'small networks' if kinds == row.claim.data else f'{kinds} data for {row.claim.data}'}"


def estimate_text(estimate: Estimate) -> str:
    """Return the estimate with its unit and interval, or why it has none: "0.28 (0.21 to 0.36), n = 30"."""
    if estimate.interval is None:  # of an unknown spread two digits are enough
        value = format_number(float(f"{estimate.value:.2g}"))
        return f"{value}{unit_text(estimate.unit)}, n = {estimate.n:,}; {estimate.gap}"
    low, high = estimate.interval
    text = format_measured(estimate.value, (high - low) / 2) + unit_text(estimate.unit)
    if high > low:
        text += f" ({' to '.join(format_measured(end, (high - low) / 2) for end in (low, high))})"
    return f"{text}, n = {estimate.n:,}"


def unit_text(unit: str) -> str:
    """Return a unit as it follows a number, with its blank; nothing for a ratio or a count."""
    return "" if unit == "1" else " " + unit.replace("^2", "²")


def _own_text(claim: Claim, run: Any) -> str:
    """Return the number of a run (`emseg.runs.session.Run`) for a claim, empty where it has none."""
    metric = run.metrics.get(claim.metric)
    if metric is None:
        return ""
    if metric.unit != claim.unit:
        raise InputError(
            f"claim {claim.id} is declared in {claim.unit!r}, but `{claim.metric}` of {claim.chapter} was measured in "
            f"{metric.unit!r}. Record the metric in the claim's unit."
        )
    low, high = metric_interval(vars(metric)) or (metric.value, metric.value)
    return format_measured(metric.value, (high - low) / 2) + unit_text(metric.unit)


def _with_unit(value: float, unit: str) -> str:
    return format_number(value, 4) + unit_text(unit)
