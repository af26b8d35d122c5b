r"""The role `{result}`: a number of a run record, its kind of data in words, both one link to the run in the ledger.

    {result}`chapter#metric`               of the present build's run
    {result}`chapter#metric@profile`       of the newest record at that profile
    {result}`chapter#metric|.1%`           with a Python format specification; in a table write the bar as \|

The kind of data is marked once a page, in its badge, and afterwards at numbers of another kind only: the page's kind is
that of most of its numbers. Where the text after a number repeats its unit in words, the number is written without it.

A key that no record contains is a warning that names the nearest one; with warnings as errors it fails the build.
"""

import re
from collections import Counter
from html import escape
from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from emseg.errors import InputError, UsageError
from emseg.intervals import MIN_REPLICATES
from emseg.reported.verdicts import kinds_of
from emseg_book.evidence import Evidence, Key, Record, read_evidence
from emseg_book.markup import chip_html, half_width_of, number_html, unit_html
from emseg_book.wording import code_age, run_anchor

LEDGER_PAGE = "book/ledger"
_KEY = re.compile(r"(?P<chapter>[^#@|\s]+)#(?P<metric>[^#@|\s]+)(@(?P<profile>[^#@|\s]+))?(\|(?P<spec>.+))?")
PAGE_CHIP = "emseg_chip"  # of a document: the mark of most of its numbers
_UNIT_WORDS = {
    "s": r"s\b|seconds?",
    "ms": r"ms\b|milliseconds?",
    "min": r"min\b|minutes?",
    "px": r"px\b|pixels?",
    "nm": r"nm\b|nanomet",
    "um": r"[uµ]m\b|micromet",
    "µm": r"[uµ]m\b|micromet",
    "%": r"%|per ?cent|(?:percentage )?points?",
    "points": r"(?:percentage )?points?",
}
logger = logging.getLogger(__name__)


class result_node(nodes.Inline, nodes.Element):  # noqa: N801 - docutils names nodes so
    """A number of a run between reading and writing; `ResolveResults` turns it into a link."""


class ResultRole(SphinxRole):
    """Looks a number up and leaves a `result_node` with its text and HTML."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the node, or nothing but a warning when the key is malformed or unknown."""
        try:
            found = look_up(self.text, read_evidence(self.env.srcdir))
        except (InputError, UsageError) as error:
            logger.warning("{result}`%s`: %s", self.text, error, location=self.get_location(), type="emseg")
            return [nodes.inline("", f"[no such result: {self.text}]")], []
        return [found], []


def parse_key(text: str) -> tuple[Key, str | None]:
    """Return the key and the format specification in the text of a role; raises `UsageError` when it is not a key."""
    match = _KEY.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"a result reads chapter#metric, chapter#metric@profile or either with |format; got {text!r}.")
    return Key(match["chapter"], match["metric"], match["profile"]), match["spec"]


def look_up(text: str, evidence: Evidence) -> result_node:
    """Return the node for the text of a role; raises `UsageError` for a key or format that cannot be used."""
    key, spec = parse_key(text)
    record = evidence.find(key)
    metric = record["metrics"][key.metric]
    try:
        number = number_html(metric["value"], metric["unit"], spec, half_width_of(metric))
    except ValueError as error:
        raise UsageError(f"{spec!r} is not a format of a number ({error}). Use one such as .3g or .1%.") from None
    plain = re.sub(r"<sup>(.*?)</sup>", r"^\1", number)
    return result_node(
        "",
        nodes.Text(plain),
        run_id=record["run_id"],
        number=number,
        unit=metric["unit"],
        chip=chip_html(kinds_of(record, key.metric)),
        title=tooltip(record, key.metric, code_age(evidence, record)),
    )


def tooltip(record: Record, name: str, age: str) -> str:
    """Return the sentence shown on hover: what the number is, its sample and spread, the run it came from."""
    metric: dict[str, Any] = record["metrics"][name]
    parts = [str(metric["label"]), f"n = {metric['n']}"]
    if metric.get("interval") is not None and metric["n"] >= MIN_REPLICATES:
        low, high = metric["interval"]
        parts.append(f"interval {low:.3g} to {high:.3g}")
    if metric.get("spread") is not None:
        parts.append(f"standard deviation {metric['spread']:.2g}")
    kinds = " and ".join(kinds_of(record, name))
    parts.append(f"profile {record['profile']}, {kinds + ' data' if kinds else 'no data'}, {age}")
    return "; ".join(parts)


def page_chip(document: nodes.document) -> str:
    """Return the mark of most numbers of a page, which its badge carries for all; empty without numbers."""
    chips = Counter(node["chip"] for node in document.findall(result_node))
    return chips.most_common(1)[0][0] if chips else ""


def without_repeated_unit(number: str, unit: str, following: str) -> str:
    """Return the number without its unit where the following text repeats the unit: "242 s" before " seconds"."""
    words = _UNIT_WORDS.get(unit, re.escape(unit))
    return number.removesuffix(unit_html(unit)) if re.match(rf"[\s-]+(?:{words})", following) else number


def _text_after(node: nodes.Node) -> str:
    siblings = node.parent.children
    after = siblings[siblings.index(node) + 1 :]
    return after[0].astext() if after else ""


class ResolveResults(SphinxPostTransform):
    """Turns each `result_node` into a link to its run; formats without links keep the number."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Replace the nodes of this page."""
        common = self.document[PAGE_CHIP] = page_chip(self.document)
        for node in list(self.document.findall(result_node)):
            if self.app.builder.format != "html":
                node.replace_self(nodes.inline("", node.astext()))
                continue
            ledger = self.app.builder.get_relative_uri(self.env.docname, LEDGER_PAGE)
            target = f"{ledger}#{run_anchor(node['run_id'])}"
            number = without_repeated_unit(node["number"], node["unit"], _text_after(node))
            chip = "" if node["chip"] == common else f" {node['chip']}"
            html = (
                f'<a class="emseg-result" href="{escape(target)}" title="{escape(node["title"])}">'
                f'<span class="emseg-number">{number}</span>{chip}</a>'
            )
            node.replace_self(nodes.raw("", html, format="html"))
