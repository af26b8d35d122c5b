"""Each claim is checkable, short, and has its tolerances declared; a broken row is refused where it breaks."""

import json
import re
from pathlib import Path

import pytest

from emseg.errors import InputError, UsageError
from emseg.reported import load_claims, read_claims
from emseg.reported.claims import QUOTATION_WORDS, RELATIONS

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS_WITH_CLAIMS = ("fanet/dct_derivation", "fanet/channel_attention", "urisc/sharpness_analysis")
GOOD = {
    "id": "raw-brenner-falls",
    "paper": "urisc2022",
    "place": "Discussion",
    "quotation": "We confirmed the quality reduction",
    "statement": "The sum falls.",
    "chapter": "urisc/sharpness_analysis",
    "metric": "brenner_ratio",
    "relation": "below",
    "value": "1",
    "upper": "",
    "match_tolerance": "0",
    "close_tolerance": "0.05",
    "unit": "1",
    "data": "licensed",
    "bearing": "same data",
    "replicates": "images",
    "declared": "before",
    "note": "",
    "takes": "U-RISC: minutes.",
    "loosest": "",
}
COLUMNS = list(GOOD)


def table(folder: Path, *rows: dict[str, str]) -> Path:
    """Write claims as a file and return its path."""
    path = folder / "small.csv"
    lines = [",".join(COLUMNS), *(",".join(row[column] for column in COLUMNS) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_ids_are_unique_and_each_chapter_has_its_claims():
    claims = load_claims()
    assert len({claim.id for claim in claims}) == len(claims)
    for chapter in CHAPTERS_WITH_CLAIMS:
        assert len(load_claims(chapter)) >= 6
        assert all(claim.chapter == chapter for claim in load_claims(chapter))


def test_each_chapter_named_by_a_claim_exists():
    for claim in load_claims():
        assert (BOOK / f"{claim.chapter}.ipynb").is_file(), f"{claim.id} names {claim.chapter}"


def test_each_chapter_measures_what_its_claims_ask_for():
    """A metric that no run measures leaves its claim "not run" for ever; only U-RISC's own labels may be missing."""
    measured: dict[str, set[str]] = {}
    for path in (BOOK / "results").glob("*/*/*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        measured.setdefault(record["chapter"], set()).update(record["metrics"])
    missing = {claim.id for claim in load_claims() if claim.metric not in measured[claim.chapter]}
    assert missing == {"urisc-membrane-fraction"}


def test_a_metric_decides_its_claims_in_one_unit():
    units: dict[tuple[str, str], str] = {}
    for claim in load_claims():
        assert units.setdefault((claim.chapter, claim.metric), claim.unit) == claim.unit, claim.id


def test_the_papers_judgements_of_sharpness_are_about_licensed_images():
    """No run on images that we can have may pass for a check on U-RISC itself."""
    falls = [claim for claim in load_claims("urisc/sharpness_analysis") if "quality reduction" in claim.quotation]
    assert falls
    assert {claim.data for claim in falls} == {"licensed"}


def test_networks_of_this_book_stand_in_for_the_papers():
    """A verdict about the papers' networks needs the paper's size; counting and arithmetic need no images."""
    for claim in load_claims():
        if claim.bearing == "exact":
            assert claim.data == "any", claim.id
        if claim.replicates in ("seeds", "runs"):
            assert claim.bearing == "stand-in", claim.id


def test_each_chapter_shows_the_committed_verdicts_of_its_claims():
    """On its page the directive stands in for the cell of JupyterLab, which may have seen older records."""
    for chapter in {claim.chapter for claim in load_claims()}:
        cells = json.loads((BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
        shown = [
            cell for cell in cells if "verdict_table(" in (text := "".join(cell["source"])) and "import" not in text
        ]
        assert [cell["metadata"].get("tags") for cell in shown] == [["remove-cell"]], chapter
        assert sum(f"```{{verdicts}} {chapter}\n" in "".join(cell["source"]) for cell in cells) == 1, chapter


def test_pages_say_how_many_tolerances_were_declared_late():
    """The number is counted from claims.csv when the page is built, so that nobody types it."""
    for page in ("index.md", "claims.md"):
        text = (BOOK / page).read_text(encoding="utf-8")
        assert "{tally}`after` of {tally}`rows`" in " ".join(text.split()), page
        assert not re.search(r"\d+ of (the )?\d+ tolerances", text), page


def test_an_unknown_chapter_is_refused_with_the_known_ones():
    with pytest.raises(
        UsageError, match=r"no claim belongs to chapter 'urisc/sharpness'. Did you mean 'urisc/sharpness_"
    ):
        load_claims("urisc/sharpness")


def test_a_good_row_is_read_as_it_stands(tmp_path):
    (claim,) = read_claims(table(tmp_path, GOOD))
    assert (claim.relation, claim.value, claim.upper, claim.close_tolerance) == ("below", 1.0, None, 0.05)


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("id", "Raw Brenner", "must look like eq3-lowest-frequency-is-gap; got 'Raw Brenner'"),
        ("chapter", "sharpness", "must look like fanet/dct_derivation; got 'sharpness'"),
        ("metric", "brenner ratio", "must look like round_trip_error; got 'brenner ratio'"),
        ("quotation", "", "must not be empty"),
        ("quotation", "word " * QUOTATION_WORDS + "word", "must contain at most 25 words; got 26"),
        ("statement", "", "must not be empty"),
        ("relation", "bellow", "must be one of .*got 'bellow'. Did you mean 'below'"),
        ("value", "", "must be a number; got None"),
        ("value", "inf", "must be finite; got inf"),
        ("match_tolerance", "", "must be a number; got None"),
        ("close_tolerance", "", "must be a number; got None"),
        ("match_tolerance", "-0.1", "must be at least 0; got -0.1"),
        ("match_tolerance", "0.1", None),
        ("upper", "2", "belongs to the relation `between` alone"),
        ("relation", "between", None),
        ("unit", "", "must not be empty"),
        (
            "data",
            "licenced",
            "must be one of 'any', .*'licensed'; got 'licenced'. Did you mean 'licensed'",
        ),
        ("bearing", "same", "must be one of 'exact', 'same data', 'stand-in'; got 'same'"),
        ("replicates", "image", "must be one of 'nothing', 'images', 'seeds', 'runs'; got 'image'"),
        ("bearing", "exact", "must not be exact where the claim is about licensed images"),
        ("takes", "", "must state what a verdict would take"),
    ],
)
def test_a_broken_cell_is_refused_with_file_line_and_column(tmp_path, column, text, message):
    named = {"0.1": "close_tolerance", "between": "upper"}.get(text, column)
    message = message or {"close_tolerance": "must not be below", "upper": "belongs to the relation"}[named]
    path = table(tmp_path, GOOD | {"id": "first", "metric": "first"}, GOOD | {column: text})
    with pytest.raises(InputError, match=f"small.csv, line 3, column `{named}` {message}"):
        read_claims(path)


@pytest.mark.parametrize("changes", [{"relation": "at_least", "loosest": "1"}, {"loosest": "0.5"}])
def test_the_loosest_reading_asks_for_less(tmp_path, changes):
    with pytest.raises(InputError, match="`loosest` must ask for less than `value`"):
        read_claims(table(tmp_path, GOOD | changes))


def test_a_range_must_run_upwards(tmp_path):
    path = table(tmp_path, GOOD | {"relation": "between", "value": "1.7", "upper": "1.3"})
    with pytest.raises(InputError, match="line 2, column `upper` must not be below `value`"):
        read_claims(path)


def test_two_rows_may_share_neither_an_id_nor_one_test_of_one_metric(tmp_path):
    with pytest.raises(InputError, match="line 3, column `id`: line 2 has the same"):
        read_claims(table(tmp_path, GOOD, GOOD | {"metric": "other"}))
    with pytest.raises(InputError, match="line 3, column `metric`: line 2 has the same"):
        read_claims(table(tmp_path, GOOD, GOOD | {"id": "other"}))
    assert len(read_claims(table(tmp_path, GOOD, GOOD | {"id": "other", "relation": "above"}))) == 2


def test_an_empty_table_of_claims_is_refused(tmp_path):
    with pytest.raises(InputError, match="line 2: the table must contain at least one row"):
        read_claims(table(tmp_path))


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_claim_made_in_code_is_checked_like_a_row(tmp_path, relation):
    """`Claim` refuses by itself what `read_claims` refuses with a place."""
    row = GOOD | {"relation": relation, "upper": "2" if relation == "between" else ""}
    (claim,) = read_claims(table(tmp_path, row))
    fields = vars(claim)
    with pytest.raises(UsageError, match="`close_tolerance` must not be below `match_tolerance`"):
        type(claim)(**(fields | {"match_tolerance": 0.1}))
    with pytest.raises(UsageError, match="`upper` belongs to the relation `between` alone"):
        type(claim)(**(fields | {"upper": None if relation == "between" else 2.0}))
    if relation == "between":
        with pytest.raises(UsageError, match="`upper` must not be below `value`; got 3 to 2"):
            type(claim)(**(fields | {"value": 3.0}))
