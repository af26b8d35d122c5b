"""A run says its numbers once, finite, with a sample size, and carries them in its output."""

import math

import pytest

from emseg.errors import UsageError
from emseg.runs.session import METADATA_KEY, Run


def _run() -> Run:
    run = Run("part/first", seed=[1, 2])
    run.metric("early", 1.0, n=1, label="Before any data is used")
    run.uses("ISBI 2012", kind="real", fingerprint="abc", n_images=30, pixel_size_nm=4.0)
    run.uses("synthetic tissue", kind="synthetic", fingerprint="def")
    run.metric("ratio", 0.25, n=8, label="Ratio <a>", spread=0.1, interval=(0.2, 0.3))
    return run


def test_the_output_shows_a_table_and_carries_the_payload():
    shown, metadata = _run()._repr_mimebundle_()
    payload = metadata[METADATA_KEY]
    assert payload["seeds"] == [1, 2]
    assert payload["metrics"]["ratio"] == {
        "value": 0.25,
        "unit": "1",
        "n": 8,
        "label": "Ratio <a>",
        "spread": 0.1,
        "interval": [0.2, 0.3],
        "data": ["synthetic", "real"],
    }
    assert "Ratio &lt;a&gt;" in shown["text/html"]
    assert "0.2 to 0.3" in shown["text/html"]
    assert "ISBI 2012 (real)" in shown["text/plain"]


def test_a_metric_may_rest_on_other_data_than_its_run():
    """ISBI's own fraction beside one of synthetic tissue; arithmetic beside both."""
    run = _run()
    run.metric("fraction", 0.2, n=30, label="Fraction", data=["real"])
    run.metric("arithmetic", 4.0, n=1, label="Sum", data=[])
    kinds = {name: metric["data"] for name, metric in run.payload()["metrics"].items()}
    assert kinds == {"early": [], "ratio": ["synthetic", "real"], "fraction": ["real"], "arithmetic": []}
    with pytest.raises(UsageError, match=r"`data` must be one of .*got 'reel'. Did you mean 'real'"):
        run.metric("typo", 1.0, n=1, label="Typo", data=["reel"])


def test_data_kinds_are_listed_once_each():
    assert _run().data_kinds == ["synthetic", "real"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ratio", "value": 1.0, "n": 1}, "each metric is reported once; 'ratio' came twice"),
        ({"name": "Ratio", "value": 1.0, "n": 1}, "snake_case"),
        ({"name": "x", "value": math.nan, "n": 1}, "must be finite"),
        ({"name": "x", "value": math.inf, "n": 1}, "must be finite"),
        ({"name": "x", "value": 1.0, "n": 0}, "sample size of at least 1"),
        ({"name": "x", "value": 1.0, "n": 1, "interval": (0.0, math.nan)}, "must be finite"),
    ],
)
def test_what_cannot_be_a_number_of_a_record_is_refused(arguments, message):
    name = arguments.pop("name")
    value = arguments.pop("value")
    with pytest.raises(UsageError, match=message):
        _run().metric(name, value, label="X", **arguments)


def test_a_data_kind_outside_the_three_is_refused():
    with pytest.raises(UsageError, match=r"'synthetic', 'real', 'licensed'; got 'reel'.* Did you mean 'real'"):
        _run().uses("x", kind="reel", fingerprint="x")
