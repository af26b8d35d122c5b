"""The claims page shows verdicts where a test bears, neutral rows for stand-ins, and a reader's number beside them."""

import re
from pathlib import Path
from typing import Any

import pytest
from book.staged import CHAPTER, OTHER, build_html, metric, record, stage
from emseg_book.claims import own_text, tally_html
from emseg_book.evidence import read_evidence

from emseg.reported import judge_records, load_claims

PAGE = "# Claims\n\n```{claims-ledger}\n```\n"
CLAIM = next(claim for claim in load_claims(CHAPTER) if claim.id == "brenner-per-pixel-falls")
NOISE = next(claim for claim in load_claims(CHAPTER) if claim.id == "variance-falls-with-purity")
EXACT = load_claims(OTHER)[0]


def measured(kinds: list[str], day: int, profile: str = "lab", **values: float) -> dict[str, Any]:
    """Return a record of the chapter with a narrow interval for each metric."""
    numbers = {name: metric(value, interval=[value - 0.01, value + 0.01]) for name, value in values.items()}
    return record(CHAPTER, profile, kinds, day, **numbers)


REAL = measured(["real"], 20, **{CLAIM.metric: 2.38, NOISE.metric: 0.9})
OWN = measured(["real"], 22, **{CLAIM.metric: 2.385, NOISE.metric: 0.7})
ARITHMETIC = record(OTHER, "lab", ["synthetic"], 20, **{EXACT.metric: metric(1e-15)})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The HTML of a claims page over three records."""
    records = [REAL, OWN, ARITHMETIC]
    folder = stage(tmp_path_factory.mktemp("claims"), records, [OWN], {"claims": PAGE, CHAPTER: f"# C\n\n{DIRECTIVE}"})
    built = build_html(folder)
    assert built.returncode == 0, built.stderr
    return (folder / "_html" / "book" / "claims.html").read_text("utf-8")


DIRECTIVE = f"```{{verdicts}} {CHAPTER}\n```\n"


def row_of(page: str, statement: str) -> str:
    """Return the rows of a reading, as HTML."""
    return "".join(row for row in re.findall(r"<tr(?: id=[^>]*)?>.*?</tr>", page, re.DOTALL) if statement[:60] in row)


def test_a_stand_in_is_neutral_and_says_what_a_verdict_would_take(page: str) -> None:
    row = row_of(page, CLAIM.statement)
    assert "emseg-no-verdict" in row
    assert not re.search("emseg-(match|close|differs|undecided)", row)
    assert "What we saw instead:" in row
    assert f"A verdict would take: {CLAIM.takes}".replace("'", "&#x27;") in row
    assert "stand-in: real data for licensed" in row
    assert "2.380 (2.370 to 2.390), n = 8" in row


def test_committed_records_decide_and_a_readers_number_stands_next_to_them(page: str) -> None:
    row = row_of(page, NOISE.statement)
    assert "emseg-match" in row
    assert "0.900 (0.890 to 0.910), n = 8" in row
    assert "yours 0.700 (lab): disagrees" in row
    assert "yours 2.385 (lab): agrees" in row_of(page, CLAIM.statement)


def test_arithmetic_has_no_kind_of_data(page: str) -> None:
    row = row_of(page, EXACT.statement)
    assert "emseg-match" in row
    assert "no data" in row
    assert "synthetic" not in row


def test_an_estimate_of_older_code_says_so(page: str) -> None:
    assert "(older code)" in row_of(page, EXACT.statement)
    assert "(older code)" not in row_of(page, NOISE.statement)


def test_each_sentence_is_shown_once_with_its_readings_below(page: str) -> None:
    sentences = {claim.sentence for claim in load_claims()}
    assert page.count('<tr class="emseg-sentence">') == len(sentences)
    assert "0 of 12 readings bear" in page


def test_the_tally_counts_sentences_that_a_test_bears_on(page: str) -> None:
    """And says in the sentence how many tolerances were declared late."""
    claims = load_claims()
    after = sum(claim.declared == "after" for claim in claims)
    assert f"{after} of the {len(claims)} tolerances were declared after a first result" in page
    assert "2 have a test that bears" in page
    assert "1 has only stand-ins" in page
    assert re.search(r"emseg-counts.*?<tbody><tr><th scope=\"row\">2</th><td>0</td><td>0</td><td>0</td>", page)


def test_nothing_in_the_tally_comes_from_a_stand_in() -> None:
    html = tally_html(judge_records(load_claims(CHAPTER), [measured(["synthetic"], 20, **{CLAIM.metric: 0.5})]))
    assert "0 have a test that bears" in html


def test_a_committed_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    folder = stage(tmp_path, [REAL], [])
    assert own_text(CLAIM, read_evidence(folder)) == ""


def test_a_chapter_shows_its_own_claims_alone(tmp_path: Path) -> None:
    folder = stage(tmp_path, [REAL], [REAL], {CHAPTER: f"# C\n\n{DIRECTIVE}"})
    assert build_html(folder).returncode == 0
    html = (folder / "_html" / "book" / f"{CHAPTER}.html").read_text("utf-8")
    assert NOISE.statement in html
    assert EXACT.statement[:40] not in html
    folder = stage(tmp_path / "wrong", [REAL], [REAL], {CHAPTER: "# C\n\n```{verdicts} urisc/none\n```\n"})
    built = build_html(folder)
    assert built.returncode != 0
    assert "no claim belongs to chapter 'urisc/none'" in built.stderr
