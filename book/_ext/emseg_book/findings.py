"""Roles that write a sentence around a claim's committed estimate, so that the number chooses its own words.

    {claim}`ID`                      estimate and 95 % interval of a claim, linked to its run: "-0.5 % (-1.7 to 0.8)"
    {claim}`ID|%`                    the same, a fraction as a percentage
    {claim}`ID|expected`             what the paper's sentence leads one to expect: "at least 0.97"
    {words}`ID; 0; fell; did not change measurably; rose`
                                     the first, second or third wording, as the interval lies below the value, includes
                                     it, or lies above it; instead of ID also chapter#metric or chapter#metric@profile
    {verdict}`ID`                    the verdict on a claim
    {tally}`after`                   how many tolerances were declared after a first result, of `rows`; a verdict counts
                                     sentences of the papers

Estimates of stand-ins come from the data closest to the claim's: licensed before real before synthetic. A number
without an interval is compared as it is only where it is computed, not sampled; otherwise it takes the second wording.
"""

from collections.abc import Sequence

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from emseg.data import DATA_KINDS
from emseg.errors import InputError, UsageError, suggest
from emseg.intervals import metric_interval
from emseg.reported import Judged, count_outcomes, judge_records, load_claims, sentence_outcomes, verdict_markup
from emseg.reported.display import expected_text, unit_text
from emseg.wording import THIN_SPACE, as_html, format_measured, format_number
from emseg_book.evidence import Evidence, read_evidence
from emseg_book.markup import chip_html
from emseg_book.result import parse_key, result_node
from emseg_book.wording import code_age

logger = logging.getLogger(__name__)
PERCENT = 100.0
_SAMPLED = ("images", "seeds", "runs")


class FindingRole(SphinxRole):
    """Looks the text of a role up in the evidence; a subclass defines what it shows."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the node, or nothing but a warning when the text names no claim or is malformed."""
        try:
            return [self.found(read_evidence(self.env.srcdir))], []
        except (InputError, UsageError) as error:
            logger.warning("{%s}`%s`: %s", self.name, self.text, error, location=self.get_location(), type="emseg")
            return [nodes.inline("", f"[not found: {self.text}]")], []

    def found(self, evidence: Evidence) -> nodes.Node:
        """Return what the role shows."""
        raise NotImplementedError


class ClaimRole(FindingRole):
    """Shows the committed estimate of a claim with its interval."""

    def found(self, evidence: Evidence) -> nodes.Node:
        """Return a number as `{result}` leaves one, which becomes a link to its run."""
        name, _, form = self.text.partition("|")
        if form == "expected":
            return nodes.Text(expected_text(readings(name.strip(), evidence)[0].claim))
        if form not in ("", "%"):
            raise UsageError(f"the format of a claim's estimate must be %, expected or none; got {form!r}.")
        row = closest(name.strip(), evidence)
        assert row.estimate is not None
        record = next(one for one in evidence.committed if one["run_id"] == row.estimate.run_ids[-1])
        text = estimate_words(row, percent=bool(form))
        profile, age = row.estimate.profile, code_age(evidence, record)
        return result_node(
            "",
            nodes.Text(text),
            run_id=record["run_id"],
            number=as_html(text),
            unit=row.estimate.unit,
            chip=chip_html(row.estimate.data_kinds),
            title=f"{row.claim.statement} n = {row.estimate.n:,}; committed records, profile {profile}; {age}",
        )


class WordsRole(FindingRole):
    """Shows one of three wordings."""

    def found(self, evidence: Evidence) -> nodes.Node:
        """Return the wording that the interval chooses."""
        parts = [part.strip() for part in self.text.split(";")]
        if len(parts) != 5:
            raise UsageError(f"words read name; value; below; between; above; got {len(parts)} parts.")
        name, value, *wordings = parts
        try:
            reference = float(value)
        except ValueError:
            raise UsageError(f"the value to compare with must be a number; got {value!r}.") from None
        return nodes.Text(choose(interval_of(name, evidence), reference, wordings))


class VerdictRole(FindingRole):
    """Shows the verdict on a claim."""

    def found(self, evidence: Evidence) -> nodes.Node:
        """Return the verdict's word, coloured as in the tables."""
        return nodes.raw("", verdict_markup(readings(self.text.strip(), evidence)[0].outcome), format="html")


class TallyRole(FindingRole):
    """Counts rows of the table of claims, or sentences with a verdict."""

    def found(self, evidence: Evidence) -> nodes.Node:
        """Return the count as text."""
        claims = load_claims()
        counts: dict[str, int] = {
            "rows": len(claims),
            "sentences": len({claim.sentence for claim in claims}),
            "after": sum(claim.declared == "after" for claim in claims),
            **count_outcomes(sentence_outcomes(judge_records(claims, evidence.committed)).values()),
        }
        if self.text not in counts:
            raise UsageError(
                f"there is no tally {self.text!r}.{suggest(self.text, counts)} Known: {', '.join(counts)}."
            )
        return nodes.Text(str(counts[self.text]))


def readings(name: str, evidence: Evidence) -> tuple[Judged, ...]:
    """Return what the committed records show for a claim; raises `UsageError` for an unknown one."""
    claims = load_claims()
    chosen = [claim for claim in claims if claim.id == name]
    if not chosen:
        raise UsageError(f"no claim is called {name!r}.{suggest(name, [claim.id for claim in claims])}")
    return judge_records(chosen, evidence.committed)


def closest(name: str, evidence: Evidence) -> Judged:
    """Return the reading on the data closest to the claim's; raises `UsageError` where nothing was measured."""
    rows = [row for row in readings(name, evidence) if row.estimate is not None]
    if not rows:
        raise UsageError(f"no committed record has measured {name}. Cite it once a record is committed.")
    return max(rows, key=lambda row: max((DATA_KINDS.index(kind) for kind in _kinds(row)), default=-1))


def estimate_words(row: Judged, *, percent: bool = False) -> str:
    """Return an estimate with its unit and interval as plain text; no interval where none was measured."""
    assert row.estimate is not None
    scale, unit = (PERCENT, THIN_SPACE + "%") if percent else (1.0, unit_text(row.estimate.unit))
    value = row.estimate.value * scale
    if row.estimate.interval is None:
        return format_number(value, 2) + unit
    low, high = (end * scale for end in row.estimate.interval)
    if low == high:
        return format_number(value, 2) + unit
    ends = " to ".join(format_measured(end, (high - low) / 2) for end in (low, high))
    return f"{format_measured(value, (high - low) / 2)}{unit} (95 % CI {ends})"


def interval_of(name: str, evidence: Evidence) -> tuple[float, float] | None:
    """Return the interval of a claim, or of a metric of a record; None for a sampled number without one."""
    if "#" not in name:
        row = closest(name, evidence)
        assert row.estimate is not None
        if row.estimate.interval is None and row.claim.replicates not in _SAMPLED:
            return row.estimate.value, row.estimate.value
        return row.estimate.interval
    key, spec = parse_key(name)
    if spec is not None:
        raise UsageError(f"words compare a number and write none, so they take no format; got {spec!r}.")
    metric = evidence.find(key)["metrics"][key.metric]
    if metric["n"] > 1 and metric_interval(metric) is None:
        return None
    return metric_interval(metric) or (metric["value"], metric["value"])


def choose(interval: tuple[float, float] | None, value: float, wordings: Sequence[str]) -> str:
    """Return the first wording for an interval below `value`, the third for one above, else the second."""
    below, between, above = wordings
    if interval is None:
        return between
    return below if interval[1] < value else above if interval[0] > value else between


def _kinds(row: Judged) -> tuple[str, ...]:
    assert row.estimate is not None
    return row.estimate.data_kinds
