"""Claims and verdicts as tables: for a notebook's page, for plain text, for Markdown.

A verdict is always a word; its class (`emseg-match`, `emseg-close`, `emseg-differs`, `emseg-not-run`) lets the
book's style sheet add a colour that suits light and dark. The kind of data stands in a chip of its own
(`emseg-kind emseg-kind-synthetic`, ...), with a remark where it only stands in for what the paper's claim is about.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emseg.reported.claims import Claim, Judged, count_verdicts, load_claims, verdicts_of_run
from emseg.wording import as_html, format_number

_RELATION_WORDS = {"equals": "", "at_most": "at most ", "at_least": "at least ", "below": "below ", "above": "above "}
_LEGEND = (
    "Match: within the first tolerance, declared before any run unless a row says otherwise; close: within the second; "
    "differs: beyond both; not run: nothing was measured."
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
    """Return the table of claims that a chapter tests, with the tolerances declared for them.

    Raises `UsageError` for a chapter that tests no claim.
    """
    claims = load_claims(chapter)
    return DisplayTable(
        caption=f"The {len(claims)} claims that this chapter tests. Tolerances were declared before any run, "
        "unless a row says otherwise.",
        header=("Claim", "The paper says", "Checked as", "Expected", "Tolerance: match, close"),
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
            )
            for claim in claims
        ),
        css_class="emseg-claims",
        row_ids=tuple(f"claim-{claim.id}" for claim in claims),
    )


def verdict_table(chapter: str, run: Any) -> DisplayTable:
    """Return the table of a chapter's claims with the verdicts that follow from the metrics of `run`.

    Raises `UsageError` for a chapter that tests no claim, `InputError` for a metric in another unit than its claim's.
    """
    judged = verdicts_of_run(load_claims(chapter), run)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in count_verdicts(judged).items() if count)
    return judged_table(judged, caption=f"Verdicts of this run: {counts}. {_LEGEND}")


def judged_table(judged: Sequence[Judged], caption: str) -> DisplayTable:
    """Return a table of verdicts, one row each, under a caption."""
    ids = [f"verdict-{row.claim.id}" for row in judged]
    numbers = [
        ids[: place + 1].count(name) for place, name in enumerate(ids)
    ]  # a claim has a row for each kind of data
    row_ids = [name if nth == 1 else f"{name}-{nth}" for name, nth in zip(ids, numbers, strict=True)]
    return DisplayTable(
        caption=caption,
        header=("Claim", "Checked as", "Expected", "Measured", "Tolerance: match, close", "Data", "Verdict"),
        rows=tuple(
            (
                Shown(row.claim.id),
                Shown(row.claim.statement),
                Shown(expected_text(row.claim)),
                Shown(measured_text(row)),
                Shown(tolerance_text(row.claim)),
                _data(row),
                Shown(row.verdict, verdict_markup(row.verdict)),
            )
            for row in judged
        ),
        css_class="emseg-verdicts",
        row_ids=tuple(row_ids),
    )


def verdict_markup(verdict: str) -> str:
    """Return a verdict as HTML: the word, in a class of its own."""
    return f'<span class="emseg-verdict emseg-{verdict.replace(" ", "-")}">{html.escape(verdict)}</span>'


def expected_text(claim: Claim) -> str:
    """Return what the claim expects in words, such as "at most 0.7" or "1.3 % to 1.7 %"."""
    if claim.upper is not None:
        return f"{_with_unit(claim.value, claim.unit)} to {_with_unit(claim.upper, claim.unit)}"
    return _RELATION_WORDS[claim.relation] + _with_unit(claim.value, claim.unit)


def tolerance_text(claim: Claim) -> str:
    """Return the two declared tolerances, such as "±0.01, ±0.05", or one where both are the same.

    Tolerances that were declared after a result had been seen say so.
    """
    tolerances = dict.fromkeys((claim.match_tolerance, claim.close_tolerance))
    text = ", ".join("none" if tolerance == 0 else f"±{_with_unit(tolerance, claim.unit)}" for tolerance in tolerances)
    return text if claim.declared == "before" else f"{text} (declared after a first result)"


def measured_text(row: Judged) -> str:
    """Return the measured number with its unit, its interval or else its spread, and its sample size."""
    if row.measured is None:
        return ""
    measured = row.measured
    text = _with_unit(measured.value, measured.unit)
    if measured.interval is not None:
        text += f" ({format_number(measured.interval[0], 3)} to {format_number(measured.interval[1], 3)})"
    elif measured.spread is not None:
        text += f" ± {format_number(measured.spread, 2)}"
    return text if measured.n is None else f"{text}, n = {measured.n}"


def _data(row: Judged) -> Shown:
    if row.measured is None:
        return Shown("")
    kinds, note = row.measured.data_kinds, f"standing in for {row.claim.data} data" if row.stands_in else ""
    chips = [f'<span class="emseg-kind emseg-kind-{html.escape(kind)}">{html.escape(kind)}</span>' for kind in kinds]
    markup = " ".join(chips) or '<span class="emseg-kind emseg-kind-none">no data</span>'
    text = ", ".join(filter(None, (" and ".join(kinds) or "no data", note)))
    return Shown(text, f"{markup} {html.escape(note)}".rstrip())


def _with_unit(value: float, unit: str) -> str:
    shown = "" if unit == "1" else " " + unit.replace("^2", "²")
    return format_number(value, 4) + shown
