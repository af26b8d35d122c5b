"""A repeated run supports a committed number within the spread that its record declares, and no further."""

import pytest
from book.staged import metric, record
from hypothesis import given
from hypothesis import strategies as st

from emseg.runs.rerun import compare_records


def compared(old: dict, new: dict, name: str = "ratio") -> str:
    """Return the agreement on one metric."""
    (row,) = compare_records(
        record("part/first", "lab", [], 2, **{name: old}), record("part/first", "lab", [], 3, **{name: new})
    )
    assert row.holds is (row.agreement not in ("disagrees", "missing"))
    return row.agreement


@pytest.mark.parametrize(
    ("old", "new", "agreement"),
    [
        (metric(1.0), metric(1.0 + 1e-9), "same"),
        (metric(3e-16), metric(9e-16), "same"),
        (metric(1.0), metric(1.001), "disagrees"),
        (metric(1.0, interval=[0.9, 1.1]), metric(1.09), "agrees"),
        (metric(1.0, interval=[0.9, 1.1]), metric(1.11), "disagrees"),
        (metric(1.0, interval=[-9.0, 11.0], n=2), metric(1.11), "disagrees"),  # an interval of two declares nothing
        (metric(1.0, spread=0.1), metric(1.08), "agrees"),
        (metric(1.0, spread=0.1), metric(1.09), "disagrees"),
        (metric(1.0, "s"), metric(5.0, "s"), "of the machine"),
        (metric(1.0, "images/s"), metric(5.0, "images/s"), "of the machine"),
        (metric(1.0), metric(1.0, "%"), "disagrees"),
    ],
)
def test_a_metric_agrees_within_its_declared_spread(old, new, agreement):
    assert compared(old, new) == agreement


def test_ratios_of_times_depend_on_the_machine():
    assert compared(metric(1.02), metric(16.5), "cpu_pooling_ratio") == "of the machine"


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 10), st.floats(0, 1))
def test_any_number_inside_a_symmetric_interval_agrees(value, half, share):
    old = metric(value, interval=[value - half, value + half])
    assert compared(old, metric(value + 0.999 * share * half)) in ("same", "agrees")
    assert compared(old, metric(value + half * (1.01 + share))) in ("disagrees", "same")


def test_a_number_that_is_gone_does_not_hold_and_a_new_one_does():
    old = record("part/first", "lab", [], 2, gone=metric(1.0))
    new = record("part/first", "lab", [], 3, fresh=metric(1.0))
    assert [(row.name, row.agreement, row.holds) for row in compare_records(old, new)] == [
        ("gone", "missing", False),
        ("fresh", "new", True),
    ]
