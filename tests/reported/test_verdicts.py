"""A verdict follows from the claim's row and the measured number, and from nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emseg.errors import InputError
from emseg.reported import Claim, count_verdicts, judge, verdicts_from_records, verdicts_of_run


def claim(relation="equals", value=1.0, upper=None, match=0.1, close=0.5, **changes) -> Claim:
    """Return a claim with the parts that a test is about."""
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
    }
    return Claim(
        relation=relation,
        value=value,
        upper=upper,
        match_tolerance=match,
        close_tolerance=close,
        **(fields | changes),
    )


@dataclass(frozen=True)
class Number:
    value: float
    unit: str = "1"
    n: int = 3
    spread: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Numbers:
    metrics: dict[str, Number]
    data_kinds: Sequence[str] = field(default=("synthetic",))


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
    ("between", 1.3, 1.7, 0.1, 0.3, None, "not run"),
]


@pytest.mark.parametrize(("relation", "value", "upper", "match", "close", "measured", "verdict"), JUDGED)
def test_a_number_is_judged_by_its_distance_outside_the_claim(relation, value, upper, match, close, measured, verdict):
    assert judge(claim(relation, value, upper, match, close), measured) == verdict


@pytest.mark.parametrize("measured", [float("nan"), float("inf"), -float("inf")])
def test_an_undefined_measurement_is_refused(measured):
    with pytest.raises(
        InputError, match="a verdict needs a finite number; `some_ratio` of urisc/sharpness_analysis is"
    ):
        judge(claim(), measured)


finite = st.floats(-1e6, 1e6)
widths = st.floats(0, 1e3)


@given(st.sampled_from(["equals", "at_most", "at_least", "below", "above"]), finite, widths, widths, finite)
def test_wider_tolerances_never_worsen_a_verdict(relation, value, narrow, extra, measured):
    """Order the verdicts from differs to match: declaring more room can only move one up."""
    order = ("differs", "close", "match")
    tight = judge(claim(relation, value, None, narrow, narrow + extra), measured)
    loose = judge(claim(relation, value, None, narrow + extra, narrow + extra), measured)
    assert order.index(loose) >= order.index(tight)


@given(finite, widths, widths, finite)
def test_a_relation_and_its_mirror_image_judge_mirrored_numbers_alike(value, match, extra, measured):
    for relation, mirrored in (("at_most", "at_least"), ("below", "above"), ("equals", "equals")):
        one = judge(claim(relation, value, None, match, match + extra), measured)
        other = judge(claim(mirrored, -value, None, match, match + extra), -measured)
        assert one == other


def test_a_run_is_judged_claim_by_claim_and_a_missing_metric_is_not_run():
    claims = (claim(metric="first"), claim(metric="second", id="another"))
    judged = verdicts_of_run(claims, Numbers({"first": Number(1.05, interval=(1.0, 1.1))}))
    assert [row.verdict for row in judged] == ["match", "not run"]
    assert judged[0].measured is not None
    assert judged[0].measured.interval == (1.0, 1.1)
    assert judged[0].measured.data_kinds == ("synthetic",)
    assert judged[1].measured is None
    assert count_verdicts(judged) == {"match": 1, "close": 0, "differs": 0, "not run": 1}


@pytest.mark.parametrize(
    ("claimed", "kinds", "expected"),
    [
        ("licensed", ("synthetic",), True),
        ("licensed", ("licensed",), False),
        ("licensed", ("licensed", "synthetic"), True),
        ("real", (), True),
        ("any", ("synthetic",), False),
    ],
)
def test_a_number_on_other_data_than_the_papers_stands_in_for_it(claimed, kinds, expected):
    (row,) = verdicts_of_run([claim(data=claimed)], Numbers({"some_ratio": Number(1.0)}, kinds))
    assert row.stands_in is expected


def test_a_metric_in_another_unit_than_its_claim_is_refused():
    """38.1 % and 0.381 must never be compared as numbers."""
    with pytest.raises(InputError, match=r"claim a-claim is declared in '%', but `some_ratio` .* was measured in '1'"):
        verdicts_of_run([claim(unit="%")], Numbers({"some_ratio": Number(0.381)}))


def record(run_id: str, kinds: Sequence[str], chapter="urisc/sharpness_analysis", **metrics: float) -> dict:
    """Return a run record with what verdicts rest on."""
    return {
        "run_id": run_id,
        "chapter": chapter,
        "profile": "lab",
        "data": [{"name": f"images {nth}", "kind": kind} for nth, kind in enumerate(kinds)],
        "metrics": {
            name: {"value": value, "unit": "1", "n": 8, "spread": None, "interval": [value - 1, value + 1], "label": ""}
            for name, value in metrics.items()
        },
    }


def test_records_give_one_verdict_a_kind_of_data_from_the_newest_that_has_the_metric():
    records = [
        record("r1", ["synthetic"], some_ratio=9.0),
        record("r2", ["real"], some_ratio=1.4),
        record("r3", ["synthetic"], some_ratio=1.0),
        record("r4", ["synthetic"], another_ratio=7.0),
        record("r5", ["synthetic"], chapter="fanet/dct_derivation", some_ratio=8.0),
    ]
    judged = verdicts_from_records([claim()], records)
    found = [(row.measured.run_id, row.measured.data_kinds, row.verdict) for row in judged if row.measured]
    assert found == [("r2", ("real",), "close"), ("r3", ("synthetic",), "match")]
    assert judged[0].measured is not None
    assert judged[0].measured.interval == pytest.approx((0.4, 2.4))


def test_a_run_on_several_kinds_of_data_is_never_taken_for_a_run_on_one():
    records = [record("r1", ["real"], some_ratio=1.0), record("r2", ["synthetic", "real", "real"], some_ratio=9.0)]
    judged = verdicts_from_records([claim()], records)
    found = [(row.measured.data_kinds, row.verdict) for row in judged if row.measured]
    assert found == [(("real",), "match"), (("real", "synthetic"), "differs")]


def test_a_claim_without_a_record_is_not_run():
    judged = verdicts_from_records([claim(), claim(id="other", metric="other")], [record("r1", ["real"], other=1.0)])
    assert [(row.claim.id, row.verdict) for row in judged] == [("a-claim", "not run"), ("other", "match")]
