"""Benchmarks say whether a target was met, and keep a run in one form that names no machine but its kind."""

import argparse
import importlib.util
import json
import platform
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


@pytest.fixture(scope="module")
def shared():
    spec = importlib.util.spec_from_file_location("_results", FOLDER / "_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("bound", "value", "met", "said"),
    [
        ("at most", 1.04, True, "ours / theirs, halo: 1.04 x, target at most 1.05 x: met"),
        ("at most", 1.05, True, ": met"),
        ("at most", 1.06, False, ": MISSED"),
        ("at least", 1.05, True, ": met"),
        ("at least", 1.04, False, "target at least 1.05 x: MISSED"),
        ("at least", None, None, "ours / theirs, halo: not measured, target at least 1.05 x"),
    ],
)
def test_a_verdict_is_met_up_to_the_limit_and_open_where_nothing_was_measured(shared, bound, value, met, said):
    verdict = shared.Target("ours / theirs", 1.05, "x", bound).judge(value, "halo")
    assert verdict.met is met
    assert str(verdict).endswith(said)


def test_results_are_kept_with_machine_versions_date_and_verdicts(shared, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    shared.add_json_option(parser)
    parser.add_argument("--rounds", type=int, default=3)
    path = tmp_path / "results" / "some.json"
    verdict = shared.Target("time", 15.0, "s").judge(16.0)
    shared.finish(parser.parse_args(["--json", str(path)]), [{"wall_s": 16.0}], [verdict])
    assert capsys.readouterr().out == "time: 16 s, target at most 15 s: MISSED\n"
    found = json.loads(path.read_text())
    assert set(found) == {"benchmark", "date", "machine", "arguments", "targets", "results"}
    assert (found["arguments"], found["results"]) == ({"rounds": 3}, [{"wall_s": 16.0}])
    expected = {"what": "time", "bound": "at most", "limit": 15.0, "unit": "s", "value": 16.0, "met": False}
    assert found["targets"] == [expected]
    assert {"cores", "cpu", "packages", "load"} <= set(found["machine"])
    assert "numpy" in found["machine"]["packages"]
    assert platform.node() not in {str(value) for value in found["machine"].values()}
    assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_keeps_its_results_in_this_form_and_stands_in_the_readme(path):
    text = path.read_text()
    assert "add_json_option(parser)" in text
    assert "    finish(" in text
    assert f"| `{path.name}" in (FOLDER / "README.md").read_text()
