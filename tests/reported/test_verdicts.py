"""A verdict follows from an interval over committed records, and only where the test bears on the claim."""

import csv
import json
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emseg.errors import InputError
from emseg.reported import (
    OUTCOMES,
    Claim,
    compare,
    count_outcomes,
    judge,
    judge_records,
    load_claims,
    refusals,
    sentence_outcomes,
)

ROOT = Path(__file__).parents[2]
RELATIONS = ["equals", "at_most", "at_least", "below", "above"]


def claim(relation="equals", value=1.0, upper=None, match=0.1, close=0.5, **changes) -> Claim:
    """Return a claim with the parts that a test is about: on licensed images, its interval over images."""
    fields = {
        "id": "a-claim",
        "paper": "urisc2022",
        "place": "Discussion",
        "quotation": "words",
        "statement": "A number is so large.",
        "chapter": "urisc/sharpness_analysis",
        "metric": "some_ratio",
        "unit": "1",
        "data": "licensed",
        "bearing": "same data",
        "replicates": "images",
        "takes": "U-RISC: minutes.",
    }
    return Claim(
        relation=relation,
        value=value,
        upper=upper,
        match_tolerance=match,
        close_tolerance=close,
        **(fields | changes),
    )


def record(
    value: float, half: float | None = 0.01, kinds: Sequence[str] = ("licensed",), seed: int = 0, **changes: Any
) -> dict:
    """Return a run record with what verdicts rest on."""
    metric = {"value": value, "unit": changes.pop("unit", "1"), "n": changes.pop("n", 8), "spread": None, "label": ""}
    metric["interval"] = None if half is None else [value - half, value + half]
    if "own_kinds" in changes:
        metric["data"] = changes.pop("own_kinds")
    return {
        "run_id": f"run-{'-'.join(kinds)}-{seed}",
        "chapter": "urisc/sharpness_analysis",
        "profile": "lab",
        "seeds": [seed],
        "parameters": {"seed": seed, "factor": 10},
        "finished": f"2026-11-{seed + 1:02d}T00:00:00Z",
        "data": [{"name": f"images {nth}", "kind": kind} for nth, kind in enumerate(kinds)],
        "metrics": {"some_ratio": metric},
    } | changes


JUDGED = [
    # relation, value, upper, match, close, measured, verdict
    ("equals", 38.1, None, 0.1, 0.5, 38.1, "match"),
    ("equals", 38.1, None, 0.1, 0.5, 38.2, "match"),  # 38.2 - 38.1 > 0.1 in binary
    ("equals", 38.1, None, 0.1, 0.5, 38.0, "match"),
    ("equals", 38.1, None, 0.1, 0.5, 38.21, "close"),
    ("equals", 38.1, None, 0.1, 0.5, 38.6, "close"),
    ("equals", 38.1, None, 0.1, 0.5, 37.6, "close"),
    ("equals", 38.1, None, 0.1, 0.5, 38.61, "differs"),
    ("equals", 0.0, None, 0.0, 0.0, 0.0, "match"),
    ("equals", 0.0, None, 0.0, 0.0, -0.0, "match"),
    ("equals", 0.0, None, 0.0, 0.0, 5e-324, "differs"),
    ("at_most", 0.7, None, 0.0, 0.1, 0.7, "match"),
    ("at_most", 0.7, None, 0.0, 0.1, -5.0, "match"),
    ("at_most", 0.7, None, 0.0, 0.1, 0.8, "close"),
    ("at_most", 0.7, None, 0.0, 0.1, 0.8000001, "differs"),
    ("at_least", 0.97, None, 0.01, 0.03, 1.0, "match"),
    ("at_least", 0.97, None, 0.01, 0.03, 0.96, "match"),
    ("at_least", 0.97, None, 0.01, 0.03, 0.94, "close"),
    ("at_least", 0.97, None, 0.01, 0.03, 0.9399, "differs"),
    ("below", 1.0, None, 0.0, 0.05, 0.999, "match"),
    ("below", 1.0, None, 0.0, 0.05, 1.0, "close"),  # equal is not below
    ("below", 1.0, None, 0.0, 0.05, 1.05, "differs"),
    ("below", 1.0, None, 0.0, 0.0, 1.0, "differs"),
    ("above", 0.0, None, 0.0, 0.05, 1e-9, "match"),
    ("above", 0.0, None, 0.0, 0.05, 0.0, "close"),
    ("above", 0.0, None, 0.0, 0.05, -0.05, "differs"),
    ("between", 1.3, 1.7, 0.1, 0.3, 1.3, "match"),
    ("between", 1.3, 1.7, 0.1, 0.3, 1.2, "match"),
    ("between", 1.3, 1.7, 0.1, 0.3, 1.8, "match"),
    ("between", 1.3, 1.7, 0.1, 0.3, 1.0, "close"),
    ("between", 1.3, 1.7, 0.1, 0.3, 2.0, "close"),
    ("between", 1.3, 1.7, 0.1, 0.3, 2.01, "differs"),
]


@pytest.mark.parametrize(("relation", "value", "upper", "match", "close", "measured", "verdict"), JUDGED)
def test_a_number_is_judged_by_its_distance_outside_the_claim(relation, value, upper, match, close, measured, verdict):
    assert judge(claim(relation, value, upper, match, close), (measured, measured)) == verdict


@pytest.mark.parametrize(
    ("relation", "low", "high", "verdict"),
    [
        ("equals", 0.95, 1.05, "match"),
        ("equals", 0.95, 1.2, "close"),
        ("equals", 0.6, 1.4, "close"),
        ("equals", 0.95, 1.6, "undecided"),
        ("equals", 1.4, 1.6, "undecided"),
        ("equals", 0.2, 1.8, "undecided"),
        ("equals", 1.6, 1.8, "differs"),
        ("above", 1.0, 9.0, "match"),
        ("above", -9.0, 0.5, "differs"),
        ("above", -9.0, 9.0, "undecided"),
    ],
)
def test_the_whole_interval_must_lie_on_one_side_of_a_border(relation, low, high, verdict):
    assert judge(claim(relation), (low, high)) == verdict


@pytest.mark.parametrize("interval", [(math.nan, 1.0), (0.0, math.inf), (2.0, 1.0)])
def test_an_undefined_interval_is_refused(interval):
    with pytest.raises(InputError, match="a verdict needs a finite interval, low to high; that of `some_ratio`"):
        judge(claim(), interval)


finite = st.floats(-1e6, 1e6)
widths = st.floats(0, 1e3)


@given(st.sampled_from(RELATIONS), finite, widths, widths, finite, widths, st.floats(0, 1))
def test_an_interval_across_a_border_is_never_a_verdict(relation, value, match, extra, low, width, inside):
    """Two numbers of one interval that are judged differently leave it at the weaker of close, or undecided."""
    it = claim(relation, value, None, match, match + extra)
    high = low + width
    point = min(max(low + inside * width, low), high)
    whole = judge(it, (low, high))
    parts = {judge(it, (one, one)) for one in (low, point, high)}
    if whole in ("match", "differs"):
        assert parts == {whole}
    elif whole == "close":
        assert parts <= {"match", "close"}
    else:
        assert whole == "undecided"


@given(st.sampled_from(RELATIONS), finite, widths, widths, finite, widths)
def test_wider_tolerances_never_worsen_a_verdict(relation, value, narrow, extra, low, width):
    order = ("differs", "undecided", "close", "match")
    tight = judge(claim(relation, value, None, narrow, narrow + extra), (low, low + width))
    loose = judge(claim(relation, value, None, narrow + extra, narrow + extra), (low, low + width))
    assert order.index(loose) >= order.index(tight)


@given(finite, widths, widths, finite, widths)
def test_a_relation_and_its_mirror_image_judge_mirrored_intervals_alike(value, match, extra, low, width):
    high = low + width
    for relation, mirrored in (("at_most", "at_least"), ("below", "above"), ("equals", "equals")):
        one = judge(claim(relation, value, None, match, match + extra), (low, high))
        other = judge(claim(mirrored, -value, None, match, match + extra), (-high, -low))
        assert one == other


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0.001, 1)), min_size=1, max_size=8),
    st.floats(-3, 3),
    st.floats(0.001, 1),
)
def test_more_seeds_never_decide_a_claim_unless_the_interval_moves(runs, value, half):
    records = [record(one, width, seed=seed) for seed, (one, width) in enumerate(runs)]
    (before,) = judge_records([claim()], records)
    (after,) = judge_records([claim()], [*records, record(value, half, seed=len(records))])
    assert before.estimate is not None
    assert after.estimate is not None
    if before.outcome != after.outcome:
        assert before.estimate.interval != after.estimate.interval
    assert after.outcome == judge(claim(), after.estimate.interval)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=8), st.floats(1e-6, 1))
def test_the_interval_over_runs_covers_both_seeds_and_images(values, half):
    """It is at least as wide as Student's over the seeds, and as the runs' own over images."""
    (row,) = judge_records([claim()], [record(one, half, seed=seed) for seed, one in enumerate(values)])
    assert row.estimate is not None
    assert row.estimate.interval is not None
    width = (row.estimate.interval[1] - row.estimate.interval[0]) / 2
    student = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert width >= max(student, half) * (1 - 1e-9)
    assert width == pytest.approx(math.hypot(student, half), rel=1e-6, abs=1e-9)
    assert row.estimate.value == pytest.approx(fmean(values), abs=1e-9)


def test_one_run_of_a_network_decides_nothing():
    """The interval over images of one network says nothing of the next seed."""
    trained = claim(replicates="runs")
    for n, outcome in ((1, "undecided"), (2, "undecided"), (3, "match")):
        (row,) = judge_records([trained], [record(1.0 + seed / 1000, seed=seed) for seed in range(n)])
        assert row.outcome == outcome
        assert row.estimate is not None
        assert row.estimate.gap.startswith(f"no interval: {n} of the 3 runs") is (n < 3)


def test_a_number_without_an_interval_decides_nothing_unless_it_is_computed():
    assert [row.outcome for row in judge_records([claim()], [record(1.0, None)])] == ["undecided"]
    computed = claim(bearing="exact", data="any", replicates="nothing")
    assert [row.outcome for row in judge_records([computed], [record(1.0, None)])] == ["match"]


def test_an_interval_of_two_is_none():
    """Student's t with one degree of freedom is 12.7: such an interval says nothing of the number."""
    assert [row.outcome for row in judge_records([claim()], [record(1.0, 0.001, n=2)])] == ["undecided"]


@pytest.mark.parametrize(
    ("bearing", "data", "kinds", "profile", "outcome"),
    [
        ("same data", "licensed", ("licensed",), "lab", "match"),
        ("same data", "licensed", ("synthetic",), "lab", "no verdict"),
        ("same data", "licensed", ("real",), "lab", "no verdict"),
        ("same data", "licensed", ("licensed", "synthetic"), "lab", "no verdict"),
        ("same data", "real", ("real",), "lab", "match"),
        ("stand-in", "licensed", ("licensed",), "lab", "no verdict"),
        ("stand-in", "licensed", ("licensed",), "paper", "match"),
        ("stand-in", "licensed", ("synthetic",), "paper", "no verdict"),
        ("exact", "any", ("synthetic",), "laptop", "match"),
        ("exact", "any", (), "laptop", "match"),
    ],
)
def test_only_a_test_that_bears_on_the_claim_gives_a_verdict(bearing, data, kinds, profile, outcome):
    """Nothing measured on other data, or on a network far below the paper's size, is ever coloured."""
    (row,) = judge_records([claim(bearing=bearing, data=data)], [record(1.0, kinds=kinds, profile=profile)])
    assert row.outcome == outcome
    assert row.decides is (outcome == "match")


def test_a_metric_has_a_kind_of_its_own_where_it_is_noted():
    """A run on ISBI and synthetic tissue measures some numbers on the one alone."""
    real = claim(data="real")
    mixed = record(1.0, kinds=("real", "synthetic"))
    assert [row.outcome for row in judge_records([real], [mixed])] == ["no verdict"]
    (row,) = judge_records([real], [record(1.0, kinds=("real", "synthetic"), own_kinds=["real"])])
    assert (row.outcome, row.bearing) == ("match", "same data")


def test_kinds_of_data_never_mix():
    """The real runs alone decide, and their interval does not know the synthetic ones."""
    real = [record(1.0 + seed / 100, kinds=("real",), seed=seed) for seed in range(3)]
    others = [record(50.0, kinds=("synthetic",), seed=seed) for seed in range(3, 6)]
    alone = judge_records([claim(data="real")], real)
    assert judge_records([claim(data="real")], [*others, *real]) == alone
    shown = judge_records([claim()], [*others, *real])
    assert sorted(row.estimate.data_kinds for row in shown if row.estimate) == [("real",), ("synthetic",)]
    assert {row.outcome for row in shown} == {"no verdict"}


def test_experiments_with_other_parameters_are_not_combined():
    small = [record(9.0, seed=seed, profile="laptop") for seed in range(3)]
    large = [record(1.0, seed=seed) for seed in range(3)]
    other = record(5.0, seed=4, parameters={"seed": 4, "factor": 3}, finished="2026-10-01T00:00:00Z")
    (row,) = judge_records([claim()], [*large, *small, other])
    assert row.estimate is not None
    assert (row.estimate.value, row.estimate.profile, row.estimate.n_seeds) == (1.0, "lab", 3)


def test_the_newest_of_runs_with_the_same_seed_counts_once():
    first, again = record(1.0), record(3.0) | {"finished": "2026-12-01T00:00:00Z"}
    (row,) = judge_records([claim()], [again, first])
    assert row.estimate is not None
    assert (row.estimate.value, row.estimate.n) == (3.0, 8)


@pytest.mark.parametrize("unit", ["%", "nm", ""])
def test_a_metric_in_another_unit_than_its_claim_is_refused(unit):
    """38.1 % and 0.381 must never be compared as numbers."""
    with pytest.raises(InputError, match=r"claim a-claim is declared in '1', but `some_ratio` .* was measured in"):
        judge_records([claim()], [record(1.0), record(38.1, seed=1, unit=unit)])


def test_readings_of_one_sentence_agree_or_leave_it_undecided():
    """And the tally counts the sentence once; readings without a bearing have no voice."""
    agree = [claim(), claim("below", 2.0, id="second")]
    outcomes = sentence_outcomes(judge_records(agree, [record(1.0)]))
    assert list(outcomes.values()) == ["match"]
    split = [claim(), claim(value=5.0, id="second")]
    assert list(sentence_outcomes(judge_records(split, [record(1.0)])).values()) == ["undecided"]
    silent = [claim(), claim(value=5.0, id="second", bearing="stand-in")]
    assert list(sentence_outcomes(judge_records(silent, [record(1.0)])).values()) == ["match"]
    assert list(sentence_outcomes(judge_records(agree, [])).values()) == ["not run"]
    assert count_outcomes(["match", "match"]) == {outcome: 2 * (outcome == "match") for outcome in OUTCOMES}


@pytest.mark.parametrize(
    ("value", "half", "outcome"),
    [
        (0.55, 0.0, "match"),
        (0.3, 0.0, "close"),
        (0.2, 0.0, "no verdict"),
        (0.05, 0.0, "differs"),
        (0.12, 0.05, "no verdict"),
        (0.24, 0.05, "undecided"),
    ],
)
def test_a_vague_word_gives_a_verdict_only_where_all_its_readings_do(value, half, outcome):
    """Between a tenth and a half, minus the tolerance of the half, "much" is anyone's reading."""
    much = claim("at_least", 0.5, match=0.05, close=0.25, loosest=0.1)
    assert [row.outcome for row in judge_records([much], [record(value, half)])] == [outcome]


def test_a_sentence_with_a_reading_that_depends_on_a_word_has_no_verdict():
    much = claim("at_least", 0.5, match=0.05, close=0.25, loosest=0.1)
    judged = judge_records([claim(value=0.2), much], [record(0.2)])
    assert [row.outcome for row in judged] == ["match", "no verdict"]
    assert all(row.decides for row in judged)
    assert list(sentence_outcomes(judged).values()) == ["no verdict"]


@given(low=st.floats(0, 1), width=st.floats(0, 1), loosest=st.floats(0, 0.49), extra=st.floats(0, 0.009))
def test_a_looser_reading_never_adds_a_verdict(low, width, loosest, extra):
    """A looser word can take a verdict away, and never turns one into another."""
    record_ = record(low + width / 2, width / 2)
    (plain,) = judge_records([claim("at_least", 0.5, match=0.05, close=0.25)], [record_])
    looser = [claim("at_least", 0.5, match=0.05, close=0.25, loosest=value) for value in (loosest + extra, loosest)]
    near, far = judge_records(looser, [record_])
    assert near.outcome in (plain.outcome, "no verdict")
    if near.outcome == "no verdict" and plain.outcome == "differs":
        assert far.outcome == "no verdict"


def test_a_readers_number_agrees_with_the_committed_interval_or_does_not():
    committed = [record(1.0, 0.05)]
    assert compare(claim(), record(1.04, None), committed) == "agrees"
    assert compare(claim(), record(1.2, 0.2), committed) == "agrees"  # its own interval reaches the committed one
    assert compare(claim(), record(1.2, 0.1), committed) == "disagrees"
    assert (
        compare(claim(), record(1.2, None, profile="laptop"), committed)
        == "no committed run at this profile and on this data"
    )
    assert (
        compare(claim(), record(1.0, None, kinds=("real",)), committed)
        == "no committed run at this profile and on this data"
    )
    assert compare(claim(), record(1.0), [record(1.0, None)]).startswith("cannot be compared: no interval over images")
    assert compare(claim(metric="other"), record(1.0), committed) == ""
    computed = claim(bearing="exact", data="any", replicates="nothing", match=1e-12)
    assert compare(computed, record(1.0 + 1e-13, None), [record(1.0, None)]) == "agrees"
    assert compare(computed, record(1.001, None), [record(1.0, None)]) == "disagrees"


def test_evidence_that_could_not_decide_is_refused():
    assert refusals([claim()], record(1.0)) == []
    assert refusals([claim(chapter="fanet/dct_derivation")], record(1.0, None)) == []
    assert refusals([claim(bearing="stand-in")], record(1.0, None)) == []
    (reason,) = refusals([claim()], record(1.0, None))
    assert reason == "`some_ratio` needs an interval over images, or a spread and n of 3 or more"
    assert "is in 'nm', its claim a-claim in '1'" in refusals([claim()], record(1.0, unit="nm"))[0]


def by_hand(row: dict[str, str], records: list[dict]) -> str:
    """Return the outcome of a row of claims.csv by a textbook loop over the records."""
    found = [one for one in records if one["chapter"] == row["chapter"] and row["metric"] in one["metrics"]]
    if not found:
        return "not run"
    weight = {"laptop": 1, "lab": 2, "gpu": 3, "paper": 4}
    bears = []
    for one in found:
        kinds = one["metrics"][row["metric"]].get("data") or {use["kind"] for use in one["data"]}
        same = set(kinds) == {row["data"]}
        full = row["bearing"] == "same data" or one["profile"] == "paper"
        if row["bearing"] == "exact" or (same and full):
            bears.append(one)
    if not bears:
        return "no verdict"
    top = max(weight[one["profile"]] for one in bears)
    group = [one for one in bears if weight[one["profile"]] == top]
    metrics = [one["metrics"][row["metric"]] for one in group]
    values = [metric["value"] for metric in metrics]
    halves = []
    for metric in metrics:
        if metric["interval"]:
            halves.append((metric["interval"][1] - metric["interval"][0]) / 2)
        elif metric["spread"] is not None and metric["n"] > 2:
            halves.append(stats.t.ppf(0.975, metric["n"] - 1) * metric["spread"] / metric["n"] ** 0.5)
    if row["replicates"] == "nothing":
        low, high = min(values), max(values)
    elif len(halves) < len(values) or (row["replicates"] == "runs" and len(values) < 3):
        return "undecided"
    else:
        assert len(values) == 1, "give this loop the interval over several records"
        low, high = values[0] - halves[0], values[0] + halves[0]

    def distance(x: float) -> float:
        value, upper = float(row["value"]), float(row["upper"] or row["value"])
        above, below = max(0.0, x - upper), max(0.0, value - x)
        return {"at_most": above, "below": above, "at_least": below, "above": below}.get(
            row["relation"], max(above, below)
        )

    worst, best = max(distance(low), distance(high)), min(distance(low), distance(high))
    if row["loosest"]:
        loosest = float(row["loosest"])
        loose = {"at_least": high >= loosest, "at_most": low <= loosest}[row["relation"]]
        if (best <= float(row["close_tolerance"])) != loose:
            return "no verdict"
    if worst <= float(row["match_tolerance"]):
        return "match"
    if worst <= float(row["close_tolerance"]):
        return "close"
    return "differs" if best > float(row["close_tolerance"]) else "undecided"


def test_every_verdict_follows_from_the_committed_records():
    """Each row of claims.csv, judged again by a plain loop, has the outcome that the book shows."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "book" / "results").glob("*/*/*.json"))]
    judged = judge_records(load_claims(), records)
    outcomes = {key: {row.outcome for row in rows} for key, rows in groupby(judged, key=lambda row: row.claim.id)}
    with (ROOT / "src/emseg/reported/claims.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert outcomes[row["id"]] == {by_hand(row, records)}, row["id"]


def test_no_committed_stand_in_is_coloured():
    records = [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "book" / "results").glob("*/*/*.json"))]
    for row in judge_records(load_claims(), records):
        if row.outcome in ("match", "close", "differs"):
            assert row.claim.bearing == "exact" or row.estimate.data_kinds == (row.claim.data,), row.claim.id
            assert row.estimate.interval is not None, row.claim.id
