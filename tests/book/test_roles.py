"""Numbers, badges and the ledger come from run records; what no record holds fails the build."""

import re
from pathlib import Path
from typing import Any

import pytest
from book.staged import CHAPTER, COMMIT, OTHER, build_html, metric, record, stage, write_evidence
from emseg_book.badge import run_badge_html
from emseg_book.evidence import Key, read_evidence
from emseg_book.ledger import details_of_run, run_html
from emseg_book.markup import chip_html, number_html
from emseg_book.reported import reported_html
from emseg_book.result import look_up, parse_key, without_repeated_unit
from emseg_book.wording import code_age, duration, memory
from hypothesis import given
from hypothesis import strategies as st

from emseg.errors import InputError, UsageError

PRESENT = record(CHAPTER, "laptop", ["synthetic"], 21, ratio=metric(1.2034, spread=0.02), time_taken=metric(12.5, "ms"))
OLD_REAL = record(CHAPTER, "lab", ["real"], 18, ratio=metric(0.4))
NEW_REAL = record(CHAPTER, "lab", ["real"], 19, ratio=metric(0.45, interval=[0.4, 0.5]))
TEST_RUN = record(CHAPTER, "smoke", ["synthetic"], 22, ratio=metric(99.0))
NO_DATA = record(OTHER, "laptop", [], 21, round_trip_error=metric(3.1e-16))
RECORDS = [PRESENT, OLD_REAL, NEW_REAL, TEST_RUN, NO_DATA]
CURRENT = [PRESENT, NO_DATA]
CELLS = ((0, "c4a9"), (1, "0a"), (2, "0b"))


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """A staged book with five records and no pages but index and ledger."""
    return stage(tmp_path, RECORDS, CURRENT)


@pytest.mark.parametrize(
    ("value", "unit", "spec", "expected"),
    [
        (1.2034, "1", None, "1.20"),
        (-0.05, "1", None, "−0.0500"),
        (3.1e-16, "1", None, "3.10 × 10<sup>−16</sup>"),
        (2048.0, "px", None, "2,048\N{NARROW NO-BREAK SPACE}px"),
        (123.4, "ms", None, "123\N{NARROW NO-BREAK SPACE}ms"),
        (12.5, "nm^2", None, "12.5\N{NARROW NO-BREAK SPACE}nm²"),
        (12.5, "um^2", None, "12.5\N{NARROW NO-BREAK SPACE}µm²"),
        (0.1234, "1", ".1%", "12.3%"),
        (3.1e-16, "1", ".1e", "3.1 × 10<sup>−16</sup>"),
        (5.0, "<b>", "g", "5\N{NARROW NO-BREAK SPACE}&lt;b&gt;"),
    ],
)
def test_a_number_reads_as_in_print(value: float, unit: str, spec: str | None, expected: str) -> None:
    """Typographic minus, powers of ten, a thin space before the unit, and everything escaped."""
    assert number_html(value, unit, spec) == expected


@pytest.mark.parametrize(
    ("value", "spec", "half_width", "expected"),
    [
        (0.21963, ".2%", 0.0047, "21.96%"),
        (0.21963, ".2%", 0.02, "22.0%"),
        (0.21963, ".2%", 0.2, "22%"),
        (-0.0001, "+.1%", 0.02, "+0.0%"),
        (-14.1588, "+.3f", 1.3, "−14.2"),
        (4585.7, ",.0f", 1039.0, "4,600"),
        (4585.7, None, 1039.0, "4,600"),
        (1.2034, None, 0.3, "1.20"),
        (1.2034, None, 3.0, "1.2"),
        (1.5e-16, ".1e", 1e-17, "1.5 × 10<sup>−16</sup>"),
    ],
)
def test_a_number_is_written_no_finer_than_its_interval(value, spec, half_width, expected) -> None:
    """Two digits of the half-width are enough, whatever the page asks for."""
    assert number_html(value, "1", spec, half_width) == expected


def test_an_interval_of_two_is_not_shown(tmp_path: Path) -> None:
    """From two seeds Student's t makes -45.8 to +39.6 of anything."""
    two = record(CHAPTER, "lab", ["real"], 20, gain=metric(-3.1, "%", n=2, interval=[-45.8, 39.6]))
    found = read_evidence(stage(tmp_path, [two], []))
    assert "45.8" not in look_up(f"{CHAPTER}#gain@lab", found)["title"]
    assert "45.8" not in run_html(found, two, "")


def test_a_number_carries_its_own_kind_of_data(tmp_path: Path) -> None:
    own = {"real": metric(0.2, data=["real"]), "none": metric(4.0, data=[]), "both": metric(1.0)}
    mixed = record(CHAPTER, "lab", ["real", "synthetic"], 20, **own)
    found = read_evidence(stage(tmp_path, [mixed], []))
    assert look_up(f"{CHAPTER}#real@lab", found)["chip"] == chip_html(["real"])
    assert look_up(f"{CHAPTER}#none@lab", found)["chip"] == chip_html([])
    assert look_up(f"{CHAPTER}#both@lab", found)["chip"] == chip_html(["real", "synthetic"])


@pytest.mark.parametrize(
    ("unit", "following", "expected"),
    [
        ("s", " seconds on two cores", "242"),
        ("s", ", as expected", "242\N{NARROW NO-BREAK SPACE}s"),
        ("s", " slower", "242\N{NARROW NO-BREAK SPACE}s"),
        ("%", " points", "242"),
        ("um", " µm below", "242"),
        ("nm^2", " nm^2", "242"),
        ("1", " 1 of", "242"),
    ],
)
def test_a_unit_is_printed_once(unit: str, following: str, expected: str) -> None:
    """Where the text says it again, the number goes without."""
    assert without_repeated_unit(number_html(242.0, unit), unit, following) == expected


@given(st.floats(min_value=-1e300, max_value=1e300, allow_subnormal=False))
def test_a_number_reads_back_to_three_digits(value: float) -> None:
    """What a page shows is the recorded number, to half a unit of its third digit."""
    text = number_html(value).replace("−", "-").replace(",", "")
    text = re.sub(r" × 10<sup>(-?\d+)</sup>", r"e\1", text)
    assert float(text) == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("text", "run", "number"),
    [
        (f"{CHAPTER}#ratio", PRESENT, "1.20"),
        (f"{CHAPTER}#ratio|.3f", PRESENT, "1.203"),
        (f"{CHAPTER}#ratio@lab", NEW_REAL, "0.450"),
        (f"{CHAPTER}#ratio@lab|.0%", NEW_REAL, "45%"),
        (f"{OTHER}#round_trip_error", NO_DATA, "3.10 × 10<sup>−16</sup>"),
    ],
)
def test_a_key_finds_the_present_run_or_the_newest_of_a_profile(
    text: str, run: dict[str, Any], number: str, staged: Path
) -> None:
    """Without a profile the build's own run counts, even where a newer test run exists."""
    node = look_up(text, read_evidence(staged))
    assert (node["run_id"], node["number"]) == (run["run_id"], number)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("urisc/sharpnes_analysis#ratio", f"Did you mean '{CHAPTER}'"),
        (f"{CHAPTER}#ration", "Did you mean 'ratio'"),
        (f"{CHAPTER}#ratio@labs", "Did you mean 'lab'"),
        (f"{CHAPTER}#ratio@paper", "Profiles with records: lab, laptop, smoke"),
        (f"{CHAPTER}#ratio|.3q", "'.3q' is not a format"),
        (f"{CHAPTER}.ratio", "a result reads chapter#metric"),
        (f"{CHAPTER}#", "a result reads chapter#metric"),
    ],
)
def test_an_unknown_number_is_refused_with_the_nearest_name(text: str, complaint: str, staged: Path) -> None:
    """The message says what there is, so that the page can be repaired."""
    with pytest.raises(UsageError, match=re.escape(complaint)):
        look_up(text, read_evidence(staged))


def test_a_chapter_that_this_build_did_not_run_gives_no_number(tmp_path: Path) -> None:
    """A record of an earlier build never slips in under a key without a profile."""
    found = read_evidence(stage(tmp_path, [OLD_REAL], []))
    with pytest.raises(UsageError, match=r"no run of urisc/sharpness_analysis.*ratio@lab"):
        look_up(f"{CHAPTER}#ratio", found)


def test_a_key_takes_chapter_metric_profile_and_format_apart() -> None:
    """A format may hold any sign, a colon or a second bar too."""
    assert parse_key("a/b#c@lab|>8.3f") == (Key("a/b", "c", "lab"), ">8.3f")


def test_a_book_that_was_not_staged_says_how_to_build_it(tmp_path: Path) -> None:
    """The raw source has no records."""
    with pytest.raises(InputError, match="make book"):
        read_evidence(tmp_path)


def test_a_record_outside_the_schema_is_refused(staged: Path) -> None:
    """The ledger shows nothing it cannot vouch for."""
    path = staged / "records" / f"{PRESENT['run_id']}.json"
    path.write_text(path.read_text("utf-8").replace('"synthetic"', '"guessed"'), encoding="utf-8")
    with pytest.raises(InputError, match="data/0/kind"):
        read_evidence(staged)


def test_the_builds_own_run_is_not_among_the_committed(staged: Path) -> None:
    """Nor does it decide a verdict, until it is committed."""
    committed = [one["run_id"] for one in read_evidence(staged).committed if one["chapter"] == CHAPTER]
    assert committed == [one["run_id"] for one in (OLD_REAL, NEW_REAL, TEST_RUN)]


def test_an_aggregate_of_older_code_says_so(tmp_path: Path) -> None:
    """A record that gathers runs is as old as they are, however new its own code."""
    gathering = record(CHAPTER, "lab", ["synthetic"], 22, mean=metric(1.0))
    gathering["parameters"] = {"records_of": OTHER}
    folder = stage(tmp_path, [gathering], [])
    cells = [NO_DATA | {"run_id": f"cell-{n}", "digests": {"notebook": "ab", "library": lib}} for n, lib in CELLS]
    later = cells[0] | {"run_id": "later", "finished": "2026-12-31T00:00:00Z"}
    write_evidence(folder, [gathering], [], [*cells, later])
    found = read_evidence(folder)
    assert found.n_older(gathering) == 2
    assert code_age(found, gathering) == "present code; 2 of 3 gathered runs of older code"
    assert "2 of 3 gathered runs of older code" in look_up(f"{CHAPTER}#mean@lab", found)["title"]
    assert "2 of 3 gathered runs of older code" in run_badge_html(found, gathering, "")
    assert code_age(found, OLD_REAL) == "present code"


def test_a_changed_library_makes_a_record_older_code(staged: Path) -> None:
    """Compared are the digests of the chapter's library, not times or commits."""
    found = read_evidence(staged)
    assert found.is_older_code(PRESENT) is False
    assert found.is_older_code(NO_DATA) is True


def test_each_kind_of_data_has_its_own_word_and_class() -> None:
    """Nothing but the word is needed to tell synthetic from real, and colour and border follow the class."""
    chips = {kind: chip_html([kind]) for kind in ("synthetic", "real", "licensed")}
    assert len(set(chips.values())) == 3
    for kind, chip in chips.items():
        assert f">{kind}</span>" in chip
        assert f"emseg-kind-{kind}" in chip
    assert "no data" in chip_html([])
    assert chip_html(["synthetic", "real"]).count("<span") == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10 s"), (59.4, "59 s"), (200.0, "3 min 20 s"), (3900, "1 h 05 min")]
)
def test_durations_read_in_the_units_that_matter(seconds: float, text: str) -> None:
    """Seconds, minutes with seconds, hours with minutes."""
    assert duration(seconds) == text


def test_memory_reads_in_mebibytes_up_to_a_gibibyte() -> None:
    """An unmeasured size is a dash, not a zero."""
    assert [memory(512.0), memory(1536.0), memory(None)] == ["512 MiB", "1.5 GiB", "–"]


def test_what_a_record_holds_is_escaped(staged: Path) -> None:
    """Labels and parameters come from notebooks that anyone may edit."""
    hostile = record(CHAPTER, "lab", ["real"], 20, ratio=metric(1.0, label="<script>alert(1)</script>"))
    hostile["parameters"] = {"name": "<img src=x>"}
    html = run_html(read_evidence(staged), hostile, "") + details_of_run(hostile)
    assert "<script>" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


def test_a_reported_number_stands_as_the_paper_prints_it() -> None:
    """FANet's Table 2, Mask R-CNN with ResNet-34 and no attention: 34.5 %."""
    html = reported_html("fanet#mask_ap; detector=Mask R-CNN; backbone=ResNet-34; attention=none")
    assert ">34.5</span>" in html
    assert "Table 2" in html
    assert ">paper</span>" in html


def test_a_number_that_the_paper_gives_twice_is_told_apart_by_its_place() -> None:
    """The U-Net's F1 on U-RISC stands in the Introduction; Table 3, where it stands too, could not be found."""
    text = "urisc#f1; dataset=U-RISC; entrant=U-Net"
    with pytest.raises(UsageError, match="2 rows fit"):
        reported_html(text)
    assert ">to 0.57 in the U-RISC</span>" in reported_html(f"{text}; place=Introduction")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fanet", "paper#quantity"),
        ("urisc#f1; place=Abstrakt", "nothing is reported from the place 'Abstrakt' of urisc"),
        ("fanet#mask_ap; detector", "column=value"),
        ("fanet#mask_ap", "rows fit"),
        ("fanet#mask_app", "Did you mean 'mask_ap'"),
        ("fanett#mask_ap", "Did you mean 'fanet'"),
    ],
)
def test_an_unknown_reported_number_is_refused(text: str, complaint: str) -> None:
    """One row must fit, no more and no less."""
    with pytest.raises(UsageError, match=re.escape(complaint)):
        reported_html(text)


PROSE = f"""# Chapter

Ratio {{result}}`{CHAPTER}#ratio`, on tissue {{result}}`{CHAPTER}#ratio@lab`.

| a | b |
|---|---|
| x | {{result}}`{CHAPTER}#ratio\\|.1%` |
"""


def test_numbers_badges_and_ledger_reach_the_pages(tmp_path: Path) -> None:
    """In prose and in a table a number links to a run that the ledger holds; each page has its badge.

    Runs of a matrix are listed with the parameters that vary, and are not taken for the chapter's own run.
    """
    folder = stage(tmp_path, RECORDS, CURRENT, {CHAPTER: PROSE})
    cells = [
        {
            **NEW_REAL,
            "run_id": f"a-cell-{seed}",
            "finished": "2026-11-30T00:00:00Z",
            "parameters": {"seed": seed, "k": 1},
        }
        for seed in (0, 1)
    ]
    write_evidence(folder, RECORDS, CURRENT, cells)
    built = build_html(folder)
    assert built.returncode == 0, built.stderr
    page = (folder / "_html" / "book" / f"{CHAPTER}.html").read_text("utf-8")
    ledger = (folder / "_html" / "book" / "ledger.html").read_text("utf-8")
    links = re.findall(r'<a class="emseg-result" href="\.\./ledger\.html#([^"]+)" title="[^"]*n = 8', page)
    assert links == [f"run-{run['run_id']}" for run in (PRESENT, NEW_REAL, PRESENT)]
    marks = re.findall(r'<a class="emseg-result".*?</a>', page)
    assert ["emseg-kind" in mark for mark in marks] == [False, True, False]  # only where the kind is not the page's
    badge = page[page.index('class="emseg-badge"') :]
    assert badge.index(chip_html(["synthetic"])) < badge.index("</ul>")
    assert "120.3%" in re.search(r"<td>.*emseg-result.*</td>", page)[0]
    for run in RECORDS:
        assert f'id="run-{run["run_id"]}"' in ledger
    assert ledger.count('<tr><th scope="row"><a href="#run-') == len(RECORDS)
    matrix = ledger[ledger.index("Runs of matrices (2)") :]
    assert [matrix.count(text) for text in ("a-cell-0", "a-cell-1", '<th scope="col">seed', '<th scope="col">k<')] == [
        1,
        1,
        1,
        0,
    ]
    assert COMMIT[:7] in ledger
    assert "older code" in ledger
    assert page.index("<h1") < page.index('class="emseg-badge"') < page.index("Ratio")
    assert "Some CPU, 2 cores" in page
    assert "12 s, 512 MiB" in page
    index = (folder / "_html" / "book" / "index.html").read_text("utf-8")
    assert "nothing computed here" in index


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{{result}}`{CHAPTER}#ration`", "Did you mean 'ratio'"),
        ("{reported}`fanet#mask_app`", "Did you mean 'mask_ap'"),
    ],
)
def test_an_unknown_key_fails_the_build(text: str, complaint: str, tmp_path: Path) -> None:
    """The error names the page, its line and the nearest known key."""
    built = build_html(stage(tmp_path, RECORDS, CURRENT, {CHAPTER: f"# Chapter\n\n{text}\n"}))
    assert built.returncode != 0
    assert complaint in built.stderr
    assert f"{CHAPTER}.md:3" in built.stderr


def test_a_new_record_reaches_pages_that_did_not_change(tmp_path: Path) -> None:
    """A second build over the first shows the new number, for changed evidence makes every page old."""
    folder = stage(tmp_path, [PRESENT], [PRESENT], {CHAPTER: f"# Chapter\n\n{{result}}`{CHAPTER}#ratio`\n"})
    assert build_html(folder).returncode == 0
    later = record(CHAPTER, "laptop", ["synthetic"], 23, ratio=metric(7.77))
    write_evidence(folder, [later], [later])
    assert build_html(folder).returncode == 0
    assert ">7.77</span>" in (folder / "_html" / "book" / f"{CHAPTER}.html").read_text("utf-8")


def test_a_book_that_was_not_staged_fails_to_build(tmp_path: Path) -> None:
    """Each use says what is missing; nothing is shown in place of a number."""
    folder = stage(tmp_path, RECORDS, CURRENT, {CHAPTER: PROSE})
    (folder / "build.json").unlink()
    built = build_html(folder)
    assert built.returncode != 0
    assert built.stderr.count("need a staged book") >= PROSE.count("{result}")


def test_a_number_is_rounded_once():
    """To the digits of its interval and of its format together; nothing negative rounds to a negative zero."""
    assert number_html(-0.951, "1", "+.1f", 0.98) == "−1.0"
    assert number_html(-0.004, "1", ".1f", 0.5) == "0.0"
    assert number_html(0.2866, "1", ".1%", 0.2) == "29%"
