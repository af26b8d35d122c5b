"""The reported numbers are what the papers print, and a slip in their tables is found where it was made."""

from collections import Counter
from pathlib import Path

import pytest

from emseg.errors import InputError, UsageError
from emseg.reported import load_reported, read_reported, select_reported
from emseg.reported.competition import load_survey
from emseg.reported.tables import STATUSES, SUBJECTS

HEADER = "paper,place,quantity,entrant,printed,value,sd,unit,status,note"
GOOD = "urisc2022,Table 2,f1,SCP173,.60704 ± .043,0.60704,0.043,1,printed,"
METRICS = ("mask_ap", "mask_ap50", "mask_ap75", "mask_ap_small", "mask_ap_medium", "mask_ap_large")


def table(folder: Path, *lines: str) -> Path:
    """Write a small table and return its path."""
    path = folder / "small.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def value(paper: str, quantity: str, **subject: str) -> float:
    """Return the one number that a paper reports for a subject."""
    (row,) = select_reported(load_reported(paper), quantity, **subject)
    assert row.value is not None
    return row.value


def test_fanet_table_2_has_sixteen_methods_with_six_metrics_each():
    rows = [row for row in load_reported("fanet") if row.paper == "fanet2021" and row.place == "Table 2"]
    methods = {(row.about("detector"), row.about("backbone"), row.about("attention")) for row in rows}
    assert len(methods) == 16
    assert Counter(row.quantity for row in rows) == dict.fromkeys(METRICS, 16)
    assert all(row.unit == "%" and row.status == "printed" for row in rows)


def test_fanets_gains_over_fcanet_span_what_the_text_says():
    """Section 4.4 states the gains of Table 2 in words: an independent check of eight of its numbers."""
    setups = [(d, b) for d in ("Mask R-CNN", "Mask Scoring R-CNN") for b in ("ResNet-34", "ResNet-50")]
    gains = [
        value("fanet", "mask_ap", detector=detector, backbone=backbone, attention="FANet")
        - value("fanet", "mask_ap", detector=detector, backbone=backbone, attention="FcaNet")
        for detector, backbone in setups
    ]
    assert min(gains) == pytest.approx(value("fanet", "ap_gain_over_fcanet", item="smallest"), abs=1e-9)
    assert max(gains) == pytest.approx(value("fanet", "ap_gain_over_fcanet", item="largest"), abs=1e-9)


@pytest.mark.parametrize(
    ("detector", "backbone", "attention", "expected"),
    [
        ("Mask R-CNN", "ResNet-34", "none", (34.5, 45.1, 39.2, 27.1, 37.5, 28.3)),
        ("Mask R-CNN", "ResNet-50", "FANet", (40.1, 51.5, 45.7, 27.4, 45.8, 24.6)),
        ("Mask Scoring R-CNN", "ResNet-34", "SENet", (38.2, 50.4, 44.9, 34.4, 43.5, 26.1)),
        ("Mask Scoring R-CNN", "ResNet-50", "FANet", (46.6, 60.0, 52.9, 33.7, 53.4, 29.2)),
    ],
)
def test_rows_of_fanet_table_2_keep_the_order_of_the_metrics(detector, backbone, attention, expected):
    found = [value("fanet", name, detector=detector, backbone=backbone, attention=attention) for name in METRICS]
    assert tuple(found) == expected


def test_average_precision_is_ordered_as_it_must_be():
    """AP is the mean over thresholds from 0.50 to 0.95, and falls with the threshold: so AP50 > AP75 and AP50 > AP."""
    for row in select_reported(load_reported("fanet"), "mask_ap50"):
        subject = dict(row.subject)
        assert row.value > value("fanet", "mask_ap75", **subject)
        assert row.value > value("fanet", "mask_ap", **subject)


def test_fanet_table_1_lists_sixteen_different_frequencies_mostly_on_an_axis():
    height, width = (
        [row.value for row in select_reported(load_reported("fanet"), f"frequency_index_{axis}")]
        for axis in ("height", "width")
    )
    pairs = list(zip(height, width, strict=True))
    assert len(set(pairs)) == 16
    assert pairs[:4] == [(0, 0), (0, 1), (6, 0), (0, 5)]
    assert sum(h == 0 or w == 0 for h, w in pairs) == 12
    assert all(0 <= index <= 6 for pair in pairs for index in pair), "the components come from a 7 x 7 grid"


def test_urisc_table_2_ranks_its_entrants_and_marks_the_number_printed_twice():
    for track, n_rows in (("Track 1", 8), ("Track 2", 8)):
        rows = [r for r in select_reported(load_reported("urisc"), "f1", track=track) if r.place == "Table 2"]
        assert len(rows) == n_rows
        teams = [row.value for row in rows if not row.about("entrant").startswith("Human")]
        assert teams == sorted(teams, reverse=True)
        assert len(teams) == 6
        assert all(row.sd is not None for row in rows)
    first, second = (
        select_reported(load_reported("urisc"), "f1", track="Track 1", entrant=f"Human, {nth} round")[0]
        for nth in ("1st", "2nd")
    )
    assert (first.status, second.status) == ("printed", "inconsistent")
    assert first.value == second.value


def test_what_was_not_found_is_marked_and_has_no_number():
    rows = [row for row in load_reported("urisc") if row.status == "not_found"]
    assert {row.place for row in rows} == {"Table 1", "Table 3", "Figure 9", "Appendix Figure"}
    assert len([row for row in rows if row.place == "Table 3"]) == 6, "three networks on two data sets"
    assert all(row.value is None and row.note for row in rows)


@pytest.mark.parametrize("paper", SUBJECTS)
def test_each_number_is_one_that_was_printed(paper):
    """The value must occur among the printed characters, thousands separators and a leading zero aside."""
    for row in load_reported(paper):
        if row.value is not None:
            printed = row.printed.replace(",", "").replace("10K", "10000").lower()
            words = {"one ": "1 ", "ten ": "10 ", "four": "4", "three": "3"}
            for word, digits in words.items():
                printed = printed.replace(word, digits)
            forms = {f"{row.value:g}", f"{row.value:g}".removeprefix("0"), f"{row.value:.4f}", f"{row.value:.0f}"}
            forms |= {str(row.value), f"{row.value:.5f}".removeprefix("0"), f"{row.value:.2f}"}
            assert any(form in printed for form in forms), row


def test_selecting_what_no_row_reports_is_refused():
    rows = load_reported("fanet")
    with pytest.raises(UsageError, match=r"no row reports `quantity` 'mask_ap_smal'.*Did you mean 'mask_ap_small'"):
        select_reported(rows, "mask_ap_smal")
    with pytest.raises(UsageError, match=r"no row reports 'mask_ap' for.*CBAM.*attention='FANet'"):
        select_reported(rows, "mask_ap", attention="CBAM")
    with pytest.raises(UsageError, match=r"`paper` must be one of fanet, urisc; got 'fannet'. Did you mean 'fanet'"):
        load_reported("fannet")


def test_a_good_table_is_read_with_its_numbers(tmp_path):
    (row,) = read_reported(table(tmp_path, HEADER, GOOD), ("entrant",))
    assert (row.value, row.sd, row.unit, row.status, row.about("entrant")) == (0.60704, 0.043, "1", "printed", "SCP173")


BAD = [
    ("unknown column", [HEADER.replace("note", "notes"), GOOD], r"small.csv, line 1, column `notes`: no such column"),
    ("missing column", [HEADER.removesuffix(",note"), GOOD.removesuffix(",")], r"line 1, column `note`: is missing"),
    ("column twice", [HEADER + ",note", GOOD + ","], r"line 1, column `note`: is there more than once"),
    (
        "status",
        [HEADER, GOOD.replace("printed,", "print,")],
        r"line 2, column `status` must .*got 'print'. Did you mean 'p",
    ),
    ("unit", [HEADER, GOOD.replace(",1,", ",percent,")], r"line 2, column `unit` must be one of .*got 'percent'"),
    (
        "value",
        [HEADER, GOOD, GOOD.replace(",0.60704", ",0.6O7")],
        r"line 3, column `value` must be a number; got '0.6",
    ),
    ("not a number", [HEADER, GOOD.replace(",0.60704", ",nan")], r"line 2, column `value` must be finite"),
    ("spread", [HEADER, GOOD.replace(",0.043", ",-0.043")], r"line 2, column `sd` must be at least 0; got -0.043"),
    ("spread of nothing", [HEADER, GOOD.replace(",0.60704", ",")], r"line 2, column `sd`, a spread, needs the `value`"),
    ("printed", [HEADER, GOOD.replace(".60704 ± .043", "")], r"line 2, column `printed` must not be empty"),
    ("place", [HEADER, GOOD.replace("Table 2", "")], r"line 2, column `place` must not be empty"),
    (
        "found after all",
        [HEADER, GOOD.replace("printed,", "not_found,?")],
        r"`printed` must be empty where .*not_found",
    ),
    ("no remark", [HEADER, GOOD.replace("printed,", "inconsistent,")], r"line 2, column `note` must not be"),
    ("same thing twice", [HEADER, GOOD, GOOD], r"line 3, column `quantity`: line 2 has the same"),
    ("cell missing", [HEADER, GOOD.removesuffix(",")], r"line 2, column `note`: a line must contain 10 cells; got 9"),
    ("cell too many", [HEADER, GOOD + ",", GOOD], r"line 2, column `note`: a line must contain 10 cells; got 11"),
    ("empty line", [HEADER, "", GOOD], r"line 2, column `paper`: a line must contain 10 cells; got 0"),
    (
        "blank at the end",
        [HEADER, GOOD.replace("SCP173", "SCP173 ")],
        r"line 2, column `entrant`: text must not begin or",
    ),
    ("open quote", [HEADER, GOOD.replace("SCP173", '"SCP173')], r"line 2: a quoted cell must end on its own line"),
    ("no rows", [HEADER], r"line 2: the table must contain at least one row"),
]


@pytest.mark.parametrize(("lines", "message"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_broken_table_is_refused_with_file_line_and_column(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_reported(table(tmp_path, *lines), ("entrant",))


def test_a_file_that_is_not_text_or_is_empty_is_refused(tmp_path):
    path = tmp_path / "small.csv"
    path.write_bytes(HEADER.encode() + b"\n\xff\xfe")
    with pytest.raises(InputError, match=r"small.csv, line 2: must be UTF-8 text"):
        read_reported(path, ("entrant",))
    path.write_text("")
    with pytest.raises(InputError, match="line 1, column `paper`: is missing"):
        read_reported(path, ("entrant",))


def test_every_status_is_in_use():
    """A status that no row has would be one that the tables are not checked against."""
    assert {row.status for paper in SUBJECTS for row in load_reported(paper)} == set(STATUSES)


def test_the_survey_of_the_competition_marks_the_bars_that_could_not_be_read():
    rows = load_survey()
    assert {row.place for row in rows if row.status == "not_found"} == {"Figure 1", "Figure 5"}
    methods = select_reported(rows, "surveyed_method")
    assert len(methods) == 12
    assert all(": " in row.about("item") and row.printed for row in methods)
