"""Sentences built around a claim: the number chooses the words, and the first page cannot claim what records deny."""

import re
from pathlib import Path
from typing import Any

import pytest
from book.staged import CHAPTER, OTHER, ROOT, build_html, metric, record, stage
from emseg_book.evidence import read_evidence
from emseg_book.findings import choose, interval_of
from emseg_book.results import REACH, WIDTH, short_statement, strip_svg
from hypothesis import given
from hypothesis import strategies as st

from emseg.files import read_json
from emseg.reported import Judged, judge_records, load_claims
from emseg.reported.claims import Claim

PER_PIXEL = next(claim for claim in load_claims(CHAPTER) if claim.id == "brenner-per-pixel-falls")
EXACT = next(claim for claim in load_claims(OTHER) if claim.id == "eq2-inverts-eq1")
FINITE = st.floats(-1e6, 1e6)


def measured(kinds: list[str], day: int, **values: Any) -> dict[str, Any]:
    """Return a record of the sharpness chapter at profile lab."""
    return record(CHAPTER, "lab", kinds, day, **values)


RECORDS = [
    measured(["synthetic"], 20, **{PER_PIXEL.metric: metric(0.5, interval=[0.4, 0.6])}),
    measured(["real"], 21, **{PER_PIXEL.metric: metric(2.38, interval=[2.14, 2.61]), "bare": metric(2.0)}),
    record(OTHER, "lab", [], 20, **{EXACT.metric: metric(0.3744)}),
]
WORDS = "falls; stays; rises"
PAGE = (
    "# Page\n\n{claim}`brenner-per-pixel-falls` {words}`brenner-per-pixel-falls; 1; falls; stays; rises` "
    "{verdict}`brenner-per-pixel-falls` {claim}`eq2-inverts-eq1|%` {tally}`after` of {tally}`rows`\n\n"
    "```{forest-plot}\n```\n\n```{results-table}\n```\n"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The HTML of a page with every role and directive over three records."""
    pages = {"page": PAGE, "claims": "# Claims\n\n```{claims-ledger}\n```\n"}
    folder = stage(tmp_path_factory.mktemp("findings"), RECORDS, [], pages)
    built = build_html(folder)
    assert built.returncode == 0, built.stderr
    return (folder / "_html" / "book" / "page.html").read_text("utf-8")


def test_a_claim_shows_estimate_and_interval_from_the_data_closest_to_its_own(page: str) -> None:
    assert "2.38 (95 % CI 2.14 to 2.61)" in page
    assert f'href="ledger.html#run-{RECORDS[1]["run_id"]}"' in page
    assert "0.50 (95 %" not in page.split("emseg-forest")[0]
    assert "37\N{NARROW NO-BREAK SPACE}%" in page


def test_the_words_and_the_verdict_follow_the_records(page: str) -> None:
    paragraph = page[page.index("CI 2.14") : page.index("emseg-forest")]
    assert "rises" in paragraph
    assert "falls" not in paragraph.replace("brenner-per-pixel-falls", "")
    assert "no verdict" in paragraph
    claims = load_claims()
    assert f"{sum(claim.declared == 'after' for claim in claims)} of {len(claims)}" in paragraph


@given(st.tuples(FINITE, FINITE).map(sorted).map(tuple), FINITE)
def test_words_agree_with_the_interval(interval: tuple[float, float], value: float) -> None:
    """Below and above only where the whole interval is; an interval that includes the value decides nothing."""
    low, high = interval
    assert choose(interval, value, ("below", "between", "above")) == (
        "below" if high < value else "above" if low > value else "between"
    )


def test_a_sampled_number_without_an_interval_takes_the_second_wording(tmp_path: Path) -> None:
    evidence = read_evidence(stage(tmp_path, RECORDS, []))
    assert interval_of(f"{CHAPTER}#bare@lab", evidence) is None
    assert choose(None, 1.0, ("below", "between", "above")) == "between"
    assert interval_of(EXACT.id, evidence) == (0.3744, 0.3744)


WRONG = {
    "{claim}`brenner-per-pixel-fall`": "Did you mean",
    "{claim}`vollath-per-pixel-falls`": "no committed record has measured",
    "{claim}`eq2-inverts-eq1|.2f`": "the format of a claim",
    "{words}`eq2-inverts-eq1; 0; a; b`": "got 4 parts",
    "{words}`eq2-inverts-eq1; zero; a; b; c`": "must be a number",
    "{tally}`afterwards`": "there is no tally",
}


def test_each_wrong_text_fails_the_build_with_its_repair(tmp_path: Path) -> None:
    built = build_html(stage(tmp_path, RECORDS, [], {"page": "# Page\n\n" + "\n\n".join(WRONG)}))
    assert built.returncode != 0
    warnings = built.stderr.splitlines()
    for text, reason in WRONG.items():
        assert any(text in line and reason in line for line in warnings), (text, built.stderr)


def test_the_forest_plot_has_only_tests_that_bear_and_the_table_has_all(page: str) -> None:
    forest, table = page.split('class="emseg-forest"')[1].split('class="emseg-results"')
    assert short_statement(EXACT) in forest
    assert short_statement(PER_PIXEL) not in forest
    rows = re.findall(r'<tr data-verdict="([^"]+)" data-paper="(\w+)" data-chapter="([\w/]+)">', table)
    judged = judge_records(load_claims(), RECORDS)
    assert rows == [(row.outcome, row.claim.paper.rstrip("0123456789"), row.claim.chapter) for row in judged]
    assert f'href="claims.html#claim-{EXACT.id}"' in forest


def test_a_claim_has_its_anchor_on_the_claims_page(page: str, tmp_path: Path) -> None:
    folder = stage(tmp_path, RECORDS, [], {"claims": "# Claims\n\n```{claims-ledger}\n```\n"})
    assert build_html(folder).returncode == 0
    html = (folder / "_html" / "book" / "claims.html").read_text("utf-8")
    ids = re.findall(r'<tr id="claim-([\w-]+)">', html)
    assert sorted(ids) == sorted(claim.id for claim in load_claims())


@pytest.mark.parametrize("claim", load_claims(), ids=lambda claim: claim.id)
def test_a_strip_puts_the_estimate_inside_its_band_if_and_only_if_it_matches(claim: Claim) -> None:
    """For the claimed value itself and for one far outside."""
    far = (
        claim.value
        + (5 if claim.relation in ("equals", "at_most", "below", "between") else -5)
        * max(claim.close_tolerance, abs((claim.upper or claim.value) - claim.value), 1e-9)
        * 2
    )
    for value, inside in ((claim.value, True), (far, False)):
        one = metric(value, claim.unit, interval=[value, value])
        made = record(
            claim.chapter, "lab", [claim.data if claim.data != "any" else "synthetic"], 20, **{claim.metric: one}
        )
        row = judge_records([claim], [made])[0]
        svg = strip_svg(row)
        left, width = map(float, re.findall(r'class="close" x="([\d.]+)" y="3" width="([\d.]+)"', svg)[0])
        circle = re.search(r'<circle cx="([\d.]+)"', svg)
        if circle is not None:
            assert (left - 0.2 <= float(circle[1]) <= left + width + 0.2) == inside
        else:
            assert not inside
            assert re.search(rf'<path d="M({WIDTH - 5}|5)\.0 ', svg)
        assert REACH > 1


def committed() -> list[dict[str, Any]]:
    """Return the records that the book commits."""
    return [dict(read_json(path)) for path in sorted((ROOT / "book" / "results").glob("*/*/*.json"))]


def test_the_first_page_sorts_its_findings_as_the_verdicts_do() -> None:
    """What is listed as holding up matches or is close, what is listed as failing differs, the rest has no verdict."""
    judged: dict[str, Judged] = {row.claim.id: row for row in judge_records(load_claims(), committed())}
    page = (ROOT / "book" / "index.md").read_text("utf-8")
    held, failed, open_ = re.split(r"\*\*What [^*]*\*\*", page.split("## What we found")[1].split("\n## ")[0])[1:]
    for text, outcomes in (
        (held, {"match", "close"}),
        (failed, {"differs"}),
        (open_, {"undecided", "no verdict"}),
    ):
        names = re.findall(r"\{verdict\}`([\w-]+)`", text)
        assert names
        assert {name: judged[name].outcome for name in names if judged[name].outcome not in outcomes} == {}
