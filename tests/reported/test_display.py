"""Claims and verdicts read the same on a page, in Markdown and in a console, and never by colour alone."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from emseg.errors import InputError, UsageError
from emseg.reported import (
    OUTCOMES,
    Claim,
    Estimate,
    Judged,
    claims_table,
    load_claims,
    text_table,
    verdict_markup,
    verdict_table,
)
from emseg.reported.display import bearing_text, committed_records, estimate_text, expected_text, tolerance_text
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


def measured_run(value: float, unit: str = "1") -> Run:
    """Return a run on synthetic images that measured the first claim's metric."""
    run = Run(CHAPTER, seed=1)
    run.uses("synthetic tissue", kind="synthetic", fingerprint="0")
    run.metric(load_claims(CHAPTER)[0].metric, value, n=8, unit=unit, label="a ratio", interval=(0.25, 0.75))
    return run


def of_claim(**changes) -> Claim:
    """Return the first claim with other fields."""
    fields = vars(load_claims(CHAPTER)[0]) | {"unit": "1", "upper": None, "relation": "equals", "value": 1.0}
    return Claim(**(fields | changes))


def estimate(value=1.0, interval=None, gap="", **changes) -> Estimate:
    """Return an estimate to show."""
    fields = {"unit": "1", "n": 8, "data_kinds": ("real",), "profile": "lab", "run_ids": ("r",), "n_seeds": 1}
    return Estimate(value=value, interval=interval, gap=gap, **(fields | changes))


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
    assert len(set(ids)) == len(ids) >= len(load_claims(CHAPTER))
    assert "style=" not in markup


def test_a_verdict_is_a_word_in_a_class_of_its_own():
    for outcome in OUTCOMES:
        name = outcome.replace(" ", "-")
        assert verdict_markup(outcome) == f'<span class="emseg-verdict emseg-{name}">{outcome}</span>'


def test_a_run_of_ones_own_never_decides():
    """Two runs, two numbers, one outcome: that of the committed records."""
    shown = [verdict_table(CHAPTER, measured_run(value)).rows[0] for value in (0.5, 2.0)]
    assert [row[3].text for row in shown] == ["0.50", "2.00"]
    assert shown[0][-1].text == shown[1][-1].text == "no verdict"
    assert [row[-1].text for row in verdict_table(CHAPTER, Run(CHAPTER, seed=1)).rows].count("match") == 1


def test_the_caption_counts_the_outcomes_and_says_the_rule():
    caption = verdict_table(CHAPTER, measured_run(0.5)).caption
    assert caption.startswith("Verdicts of the committed records: 1 match, 24 no verdict.")
    assert "A stand-in gives no verdict." in caption


def test_the_claims_table_says_how_many_tolerances_came_late():
    after = sum(claim.declared == "after" for claim in load_claims(CHAPTER))
    assert f"except for {after}, declared after a first result" in claims_table(CHAPTER).caption


def test_a_number_in_another_unit_than_its_claim_is_refused():
    with pytest.raises(InputError, match="was measured in '%'"):
        verdict_table(CHAPTER, measured_run(0.5, "%"))


def test_outside_a_checkout_nothing_is_committed(tmp_path, monkeypatch):
    assert len(committed_records(CHAPTER)) == 2
    monkeypatch.setenv("EMSEG_PROJECT", str(tmp_path))
    assert committed_records(CHAPTER) == []


def test_what_stands_in_is_said():
    claim = of_claim()
    stand_in = Judged(claim, estimate(data_kinds=("synthetic",)), "stand-in", "no verdict")
    assert bearing_text(stand_in) == "stand-in: synthetic data for licensed"
    small = Judged(claim, estimate(data_kinds=("licensed",)), "stand-in", "no verdict")
    assert bearing_text(small) == "stand-in: small networks"
    assert bearing_text(Judged(claim, None, "same data", "not run")) == "same data"


@pytest.mark.parametrize(
    ("value", "interval", "unit", "shown"),
    [
        (0.57, (0.57, 0.57), "1", "0.57, n = 8"),
        (0.123456, (0.123456, 0.123456), "1", "0.1235, n = 8"),
        (65536.0, (65536.0, 65536.0), "1", "65,536, n = 8"),
        (3.14159e-16, (3.14159e-16, 3.14159e-16), "1", "3.142 × 10^−16, n = 8"),
        (0.21963, (0.2106, 0.2287), "1", "0.2196 (0.2106 to 0.2287), n = 8"),
        (0.21963, (0.13, 0.31), "1", "0.220 (0.130 to 0.310), n = 8"),
        (-14.16, (-15.4, -12.9), "%", "−14.2 % (−15.4 to −12.9), n = 8"),
        (4585.67, (3622.2, 5700.2), "nm^2", "4,600 nm² (3,600 to 5,700), n = 8"),
        (-0.0001, (-0.09, 0.09), "1", "0.000 (−0.090 to 0.090), n = 8"),
    ],
)
def test_an_estimate_is_written_no_finer_than_its_interval(value, interval, unit, shown):
    assert estimate_text(estimate(value, interval, unit=unit)) == shown


def test_an_estimate_of_unknown_spread_has_two_digits_and_says_why():
    assert estimate_text(estimate(0.123456, None, "no interval over seeds recorded")) == (
        "0.12, n = 8; no interval over seeds recorded"
    )
    assert estimate_text(estimate(27960.0, None, "none", unit="nm^2")) == "28,000 nm², n = 8; none"


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
    claim = of_claim(**changes)
    assert expected_text(claim) == expected
    assert tolerance is None or tolerance_text(claim) == tolerance


def test_text_is_escaped_in_html_and_in_markdown():
    table = text_table("One.", ("a", "b"), {"x": ("a < b | c & d", "e")})
    assert "a &lt; b | c &amp; d" in table._repr_html_()
    assert r"a < b \| c & d" in table._repr_markdown_()
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in table._repr_markdown_().splitlines()[2:])


def test_a_tolerance_declared_after_a_result_says_so_wherever_it_is_shown():
    """Declared beforehand is the rule; a row that breaks it must not look like the others."""
    claim = load_claims()[0]
    assert "declared after" not in tolerance_text(replace(claim, declared="before"))
    assert tolerance_text(replace(claim, declared="after")).endswith("(declared after a first result)")
