"""Small pieces of HTML that the badge, the ledger and the tables of claims share; all text is escaped here."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from emseg.data import DATA_KINDS
from emseg.intervals import metric_interval
from emseg.wording import THIN_SPACE, as_html, decimals_of, format_measured, format_number, typeset

DEFAULT_DIGITS = 3
_FIXED = re.compile(r"(.*\.)(\d+)([f%])")


def number_html(value: float, unit: str = "1", spec: str | None = None, half_width: float = 0.0) -> str:
    """Return a number with its unit as HTML: `spec` is a Python format specification (three digits without it).

    With the `half_width` of its interval, no finer than two digits of that, whatever the specification asks for. Raises
    `ValueError` when `spec` is not a format specification.
    """
    number, decimals = float(value), decimals_of(half_width)
    if spec is None:
        shown = 0 if number == 0 else DEFAULT_DIGITS - 1 - math.floor(math.log10(abs(number)))
        coarse = decimals is not None and decimals < shown
        text = (
            format_measured(number, half_width)
            if coarse
            else format_number(number, DEFAULT_DIGITS, trailing_zeros=True)
        )
    else:
        if decimals is not None:
            if fixed := _FIXED.fullmatch(spec):  # rounded once: -0.951 is -1.0, not -0.95 and then -0.9
                percent = 2 * (fixed[3] == "%")
                digits = min(int(fixed[2]), max(0, decimals - percent))
                spec = f"{fixed[1]}{digits}{fixed[3]}"
                number = round(number, min(decimals, digits + percent) if decimals < 0 else digits + percent) + 0.0
            else:
                number = round(number, decimals) + 0.0
        text = typeset(format(number if half_width else value, spec))
    return as_html(text) + unit_html(unit)


def unit_html(unit: str) -> str:
    """Return a unit as it follows its number, after a thin space: "um^2" is " µm²"; nothing for a pure number."""
    if unit == "1":
        return ""
    return THIN_SPACE + escape(re.sub(r"\bum", "µm", unit).replace("^2", "²"))


def half_width_of(metric: Mapping[str, Any]) -> float:
    """Return half of a metric's 95 % interval, else its spread, else 0."""
    if (interval := metric_interval(metric)) is not None:
        return (interval[1] - interval[0]) / 2
    return float(metric.get("spread") or 0.0)


def data_kinds(record: dict[str, Any]) -> list[str]:
    """Return the kinds of data of a run, each once, in the usual order."""
    return [kind for kind in DATA_KINDS if any(use["kind"] == kind for use in record["data"])]


def chip_html(kinds: Sequence[str]) -> str:
    """Return the text chips that name the kinds of data: word, colour and border differ from kind to kind."""
    chips = [f'<span class="emseg-kind emseg-kind-{escape(kind)}">{escape(kind)}</span>' for kind in kinds]
    return " ".join(chips) or '<span class="emseg-kind emseg-kind-none">no data</span>'


def link_html(target: str, inner_html: str, title: str = "") -> str:
    """Return a link; `inner_html` is HTML already."""
    tooltip = f' title="{escape(title)}"' if title else ""
    return f'<a href="{escape(target)}"{tooltip}>{inner_html}</a>'


def table_html(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, css_class: str, ids: Sequence[str] = ()
) -> str:
    """Return a table in its focusable scrolling container; cells are HTML, the first of each row is its header."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = []
    for index, (first, *others) in enumerate(rows):
        anchor = f' id="{escape(ids[index])}"' if ids else ""
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        body.append(f'<tr{anchor}><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="emseg-table" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="{css_class}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def facts_html(facts: Iterable[tuple[str, str]]) -> str:
    """Return pairs of term and HTML as a description list."""
    return '<dl class="emseg-facts">' + "".join(f"<dt>{escape(a)}</dt><dd>{b}</dd>" for a, b in facts) + "</dl>"


def details_html(summary: str, inner_html: str) -> str:
    """Return a part that opens on a click."""
    return f'<details class="emseg-details"><summary>{escape(summary)}</summary>{inner_html}</details>'
