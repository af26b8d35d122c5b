"""Claims and verdicts read the same on a page, in Markdown and in a console, and never by colour alone."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from emseg.errors import UsageError
from emseg.reported import Measured, claims_table, judged_table, load_claims, verdict_table
from emseg.reported.claims import VERDICTS, Claim, Judged
from emseg.reported.display import tolerance_text
from emseg.runs.session import Run

CHAPTER = "urisc/sharpness_analysis"
VOID = {"br", "img", "hr"}


class Page(HTMLParser):
    """Reads a table's HTML: tags must balance; keeps start tags, and the text of each."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(markup)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def measured_run(share: float) -> Run:
    """Return a run on synthetic images that measured the first claim's metric as `share` of the claimed value."""
    claim = load_claims(CHAPTER)[0]
    run = Run(CHAPTER, seed=1)
    run.uses("synthetic tissue", kind="synthetic", fingerprint="0")
    run.metric(claim.metric, claim.value * share, n=8, unit=claim.unit, label="a ratio", interval=(0.25, 0.75))
    return run


def judged(verdict="match", value=1.0, claim_changes=None, **changes) -> Judged:
    """Return a judged claim to show."""
    fields = vars(load_claims(CHAPTER)[0]) | {"unit": "1", "upper": None, "relation": "equals", "value": 1.0}
    return Judged(
        Claim(**(fields | (claim_changes or {}))), Measured(**({"value": value, "unit": "1"} | changes)), verdict
    )


def test_the_claims_of_a_chapter_are_shown_with_quotation_and_tolerances():
    table, claims = claims_table(CHAPTER), load_claims(CHAPTER)
    page = Page(table._repr_html_())
    assert [text for tag, text in page.texts if tag == "q"] == [claim.quotation for claim in claims]
    for claim in claims:
        for shown in (repr(table), table._repr_markdown_()):
            assert claim.statement in shown
            assert claim.quotation in shown


def test_an_unknown_chapter_has_no_table():
    with pytest.raises(UsageError, match="no claim belongs to chapter"):
        claims_table("urisc/none")
    with pytest.raises(UsageError, match="no claim belongs to chapter"):
        verdict_table("urisc/none", Run("urisc/none", seed=1))


@pytest.mark.parametrize("make", [claims_table, lambda chapter: verdict_table(chapter, measured_run(0.5))])
def test_a_table_can_be_read_without_seeing_it(make):
    """Caption, scoped headers, a named region that the keyboard reaches, unique ids, no colours of its own."""
    markup = make(CHAPTER)._repr_html_()
    page = Page(markup)
    assert len(page.attributes("caption")) == 1
    assert {attributes.get("scope") for attributes in page.attributes("th")} == {"col", "row"}
    (region,) = page.attributes("div")
    assert (region["role"], region["tabindex"]) == ("region", "0")
    assert region["aria-label"]
    ids = [attributes["id"] for attributes in page.attributes("tr") if "id" in attributes]
    assert len(set(ids)) == len(ids) == len(load_claims(CHAPTER))
    assert "style=" not in markup


def test_a_verdict_is_a_word_in_a_class_of_its_own():
    rows = [judged(verdict, claim_changes={"id": f"claim-{nth}"}) for nth, verdict in enumerate(VERDICTS)]
    markup = judged_table(rows, "All verdicts.")._repr_html_()
    for verdict in VERDICTS:
        name = verdict.replace(" ", "-")
        assert f'<span class="emseg-verdict emseg-{name}">{verdict}</span>' in markup


def test_verdicts_come_from_the_runs_numbers():
    """The same claim, two runs, two verdicts: half the bound is below it, twice the bound is not."""
    for share, verdict in ((0.5, "match"), (2.0, "differs")):
        assert load_claims(CHAPTER)[0].relation == "below"
        first, *rest = verdict_table(CHAPTER, measured_run(share)).rows
        assert first[-1].text == verdict
        assert {row[-1].text for row in rest} == {"not run"}


def test_the_caption_counts_the_verdicts():
    n_rest = len(load_claims(CHAPTER)) - 1
    assert verdict_table(CHAPTER, measured_run(0.5)).caption.startswith(
        f"Verdicts of this run: 1 match, {n_rest} not run."
    )


def test_synthetic_data_is_shown_as_standing_in_for_the_papers():
    table = verdict_table(CHAPTER, measured_run(0.5))
    assert "synthetic, standing in for licensed data" in repr(table)
    assert '<span class="emseg-kind emseg-kind-synthetic">synthetic</span> standing in for' in table._repr_html_()


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.57, "1", "0.57"),
        (0.123456, "1", "0.1235"),
        (65536.0, "1", "65,536"),
        (46000.0, "nm^2", "46,000 nm²"),
        (38.1, "%", "38.1 %"),
        (-2.5, "1", "−2.5"),
        (3.14159e-16, "1", "3.142 × 10^−16"),
        (1e-12, "1", "10^−12"),
        (-12.0, "1", "−12"),
    ],
)
def test_numbers_are_shown_with_sensible_digits_and_their_unit(value, unit, shown):
    row = judged(value=value, unit=unit, claim_changes={"unit": unit})
    assert judged_table([row], "One.").rows[0][3].text == shown


def test_powers_of_ten_are_raised_on_a_page():
    assert "3.142 × 10<sup>−16</sup>" in judged_table([judged(value=3.14159e-16)], "One.")._repr_html_()


@pytest.mark.parametrize(
    ("extra", "shown"),
    [
        ({"n": 8}, "1, n = 8"),
        ({"n": 8, "spread": 0.0123}, "1 ± 0.012, n = 8"),
        ({"n": 8, "spread": 0.0123, "interval": (0.98765, 1.25)}, "1 (0.988 to 1.25), n = 8"),
    ],
)
def test_a_measured_number_shows_what_it_rests_on(extra, shown):
    assert judged_table([judged(**extra)], "One.").rows[0][3].text == shown


@pytest.mark.parametrize(
    ("changes", "expected", "tolerance"),
    [
        ({"match_tolerance": 0.01, "close_tolerance": 0.05}, "1", "±0.01, ±0.05"),
        ({"match_tolerance": 0.0, "close_tolerance": 0.05}, "1", "none, ±0.05"),
        ({"match_tolerance": 0.0, "close_tolerance": 0.0}, "1", "none"),
        ({"relation": "at_least", "value": 0.97}, "at least 0.97", None),
        ({"relation": "between", "value": 1.3, "upper": 1.7}, "1.3 to 1.7", None),
    ],
)
def test_what_a_claim_expects_is_said_in_words(changes, expected, tolerance):
    row = judged_table([judged(claim_changes=changes)], "One.").rows[0]
    assert row[2].text == expected
    assert tolerance is None or row[4].text == tolerance


def test_text_is_escaped_in_html_and_in_markdown():
    row = judged(claim_changes={"statement": "a < b | c & d"})
    table = judged_table([row], "One.")
    assert "a &lt; b | c &amp; d" in table._repr_html_()
    assert r"a < b \| c & d" in table._repr_markdown_()
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 8 for line in table._repr_markdown_().splitlines()[2:])


def test_one_claim_on_two_kinds_of_data_gets_two_rows_with_ids_of_their_own():
    rows = [judged(data_kinds=("real",)), judged(data_kinds=("synthetic",))]
    table = judged_table(rows, "Two.")
    assert len(set(table.row_ids)) == 2
    assert "no data" in repr(judged_table([judged()], "One."))


def test_a_tolerance_declared_after_a_result_says_so_wherever_it_is_shown():
    """Declared beforehand is the rule; a row that breaks it must not look like the others."""
    claim = load_claims()[0]
    assert "declared after" not in tolerance_text(replace(claim, declared="before"))
    assert tolerance_text(replace(claim, declared="after")).endswith("(declared after a first result)")
